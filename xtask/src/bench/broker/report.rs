//! What was measured, as a table with a verdict on every bar, and as a page of evidence.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;

use serde_json::{Value, json};

use super::super::probe::spread;
use super::cases::{Against, Bar, Case, Figure};
use super::contestant::Who;
use super::standing::Standing;
use crate::failure::{Context, Failure};
use crate::page::{said_by, today};
use crate::workspace::Workspace;

const IDLE_MB_MAX: f64 = 30.0;

/// One load against one contestant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Acknowledgements or megabytes per second.
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    cpu_seconds_per_million: f64,
    resident_mb: f64,
}

impl Sample {
    /// From what a load has printed, and what its broker has used meanwhile.
    pub(super) fn new(found: &Value, cpu_seconds: f64, resident_mb: f64) -> Self {
        let number = |name: &str| found[name].as_f64();
        let records = number("acks").or_else(|| number("records")).unwrap_or(f64::NAN);
        let mb_per_second = || {
            let bytes = number("record_bytes")? * records;
            Some(bytes / 1e6 / number("seconds")?)
        };
        let rate = number("per_second").or_else(|| number("mb_per_second")).or_else(mb_per_second);
        let or_nan = |name: &str| number(name).unwrap_or(f64::NAN);
        Self {
            rate: rate.unwrap_or(f64::NAN),
            p50_ms: or_nan("p50_ms"),
            p99_ms: or_nan("p99_ms"),
            p999_ms: or_nan("p999_ms"),
            cpu_seconds_per_million: cpu_seconds / (records / 1e6),
            resident_mb,
        }
    }

    fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::Rate => self.rate,
            Figure::P99 => self.p99_ms,
            Figure::Cpu => self.cpu_seconds_per_million,
            Figure::Resident => self.resident_mb,
        }
    }

    fn to_json(self) -> Value {
        json!({
            "rate": self.rate, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms,
            "p999_ms": self.p999_ms, "cpu_seconds_per_million": self.cpu_seconds_per_million,
            "resident_mb": self.resident_mb,
        })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:10.1}/s  p50 {:7.2} ms  p99 {:7.2} ms  {:6.2} CPU s per million  {:4.0} MB",
            self.rate, self.p50_ms, self.p99_ms, self.cpu_seconds_per_million, self.resident_mb
        )
    }
}

/// All samples of a case, in the order of the rounds.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) case: &'static Case,
    pub(super) raw_rates: Vec<f64>,
    /// Percent of the machine's processor time that others of its host took meanwhile.
    pub(super) stolen: Vec<f64>,
    pub(super) samples: Vec<(Who, Vec<Sample>)>,
}

impl Row {
    fn of(&self, who: Who) -> &[Sample] {
        let found = self.samples.iter().find(|(it, _)| *it == who);
        found.map_or(&[], |(_, samples)| samples)
    }
}

/// Memory before any load.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) who: Who,
    pub(super) mb: f64,
}

#[derive(Debug)]
pub(super) struct Report {
    rounds: usize,
    seconds: f64,
    megabytes: u64,
    idle: Vec<Idle>,
    pub(super) rows: Vec<Row>,
    pub(super) standing: Vec<Standing>,
}

