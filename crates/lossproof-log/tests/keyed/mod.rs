//! Histories of records with keys, drawn from a seed, and what a client must see of them whatever
//! was compacted.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use lossproof_env::SeededRng;
use lossproof_log::{Commit, Compaction, Log, PartitionId, Stepper, StoredBatch};
use lossproof_wire::batch::{self, BatchBuilder, BatchHeader, Compression};

pub(crate) const ID: PartitionId = PartitionId(1);
const KEYS: u64 = 9;
const IDEMPOTENT: i64 = 10;
const TRANSACTIONAL: [i64; 2] = [20, 21];

/// A record as it was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sent {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    /// Its transaction, by number.
    transaction: Option<usize>,
}

/// What a reader was given of a record.
pub(crate) type Seen = (i64, Option<String>, Option<String>);

/// Everything that was sent to one partition.
pub(crate) struct History {
    rng: SeededRng,
    pub(crate) records: BTreeMap<i64, Sent>,
    /// How each transaction ended: committed or not; `None`: it is open.
    outcomes: Vec<Option<bool>>,
    open: BTreeMap<i64, usize>,
    sequences: BTreeMap<i64, i32>,
    /// The last batches of each producer, and where they went.
    windows: BTreeMap<i64, Vec<(Bytes, i64)>>,
    pub(crate) end: i64,
    long_bytes: u64,
}

