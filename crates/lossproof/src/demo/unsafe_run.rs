//! The same run with settings that lose messages, arranged so that each stage loses some:
//!
//! - the **consumer** commits before it processes and skips what fails, as in the article;
//! - the **broker** acknowledges from the page cache and then has a power cut, while records wait
//!   between two of its own syncs;
//! - the **producer** holds accepted records in memory, and is killed.

use std::io::Write;

use lossproof_audit::report::RECEIPTS_TOPIC;
use lossproof_client::{Admin, TopicPartition};

use super::input::Line;
use super::scene::{GROUP, Scene, TOPIC};
use super::{PATIENCE_SECONDS, look};
use crate::exit::{DEMO_FAILED, Failure};
use crate::stop::Stop;

/// Records that the broker has acknowledged and not synced when its power goes.
const BROKER_LOSES: usize = 250;
/// Records that the producer has accepted and not sent when it is killed.
const PRODUCER_LOSES: usize = 150;
/// How often the broker's power is cut at most until it loses something.
const POWER_CUTS_MAX: u32 = 5;
/// Lines handed to the producer between two looks.
const LINES_A_LOOK: usize = 25;

/// Feeds the producer and remembers how far: the durable record of what was handed in is the
/// input itself, all of which is handed in by the end.
struct Feed<'a> {
    lines: &'a [Line],
    handed: usize,
}

impl Feed<'_> {
    /// Hands over up to `count` lines, and fails only where the producer is gone.
    fn hand(&mut self, scene: &mut Scene, count: usize) -> Result<(), Failure> {
        let end = self.lines.len().min(self.handed + count);
        let text: String = self.lines[self.handed..end]
            .iter()
            .flat_map(|line| [line.json.as_str(), "\n"])
            .collect();
        let producer = scene.producer.as_mut();
        let gone = || Failure::new(DEMO_FAILED, "the producer takes no more lines");
        let stdin = producer.and_then(super::children::Child::stdin).ok_or_else(gone)?;
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).map_err(|_| gone())?;
        self.handed = end;
        Ok(())
    }

    fn hand_until(&mut self, scene: &mut Scene, end: usize, stop: &Stop) -> Result<(), Failure> {
        while self.handed < end.min(self.lines.len()) {
            self.hand(scene, LINES_A_LOOK.min(end - self.handed))?;
            look(scene, stop)?;
        }
        Ok(())
    }
}

pub(crate) fn play(scene: &mut Scene, lines: &[Line], stop: &Stop) -> Result<(), Failure> {
    let mut feed = Feed { lines, handed: 0 };
    let total = lines.len();
    scene.start_pipeline()?;
    scene.start_unsafe_producer(0)?;
    feed.hand_until(scene, total / 2, stop)?;
    scene.kill_pipeline();
    scene.talk.event("SIGKILL to the pipeline, with committed records still in its hands");
    scene.start_pipeline()?;
    feed.hand_until(scene, total * 3 / 5, stop)?;

    let mut cluster = super::verdict::cluster(scene)?;
    wait_until(scene, stop, "the pipeline to catch up", |_| {
        let (stored, committed) = positions(cluster.as_mut())?;
        Ok((stored == committed).then_some(()))
    })?;
    // Without a pipeline nothing commits, so nothing but receipts makes the broker sync.
    scene.stop_pipeline()?;
    lose_at_broker(scene, &mut feed, stop, cluster.as_mut())?;
    lose_at_producer(scene, &mut feed, stop)?;
    scene.start_pipeline()?;
    scene.start_unsafe_producer(feed.handed)?;
    feed.hand_until(scene, total, stop)?;
    finish(scene, stop, cluster.as_mut())
}

