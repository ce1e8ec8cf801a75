use crate::failure::Failure;
use crate::load::Roles;
use crate::round::{self, Setup};
use crate::tally::Tally;

/// A broker that acknowledges from the page cache, on a disk that forgets it.
const UNSAFE_OPTIONS: [&str; 4] = ["--disk", "forgets", "--flush", "page-cache"];

const RECORDS: u64 = 20;

/// A torture that never finds anything proves nothing: here something is lost, and must be found.
pub(crate) fn round(setup: &Setup, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    round::run(setup, "canary", seed, tally, |round| {
        round.settings.options.extend(UNSAFE_OPTIONS.map(str::to_owned));
        // A commit of a group is always synced, and all before it with it; as a move is.
        round.roles = Roles { commits: false, transacts: false, compacts: false, ..round.roles };
        let broker = round.settings.start()?;
        round.make_topics()?;
        let load = round.load_at_once();
        load.progress().wait_for(RECORDS)?;
        round.note_strike();
        broker.kill()?;
        load.abandon();
        let _broker = round.settings.start()?;
        load.end()?;
        match round.verify() {
            Err(_) if round.tally.lost > 0 => Ok(()),
            Err(failure) => Err(failure),
            Ok(()) => {
                Err(Failure::broken("an unsafe broker lost nothing: the kill is no power cut"))
            }
        }
    })
}
