use std::thread;
use std::time::Duration;

use crate::failure::Failure;
use crate::round::{self, Setup};
use crate::tally::Tally;

const CYCLES: u64 = 6;
/// One start in so many is killed as well, while it recovers.
const KILLED_START_EVERY: u64 = 4;
const KILLED_START_MS: (u64, u64) = (0, 25);

/// SIGKILL under load and while batches are moved, again and again on one directory. In half of the
/// rounds the broker's disk forgets what was not synced, so that the kill is a power cut.
pub(crate) fn round(setup: &Setup, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    round::run(setup, "kill", seed, tally, |round| {
        if round.random.between(0, 2) == 0 {
            round.settings.options.extend(["--disk", "forgets"].map(str::to_owned));
        }
        let mut broker = round.settings.start()?;
        round.make_topics()?;
        for _ in 0..CYCLES {
            let load = round.load()?;
            round.wait_to_strike()?;
            round.note_strike();
            broker.kill()?;
            // Producers that die with the broker, and such that live on and send again.
            if round.random.between(0, 2) == 0 {
                load.abandon();
            }
            if round.random.between(0, KILLED_START_EVERY) == 0 {
                let (low, high) = KILLED_START_MS;
                let start = round.settings.spawn(&[])?;
                thread::sleep(Duration::from_millis(round.random.between(low, high)));
                start.kill()?;
            }
            broker = round.settings.start()?;
            load.end()?;
            round.verify()?;
        }
        round.check_moved()?;
        broker.terminate()
    })
}
