use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lossproof_judge::Event;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, GROUP, TOPIC};
use crate::failure::{Context, Failure};
use crate::load::{Ending, Shared};

const COMMIT_INTERVAL: Duration = Duration::from_millis(5);

/// Commits, for a group without members, what was acknowledged to producers; in the history stands
/// what was acknowledged of that.
pub(crate) fn commit(shared: &Arc<Shared>) -> Result<(), Failure> {
    let consumer: BaseConsumer =
        client::consumer(&shared.bootstrap).create().context("start a consumer")?;
    let mut committed = BTreeMap::new();
    while shared.ending() == Ending::NotYet {
        let mut list = TopicPartitionList::new();
        let ends = shared.progress.ends();
        for (partition, end) in &ends {
            if committed.get(partition) < Some(end) {
                list.add_partition_offset(TOPIC, *partition, Offset::Offset(*end))
                    .context("commit")?;
            }
        }
        // An error leaves open whether it is committed: nothing is known, nothing is written down.
        if list.count() > 0 && consumer.commit(&list, CommitMode::Sync).is_ok() {
            for (partition, end) in &ends {
                if committed.get(partition) < Some(end) {
                    let partition_number = *partition as u32;
                    shared.recorder.record(Event::commit(GROUP, TOPIC, partition_number, *end));
                }
            }
            committed = ends;
        }
        thread::sleep(COMMIT_INTERVAL);
    }
    Ok(())
}
