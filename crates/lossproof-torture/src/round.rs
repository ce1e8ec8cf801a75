//! One directory, one history, and what all faults do with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::broker::{BrokerSettings, PARTITIONS};
use crate::client::{self, REQUEST_TIMEOUT, TOPIC};
use crate::compacting;
use crate::failure::{Context, Failure};
use crate::grouping;
use crate::ledger::Moment;
use crate::load::{Known, Load, LoadPlan, Roles};
use crate::members::Act;
use crate::random::Random;
use crate::reading::{Damaged, Reader};
use crate::recorder::Recorder;
use crate::tally::Tally;
use crate::transacting;

const TOPIC_TIME_MAX: Duration = Duration::from_secs(30);
/// The broker looks at least ten times a second whether there is something to move.
const MOVE_TIME_MAX: Duration = Duration::from_mins(1);
const MOVE_LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How often the broker looks for what is to be compacted, and with it whether to move batches.
const LOOK_MS: (u64, u64) = (5, 100);
/// From the moment that was waited for to the strike.
const STRIKE_MS: (u64, u64) = (1, 80);
/// A commit has its answer a moment later.
const DOUBT_MS: (u64, u64) = (0, 4);

/// What does not change from round to round.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The program on trial.
    pub(crate) binary: PathBuf,
    /// Where the rounds have their directories.
    pub(crate) scratch: PathBuf,
    /// The long form: every syscall, not every tenth.
    pub(crate) thorough: bool,
}

pub(crate) struct Round {
    pub(crate) directory: PathBuf,
    pub(crate) settings: BrokerSettings,
    pub(crate) recorder: Arc<Recorder>,
    known: Known,
    /// Who is in each load.
    pub(crate) roles: Roles,
    pub(crate) random: Random,
    pub(crate) tally: Tally,
    /// Loads so far: their producers have names of their own.
    loads: u64,
    /// Full reads so far: they have names of their own, too.
    reads: u64,
}

impl Round {
    pub(crate) fn begin(setup: &Setup, fault: &str, seed: u64) -> Result<Self, Failure> {
        let directory = setup.scratch.join(format!("{fault}-{seed}"));
        // Of an earlier run with the same seed.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).context(directory.display())?;
        let mut round = Self {
            settings: BrokerSettings::new(&setup.binary, &directory)?,
            directory,
            recorder: Arc::new(Recorder::new()),
            known: Known::default(),
            roles: Roles {
                commits: true,
                commit_every: grouping::COMMIT_EVERY,
                transacts: true,
                compacts: true,
            },
            random: Random::new(seed),
            tally: Tally::default(),
            loads: 0,
            reads: 0,
        };
        let (low, high) = LOOK_MS;
        let look = format!("log.retention.check.interval.ms={}", round.random.between(low, high));
        // Members come and go all the time: none waits for others that might come.
        for setting in [look, "group.initial.rebalance.delay.ms=0".to_owned()] {
            round.settings.options.extend(["--set".to_owned(), setting]);
        }
        Ok(round)
    }

    /// Makes the topics, and commits their beginning for the members of the first load.
    pub(crate) fn make_topics(&self) -> Result<(), Failure> {
        self.make(TOPIC)?;
        let mut topics = vec![TOPIC];
        if self.roles.transacts {
            self.make(transacting::TOPIC)?;
            topics.push(transacting::TOPIC);
        }
        if self.roles.commits && self.loads == 0 {
            grouping::begin(&self.settings.bootstrap(), &topics)?;
        }
        if self.roles.compacts {
            compacting::make_topic(&self.settings.bootstrap())
        } else {
            Ok(())
        }
    }

    /// Who asks for a topic by its name creates it.
    fn make(&self, topic: &str) -> Result<(), Failure> {
        let bootstrap = self.settings.bootstrap();
        let mut config = client::consumer(&bootstrap);
        config.set("allow.auto.create.topics", "true");
        let consumer: BaseConsumer = config.create().context("start a consumer")?;
        let deadline = Instant::now() + TOPIC_TIME_MAX;
        while Instant::now() < deadline {
            let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
            let metadata = metadata.context("make a topic")?;
            let found = metadata.topics().first();
            if found.is_some_and(|topic| topic.partitions().len() == PARTITIONS as usize) {
                return Ok(());
            }
        }
        Err(Failure::broken(format!("the topic {topic} is not made")))
    }

    /// Starts producers of all kinds, and waits until something is in the journal.
    pub(crate) fn load(&mut self) -> Result<Load, Failure> {
        let load = self.load_at_once();
        load.progress().wait_for(FIRST_RECORDS)?;
        Ok(load)
    }

    /// The same, without waiting for anything.
    pub(crate) fn load_at_once(&mut self) -> Load {
        let plan = LoadPlan::draw(self.loads, self.roles, &mut self.random);
        self.loads += 1;
        Load::start(&self.settings.bootstrap(), &self.recorder, &self.known, plan)
    }

