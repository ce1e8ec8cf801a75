//! Producers of all kinds, readers at the tail and groups that commit, each on a thread of its
//! own, until the round has had enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lossproof_judge::Event;

use crate::committing;
use crate::compacting;
use crate::failure::Failure;
use crate::grouping;
use crate::keyed::Keyed;
use crate::ledger::Ledger;
use crate::members::Members;
use crate::producing::{self, ProducerPlan};
use crate::progress::Progress;
use crate::random::Random;
use crate::reading;
use crate::recorder::Recorder;
use crate::transacting;

const COMPRESSIONS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Payload sizes of one-at-a-time and of saturating producers.
const SMALL_BYTES: (u64, u64) = (20, 400);
const LARGE_BYTES: (u64, u64) = (500, 3_000);
/// Longer than any client of a load waits for anything.
const ENDING_TIME_MAX: Duration = Duration::from_mins(4);
const ENDING_CHECK: Duration = Duration::from_millis(2);

/// How a load comes to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Ending {
    NotYet = 0,
    /// Nothing new is sent; what is under way gets its answer.
    Drain = 1,
    /// The producers die with what is under way.
    Abandon = 2,
}

/// What the threads of a load share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bootstrap: String,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) keyed: Arc<Keyed>,
    pub(crate) members: Arc<Members>,
    pub(crate) progress: Progress,
    ending: AtomicU8,
}

impl Shared {
    pub(crate) fn ending(&self) -> Ending {
        match self.ending.load(Ordering::SeqCst) {
            0 => Ending::NotYet,
            1 => Ending::Drain,
            _ => Ending::Abandon,
        }
    }
}

/// What is known of each kind of client but plain producers, over all loads of a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) keyed: Arc<Keyed>,
    pub(crate) members: Arc<Members>,
}

/// Who is at work beside producers and a reader at the tail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles {
    /// A group without members, and one with them, that commit.
    pub(crate) commits: bool,
    /// Records after which a member commits.
    pub(crate) commit_every: u64,
    /// A transactional producer.
    pub(crate) transacts: bool,
    /// A producer for a compacted topic, which makes the broker move batches all the time.
    pub(crate) compacts: bool,
}

/// Who is at work.
#[derive(Debug)]
pub(crate) struct LoadPlan {
    pub(crate) producers: Vec<ProducerPlan>,
    /// Name of what is read at the tail.
    pub(crate) live_read: String,
    pub(crate) commits: bool,
    pub(crate) commit_every: u64,
    /// Compression of a transactional producer, and what its transactions are drawn from.
    pub(crate) transactions: Option<(&'static str, Random)>,
    /// Compression of the producer of the compacted topic.
    pub(crate) compacted: Option<&'static str>,
}

impl LoadPlan {
    /// Producers of all kinds for the load of that number.
    pub(crate) fn draw(number: u64, roles: Roles, random: &mut Random) -> Self {
        let producers = draw_producers(number, random);
        let Roles { commits, commit_every, transacts, compacts } = roles;
        let transactions =
            transacts.then(|| (*random.pick(&COMPRESSIONS), Random::new(random.next())));
        let compacted = compacts.then(|| *random.pick(&COMPRESSIONS));
        let live_read = format!("tail-{number}");
        Self { producers, live_read, commits, commit_every, transactions, compacted }
    }
}

#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<(), Failure>>>,
}

