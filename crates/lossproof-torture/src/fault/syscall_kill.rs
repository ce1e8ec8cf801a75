use crate::broker::{Broker, Started};
use crate::failure::Failure;
use crate::round::{self, Round, Setup};
use crate::tally::Tally;
use crate::tracer::{self, Attached};

/// What the broker is doing when it is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// It makes a new directory.
    FirstStart,
    /// It recovers one that another broker has left in the middle of its work.
    Restart,
    /// It serves producers.
    Load,
}

/// A kill at the `number`-th `call` of a thread, at its entry.
#[derive(Clone, Debug)]
struct Point {
    phase: Phase,
    call: &'static str,
    number: u64,
}

const PHASES: [Phase; 3] = [Phase::FirstStart, Phase::Restart, Phase::Load];
/// The short form takes one point in so many; which ones, its seed says.
const EVERY: u64 = 10;
/// Records of the run that is counted to know which points there are.
const REFERENCE_RECORDS: u64 = 600;

/// SIGKILL at the N-th system call that changes the disk, for every N there is: while a directory
/// is made, while one is recovered, and under load.
pub(crate) fn round(setup: &Setup, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    let mut points = Vec::new();
    round::run(setup, "syscall-reference", seed, &mut Tally::default(), |round| {
        points = reference(round)?;
        Ok(())
    })?;
    let (first, step) = if setup.thorough { (0, 1) } else { (seed % EVERY, EVERY) };
    for point in points.iter().skip(first as usize).step_by(step as usize) {
        let name = format!("syscall-{:?}-{}-{}", point.phase, point.call, point.number);
        round::run(setup, &name, seed, tally, |round| strike(round, point))?;
    }
    Ok(())
}

/// All points of a run in which nothing happens.
fn reference(round: &mut Round) -> Result<Vec<Point>, Failure> {
    let log = |phase: Phase| round.directory.join(format!("{phase:?}.strace"));
    let logs = PHASES.map(log);
    let [first_start, restart, load_log] = &logs;
    let broker = ready(round.settings.start_under(&tracer::observing(first_start)?)?)?;
    round.make_topics()?;
    let load = round.load()?;
    broker.kill()?;
    let broker = ready(round.settings.start_under(&tracer::observing(restart)?)?)?;
    load.end()?;
    broker.kill()?;
    let broker = round.settings.start()?;
    let strace = Attached::observe(&broker, load_log, &round.directory)?;
    let load = round.load()?;
    load.progress().wait_for(REFERENCE_RECORDS)?;
    broker.kill()?;
    load.abandon();
    drop(strace);
    let _broker = round.settings.start()?;
    load.end()?;
    let mut points = Vec::new();
    for (phase, log) in PHASES.into_iter().zip(&logs) {
        for (call, count) in tracer::count(log)? {
            points.extend((1..=count).map(|number| Point { phase, call, number }));
        }
    }
    Ok(points)
}

fn ready(started: Started) -> Result<Broker, Failure> {
    match started {
        Started::Ready(broker) => Ok(broker),
        Started::Ended(text) => Err(Failure::broken(format!("the broker ended:\n{text}"))),
    }
}

fn strike(round: &mut Round, point: &Point) -> Result<(), Failure> {
    let inject = format!("{}:signal=KILL:when={}", point.call, point.number);
    let load = match point.phase {
        Phase::FirstStart => None,
        Phase::Restart => {
            let broker = round.settings.start()?;
            round.make_topics()?;
            let load = round.load()?;
            load.progress().wait_for(REFERENCE_RECORDS)?;
            broker.kill()?;
            Some(load)
        }
        Phase::Load => {
            let broker = round.settings.start()?;
            round.make_topics()?;
            let strace = Attached::inject(&broker, &inject, &round.directory)?;
            let load = round.load_at_once();
            wait_for_death(broker)?;
            round.note_strike();
            drop(strace);
            Some(load)
        }
    };
    if point.phase != Phase::Load {
        match round.settings.start_under(&tracer::from_start(&inject)?)? {
            Started::Ended(_) => round.note_strike(),
            // It did not come to that call: it dies here, and that does not count.
            Started::Ready(broker) => broker.kill()?,
        }
    }
    let broker = round.settings.start()?;
    if let Some(load) = load {
        load.end()?;
    } else {
        round.make_topics()?;
        round.load()?.end()?;
    }
    round.verify()?;
    broker.terminate()
}

fn wait_for_death(mut broker: Broker) -> Result<(), Failure> {
    match broker.wait()? {
        Some(_) => Ok(()),
        None => Err(Failure::broken("the broker does not come to the call that kills it")),
    }
}