    /// Waits for the moment to strike, which is drawn: any, one in the life of a transaction, or
    /// one after members have committed or changed.
    pub(crate) fn wait_to_strike(&mut self) -> Result<(), Failure> {
        let (ledger, members) = (&self.known.ledger, &self.known.members);
        let (low, high) = match self.random.between(0, 6) {
            0 => {
                ledger.wait_for(Moment::InDoubt)?;
                DOUBT_MS
            }
            1 => ledger.wait_for(Moment::Open).map(|()| STRIKE_MS)?,
            2 => members.wait_for(Act::Commit).map(|()| STRIKE_MS)?,
            3 => members.wait_for(Act::Rebalance).map(|()| STRIKE_MS)?,
            _ => STRIKE_MS,
        };
        thread::sleep(Duration::from_millis(self.random.between(low, high)));
        Ok(())
    }

    /// Until a transaction more is committed, and one more aborted; and batches are moved, where a
    /// topic is compacted.
    pub(crate) fn wait_until_settled(&self) -> Result<(), Failure> {
        self.known.ledger.wait_for_ends()?;
        if !self.roles.compacts {
            return Ok(());
        }
        let deadline = Instant::now() + MOVE_TIME_MAX;
        while Instant::now() < deadline && self.check_moved().is_err() {
            thread::sleep(MOVE_LOOK_INTERVAL);
        }
        self.check_moved()
    }

    /// Counts a fault, at the moment at which it strikes.
    pub(crate) fn note_strike(&mut self) {
        self.tally.cycles += 1;
        match self.known.ledger.moment() {
            Some(Moment::Open) => self.tally.struck_open += 1,
            Some(Moment::InDoubt) => self.tally.struck_in_doubt += 1,
            None => {}
        }
    }

    /// Reads everything with a fresh reader and judges all that was seen so far.
    pub(crate) fn verify(&mut self) -> Result<(), Failure> {
        let read = format!("read-{}", self.reads);
        self.reads += 1;
        let bootstrap = self.settings.bootstrap();
        let reader = Reader::new(&bootstrap, &self.recorder)?;
        reader.read_all(&read, &Damaged::new())?;
        reader.read_committed()?;
        let report = self.recorder.judge(&read)?;
        let transactions = transacting::verify(&bootstrap, &self.known.ledger)?;
        let keyed = compacting::verify(&bootstrap, &self.known.keyed)?;
        let members = grouping::verify(&bootstrap, &self.known.members)?;
        let mut found = Tally::of(&report);
        let has_acknowledged = found.acknowledged > 0;
        found += transactions.tally.clone();
        found += keyed.tally.clone();
        found += members.tally.clone();
        let clean = has_acknowledged && found.is_clean() && report.missing.is_empty();
        let Tally { tried, cycles, struck_open, struck_in_doubt, .. } = self.tally;
        self.tally = Tally { tried, cycles, struck_open, struck_in_doubt, ..found };
        if clean {
            return Ok(());
        }
        let history = self.directory.join("history.jsonl");
        fs::write(&history, self.recorder.history(Some(&read))?).context(history.display())?;
        let history = history.display();
        Err(Failure::broken(format!("{history}:\n{report}\n{transactions}\n{keyed}\n{members}")))
    }

    /// Fails where batches were never moved out of the journal: then no fault has met that.
    pub(crate) fn check_moved(&self) -> Result<(), Failure> {
        let folder = self.settings.data.join("cold");
        if fs::read_dir(&folder).context(folder.display())?.next().is_some() {
            return Ok(());
        }
        Err(Failure::broken(format!("the broker has moved nothing to {}", folder.display())))
    }

    /// Ends a round that went well: nothing of it is kept.
    pub(crate) fn finish(self, tally: &mut Tally) -> Result<(), Failure> {
        fs::remove_dir_all(&self.directory).context(self.directory.display())?;
        *tally += self.tally;
        Ok(())
    }

    /// Keeps what a failed round leaves behind, its history first of all.
    pub(crate) fn keep(&self, tally: &mut Tally) -> Result<(), Failure> {
        *tally += self.tally.clone();
        let history = self.directory.join("history.jsonl");
        if history.exists() {
            return Ok(());
        }
        fs::write(&history, self.recorder.history(None)?).context(history.display())
    }
}

/// Enough that something is in the journal.
const FIRST_RECORDS: u64 = 20;

/// Runs a round's body; what it leaves behind is kept where it fails.
pub(crate) fn run(
    setup: &Setup,
    fault: &str,
    seed: u64,
    tally: &mut Tally,
    body: impl FnOnce(&mut Round) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut round = Round::begin(setup, fault, seed)?;
    match body(&mut round) {
        Ok(()) => round.finish(tally),
        Err(failure) => {
            round.keep(tally)?;
            Err(failure)
        }
    }
}

/// Whether a program is there.
pub(crate) fn find_program(name: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder: PathBuf| folder.join(name));
    let sbin = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    let found = found.chain(sbin).find(|file| file.is_file());
    found.ok_or_else(|| Failure::missing(format!("{name} is not installed")))
}