impl Load {
    /// Starts the threads of a plan.
    pub(crate) fn start(
        bootstrap: &str,
        recorder: &Arc<Recorder>,
        known: &Known,
        plan: LoadPlan,
    ) -> Self {
        let shared = Arc::new(Shared {
            bootstrap: bootstrap.to_owned(),
            recorder: Arc::clone(recorder),
            ledger: Arc::clone(&known.ledger),
            keyed: Arc::clone(&known.keyed),
            members: Arc::clone(&known.members),
            progress: Progress::default(),
            ending: AtomicU8::new(Ending::NotYet as u8),
        });
        let mut threads = Vec::new();
        for plan in plan.producers {
            if plan.resends() {
                recorder.record(Event::Resend { process: plan.process.clone() });
            }
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || producing::produce(&plan, &shared)));
        }
        let reader = Arc::clone(&shared);
        threads.push(thread::spawn(move || reading::read_tail(&plan.live_read, &reader)));
        if plan.commits {
            let committer = Arc::clone(&shared);
            threads.push(thread::spawn(move || committing::commit(&committer)));
            for leaves in [false, true] {
                let member = Arc::clone(&shared);
                let every = plan.commit_every;
                threads.push(thread::spawn(move || grouping::take_part(&member, leaves, every)));
            }
        }
        if let Some((compression, random)) = plan.transactions {
            let writer = Arc::clone(&shared);
            let transact = move || transacting::transact(&writer, compression, random);
            threads.push(thread::spawn(transact));
            let reader = Arc::clone(&shared);
            threads.push(thread::spawn(move || transacting::read_tail(&reader)));
        }
        if let Some(compression) = plan.compacted {
            let writer = Arc::clone(&shared);
            threads.push(thread::spawn(move || compacting::produce(&writer, compression)));
        }
        Self { shared, threads }
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// Tells the producers to die, with the broker gone; their threads end when it is back.
    pub(crate) fn abandon(&self) {
        self.shared.ending.store(Ending::Abandon as u8, Ordering::SeqCst);
    }

    /// Ends all threads, with a broker up, and gives the first failure of any of them. Producers
    /// that were not abandoned get an answer for all they have sent.
    pub(crate) fn end(self) -> Result<(), Failure> {
        let ending = &self.shared.ending;
        // Who was abandoned stays so.
        ending.fetch_max(Ending::Drain as u8, Ordering::SeqCst);
        let mut failure = None;
        let deadline = Instant::now() + ENDING_TIME_MAX;
        for thread in self.threads {
            while !thread.is_finished() {
                if Instant::now() >= deadline {
                    return Err(failure.unwrap_or_else(|| Failure::broken("a client does not end")));
                }
                thread::sleep(ENDING_CHECK);
            }
            let ended = thread.join();
            let ended = ended.unwrap_or_else(|_| Err(Failure::broken("a client panicked")));
            failure = failure.or(ended.err());
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Idempotent and not, one record at a time and as fast as it goes; sizes and compressions drawn.
fn draw_producers(cycle: u64, random: &mut Random) -> Vec<ProducerPlan> {
    let kinds = [(true, true), (true, false), (false, true), (false, false)];
    let plan = |(idempotent, closed): (bool, bool)| {
        let compression = *random.pick(&COMPRESSIONS);
        let (low, high) = if closed { SMALL_BYTES } else { LARGE_BYTES };
        let kind = if idempotent { "idempotent" } else { "plain" };
        let rate = if closed { "closed" } else { "saturating" };
        ProducerPlan {
            process: format!("{cycle}-{kind}-{rate}-{compression}"),
            idempotent,
            compression,
            closed,
            payload_bytes: random.between(low, high) as usize,
        }
    };
    kinds.map(plan).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_producer_takes_part_and_every_compression_is_drawn() {
        let mut random = Random::new(1);
        let plans: Vec<ProducerPlan> =
            (0..20).flat_map(|cycle| draw_producers(cycle, &mut random)).collect();
        for compression in COMPRESSIONS {
            assert!(plans.iter().any(|plan| plan.compression == compression), "{compression}");
        }
        for four in plans.chunks(4) {
            assert_eq!(four.iter().filter(|plan| plan.idempotent).count(), 2);
            assert_eq!(four.iter().filter(|plan| plan.closed).count(), 2);
            assert_eq!(four.iter().filter(|plan| plan.resends()).count(), 1);
        }
    }
}