/// Power cuts between two syncs, until one of them has met acknowledged records: the producer's
/// receipts make the broker sync about once a second, and with them whatever it holds. So each
/// begins when receipts have just come.
fn lose_at_broker(
    scene: &mut Scene,
    feed: &mut Feed<'_>,
    stop: &Stop,
    cluster: &mut dyn Admin,
) -> Result<(), Failure> {
    let count = BROKER_LOSES.min(feed.lines.len() / 20);
    for _ in 0..POWER_CUTS_MAX {
        let expected = end_of(cluster, TOPIC)? + count as i64;
        let receipts = end_of(cluster, RECEIPTS_TOPIC)?;
        wait_until(scene, stop, "receipts of the producer", |_| {
            Ok((end_of(cluster, RECEIPTS_TOPIC)? > receipts).then_some(()))
        })?;
        feed.hand(scene, count)?;
        wait_until(scene, stop, "the broker to acknowledge", |_| {
            Ok((end_of(cluster, TOPIC)? >= expected).then_some(()))
        })?;
        scene.kill_broker();
        scene.restart_broker()?;
        let left = end_of(cluster, TOPIC)?;
        if left < expected {
            let lost = expected - left;
            scene.talk.event(&format!("power cut at the broker: {lost} records it had are gone"));
            // That it had said yes to them is in the producer's memory, and told with its receipts.
            return wait_until(scene, stop, "the receipts of what was acknowledged", |scene| {
                Ok((super::verdict::acked(scene, cluster) as i64 > left).then_some(()))
            });
        }
        scene.talk.event("power cut at the broker, right after it had synced: once more");
    }
    Err(Failure::new(DEMO_FAILED, "each power cut came right after a sync of the broker"))
}

/// While no broker is there, so that nothing of it leaves the producer's memory.
fn lose_at_producer(scene: &mut Scene, feed: &mut Feed<'_>, stop: &Stop) -> Result<(), Failure> {
    scene.kill_broker();
    let count = PRODUCER_LOSES.min(feed.lines.len() / 20);
    let accepted = scene.accepted.len() + count;
    feed.hand(scene, count)?;
    wait_until(scene, stop, "the producer to accept", |scene| {
        Ok((scene.accepted.len() >= accepted).then_some(()))
    })?;
    scene.kill_producer();
    scene.talk.event("SIGKILL to the producer, with accepted records in its memory");
    scene.restart_broker()
}

/// No more input: the producer ends, the pipeline reads to the end and ends.
fn finish(scene: &mut Scene, stop: &Stop, cluster: &mut dyn Admin) -> Result<(), Failure> {
    if let Some(producer) = &mut scene.producer {
        producer.close_stdin();
    }
    wait_until(scene, stop, "the producer to end", |scene| {
        Ok(scene.producer.is_none().then_some(()))
    })?;
    wait_until(scene, stop, "the pipeline to read to the end", |_| {
        let (stored, committed) = positions(cluster)?;
        Ok((stored == committed).then_some(()))
    })?;
    scene.stop_pipeline()
}

/// Looks again and again until `done` gives a value; the demo's patience bounds it.
fn wait_until<T>(
    scene: &mut Scene,
    stop: &Stop,
    what: &str,
    mut done: impl FnMut(&Scene) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    while scene.talk.seconds() < PATIENCE_SECONDS {
        look(scene, stop)?;
        if let Some(value) = done(scene)? {
            return Ok(value);
        }
    }
    Err(Failure::new(DEMO_FAILED, format_args!("waited too long for {what}")))
}

/// Sums over the topic's partitions: records that can be read, records committed by the group.
fn positions(cluster: &mut dyn Admin) -> Result<(i64, i64), Failure> {
    let stored = end_of(cluster, TOPIC)?;
    let partitions = partitions_of(cluster, TOPIC)?;
    let committed = cluster.committed(GROUP, &partitions).map_err(|error| silent(&error))?;
    Ok((stored, committed.iter().filter_map(|(_, offset)| *offset).sum()))
}

/// Records of a topic so far.
fn end_of(cluster: &mut dyn Admin, topic: &str) -> Result<i64, Failure> {
    let mut end = 0;
    for partition in partitions_of(cluster, topic)? {
        end += cluster.watermarks(&partition).map_err(|error| silent(&error))?.high;
    }
    Ok(end)
}

fn partitions_of(cluster: &mut dyn Admin, topic: &str) -> Result<Vec<TopicPartition>, Failure> {
    let numbers = cluster.partitions(topic).map_err(|error| silent(&error))?.unwrap_or_default();
    let place = |partition| TopicPartition { topic: topic.to_owned(), partition };
    Ok(numbers.into_iter().map(place).collect())
}

fn silent(error: &lossproof_client::ConsumeError) -> Failure {
    Failure::new(DEMO_FAILED, format_args!("the broker does not answer: {error}"))
}