impl History {
    pub(crate) fn new(seed: u64, long_bytes: u64) -> Self {
        Self {
            rng: SeededRng::new(seed),
            records: BTreeMap::new(),
            outcomes: Vec::new(),
            open: BTreeMap::new(),
            sequences: BTreeMap::new(),
            windows: BTreeMap::new(),
            end: 0,
            long_bytes,
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    /// The next batch of a history; it must be appended before the next one is drawn.
    pub(crate) fn draw(&mut self) -> Commit {
        let batch = match self.below(10) {
            0..=4 => self.fill(None, false),
            5 | 6 => self.fill(Some(IDEMPOTENT), false),
            7 | 8 => {
                let producer = TRANSACTIONAL[self.below(2) as usize];
                self.fill(Some(producer), true)
            }
            _ => {
                let committed = self.below(2) == 0;
                let Some((producer, _)) = self.open.first_key_value() else {
                    return self.draw();
                };
                self.end_transaction(*producer, committed)
            }
        };
        Commit::append(ID, batch)
    }

    /// Ends all transactions; the batches to be appended.
    pub(crate) fn end_all(&mut self) -> Vec<Commit> {
        let open: Vec<i64> = self.open.keys().copied().collect();
        let end = |producer| Commit::append(ID, self.end_transaction(producer, producer % 2 == 0));
        open.into_iter().map(end).collect()
    }

    fn end_transaction(&mut self, producer: i64, committed: bool) -> Bytes {
        let number = self.open.remove(&producer).unwrap();
        self.outcomes[number] = Some(committed);
        self.end += 1;
        marker(producer, committed)
    }

    fn fill(&mut self, producer: Option<i64>, transactional: bool) -> Bytes {
        let compression = Compression::ALL[self.below(5) as usize];
        let mut builder = BatchBuilder::new().compression(compression).transactional(transactional);
        if let Some(producer) = producer {
            let sequence = self.sequences.get(&producer).copied().unwrap_or(0);
            builder = builder.producer(producer, 0, sequence);
        }
        let transaction = producer.filter(|_| transactional).map(|producer| {
            *self.open.entry(producer).or_insert_with(|| {
                self.outcomes.push(None);
                self.outcomes.len() - 1
            })
        });
        let base = self.end;
        for _ in 0..=self.below(4) {
            let key = (self.below(40) > 0).then(|| format!("key {}", self.below(KEYS)));
            let noise = self.below(self.long_bytes) as usize;
            let noise: String =
                (0..noise).map(|_| char::from(b'a' + self.below(26) as u8)).collect();
            let value = (self.below(5) > 0).then(|| format!("{} {noise}", self.end));
            let as_bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
            let timestamp = 1_000 + self.end;
            builder.push(timestamp, as_bytes(&key).as_deref(), as_bytes(&value).as_deref(), &[]);
            self.records.insert(self.end, Sent { key, value, transaction });
            self.end += 1;
        }
        let batch = builder.build().unwrap();
        if let Some(producer) = producer {
            *self.sequences.entry(producer).or_default() += (self.end - base) as i32;
            let window = self.windows.entry(producer).or_default();
            window.push((batch.clone(), base));
            if window.len() > 5 {
                window.remove(0);
            }
        }
        batch
    }

    /// The last committed value of each key below `end`; `None` where it was deleted.
    fn last_values(&self, end: i64) -> BTreeMap<String, Option<(i64, String)>> {
        let mut values = BTreeMap::new();
        for (offset, record) in self.records.range(..end) {
            let committed = record.transaction.is_none_or(|it| self.outcomes[it] == Some(true));
            if let Some(key) = record.key.as_ref().filter(|_| committed) {
                values.insert(key.clone(), record.value.clone().map(|value| (*offset, value)));
            }
        }
        values
    }

    /// What a log that may have been compacted must still be.
    pub(crate) fn check(&self, log: &Log) {
        let view = log.partition(ID).unwrap();
        assert_eq!(view.high_watermark, self.end, "the log end stays");
        let all = read_all(log);
        let seen: Vec<Seen> = all.iter().flat_map(records_of).collect();
        assert!(seen.is_sorted_by_key(|(offset, ..)| *offset), "offsets ascend");
        let offsets: HashSet<i64> = seen.iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(offsets.len(), seen.len(), "no offset comes twice");
        for (offset, key, value) in &seen {
            let sent = &self.records[offset];
            assert_eq!((&sent.key, &sent.value), (key, value), "COMPACTION-1: offset {offset}");
        }
        for (offset, sent) in &self.records {
            let there = offsets.contains(offset);
            assert!(there || *offset < view.last_stable, "COMPACTION-2: {offset} is gone");
            let has_key = sent.key.is_some() || sent.transaction.is_some();
            assert!(there || has_key, "COMPACTION-1: {offset} is gone");
        }
        let expected = self.last_values(view.last_stable);
        let mut found: BTreeMap<String, Option<(i64, String)>> = BTreeMap::new();
        for (offset, key, value) in committed(log, &all) {
            if let Some(key) = key {
                found.insert(key, value.map(|value| (offset, value)));
            }
        }
        for (key, last) in &expected {
            let found = found.get(key).cloned().flatten();
            assert_eq!(&found, last, "COMPACTION-1: the last value of {key}");
        }
        assert!(found.keys().all(|key| expected.contains_key(key)));
    }

    /// Each producer's last batches are known again.
    pub(crate) fn check_windows(&self, stepper: &mut Stepper) {
        for (batch, base) in self.windows.values().flatten() {
            let retried = stepper.submit(vec![Commit::append(ID, batch.clone())]).remove(0);
            let appended = retried.unwrap().appended[0];
            assert_eq!((appended.duplicate, appended.base_offset), (true, *base));
        }
    }
}

pub(crate) fn marker(producer: i64, committed: bool) -> Bytes {
    let builder = BatchBuilder::new().producer(producer, 0, -1);
    let mut builder = builder.transactional(true).control(true);
    builder.push(1_000, Some(&[0, 0, 0, u8::from(committed)]), Some(&[0; 6]), &[]);
    builder.build().unwrap()
}

/// All batches, whose ranges must follow each other.
pub(crate) fn read_all(log: &Log) -> Vec<StoredBatch> {
    let view = log.partition(ID).unwrap();
    let (mut next, mut all) = (view.log_start, Vec::new());
    while next < view.high_watermark {
        for batch in log.read(ID, next, 16 << 10).unwrap().batches {
            assert_eq!(batch.base_offset, next, "COMPACTION-3");
            next = batch.last_offset + 1;
            all.push(batch);
        }
    }
    all
}

pub(crate) fn records_of(stored: &StoredBatch) -> Vec<Seen> {
    let header = BatchHeader::parse(&stored.bytes).unwrap();
    header.verify_checksum(&stored.bytes).unwrap();
    if header.attributes.is_control() {
        return Vec::new();
    }
    let text = |bytes: Option<Bytes>| bytes.map(|it| String::from_utf8(it.to_vec()).unwrap());
    let records = batch::records(&stored.bytes).unwrap().map(Result::unwrap);
    records.map(|record| (record.offset, text(record.key), text(record.value))).collect()
}

/// What a client sees that reads committed: it goes through the batches and the list of what was
/// aborted side by side, by the last offset of each batch, as Apache Kafka's does.
pub(crate) fn committed(log: &Log, all: &[StoredBatch]) -> Vec<Seen> {
    let view = log.partition(ID).unwrap();
    let (start, stable) = (view.log_start, view.last_stable);
    let mut ahead = log.aborted(ID, start, stable).unwrap().into_iter().peekable();
    let (mut aborted, mut seen) = (HashSet::new(), Vec::new());
    for stored in all.iter().take_while(|stored| stored.last_offset < stable) {
        while let Some(next) = ahead.next_if(|it| it.first_offset <= stored.last_offset) {
            aborted.insert(next.producer_id);
        }
        let header = BatchHeader::parse(&stored.bytes).unwrap();
        if header.attributes.is_control() {
            let record = batch::records(&stored.bytes).unwrap().next().unwrap().unwrap();
            if record.key.unwrap()[3] == 0 {
                aborted.remove(&header.producer_id);
            }
        } else if !header.attributes.is_transactional() || !aborted.contains(&header.producer_id) {
            seen.extend(records_of(stored));
        }
    }
    seen
}

/// A wish to compact all that can be.
pub(crate) fn wish(now_ms: i64) -> Compaction {
    Compaction { now_ms, before_ms: None, delete_retention_ms: 1_000 }
}

/// Has a partition compacted.
pub(crate) fn compact(log: &Log, stepper: &mut Stepper, wish: Compaction) {
    log.compact([(ID, wish)]);
    stepper.checkpoint().unwrap();
}
