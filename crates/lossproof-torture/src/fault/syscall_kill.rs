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

/// A kill at the `number`-th `call` of a thread, at its entry: of that one, or of the first that
/// comes to it, which is most often the one that commits.
#[derive(Clone, Debug)]
struct Point {
    phase: Phase,
    thread: Option<&'static str>,
    call: &'static str,
    number: u64,
}

const PHASES: [Phase; 3] = [Phase::FirstStart, Phase::Restart, Phase::Load];
/// Those that work beside the one that commits: they move batches, and make files ready.
const HELPERS: [&str; 2] = ["lossproof-move", "lossproof-zero"];
/// The short form takes one point in so many; which ones, its seed says.
const EVERY: usize = 10;
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
    if !setup.thorough {
        points = draw(points, seed as usize);
    }
    for point in &points {
        let Point { phase, thread, call, number } = point;
        let whose = thread.unwrap_or("any");
        let name = format!("syscall-{phase:?}-{whose}-{call}-{number}");
        round::run(setup, &name, seed, tally, |round| strike(round, point))?;
    }
    Ok(())
}

/// One in so many; of the helpers' so many that they are a third of them, where there are enough.
fn draw(points: Vec<Point>, seed: usize) -> Vec<Point> {
    let (aimed, others): (Vec<_>, Vec<_>) = points.into_iter().partition(|it| it.thread.is_some());
    let mut drawn: Vec<Point> = others.into_iter().skip(seed % EVERY).step_by(EVERY).collect();
    let step = (aimed.len() / drawn.len().div_ceil(2).max(1)).max(1);
    drawn.extend(aimed.into_iter().skip(seed % step).step_by(step));
    drawn
}

/// All points of a run in which nothing happens: of both starts what comes before they are ready.
fn reference(round: &mut Round) -> Result<Vec<Point>, Failure> {
    let log = |phase: Phase| round.directory.join(format!("{phase:?}.strace"));
    let [first_start, restart, load_log] = PHASES.map(log);
    let mut points = Vec::new();
    let broker = ready(round.settings.start_under(&tracer::observing(&first_start)?)?)?;
    points.extend(points_in(Phase::FirstStart, &first_start, None)?);
    round.make_topics()?;
    let load = round.load()?;
    broker.kill()?;
    let broker = ready(round.settings.start_under(&tracer::observing(&restart)?)?)?;
    points.extend(points_in(Phase::Restart, &restart, None)?);
    load.end()?;
    broker.kill()?;
    let mut broker = round.settings.start()?;
    let strace = Attached::observe(&mut broker, &load_log, &round.directory)?;
    let load = round.load()?;
    load.progress().wait_for(REFERENCE_RECORDS)?;
    round.wait_until_settled()?;
    let threads = tracer::threads(&broker)?;
    broker.kill()?;
    load.abandon();
    drop(strace);
    points.extend(points_in(Phase::Load, &load_log, None)?);
    for helper in HELPERS {
        let thread = threads.iter().find(|(_, name)| name == helper);
        let thread = thread.ok_or_else(|| Failure::broken(format!("no thread {helper}")))?;
        points.extend(points_in(Phase::Load, &load_log, Some((&thread.0, helper)))?);
    }
    let _broker = round.settings.start()?;
    load.end()?;
    Ok(points)
}

/// Of the thread of that id and name, or of any.
fn points_in(
    phase: Phase,
    log: &Path,
    of: Option<(&str, &'static str)>,
) -> Result<Vec<Point>, Failure> {
    let counts = tracer::count(log, of.map(|(id, _)| id))?.into_iter();
    let thread = of.map(|(_, name)| name);
    let all = counts.flat_map(|(call, count)| (1..=count).map(move |number| (call, number)));
    Ok(all.map(|(call, number)| Point { phase, thread, call, number }).collect())
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
            let strace = Attached::inject(&mut broker, point.thread, &inject, &round.directory)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_points_that_are_drawn_are_those_of_the_helpers() {
        let points = |thread: Option<&'static str>, count: u64| {
            let point = move |number| Point { phase: Phase::Load, thread, call: "fsync", number };
            (1..=count).map(point)
        };
        for (others, helpers, expected) in
            [(200, 400, (20, 10)), (200, 3, (20, 3)), (60, 0, (6, 0))]
        {
            let all = points(None, others).chain(points(Some(HELPERS[0]), helpers)).collect();
            let drawn = draw(all, 0);
            let aimed = drawn.iter().filter(|point| point.thread.is_some()).count();
            assert_eq!((drawn.len() - aimed, aimed), expected);
        }
    }
}
