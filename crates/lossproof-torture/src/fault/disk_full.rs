use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, REQUEST_TIMEOUT, TOPIC};
use crate::failure::{Context, Failure};
use crate::grouping::COMMIT_EVERY;
use crate::mount::Mount;
use crate::producing::probe;
use crate::round::{self, Round, Setup};
use crate::tally::Tally;

const DISK_BYTES: u64 = 64 << 20;
const LARGE_DISK_BYTES: u64 = 512 << 20;
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(40);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Acknowledgements after the disk has room again that show that the broker goes on by itself.
const RESUMED_RECORDS: u64 = 50;
/// Offsets to commit one after the other while the disk is full.
const COMMITS: usize = 5;
/// The codes of a refusal that every client tries again.
const RETRIABLE: [Code; 3] =
    [Code::KafkaStorageError, Code::NotEnoughReplicas, Code::NotLeaderForPartition];

/// The disk is full: at once, by somebody else's file, or by what the broker itself writes. It
/// refuses with an error that clients try again, still takes offsets, starts where not one block is
/// left, goes on alone once there is room, and has all that it acknowledged.
pub(crate) fn round(setup: &Setup, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    round::run(setup, "disk-full", seed, tally, |round| {
        // While a move uses what is held back for a full disk, a start has no room: what is filled
        // here is every block.
        round.roles.compacts = false;
        // What small commits have there has an end (BALLAST-2): members that read all there is use
        // it up before the offsets are committed that this is about.
        round.roles.commit_every = 10 * COMMIT_EVERY;
        let disk = Mount::memory(&round.directory.join("disk"), DISK_BYTES)?;
        round.settings.data = disk.path.join("data");
        let result = fill_and_heal(round, &disk, seed.is_multiple_of(2));
        if result.is_err() {
            disk.keep(&round.directory.join("kept"))?;
        }
        result
    })
}

fn fill_and_heal(round: &mut Round, disk: &Mount, sudden: bool) -> Result<(), Failure> {
    let (filler, rest) = (disk.path.join("filler"), disk.path.join("rest"));
    let bootstrap = round.settings.bootstrap();
    let broker = round.settings.start()?;
    round.make_topics()?;
    let load = round.load()?;
    wait_for_ballast(&round.settings.data)?;
    if sudden {
        fill(&filler)?;
    }
    wait_for_refusal(&bootstrap)?;
    round.note_strike();
    let mut committer = Committer::new(&bootstrap)?;
    committer.commit()?;
    broker.kill()?;
    fill(&rest)?;
    let broker = round.settings.start()?;
    wait_for_refusal(&bootstrap)?;
    committer.check()?;
    committer.commit()?;
    fs::remove_file(&rest).context(rest.display())?;
    if sudden {
        fs::remove_file(&filler).context(filler.display())?;
    } else {
        disk.resize(LARGE_DISK_BYTES)?;
    }
    load.progress().wait_for(load.progress().acknowledged() + RESUMED_RECORDS)?;
    load.end()?;
    round.verify()?;
    committer.check()?;
    broker.kill()?;
    let broker = round.settings.start()?;
    round.verify()?;
    committer.check()?;
    broker.terminate()
}

/// Takes all the room there is.
fn fill(path: &Path) -> Result<(), Failure> {
    let mut file = File::create(path).context(path.display())?;
    for step in [1 << 20, 4 << 10] {
        let zeros = vec![0; step];
        while file.write_all(&zeros).is_ok() {}
    }
    Ok(())
}

/// It is written in the background, a moment after the first record.
fn wait_for_ballast(data: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + REFUSAL_TIME_MAX;
    while !data.join("ballast").exists() {
        if Instant::now() >= deadline {
            return Err(Failure::broken("the broker holds nothing back for a full disk"));
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// What a group needs goes on where records have to wait, and is kept like all else.
struct Committer {
    consumer: BaseConsumer,
    /// The last offset that was acknowledged.
    committed: i64,
}

impl Committer {
    fn new(bootstrap: &str) -> Result<Self, Failure> {
        let mut config = client::consumer(bootstrap);
        config.set("group.id", "full-disk");
        let consumer = config.create().context("start a consumer")?;
        Ok(Self { consumer, committed: 0 })
    }

    /// Commits some offsets, each higher than the one before.
    fn commit(&mut self) -> Result<(), Failure> {
        for _ in 0..COMMITS {
            let next = self.committed + 1;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(TOPIC, 0, Offset::Offset(next)).context("commit")?;
            let committed = self.consumer.commit(&list, CommitMode::Sync);
            committed.context("commit an offset on a full disk")?;
            self.committed = next;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        let mut list = TopicPartitionList::new();
        list.add_partition(TOPIC, 0);
        let answer = self.consumer.committed_offsets(list, REQUEST_TIMEOUT);
        let answer = answer.context("committed offsets")?;
        let found = answer.to_topic_map().get(&(TOPIC.to_owned(), 0)).copied();
        let expected = Offset::Offset(self.committed);
        if found == Some(expected) {
            return Ok(());
        }
        Err(Failure::broken(format!(
            "{expected:?} was committed on a full disk, and {found:?} is what is left of it"
        )))
    }
}

fn wait_for_refusal(bootstrap: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + REFUSAL_TIME_MAX;
    loop {
        match probe(bootstrap, PROBE_TIME_MAX)? {
            Some(code) if RETRIABLE.contains(&code) => return Ok(()),
            Some(code) => {
                return Err(Failure::broken(format!(
                    "on a full disk a client gets {code:?}, which it does not try again"
                )));
            }
            None if Instant::now() < deadline => {}
            None => return Err(Failure::broken("the disk does not fill up")),
        }
    }
}
