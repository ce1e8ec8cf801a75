//! One file per API, numbered by its key.
//!
//! A handler's `start` does what must happen in the order of the requests, and returns the answer
//! or a future of it. Reads are left to the future, which runs when all answers before it are out:
//! so a client that pipelines reads what it has written. They are decoded there as well (BUDGET-6).

mod alteration;
mod batch_check;
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

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use lossproof_wire::{ApiKey, Uuid};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};

/// What is served, and by whom: one table, so that what is advertised has a handler, and what has
/// a handler is advertised.
macro_rules! served {
    (|$broker:ident, $call:ident| $($key:ident => $start:expr;)*) => {
        /// The APIs to advertise, by rising number.
        pub(crate) const SERVED: &[ApiKey] = &[$(ApiKey::$key),*];

        pub(crate) async fn start($broker: &Arc<Broker>, $call: Call) -> Result<Reply, CallError> {
            match $call.key {
                $(ApiKey::$key => $start,)*
            }
        }
    };
}

served! { |broker, call|
    Produce => k00_produce::start(broker, call).await;
    Fetch => Ok(k01_fetch::start(broker, call));
    ListOffsets => Ok(k02_list_offsets::start(broker, call));
    Metadata => k03_metadata::start(broker, call).await;
    OffsetCommit => k08_offset_commit::start(broker, call).await;
    OffsetFetch => Ok(k09_offset_fetch::start(broker, call));
    FindCoordinator => Ok(k10_find_coordinator::start(broker, call));
    JoinGroup => k11_join_group::start(broker, call);
    Heartbeat => k12_heartbeat::start(broker, call);
    LeaveGroup => k13_leave_group::start(broker, call);
    SyncGroup => k14_sync_group::start(broker, call);
    DescribeGroups => Ok(k15_describe_groups::start(broker, call));
    ListGroups => Ok(k16_list_groups::start(broker, call));
    ApiVersions => k18_api_versions::start(call);
    CreateTopics => k19_create_topics::start(broker, call).await;
    DeleteTopics => k20_delete_topics::start(broker, call).await;
    DeleteRecords => k21_delete_records::start(broker, call).await;
    InitProducerId => k22_init_producer_id::start(broker, call).await;
    OffsetForLeaderEpoch => Ok(k23_offset_for_leader_epoch::start(broker, call));
    AddPartitionsToTxn => k24_add_partitions_to_txn::start(broker, call).await;
    AddOffsetsToTxn => k25_add_offsets_to_txn::start(broker, call).await;
    EndTxn => k26_end_txn::start(broker, call).await;
    TxnOffsetCommit => k28_txn_offset_commit::start(broker, call).await;
    DescribeConfigs => Ok(k32_describe_configs::start(broker, call));
    AlterConfigs => k33_alter_configs::start(broker, call).await;
    DescribeLogDirs => Ok(k35_describe_log_dirs::start(broker, call));
    CreatePartitions => k37_create_partitions::start(broker, call).await;
    DeleteGroups => k42_delete_groups::start(broker, call).await;
    ElectLeaders => k43_elect_leaders::start(broker, call);
    IncrementalAlterConfigs => k44_incremental_alter_configs::start(broker, call).await;
    AlterPartitionReassignments => k45_alter_partition_reassignments::start(broker, call);
    ListPartitionReassignments => k46_list_partition_reassignments::start(call);
    OffsetDelete => k47_offset_delete::start(broker, call).await;
    DescribeCluster => k60_describe_cluster::start(broker, call);
    DescribeProducers => Ok(k61_describe_producers::start(broker, call));
    DescribeTransactions => Ok(k65_describe_transactions::start(broker, call));
    ListTransactions => Ok(k66_list_transactions::start(broker, call));
    DescribeTopicPartitions => Ok(k75_describe_topic_partitions::start(broker, call));
}

/// Each of `items` once, in their order (BUDGET-6).
fn once<T, K: Ord>(mut items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(key(item)));
    items
}

/// Of a partition that is named more than once the last word holds, as in Apache Kafka (BUDGET-6).
fn last_words<T, P>(
    topics: &mut Vec<T>,
    parts: impl Fn(&mut T) -> (&str, Uuid, &mut Vec<P>),
    index: impl Fn(&P) -> i32,
) {
    let mut named = HashSet::new();
    for topic in topics.iter_mut().rev() {
        let (name, id, partitions) = parts(topic);
        partitions.reverse();
        partitions.retain(|partition| named.insert((name, id, index(partition))));
        partitions.reverse();
    }
    topics.retain_mut(|topic| !parts(topic).2.is_empty());
}

#[cfg(test)]
mod tests;
