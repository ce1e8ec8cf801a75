//! Valid messages of every API and version, drawn from bytes, and ways to break them: for tests and
//! fuzzing only.
//!
//! The bytes decide everything and run out into zeros, so that a test which shrinks them shrinks
//! the message too.

mod mutation;

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

pub use mutation::{Seeded, broken_counts, broken_tags, mutate, varint};

use crate::wire::Form;
use crate::{ApiKey, DecodeError, EncodeError, ErrorCode, Message, Records, Uuid};

/// Entries in a drawn array.
const ARRAY_MAX: u8 = 3;
/// One string in so many is long enough for a length of two bytes in compact form.
const LONG_EVERY: u8 = 16;

/// A supply of bytes to draw values from.
#[derive(Debug, Clone)]
pub struct Sampler<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Sampler<'a> {
    /// Draws from these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter() }
    }

    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or_default()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    fn length(&mut self) -> usize {
        match self.byte() {
            long if long % LONG_EVERY == 1 => 100 + usize::from(self.byte()),
            short => usize::from(short % 8),
        }
    }
}

/// A type of which values can be drawn.
pub(crate) trait Sample: Sized {
    fn sample(sampler: &mut Sampler<'_>, form: Form) -> Self;
}

macro_rules! sample_integers {
    ($($int:ty),*) => {$(
        impl Sample for $int {
            fn sample(sampler: &mut Sampler<'_>, _: Form) -> Self {
                match sampler.byte() % 8 {
                    0 => 0,
                    1 => -1,
                    2 => Self::MIN,
                    3 => Self::MAX,
                    _ => Self::from_be_bytes(sampler.array()),
                }
            }
        }
    )*};
}
sample_integers!(i8, i16, i32, i64);

impl Sample for bool {
    fn sample(sampler: &mut Sampler<'_>, _: Form) -> Self {
        sampler.byte() % 2 == 1
    }
}

impl Sample for ErrorCode {
    fn sample(sampler: &mut Sampler<'_>, form: Form) -> Self {
        Self(i16::sample(sampler, form))
    }
}

impl Sample for Uuid {
    fn sample(sampler: &mut Sampler<'_>, _: Form) -> Self {
        Self(sampler.array())
    }
}

impl Sample for String {
    fn sample(sampler: &mut Sampler<'_>, _: Form) -> Self {
        let letter = |sampler: &mut Sampler<'_>| match sampler.byte() {
            255 => '\u{20ac}',
            byte => char::from(b'a' + byte % 26),
        };
        (0..sampler.length()).map(|_| letter(sampler)).collect()
    }
}

impl Sample for Bytes {
    fn sample(sampler: &mut Sampler<'_>, _: Form) -> Self {
        (0..sampler.length()).map(|_| sampler.byte()).collect()
    }
}

impl Sample for Records {
    fn sample(sampler: &mut Sampler<'_>, form: Form) -> Self {
        Bytes::sample(sampler, form).into()
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(sampler: &mut Sampler<'_>, form: Form) -> Self {
        let count = sampler.byte() % (ARRAY_MAX + 1);
        (0..count).map(|_| T::sample(sampler, form)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(sampler: &mut Sampler<'_>, form: Form) -> Self {
        if form.null && sampler.byte() % 4 == 1 { None } else { Some(T::sample(sampler, form)) }
    }
}

/// One message type, without its type.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// The API.
    pub api_key: ApiKey,
    /// The struct's name, which ends in `Request` or `Response`.
    pub name: &'static str,
    sample: fn(&mut Sampler<'_>, i16) -> Result<Vec<u8>, EncodeError>,
    decode: fn(&mut Bytes, i16) -> Result<Decoded, DecodeError>,
    versions: fn() -> RangeInclusive<i16>,
}

/// A message that has been decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The message as `Debug` shows it.
    pub debug: String,
    /// The message encoded once more in the same version.
    pub encoded: Result<Vec<u8>, EncodeError>,
}

impl Probe {
    /// The versions that are served.
    pub fn versions(&self) -> RangeInclusive<i16> {
        (self.versions)()
    }

    /// A drawn message, encoded.
    pub fn sample(&self, bytes: &[u8], version: i16) -> Result<Vec<u8>, EncodeError> {
        (self.sample)(&mut Sampler::new(bytes), version)
    }

    /// Takes a message from the front of `bytes`.
    pub fn decode(&self, bytes: &mut Bytes, version: i16) -> Result<Decoded, DecodeError> {
        (self.decode)(bytes, version)
    }

    fn of<M: Message + Sample + std::fmt::Debug>() -> Self {
        fn encode<M: Message>(message: &M, version: i16) -> Result<Vec<u8>, EncodeError> {
            let mut out = BytesMut::new();
            message.encode(&mut out, version).map(|()| out.to_vec())
        }
        Self {
            api_key: M::API_KEY,
            name: M::NAME,
            sample: |sampler, version| {
                let flexible = version >= M::FLEXIBLE_FROM;
                encode(&M::sample(sampler, Form { version, flexible, null: true }), version)
            },
            decode: |bytes, version| {
                let message = M::decode(bytes, version)?;
                Ok(Decoded { debug: format!("{message:?}"), encoded: encode(&message, version) })
            },
            versions: || M::VERSIONS,
        }
    }
}

/// All requests and responses.
pub fn probes() -> Vec<Probe> {
    macro_rules! probes {
        ($($request:ident $response:ident)*) => {
            vec![$(Probe::of::<crate::$request>(), Probe::of::<crate::$response>()),*]
        };
    }
    probes! {
        ProduceRequest ProduceResponse
        FetchRequest FetchResponse
        ListOffsetsRequest ListOffsetsResponse
        MetadataRequest MetadataResponse
        OffsetCommitRequest OffsetCommitResponse
        OffsetFetchRequest OffsetFetchResponse
        FindCoordinatorRequest FindCoordinatorResponse
        JoinGroupRequest JoinGroupResponse
        HeartbeatRequest HeartbeatResponse
        LeaveGroupRequest LeaveGroupResponse
        SyncGroupRequest SyncGroupResponse
        DescribeGroupsRequest DescribeGroupsResponse
        ListGroupsRequest ListGroupsResponse
        ApiVersionsRequest ApiVersionsResponse
        CreateTopicsRequest CreateTopicsResponse
        DeleteTopicsRequest DeleteTopicsResponse
        DeleteRecordsRequest DeleteRecordsResponse
        InitProducerIdRequest InitProducerIdResponse
        OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse
        AddPartitionsToTxnRequest AddPartitionsToTxnResponse
        AddOffsetsToTxnRequest AddOffsetsToTxnResponse
        EndTxnRequest EndTxnResponse
        TxnOffsetCommitRequest TxnOffsetCommitResponse
        DescribeConfigsRequest DescribeConfigsResponse
        AlterConfigsRequest AlterConfigsResponse
        DescribeLogDirsRequest DescribeLogDirsResponse
        CreatePartitionsRequest CreatePartitionsResponse
        DeleteGroupsRequest DeleteGroupsResponse
        ElectLeadersRequest ElectLeadersResponse
        IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse
        AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse
        ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse
        OffsetDeleteRequest OffsetDeleteResponse
        DescribeClusterRequest DescribeClusterResponse
        DescribeProducersRequest DescribeProducersResponse
        DescribeTransactionsRequest DescribeTransactionsResponse
        ListTransactionsRequest ListTransactionsResponse
        DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse
    }
}
