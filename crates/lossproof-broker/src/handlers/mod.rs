//! One file per API, numbered by its key.
//!
//! A handler's `start` does what must happen in the order of the requests, and returns the answer
//! or a future of it. Reads are left to the future, which runs when all answers before it are out:
//! so a client that pipelines reads what it has written.

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
mod k18_api_versions;
mod k19_create_topics;
mod k20_delete_topics;
mod k22_init_producer_id;
mod k32_describe_configs;

use std::sync::Arc;

use lossproof_wire::ApiKey;

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};

pub(crate) async fn start(broker: &Arc<Broker>, call: Call) -> Result<Reply, CallError> {
    match call.key {
        ApiKey::Produce => k00_produce::start(broker, call).await,
        ApiKey::Fetch => k01_fetch::start(broker, call),
        ApiKey::ListOffsets => k02_list_offsets::start(broker, call),
        ApiKey::Metadata => k03_metadata::start(broker, call).await,
        ApiKey::OffsetCommit => k08_offset_commit::start(broker, call).await,
        ApiKey::OffsetFetch => k09_offset_fetch::start(broker, call),
        ApiKey::FindCoordinator => k10_find_coordinator::start(broker, call),
        ApiKey::JoinGroup => k11_join_group::start(broker, call),
        ApiKey::Heartbeat => k12_heartbeat::start(broker, call),
        ApiKey::LeaveGroup => k13_leave_group::start(broker, call),
        ApiKey::SyncGroup => k14_sync_group::start(broker, call),
        ApiKey::ApiVersions => k18_api_versions::start(call),
        ApiKey::CreateTopics => k19_create_topics::start(broker, call).await,
        ApiKey::DeleteTopics => k20_delete_topics::start(broker, call).await,
        ApiKey::InitProducerId => k22_init_producer_id::start(broker, call).await,
        ApiKey::DescribeConfigs => k32_describe_configs::start(broker, call),
    }
}
