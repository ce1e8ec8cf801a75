use std::path::Path;

use crate::broker::{Broker, Started};
use crate::failure::Failure;
use crate::load::Load;
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
    tally.points += points.len() as u64;
    let (first, step) = if setup.thorough { (0, 1) } else { (seed % EVERY, EVERY) };
    for point in points.iter().skip(first as usize).step_by(step as usize) {
        let name = format!("syscall-{:?}-{}-{}", point.phase, point.call, point.number);
        round::run(setup, &name, seed, tally, |round| strike(round, point))?;
    }
    Ok(())
}

/// All points of a run in which nothing happens: of both starts what comes before they are ready.
fn reference(round: &mut Round) -> Result<Vec<Point>, Failure> {
    let log = |phase: Phase| round.directory.join(format!("{phase:?}.strace"));
    let [first_start, restart, load_log] = PHASES.map(log);
    let mut points = Vec::new();
    let broker = ready(round.settings.start_under(&tracer::observing(&first_start)?)?)?;
    points.extend(points_in(Phase::FirstStart, &first_start)?);
    round.make_topics()?;
    let load = round.load()?;
    broker.kill()?;
    let broker = ready(round.settings.start_under(&tracer::observing(&restart)?)?)?;
    points.extend(points_in(Phase::Restart, &restart)?);
    load.end()?;
    broker.kill()?;
    let mut broker = round.settings.start()?;
    let strace = Attached::observe(&mut broker, &load_log, &round.directory)?;
    let load = round.load()?;
    load.progress().wait_for(REFERENCE_RECORDS)?;
    broker.kill()?;
    load.abandon();
    drop(strace);
    points.extend(points_in(Phase::Load, &load_log)?);
    let _broker = round.settings.start()?;
    load.end()?;
    Ok(points)
}

fn points_in(phase: Phase, log: &Path) -> Result<Vec<Point>, Failure> {
    let counts = tracer::count(log)?.into_iter();
    let all = counts.flat_map(|(call, count)| (1..=count).map(move |number| (call, number)));
    Ok(all.map(|(call, number)| Point { phase, call, number }).collect())
}

fn ready(started: Started) -> Result<Broker, Failure> {
    match started {
        Started::Ready(broker) => Ok(broker),
        Started::Ended(text) => Err(Failure::broken(format!("the broker ended:\n{text}"))),
    }
}

fn strike(round: &mut Round, point: &Point) -> Result<(), Failure> {
    let inject = format!("{}:signal=KILL:when={}", point.call, point.number);
    round.tally.tried += 1;
    let load = match point.phase {
        Phase::FirstStart => strike_start(round, &inject, None)?,
        Phase::Restart => {
            let broker = round.settings.start()?;
            round.make_topics()?;
            let load = round.load()?;
            load.progress().wait_for(REFERENCE_RECORDS)?;
            broker.kill()?;
            strike_start(round, &inject, Some(load))?
        }
        Phase::Load => {
            let mut broker = round.settings.start()?;
            round.make_topics()?;
            let strace = Attached::inject(&mut broker, &inject, &round.directory)?;
            let load = round.load_at_once();
            wait_for_death(round, broker)?;
            drop(strace);
            Some(load)
        }
    };
    let broker = round.settings.start()?;
    let load = if let Some(load) = load {
        load
    } else {
        round.make_topics()?;
        round.load()?
    };
    // What was killed goes on: it commits, aborts and moves.
    round.wait_until_settled()?;
    load.end()?;
    round.verify()?;
    broker.terminate()
}

/// Strikes a start; what its threads had not come to when it was ready, they come to under load.
fn strike_start(
    round: &mut Round,
    inject: &str,
    load: Option<Load>,
) -> Result<Option<Load>, Failure> {
    let started = round.settings.start_under(&tracer::from_start(inject)?)?;
    let Started::Ready(mut broker) = started else {
        round.note_strike();
        return Ok(load);
    };
    let load = if let Some(load) = load {
        load
    } else {
        let made = round.make_topics();
        if broker.ended()?.is_some() {
            round.note_strike();
            return Ok(None);
        }
        made?;
        round.load_at_once()
    };
    wait_for_death(round, broker)?;
    Ok(Some(load))
}

/// A broker that does not come to the call dies here, and that does not count.
fn wait_for_death(round: &mut Round, mut broker: Broker) -> Result<(), Failure> {
    if broker.wait()?.is_none() {
        return broker.kill();
    }
    round.note_strike();
    Ok(())
}
