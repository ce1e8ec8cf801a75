//! The APIs that are served, with their versions.

use std::ops::RangeInclusive;

macro_rules! api_keys {
    ($($(#[$attr:meta])* $name:ident = $code:literal, $versions:expr;)*) => {
        /// An API of the Kafka protocol that we speak.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[$attr])* $name = $code,)*
        }

        impl ApiKey {
            /// All of them, by rising number.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$name),*];

            /// The API of a number, if we speak it.
            pub fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The versions to advertise. For [`Produce`](Self::Produce) and
            /// [`ListOffsets`](Self::ListOffsets) this starts below what is
            /// [`served`](Self::served).
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $versions,)*
                }
            }
        }
    };
}

api_keys! {
    /// Appends record batches. Advertised from 0, because librdkafka takes a broker that does not
    /// offer the old versions for one without compression; requests below 3 are refused.
    Produce = 0, 0..=13;
    /// Reads record batches.
    Fetch = 1, 4..=18;
    /// Looks up offsets: first, next, or by timestamp. Advertised from 0, served from 1.
    ListOffsets = 2, 0..=10;
    /// Brokers, topics and partition leaders.
    Metadata = 3, 0..=13;
    /// Stores the offsets of a group.
    OffsetCommit = 8, 2..=10;
    /// Reads the offsets of a group.
    OffsetFetch = 9, 1..=10;
    /// Finds the broker that looks after a group.
    FindCoordinator = 10, 0..=6;
    /// Enters a group.
    JoinGroup = 11, 0..=9;
    /// Keeps a membership alive.
    Heartbeat = 12, 0..=4;
    /// Ends a membership.
    LeaveGroup = 13, 0..=5;
    /// Hands out what the leader of a group assigned.
    SyncGroup = 14, 0..=5;
    /// State and members of groups.
    DescribeGroups = 15, 0..=6;
    /// The groups.
    ListGroups = 16, 0..=5;
    /// The APIs and their versions. Its response header is version 0 for ever.
    ApiVersions = 18, 0..=4;
    /// Creates topics.
    CreateTopics = 19, 2..=7;
    /// Deletes topics.
    DeleteTopics = 20, 1..=6;
    /// Drops the records below an offset.
    DeleteRecords = 21, 0..=2;
    /// Gives out a producer id and epoch.
    InitProducerId = 22, 0..=5;
    /// Where a leader epoch ends in a partition.
    OffsetForLeaderEpoch = 23, 2..=4;
    /// Adds partitions to a transaction.
    AddPartitionsToTxn = 24, 0..=3;
    /// Adds a group to a transaction.
    AddOffsetsToTxn = 25, 0..=4;
    /// Commits or aborts a transaction.
    EndTxn = 26, 0..=4;
    /// Stores the offsets of a group in a transaction.
    TxnOffsetCommit = 28, 0..=4;
    /// Lists settings.
    DescribeConfigs = 32, 1..=4;
    /// Replaces all settings of topics and brokers.
    AlterConfigs = 33, 0..=2;
    /// What partitions take on the disk.
    DescribeLogDirs = 35, 1..=4;
    /// Adds partitions to topics.
    CreatePartitions = 37, 0..=3;
    /// Removes groups and their offsets.
    DeleteGroups = 42, 0..=2;
    /// Elects leaders of partitions.
    ElectLeaders = 43, 0..=2;
    /// Changes some settings of topics and brokers.
    IncrementalAlterConfigs = 44, 0..=1;
    /// Moves partitions to other brokers.
    AlterPartitionReassignments = 45, 0..=1;
    /// The moves of partitions that go on.
    ListPartitionReassignments = 46, 0..=0;
    /// Removes offsets of a group.
    OffsetDelete = 47, 0..=0;
    /// The brokers.
    DescribeCluster = 60, 0..=2;
    /// The producers that partitions remember.
    DescribeProducers = 61, 0..=0;
    /// The state of transactions.
    DescribeTransactions = 65, 0..=0;
    /// The transactions.
    ListTransactions = 66, 0..=2;
    /// Topics and their partitions, page by page.
    DescribeTopicPartitions = 75, 0..=0;
}

impl ApiKey {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The versions that can be decoded. The broker closes the connection of any other request,
    /// but for ApiVersions, which it answers in version 0 with `UNSUPPORTED_VERSION`.
    pub fn served(self) -> RangeInclusive<i16> {
        match self {
            Self::Produce => 3..=13,
            Self::ListOffsets => 1..=10,
            _ => self.versions(),
        }
    }

