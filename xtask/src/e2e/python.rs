use std::process::Command;
use std::time::Duration;

use super::Scene;
use crate::command::run_to_log;
use crate::failure::Failure;
use crate::fetch::kafka_python;

const TIME_MAX: Duration = Duration::from_mins(2);

/// Written for a client that shares no code with the others.
const ROUND_TRIP: &str = r#"
import sys
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

address, count = sys.argv[1], 300
producer = KafkaProducer(bootstrap_servers=address, acks="all", compression_type="gzip")
sent = [producer.send("python", key=b"%d" % n, value=b"python-%d" % n) for n in range(count)]
producer.flush()
places = [future.get(timeout=30) for future in sent]
assert len({(place.partition, place.offset) for place in places}) == count, "offsets twice"
producer.close()

consumer = KafkaConsumer("python", bootstrap_servers=address, group_id="python",
                         auto_offset_reset="earliest", enable_auto_commit=False)
seen = []
while len(seen) < count:
    for records in consumer.poll(timeout_ms=1000).values():
        seen += [record.value for record in records]
assert sorted(seen) == sorted(b"python-%d" % n for n in range(count)), "not what was sent"
consumer.commit()
numbers = consumer.partitions_for_topic("python")
partitions = [TopicPartition("python", number) for number in numbers]
committed = sum(consumer.committed(partition) or 0 for partition in partitions)
assert committed == count, "committed %d of %d" % (committed, count)
consumer.close()
"#;

pub(super) fn round_trip(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let mut command = Command::new(kafka_python(scene.cache)?);
    command.args(["-c", ROUND_TRIP, &scene.broker.address()]);
    let log = scene.run.join("python.log");
    run_to_log(&log, &mut command, TIME_MAX)?.expect_success("kafka-python").map(drop)
}
