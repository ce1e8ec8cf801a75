use super::Cluster;
use crate::{Admin, ConsumeError, Record, TopicPartition, Watermarks};

#[derive(Debug)]
pub(super) struct MemoryAdmin {
    cluster: Cluster,
}

impl MemoryAdmin {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    fn reachable(&self) -> Result<(), ConsumeError> {
        let detail = || "the cluster is not reachable".to_owned();
        let reachable = self.cluster.lock().reachable;
        reachable.then_some(()).ok_or_else(|| ConsumeError::Unreachable { detail: detail() })
    }
}

fn missing(place: &TopicPartition) -> ConsumeError {
    let detail = format!("no partition {}-{}", place.topic, place.partition);
    ConsumeError::Refused { detail }
}

impl Admin for MemoryAdmin {
    fn partitions(&mut self, topic: &str) -> Result<Option<Vec<i32>>, ConsumeError> {
        self.reachable()?;
        let state = self.cluster.lock();
        let count = state.topics.get(topic).map(|held| i32::try_from(held.len()));
        Ok(count.map(|count| (0..count.unwrap_or(i32::MAX)).collect()))
    }

    fn watermarks(&mut self, partition: &TopicPartition) -> Result<Watermarks, ConsumeError> {
        self.reachable()?;
        self.cluster.watermarks(partition).ok_or_else(|| missing(partition))
    }

    fn committed(
        &mut self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, ConsumeError> {
        self.reachable()?;
        let committed = |place: &TopicPartition| self.cluster.committed(group, place);
        Ok(partitions.iter().map(|place| (place.clone(), committed(place))).collect())
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), ConsumeError> {
        self.reachable()?;
        let records: Vec<Record> = {
            let state = self.cluster.lock();
            let held = state.partition(partition).ok_or_else(|| missing(partition))?;
            if from < held.low || to > held.high {
                let offset = if from < held.low { from } else { to };
                let partition = partition.clone();
                return Err(ConsumeError::OutOfRange { partition, offset });
            }
            let within = held.records.iter().filter(|r| (from..to).contains(&r.offset));
            within.cloned().collect()
        };
        records.into_iter().for_each(each);
        Ok(())
    }

    fn create_topic(&mut self, topic: &str, partitions: i32) -> Result<bool, ConsumeError> {
        self.reachable()?;
        Ok(self.cluster.create_topic(topic, partitions))
    }
}
