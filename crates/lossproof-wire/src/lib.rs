//! The Kafka protocol as plain values: bytes in, structs out, and back.
//!
//! Sans-io: no sockets, no clock, no threads. One file per API key (`k00_produce.rs` is key 0),
//! each holding its request and its response as one compact definition per struct, in the names
//! of Apache Kafka's message schemas. [`batch`] reads, checks and writes record batches. Defaults
//! are the schemas' too, but for optional strings, which are `None` where a schema says `""`.
//!
//! # Invariants
//! - `WIRE-1`: no sequence of bytes makes a decoder panic or loop without end.
//! - `WIRE-2`: nothing is allocated for a count or a length before that many bytes are known to
//!   be there, and the memory of a decoded message is bounded in proportion to its bytes
//!   (see [`DECODED_PER_BYTE_MAX`]).
//! - `WIRE-3`: what is encoded in a version decodes in that version to the same value, except
//!   for the fields that this version does not have.
//! - `WIRE-4`: payloads ([`bytes::Bytes`] fields) share the memory they were received in, and long
//!   ones that of the answer they are sent in ([`Pieces`]).
//!
//! # Example
//! ```
//! use bytes::{Bytes, BytesMut};
//! use lossproof_wire::{ApiKey, ApiVersion, ApiVersionsResponse, DecodeError};
//!
//! let table = ApiKey::ALL.map(|key| ApiVersion {
//!     api_key: key.code(),
//!     min_version: *key.versions().start(),
//!     max_version: *key.versions().end(),
//! });
//! let response = ApiVersionsResponse { api_keys: table.to_vec(), ..Default::default() };
//! let mut out = BytesMut::new();
//! response.encode(&mut out, 3).expect("version 3 has all of these fields");
//! assert_eq!(ApiVersionsResponse::decode(&mut out.freeze(), 3), Ok(response));
//!
//! // An array that claims two thousand million entries is refused, not allocated.
//! let mut hostile = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]);
//! assert!(matches!(
//!     ApiVersionsResponse::decode(&mut hostile, 0),
//!     Err(DecodeError::CountTooLarge { .. })
//! ));
//! ```
#![deny(clippy::indexing_slicing)]

mod api_key;
pub mod batch;
mod error_code;
mod header;
mod message;
mod out;
mod reader;
#[cfg(feature = "samples")]
pub mod samples;
mod wire;

mod k00_produce;
mod k01_fetch;
mod k02_list_offsets;
mod k03_metadata;
mod k08_offset_commit;
mod k09_offset_fetch;
mod k10_find_coordinator;
mod k11_join_group;
mod k12_heartbeat;
mod k13_leave_group;
mod k14_sync_group;
mod k15_describe_groups;
mod k16_list_groups;
mod k18_api_versions;
mod k19_create_topics;
mod k20_delete_topics;
mod k21_delete_records;
mod k22_init_producer_id;
mod k23_offset_for_leader_epoch;
mod k24_add_partitions_to_txn;
mod k25_add_offsets_to_txn;
mod k26_end_txn;
mod k28_txn_offset_commit;
mod k32_describe_configs;
mod k33_alter_configs;
mod k35_describe_log_dirs;
mod k37_create_partitions;
mod k42_delete_groups;
mod k43_elect_leaders;
mod k44_incremental_alter_configs;
mod k45_alter_partition_reassignments;
mod k46_list_partition_reassignments;
mod k47_offset_delete;
mod k60_describe_cluster;
mod k61_describe_producers;
mod k65_describe_transactions;
mod k66_list_transactions;
mod k75_describe_topic_partitions;

pub use api_key::ApiKey;
pub use error_code::ErrorCode;
pub use header::{RequestHeader, ResponseHeader};
pub use message::Message;
pub use out::{Out, Pieces, SHARED_BYTES_MIN};
pub use reader::{
    DECODED_BYTES_MAX, DECODED_FLOOR, DECODED_PER_BYTE_MAX, DecodeError, STRING_BYTES_MAX,
};
pub use wire::{EncodeError, Records, Uuid};

pub use k00_produce::*;
pub use k01_fetch::*;
pub use k02_list_offsets::*;
pub use k03_metadata::*;
pub use k08_offset_commit::*;
pub use k09_offset_fetch::*;
pub use k10_find_coordinator::*;
pub use k11_join_group::*;
pub use k12_heartbeat::*;
pub use k13_leave_group::*;
pub use k14_sync_group::*;
pub use k15_describe_groups::*;
pub use k16_list_groups::*;
pub use k18_api_versions::*;
pub use k19_create_topics::*;
pub use k20_delete_topics::*;
pub use k21_delete_records::*;
pub use k22_init_producer_id::*;
pub use k23_offset_for_leader_epoch::*;
pub use k24_add_partitions_to_txn::*;
pub use k25_add_offsets_to_txn::*;
pub use k26_end_txn::*;
pub use k28_txn_offset_commit::*;
pub use k32_describe_configs::*;
pub use k33_alter_configs::*;
pub use k35_describe_log_dirs::*;
pub use k37_create_partitions::*;
pub use k42_delete_groups::*;
pub use k43_elect_leaders::*;
pub use k44_incremental_alter_configs::*;
pub use k45_alter_partition_reassignments::*;
pub use k46_list_partition_reassignments::*;
pub use k47_offset_delete::*;
pub use k60_describe_cluster::*;
pub use k61_describe_producers::*;
pub use k65_describe_transactions::*;
pub use k66_list_transactions::*;
pub use k75_describe_topic_partitions::*;