impl Report {
    pub(super) fn new(rounds: usize, seconds: f64, megabytes: u64, idle: Vec<Idle>) -> Self {
        Self { rounds, seconds, megabytes, idle, rows: Vec::new(), standing: Vec::new() }
    }

    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        let figures = if self.rows.is_empty() { Ok(()) } else { self.write_figures(&mut out) };
        figures.and_then(|()| self.write_bars(&mut out)).unwrap_or_default();
        out
    }

    fn write_figures(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "| case | broker | per second: acks, or MB | lossproof's / this one's | p50 ms | \
             p99 ms | p99.9 ms | broker CPU s per million | peak MB resident |\n\
             |---|---|---|---|---|---|---|---|---|"
        )?;
        for row in &self.rows {
            let ours = row.of(Who::Ours);
            for (who, samples) in &row.samples {
                let ratio = spread(ours.iter().zip(samples).map(|(a, b)| a.rate / b.rate));
                let of = |field: fn(&Sample) -> f64| spread(samples.iter().map(field));
                let rate = of(|it| it.rate);
                writeln!(
                    out,
                    "| {} | {} | {:.0} ({:.0}-{:.0}) | {:.2} ({:.2}-{:.2}) | {} | {} | {} | {:.2} \
                     | {:.0} |",
                    row.case.name,
                    who.name(),
                    rate.0,
                    rate.1,
                    rate.2,
                    ratio.0,
                    ratio.1,
                    ratio.2,
                    milliseconds(of(|it| it.p50_ms).0),
                    milliseconds(of(|it| it.p99_ms).0),
                    milliseconds(of(|it| it.p999_ms).0),
                    of(|it| it.cpu_seconds_per_million).0,
                    of(|it| it.resident_mb).0,
                )?;
            }
        }
        let raw = spread(self.rows.iter().flat_map(|row| row.raw_rates.iter().copied()));
        let stolen = spread(self.rows.iter().flat_map(|row| row.stolen.iter().copied()));
        let (rounds, seconds, megabytes) = (self.rounds, self.seconds, self.megabytes);
        writeln!(
            out,
            "\nRaw fdatasync of 4 KiB: {:.0}/s ({:.0}-{:.0}). {rounds} rounds, {seconds} s of each \
             closed loop, {megabytes} MB of each saturating load. Stolen by other machines of the \
             host: {:.1} % of the processor time ({:.1}-{:.1}).",
            raw.0, raw.1, raw.2, stolen.0, stolen.1, stolen.2
        )?;
        for idle in &self.idle {
            writeln!(out, "Resident before any load, {}: {:.0} MB.", idle.who.name(), idle.mb)?;
        }
        Ok(())
    }

    fn write_bars(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n| case | bar | found | |\n|---|---|---|---|")?;
        for row in &self.rows {
            for alternatives in row.case.bars {
                let found: Vec<Option<f64>> =
                    alternatives.iter().map(|bar| self.ratio(row, bar)).collect();
                if found.iter().all(Option::is_none) {
                    continue; // Who it is compared with did not take part.
                }
                // Who did and has no figure: that holds no bar.
                let found: Vec<f64> = found.iter().map(|it| it.unwrap_or(f64::NAN)).collect();
                let holds = alternatives.iter().zip(&found).any(|(bar, ratio)| bar.holds(*ratio));
                let names: Vec<String> = alternatives.iter().map(ToString::to_string).collect();
                let found: Vec<String> = found.iter().map(|ratio| format!("{ratio:.2}")).collect();
                let (name, found) = (row.case.name, found.join(", "));
                let (bar, verdict) = (names.join(", or "), verdict(holds));
                writeln!(out, "| {name} | {bar} | {found} | {verdict} |")?;
            }
        }
        let idle = self.idle.iter().filter(|it| it.who == Who::Ours);
        for Idle { mb, .. } in idle {
            let verdict = verdict(*mb <= IDLE_MB_MAX);
            writeln!(out, "| idle | at most {IDLE_MB_MAX} MB resident | {mb:.1} | {verdict} |")?;
        }
        for Standing { what, found, limit, is_rate } in &self.standing {
            let holds = if *is_rate { found >= limit } else { found <= limit };
            let relation = if *is_rate { "at least" } else { "at most" };
            let verdict = verdict(holds);
            writeln!(out, "| {what} | {relation} {limit} | {found:.2} | {verdict} |")?;
        }
        Ok(())
    }

    /// The median over the rounds; `None` without a round of both.
    fn ratio(&self, row: &Row, bar: &Bar) -> Option<f64> {
        let ours = row.of(Who::Ours).iter().map(|sample| sample.figure(bar.figure));
        let theirs: Vec<f64> = match bar.against {
            Against::One => vec![1.0; row.raw_rates.len()],
            Against::Contestant(who) => {
                row.of(who).iter().map(|sample| sample.figure(bar.figure)).collect()
            }
            Against::Case(name) => {
                let other = self.rows.iter().find(|row| row.case.name == name);
                let samples = other.map_or(&[][..], |row| row.of(Who::Ours));
                samples.iter().map(|sample| sample.figure(bar.figure)).collect()
            }
            Against::RawAndRoundTrip => {
                let stub = row.of(Who::Stub).iter();
                stub.zip(&row.raw_rates)
                    .map(|(it, raw)| 1.0 / (1.0 / it.rate + 1.0 / raw))
                    .collect()
            }
        };
        let ratios: Vec<f64> = ours.zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        (!ratios.is_empty()).then(|| spread(ratios.into_iter()).0)
    }

    /// Adds everything to `docs/evidence`, with the commit and the machine.
    pub(super) fn record(&self, workspace: &Workspace, commit: &str) -> Result<(), Failure> {
        let (day, machine) = (today()?, machine()?);
        // Where a binary lay is of no use to others.
        let name = |it: String| it.rsplit('/').next().unwrap_or_default().to_owned();
        let command = std::env::args().skip(1).map(name).collect::<Vec<_>>().join(" ");
        let folder = workspace.root().join("docs/evidence");
        let page = folder.join(format!("broker-{day}.md"));
        let title = || format!("# The broker beside Apache Kafka, {day}\n");
        let text = fs::read_to_string(&page).unwrap_or_else(|_| title());
        let about = format!("`cargo xtask {command}` at commit {commit}; {machine}.");
        let text = format!("{text}\n## Run at {commit}\n{about}\n\n{}", self.table());
        fs::write(&page, text).context(page.display())?;

        let data = folder.join(format!("broker-{day}.json"));
        let kept = fs::read_to_string(&data).unwrap_or_else(|_| "[]".to_owned());
        let mut runs: Vec<Value> = serde_json::from_str(&kept).context(data.display())?;
        runs.push(self.to_json(commit, &command, &machine));
        let text = serde_json::to_string_pretty(&runs).context(data.display())? + "\n";
        fs::write(&data, text).context(data.display())
    }
}

