//! The integration tests of this crate, as one program: a program for each file takes longer to
//! build than to run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accepted_later;
mod accepted_loss;
mod adopt;
mod bounds;
mod check;
mod cold_missing;
mod compaction;
mod crash;
mod crash_compaction;
mod crash_damage;
mod crash_faults;
mod crash_full_disk;
mod crash_images;
mod damage;
mod dump;
mod fencing;
mod format_v1;
mod format_v1_losses;
mod full_disk;
mod full_disk_early;
mod full_disk_real;
mod hidden;
mod imitation;
mod keyed;
mod moving;
mod moving_live;
mod policies;
mod producers;
mod read_memory;
mod reopen;
mod scrub;
mod support;
mod transactions;
mod unsteady;
mod wall_clock;
