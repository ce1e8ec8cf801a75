use crate::failure::Failure;
use crate::mount::LoopDisk;
use crate::round::{self, Setup};
use crate::tally::Tally;

const CYCLES: u64 = 6;

/// A real file system loses its power under load and while batches are moved: what nobody had
/// synced is gone, data and names. After each mount the broker has all that it had acknowledged.
pub(crate) fn round(setup: &Setup, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    round::run(setup, "power-cut", seed, tally, |round| {
        let mut disk = LoopDisk::make(&round.directory)?;
        round.settings.data = disk.path.join("data");
        let mut broker = round.settings.start()?;
        round.make_topics()?;
        for _ in 0..CYCLES {
            let cut = disk.arm()?;
            let load = round.load()?;
            round.wait_to_strike()?;
            round.note_strike();
            cut.strike()?;
            broker.kill()?;
            if round.random.between(0, 2) == 0 {
                load.abandon();
            }
            disk.unmount()?;
            disk.mount()?;
            broker = round.settings.start()?;
            load.end()?;
            round.verify()?;
        }
        round.check_moved()?;
        broker.terminate()?;
        disk.unmount()?;
        disk.check_cuts()
    })
}