impl Report {
    fn to_json(&self, commit: &str, command: &str, machine: &str) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        let idle: BTreeMap<&str, f64> = self.idle.iter().map(|it| (it.who.name(), it.mb)).collect();
        json!({
            "commit": commit, "command": command, "machine": machine, "rows": rows,
            "resident_mb_before_any_load": idle,
        })
    }
}

impl Row {
    fn to_json(&self) -> Value {
        let samples: BTreeMap<&str, Vec<Value>> = self
            .samples
            .iter()
            .map(|(who, samples)| (who.name(), samples.iter().map(|it| it.to_json()).collect()))
            .collect();
        json!({
            "case": self.case.name, "raw_fdatasync_per_second": self.raw_rates,
            "stolen_percent": self.stolen, "samples": samples,
        })
    }
}

impl Bar {
    fn holds(&self, ratio: f64) -> bool {
        if self.figure == Figure::Rate { ratio >= self.limit } else { ratio <= self.limit }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = match self.figure {
            Figure::Rate => "rate",
            Figure::P99 => "p99",
            Figure::Cpu => "CPU per record",
            Figure::Resident => "memory",
        };
        let relation = if self.figure == Figure::Rate { "at least" } else { "at most" };
        let limit = self.limit;
        match self.against {
            Against::One => write!(f, "{figure} {relation} {limit} ms"),
            Against::Contestant(who) => write!(f, "{figure} {relation} {limit} x {}", who.name()),
            Against::RawAndRoundTrip => {
                write!(f, "{figure} {relation} {limit} x one raw fdatasync and one round trip")
            }
            Against::Case(name) => write!(f, "{figure} {relation} {limit} x {name}"),
        }
    }
}

fn verdict(holds: bool) -> &'static str {
    if holds { "ok" } else { "missed" }
}

fn milliseconds(value: f64) -> String {
    if value.is_nan() { String::new() } else { format!("{value:.2}") }
}