    /// Whether this version has compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        use crate::{self as w, Message as _};
        let flexible_from = match self {
            Self::Produce => w::ProduceRequest::FLEXIBLE_FROM,
            Self::Fetch => w::FetchRequest::FLEXIBLE_FROM,
            Self::ListOffsets => w::ListOffsetsRequest::FLEXIBLE_FROM,
            Self::Metadata => w::MetadataRequest::FLEXIBLE_FROM,
            Self::OffsetCommit => w::OffsetCommitRequest::FLEXIBLE_FROM,
            Self::OffsetFetch => w::OffsetFetchRequest::FLEXIBLE_FROM,
            Self::FindCoordinator => w::FindCoordinatorRequest::FLEXIBLE_FROM,
            Self::JoinGroup => w::JoinGroupRequest::FLEXIBLE_FROM,
            Self::Heartbeat => w::HeartbeatRequest::FLEXIBLE_FROM,
            Self::LeaveGroup => w::LeaveGroupRequest::FLEXIBLE_FROM,
            Self::SyncGroup => w::SyncGroupRequest::FLEXIBLE_FROM,
            Self::DescribeGroups => w::DescribeGroupsRequest::FLEXIBLE_FROM,
            Self::ListGroups => w::ListGroupsRequest::FLEXIBLE_FROM,
            Self::ApiVersions => w::ApiVersionsRequest::FLEXIBLE_FROM,
            Self::CreateTopics => w::CreateTopicsRequest::FLEXIBLE_FROM,
            Self::DeleteTopics => w::DeleteTopicsRequest::FLEXIBLE_FROM,
            Self::DeleteRecords => w::DeleteRecordsRequest::FLEXIBLE_FROM,
            Self::InitProducerId => w::InitProducerIdRequest::FLEXIBLE_FROM,
            Self::OffsetForLeaderEpoch => w::OffsetForLeaderEpochRequest::FLEXIBLE_FROM,
            Self::AddPartitionsToTxn => w::AddPartitionsToTxnRequest::FLEXIBLE_FROM,
            Self::AddOffsetsToTxn => w::AddOffsetsToTxnRequest::FLEXIBLE_FROM,
            Self::EndTxn => w::EndTxnRequest::FLEXIBLE_FROM,
            Self::TxnOffsetCommit => w::TxnOffsetCommitRequest::FLEXIBLE_FROM,
            Self::DescribeConfigs => w::DescribeConfigsRequest::FLEXIBLE_FROM,
            Self::AlterConfigs => w::AlterConfigsRequest::FLEXIBLE_FROM,
            Self::DescribeLogDirs => w::DescribeLogDirsRequest::FLEXIBLE_FROM,
            Self::CreatePartitions => w::CreatePartitionsRequest::FLEXIBLE_FROM,
            Self::DeleteGroups => w::DeleteGroupsRequest::FLEXIBLE_FROM,
            Self::ElectLeaders => w::ElectLeadersRequest::FLEXIBLE_FROM,
            Self::IncrementalAlterConfigs => w::IncrementalAlterConfigsRequest::FLEXIBLE_FROM,
            Self::AlterPartitionReassignments => {
                w::AlterPartitionReassignmentsRequest::FLEXIBLE_FROM
            }
            Self::ListPartitionReassignments => w::ListPartitionReassignmentsRequest::FLEXIBLE_FROM,
            Self::OffsetDelete => w::OffsetDeleteRequest::FLEXIBLE_FROM,
            Self::DescribeCluster => w::DescribeClusterRequest::FLEXIBLE_FROM,
            Self::DescribeProducers => w::DescribeProducersRequest::FLEXIBLE_FROM,
            Self::DescribeTransactions => w::DescribeTransactionsRequest::FLEXIBLE_FROM,
            Self::ListTransactions => w::ListTransactionsRequest::FLEXIBLE_FROM,
            Self::DescribeTopicPartitions => w::DescribeTopicPartitionsRequest::FLEXIBLE_FROM,
        };
        version >= flexible_from
    }

    /// Version of the header in front of a request of this version.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Version of the header in front of the response to a request of this version.
    pub fn response_header_version(self, version: i16) -> i16 {
        // A client that asks with a version we do not know must be able to read the answer.
        i16::from(self != Self::ApiVersions && self.is_flexible(version))
    }
}
