//! What is looked at beside every measurement: the raw disk, and what a process has used.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Context, Failure};

const RAW_SLICE: Duration = Duration::from_millis(500);
const SETTLE_SLICE: Duration = Duration::from_millis(500);
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// In one slice: what a virtual machine that waits takes.
const IDLE_SECONDS_MAX: f64 = 0.03;
const RAW_FILE_BYTES: u64 = 64 << 20;
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// Kernel ticks per second in /proc on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process so far.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(&path)?;
    // The name in brackets may hold spaces; utime and stime are fields 14 and 15 of all.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    match (ticks(12), ticks(13)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS_PER_SECOND),
        _ => Err(Failure::broken(format!("{path} is not as expected: {text}"))),
    }
}

/// Waits until a process is idle: what it does after a load is done for that load. Gives up where
/// it never is.
pub(super) fn settle(pid: u32) -> Result<(), Failure> {
    let start = Instant::now();
    let mut used = cpu_seconds(pid)?;
    while start.elapsed() < SETTLE_MAX {
        thread::sleep(SETTLE_SLICE);
        let now = cpu_seconds(pid)?;
        if now - used <= IDLE_SECONDS_MAX {
            break;
        }
        used = now;
    }
    Ok(())
}

pub(super) fn resident_mb(pid: u32) -> f64 {
    memory_mb(pid, "VmRSS:")
}

/// The most it has had resident since the start, or since [`forget_peak`].
pub(super) fn peak_mb(pid: u32) -> f64 {
    memory_mb(pid, "VmHWM:")
}

pub(super) fn forget_peak(pid: u32) -> Result<(), Failure> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").context(path)
}

fn memory_mb(pid: u32, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0 / 1e6
}

/// A zero-written file to overwrite: what a journal's commits do at best.
pub(super) fn raw_file(run: &Path) -> Result<File, Failure> {
    let path = run.join("raw");
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path);
    let file = file.context(path.display())?;
    for at in (0..RAW_FILE_BYTES).step_by(BLOCK.len()) {
        file.write_all_at(&[0; BLOCK.len()], at).context(path.display())?;
    }
    file.sync_all().context(path.display())?;
    Ok(file)
}

pub(super) fn raw_rate(file: &File) -> Result<f64, Failure> {
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < RAW_SLICE {
        let at = count * BLOCK.len() as u64 % RAW_FILE_BYTES;
        file.write_all_at(&BLOCK, at).context("raw write")?;
        file.sync_data().context("raw fdatasync")?;
        count += 1;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Processor time of the whole machine so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    all_ticks: f64,
    /// In which this machine wanted to run, and others of its host did.
    stolen_ticks: f64,
}

impl Machine {
    pub(super) fn now() -> Result<Self, Failure> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        // The first line is the sum of all processors: user, nice, system, idle, iowait, irq,
        // softirq, steal; what follows is in user already.
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
        match ticks.get(..8) {
            Some(ticks) => Ok(Self { all_ticks: ticks.iter().sum(), stolen_ticks: ticks[7] }),
            None => Err(Failure::broken(format!("/proc/stat is not as expected: {line}"))),
        }
    }

    /// Percent of the processor time since then that went to others.
    pub(super) fn stolen_since(self, then: Self) -> f64 {
        let all = self.all_ticks - then.all_ticks;
        100.0 * (self.stolen_ticks - then.stolen_ticks) / all.max(1.0)
    }
}

/// Median, least and most.
pub(super) fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert!(resident_mb(pid) > 1.0);
        forget_peak(pid).unwrap();
        assert!(peak_mb(pid) > 1.0);
        assert!(cpu_seconds(0).is_err());
    }

    #[test]
    fn stolen_time_is_a_part_of_all_time() {
        let then = Machine { all_ticks: 1_000.0, stolen_ticks: 10.0 };
        let now = Machine { all_ticks: 1_200.0, stolen_ticks: 20.0 };
        assert!((now.stolen_since(then) - 5.0).abs() < 1e-9);
        assert!(Machine::now().unwrap().all_ticks > 0.0);
    }

    #[test]
    fn the_spread_is_median_least_and_most() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), (2.0, 1.0, 3.0));
        assert!(spread(std::iter::empty()).0.is_nan());
    }
}
