use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, TOPIC};
use crate::failure::{Context, Failure};
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
    commit_offset(&bootstrap)?;
    broker.kill()?;
    fill(&rest)?;
    let broker = round.settings.start()?;
    wait_for_refusal(&bootstrap)?;
    commit_offset(&bootstrap)?;
    fs::remove_file(&rest).context(rest.display())?;
    if sudden {
        fs::remove_file(&filler).context(filler.display())?;
    } else {
        disk.resize(LARGE_DISK_BYTES)?;
    }
    load.progress().wait_for(load.progress().acknowledged() + RESUMED_RECORDS)?;
    load.end()?;
    round.verify()?;
    broker.kill()?;
    let broker = round.settings.start()?;
    round.verify()?;
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

/// What a group needs goes on where records have to wait.
fn commit_offset(bootstrap: &str) -> Result<(), Failure> {
    let mut config = client::consumer(bootstrap);
    config.set("group.id", "full-disk");
    let consumer: BaseConsumer = config.create().context("start a consumer")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Offset(1)).context("commit")?;
    consumer.commit(&list, CommitMode::Sync).context("commit an offset on a full disk")
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