fn machine() -> Result<String, Failure> {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([':', '\t', ' ']);
    let kernel = said_by(std::process::Command::new("uname").arg("-sr"))?;
    let kernel = kernel.split('-').next().unwrap_or_default();
    Ok(format!("{processors} processors ({model}), {kernel}"))
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::*;

    fn sample(rate: f64, p99_ms: f64) -> Sample {
        let found = json!({ "acks": 1_000_000, "per_second": rate, "p99_ms": p99_ms });
        Sample::new(&found, 2.0, 30.0)
    }

    fn report(case: &str, samples: &[(Who, Sample)]) -> Report {
        let case = CASES.iter().find(|it| it.name == case).unwrap();
        let samples = samples.iter().map(|(who, sample)| (*who, vec![*sample])).collect();
        let row = Row { case, raw_rates: vec![4_000.0], stolen: vec![0.0], samples };
        Report { rows: vec![row], ..Report::new(1, 1.0, 1, Vec::new()) }
    }

    #[test]
    fn what_was_printed_becomes_figures() {
        let sample = sample(50_000.0, 3.0);
        assert!((sample.rate - 50_000.0).abs() < 1e-9);
        assert!((sample.cpu_seconds_per_million - 2.0).abs() < 1e-9);
        let printed = json!({ "records": 500_000, "record_bytes": 1000, "seconds": 5.0 });
        assert!((Sample::new(&printed, 1.0, 1.0).rate - 100.0).abs() < 1e-9);
    }

    #[test]
    fn each_bar_gets_its_verdict() {
        let table = report(
            "closed-64x16",
            &[
                (Who::Ours, sample(50_000.0, 3.0)),
                (Who::Flushing, sample(10_000.0, 9.0)),
                (Who::Defaults, sample(40_000.0, 2.0)),
            ],
        )
        .table();
        let verdict = |bar: &str| {
            let line = table.lines().find(|line| line.contains(bar)).unwrap();
            line.contains("| ok |")
        };
        assert!(!verdict("at least 6 x Kafka, flush"), "{table}");
        assert!(verdict("at least 1 x Kafka, defaults"), "{table}");
        assert!(!verdict("p99 at most 1 x Kafka, defaults"), "{table}");
    }

    #[test]
    fn one_alternative_is_enough_and_who_is_missing_is_no_bar() {
        let ours = (Who::Ours, sample(96.0, 3.0));
        let table = report("saturate-1k-1", &[ours, (Who::Stub, sample(100.0, 2.0))]).table();
        let bars: Vec<&str> = table.lines().filter(|line| line.contains("at ")).collect();
        assert_eq!(bars.len(), 1, "{table}");
        assert!(bars[0].contains("| ok |"), "{table}");
    }

    #[test]
    fn who_took_part_and_has_no_figure_misses_the_bar() {
        let ours = (Who::Ours, sample(96.0, f64::NAN));
        let table = report("saturate-1k-1", &[ours, (Who::Defaults, sample(50.0, 2.0))]).table();
        assert!(
            table.contains("p99 at most 1 x Kafka, defaults (no fsync) | NaN | missed |"),
            "{table}"
        );
    }

    #[test]
    fn what_stands_before_any_load_is_kept() {
        let idle = Idle { who: Who::Ours, mb: 12.5 };
        let report = Report::new(1, 1.0, 1, vec![idle]);
        let json = report.to_json("c", "bench broker", "m");
        assert_eq!(json["resident_mb_before_any_load"], json!({ "lossproof (fsync)": 12.5 }));
    }

    #[test]
    fn one_connection_is_compared_with_one_sync_and_one_round_trip() {
        let ours = (Who::Ours, sample(1_700.0, 3.0));
        // 4,000 syncs and 4,000 round trips a second: 2,000 of both.
        let table = report("closed-1", &[ours, (Who::Stub, sample(4_000.0, 1.0))]).table();
        assert!(table.contains("one round trip | 0.85 | ok |"), "{table}");
    }
}
