use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::failure::Failure;
use crate::load::Load;
use crate::mount::LoopDisk;
use crate::producing::probe;
use crate::round::{self, Round, Setup};
use crate::tally::Tally;
use crate::tracer::Attached;

/// The sync of the commit thread that fails, counted from the attaching on.
const SYNC: (u64, u64) = (1, 40);
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);
const FENCE_TIME_MAX: Duration = Duration::from_secs(30);
/// Probes that a fenced broker refuses, one after the other.
const PROBES: usize = 3;

/// One fdatasync says EIO, or all do from some point on. The broker must not acknowledge anything
/// after it, although the next fdatasync says that all is well; then the power is cut, which takes
/// what the page cache pretends to have. The next start has all that was acknowledged.
pub(crate) fn round(setup: &Setup, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    round::run(setup, "sync-error", seed, tally, |round| {
        let mut disk = LoopDisk::make(&round.directory)?;
        round.settings.data = disk.path.join("data");
        for sticky in [false, true] {
            let mut broker = round.settings.start()?;
            round.make_topics()?;
            make_probe_topic(round)?;
            let load = round.load()?;
            round.wait_until_settled()?;
            let (low, high) = SYNC;
            let at = round.random.between(low, high);
            let inject = format!("fdatasync:error=EIO:when={at}{}", if sticky { "+" } else { "" });
            let strace = Attached::inject(&mut broker, None, &inject, &round.directory)?;
            wait_for_fence(round, &load)?;
            round.note_strike();
            disk.arm()?.strike()?;
            broker.kill()?;
            drop(strace);
            disk.unmount()?;
            disk.mount()?;
            let broker = round.settings.start()?;
            load.end()?;
            round.verify()?;
            broker.terminate()?;
        }
        round.check_moved()?;
        disk.unmount()?;
        disk.check_cuts()
    })
}

/// A fenced broker makes no topics, and without one a probe has no answer.
fn make_probe_topic(round: &Round) -> Result<(), Failure> {
    match probe(&round.settings.bootstrap(), PROBE_TIME_MAX)? {
        None => Ok(()),
        Some(code) => Err(Failure::broken(format!("a sound broker refused a probe: {code:?}"))),
    }
}

/// Waits until the broker refuses, and sees to it that it goes on refusing.
fn wait_for_fence(round: &Round, load: &Load) -> Result<(), Failure> {
    let bootstrap = round.settings.bootstrap();
    let deadline = Instant::now() + FENCE_TIME_MAX;
    loop {
        match probe(&bootstrap, PROBE_TIME_MAX)? {
            Some(Code::KafkaStorageError) => break,
            // Under a tracer, on a busy machine, an answer may take longer than the probe waits.
            None | Some(Code::MessageTimedOut) if Instant::now() < deadline => {}
            answer => {
                let errors = load.progress().errors();
                return Err(Failure::broken(format!(
                    "the broker is not fenced: a probe got {answer:?}, producers got {errors:?}"
                )));
            }
        }
    }
    for _ in 0..PROBES {
        let answer = probe(&bootstrap, PROBE_TIME_MAX)?;
        if answer.is_none() {
            return Err(Failure::broken("a fenced broker acknowledged a record"));
        }
    }
    Ok(())
}
