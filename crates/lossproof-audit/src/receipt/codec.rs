use std::collections::HashMap;
use std::hash::Hash;

use thiserror::Error;

use super::{
    Disposition, Entry, Kind, LaneEnd, LaneId, Mark, Place, Receipt, ReceiptNumber, Role, Stage,
};
use crate::interval::IntervalSet;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// No topic name, group name or reason is longer, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;
/// No receipt has more entries: bounds what a hostile one can make of its bytes.
pub(crate) const ENTRIES_MAX: usize = 65_536;

const TAG_STAGES: u8 = 0;
const TAG_UNKNOWN: u8 = 7;
const TAG_BEGAN: u8 = 8;
const TAG_DEAD_LETTERS_IN: u8 = 9;

/// Why bytes are no receipt.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    #[error("receipt version {found} is not known, this program reads {known}: use a newer one")]
    UnknownVersion { found: u8, known: u8 },
    #[error("receipt is damaged: its checksum does not fit")]
    Checksum,
    #[error("receipt is malformed at its {field}")]
    Malformed { field: &'static str },
}

impl Receipt {
    /// The bytes of this receipt, as in `docs/format/receipt.md`.
    pub fn encode(&self) -> Vec<u8> {
        let mut tables = Tables::default();
        let mut body = Vec::new();
        put_varint(&mut body, self.lane_ends.len() as u64);
        for end in &self.lane_ends {
            put_varint(&mut body, tables.lane(end.lane));
            put_varint(&mut body, tables.place(&end.place));
            put_varint(&mut body, end.end);
            put_set(&mut body, &end.pending);
        }
        let groups = group_entries(&self.entries);
        put_varint(&mut body, groups.len() as u64);
        for group in &groups {
            group.put(&mut body, &mut tables);
        }

        let mut bytes = vec![VERSION, kind_code(self.kind)];
        bytes.extend(self.reporter.to_be_bytes());
        bytes.extend(self.session.to_be_bytes());
        put_varint(&mut bytes, self.incarnation);
        put_role(&mut bytes, &self.role);
        put_varint(&mut bytes, zigzag(self.wall_ms));
        put_varint(&mut bytes, self.lease_ms);
        put_varint(&mut bytes, self.number.0);
        put_varint(&mut bytes, self.merged);
        tables.put(&mut bytes, self.session);
        bytes.extend(body);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_be_bytes());
        bytes
    }

    /// Reads what [`Receipt::encode`] has written; the order of entries may differ.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let malformed = |field| DecodeError::Malformed { field };
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&found) => return Err(DecodeError::UnknownVersion { found, known: VERSION }),
            None => return Err(malformed("version")),
        }
        let (body, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::Checksum)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
            return Err(DecodeError::Checksum);
        }
        let mut reader = Reader { bytes: body, field: "version" };
        reader.byte()?;
        let kind = reader.kind()?;
        let (reporter, session) = (reader.fixed_u64("reporter")?, reader.fixed_u64("session")?);
        let incarnation = reader.varint("incarnation")?;
        let role = reader.role()?;
        let wall_ms = unzigzag(reader.varint("time")?);
        let lease_ms = reader.varint("lease")?;
        let number = ReceiptNumber(reader.varint("number")?);
        let merged = reader.varint("number")?;
        let tables = reader.tables(session)?;
        let lane_ends = reader.lane_ends(&tables)?;
        let entries = reader.entries(&tables)?;
        if !reader.bytes.is_empty() || merged > number.0 {
            return Err(malformed("end"));
        }
        Ok(Self {
            kind,
            reporter,
            incarnation,
            session,
            role,
            wall_ms,
            lease_ms,
            number,
            merged,
            lane_ends,
            entries,
        })
    }
}

/// Entries that differ in their mark only share one set of intervals.
struct Group<'a> {
    tag: u8,
    stages: u8,
    reason: &'a str,
    entry: &'a Entry,
}

fn group_entries(entries: &[Entry]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut by_records: HashMap<(u8, Option<LaneId>, &Place, &IntervalSet, &IntervalSet), usize> =
        HashMap::new();
    for entry in entries {
        let (tag, stages, reason) = match &entry.mark {
            Mark::Reached(stage) => (TAG_STAGES, stage_bit(*stage), ""),
            Mark::Unknown(stage) => (TAG_UNKNOWN, stage_bit(*stage), ""),
            Mark::Began { .. } => (TAG_BEGAN, 0, ""),
            Mark::DeadLettersIn => (TAG_DEAD_LETTERS_IN, 0, ""),
            Mark::Ended { disposition, reason } => {
                (disposition_code(*disposition), 0, reason.as_str())
            }
        };
        let records = (tag, entry.lane, &entry.place, &entry.seqs, &entry.offsets);
        match by_records.get(&records).and_then(|index| groups.get_mut(*index)) {
            Some(group) if stages != 0 => group.stages |= stages,
            _ => {
                by_records.insert(records, groups.len());
                groups.push(Group { tag, stages, reason, entry });
            }
        }
    }
    groups
}

impl Group<'_> {
    fn put(&self, body: &mut Vec<u8>, tables: &mut Tables) {
        body.push(self.tag);
        match self.entry.mark {
            Mark::Began { wall_ms } => put_varint(body, zigzag(wall_ms)),
            Mark::DeadLettersIn => {}
            Mark::Ended { .. } => put_varint(body, tables.text(cut_text(self.reason))),
            Mark::Reached(_) | Mark::Unknown(_) => body.push(self.stages),
        }
        put_varint(body, self.entry.lane.map_or(0, |lane| tables.lane(lane) + 1));
        put_varint(body, tables.place(&self.entry.place));
        if self.entry.lane.is_some() {
            put_set(body, &self.entry.seqs);
        }
        put_set(body, &self.entry.offsets);
    }
}

/// What a receipt names more than once is written once and then named by its index.
#[derive(Debug, Default)]
struct Tables {
    texts: Table<String>,
    places: Table<(u64, i32)>,
    lanes: Table<LaneId>,
}

#[derive(Debug)]
struct Table<T> {
    values: Vec<T>,
    indexes: HashMap<T, u64>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { values: Vec::new(), indexes: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn index(&mut self, value: &T) -> u64 {
        if let Some(index) = self.indexes.get(value) {
            return *index;
        }
        let index = self.values.len() as u64;
        self.values.push(value.clone());
        self.indexes.insert(value.clone(), index);
        index
    }
}

impl Tables {
    fn text(&mut self, text: &str) -> u64 {
        self.texts.index(&text.to_owned())
    }

    fn place(&mut self, place: &Place) -> u64 {
        let topic = self.text(cut_text(&place.topic));
        self.places.index(&(topic, place.partition))
    }

    fn lane(&mut self, lane: LaneId) -> u64 {
        self.lanes.index(&lane)
    }

    fn put(&self, bytes: &mut Vec<u8>, own_session: u64) {
        put_varint(bytes, self.texts.values.len() as u64);
        for text in &self.texts.values {
            put_text(bytes, text);
        }
        put_varint(bytes, self.places.values.len() as u64);
        for (topic, partition) in &self.places.values {
            put_varint(bytes, *topic);
            put_varint(bytes, zigzag(i64::from(*partition)));
        }
        put_varint(bytes, self.lanes.values.len() as u64);
        for lane in &self.lanes.values {
            if lane.session == own_session {
                bytes.push(0);
            } else {
                bytes.push(1);
                bytes.extend(lane.session.to_be_bytes());
            }
            put_varint(bytes, u64::from(lane.lane));
        }
    }
}

struct ReadTables {
    texts: Vec<String>,
    places: Vec<Place>,
    lanes: Vec<LaneId>,
}

/// What is left to read, and the name of the field at hand, for errors.
struct Reader<'a> {
    bytes: &'a [u8],
    field: &'static str,
}

impl<'a> Reader<'a> {
    fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { field: self.field }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.bytes.split_first().ok_or_else(|| self.malformed())?;
        self.bytes = rest;
        Ok(*first)
    }

    fn fixed_u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.field = field;
        let (chunk, rest) = self.bytes.split_first_chunk().ok_or_else(|| self.malformed())?;
        self.bytes = rest;
        Ok(u64::from_be_bytes(*chunk))
    }

    fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.field = field;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits.checked_shl(shift).is_none_or(|shifted| shifted >> shift != bits) {
                return Err(self.malformed());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    /// RECEIPT-2: whatever is counted takes at least a byte each, so more than what is left
    /// cannot be there.
    fn count(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.varint(field)?;
        let count = usize::try_from(count).ok().filter(|count| *count <= self.bytes.len());
        count.ok_or_else(|| self.malformed())
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let length = self.count(field)?;
        let (text, rest) = self.bytes.split_at_checked(length).ok_or_else(|| self.malformed())?;
        self.bytes = rest;
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= TEXT_BYTES_MAX);
        text.ok_or_else(|| self.malformed())
    }

    fn kind(&mut self) -> Result<Kind, DecodeError> {
        self.field = "kind";
        let code = self.byte()?;
        let kind = KINDS.iter().find(|kind| kind_code(**kind) == code);
        kind.copied().ok_or_else(|| self.malformed())
    }

    fn role(&mut self) -> Result<Role, DecodeError> {
        self.field = "role";
        match self.byte()? {
            0 => Ok(Role::Producer),
            1 => Ok(Role::UnsafeProducer),
            2 => Ok(Role::Pipeline { group: self.text("group")?.to_owned() }),
            3 => Ok(Role::UnsafePipeline { group: self.text("group")?.to_owned() }),
            _ => Err(self.malformed()),
        }
    }

    fn tables(&mut self, own_session: u64) -> Result<ReadTables, DecodeError> {
        let count = self.count("texts")?;
        let texts = (0..count).map(|_| self.text("texts").map(str::to_owned));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let count = self.count("places")?;
        let places = (0..count).map(|_| {
            let topic = self.item("places", &texts)?.clone();
            let partition = i32::try_from(unzigzag(self.varint("places")?));
            partition.map(|partition| Place { topic, partition }).map_err(|_| self.malformed())
        });
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let count = self.count("lanes")?;
        let lanes = (0..count).map(|_| {
            self.field = "lanes";
            let session = match self.byte()? {
                0 => own_session,
                1 => self.fixed_u64("lanes")?,
                _ => return Err(self.malformed()),
            };
            let lane = u32::try_from(self.varint("lanes")?);
            lane.map(|lane| LaneId { session, lane }).map_err(|_| self.malformed())
        });
        let lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        Ok(ReadTables { texts, places, lanes })
    }

    fn item<'t, T>(&mut self, field: &'static str, table: &'t [T]) -> Result<&'t T, DecodeError> {
        let index = usize::try_from(self.varint(field)?).map_err(|_| self.malformed())?;
        table.get(index).ok_or_else(|| self.malformed())
    }

    fn set(&mut self, field: &'static str) -> Result<IntervalSet, DecodeError> {
        let count = self.count(field)?;
        let mut set = IntervalSet::new();
        for _ in 0..count {
            let gap = self.varint(field)?;
            let length = self.varint(field)?;
            // INTERVAL-1: at least one number lies between two intervals.
            let base = set.last().map_or(Some(0), |last| last.checked_add(2));
            let first = base.and_then(|base| base.checked_add(gap));
            let range = first.and_then(|first| Some((first, first.checked_add(length)?)));
            let (first, last) = range.ok_or_else(|| self.malformed())?;
            set.insert_range(first, last);
        }
        Ok(set)
    }

    fn lane_ends(&mut self, tables: &ReadTables) -> Result<Vec<LaneEnd>, DecodeError> {
        let count = self.count("lane ends")?;
        let ends = (0..count).map(|_| {
            Ok(LaneEnd {
                lane: *self.item("lane ends", &tables.lanes)?,
                place: self.item("lane ends", &tables.places)?.clone(),
                end: self.varint("lane ends")?,
                pending: self.set("lane ends")?,
            })
        });
        ends.collect()
    }

    fn entries(&mut self, tables: &ReadTables) -> Result<Vec<Entry>, DecodeError> {
        let count = self.count("entries")?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let marks = self.marks(tables)?;
            let lane = match self.varint("entries")?.checked_sub(1) {
                None => None,
                Some(index) => {
                    let index = usize::try_from(index).map_err(|_| self.malformed())?;
                    Some(*tables.lanes.get(index).ok_or_else(|| self.malformed())?)
                }
            };
            let place = self.item("entries", &tables.places)?.clone();
            let seqs = if lane.is_some() { self.set("entries")? } else { IntervalSet::new() };
            let offsets = self.set("entries")?;
            if entries.len() + marks.len() > ENTRIES_MAX {
                return Err(self.malformed());
            }
            entries.extend(marks.into_iter().map(|mark| Entry {
                mark,
                lane,
                place: place.clone(),
                seqs: seqs.clone(),
                offsets: offsets.clone(),
            }));
        }
        Ok(entries)
    }

    fn marks(&mut self, tables: &ReadTables) -> Result<Vec<Mark>, DecodeError> {
        self.field = "entries";
        let tag = self.byte()?;
        if tag == TAG_BEGAN {
            return Ok(vec![Mark::Began { wall_ms: unzigzag(self.varint("entries")?) }]);
        }
        if tag == TAG_DEAD_LETTERS_IN {
            return Ok(vec![Mark::DeadLettersIn]);
        }
        if tag != TAG_STAGES && tag != TAG_UNKNOWN {
            let known = Disposition::ALL.into_iter().find(|known| disposition_code(*known) == tag);
            let disposition = known.ok_or_else(|| self.malformed())?;
            let reason = self.item("entries", &tables.texts)?.clone();
            return Ok(vec![Mark::Ended { disposition, reason }]);
        }
        let stages = self.byte()?;
        if stages == 0 {
            return Err(self.malformed());
        }
        let named = Stage::ALL.into_iter().filter(|stage| stages & stage_bit(*stage) != 0);
        let mark =
            |stage| if tag == TAG_STAGES { Mark::Reached(stage) } else { Mark::Unknown(stage) };
        Ok(named.map(mark).collect())
    }
}

const KINDS: [Kind; 5] =
    [Kind::Opened, Kind::Ongoing, Kind::Heartbeat, Kind::Sealed, Kind::Recovered];

fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Opened => 0,
        Kind::Ongoing => 1,
        Kind::Heartbeat => 2,
        Kind::Sealed => 3,
        Kind::Recovered => 4,
    }
}

fn stage_bit(stage: Stage) -> u8 {
    match stage {
        Stage::Accepted => 1,
        Stage::Sent => 1 << 1,
        Stage::Acked => 1 << 2,
        Stage::Stored => 1 << 3,
        Stage::Delivered => 1 << 4,
        Stage::Processed => 1 << 5,
        Stage::Confirmed => 1 << 6,
        Stage::Committed => 1 << 7,
    }
}

fn disposition_code(disposition: Disposition) -> u8 {
    match disposition {
        Disposition::Filtered => 1,
        Disposition::DeadLettered => 2,
        Disposition::Duplicate => 3,
        Disposition::Rejected => 4,
        Disposition::Expired => 5,
        Disposition::Discarded => 6,
    }
}

fn put_role(bytes: &mut Vec<u8>, role: &Role) {
    let code = match role {
        Role::Producer => 0,
        Role::UnsafeProducer => 1,
        Role::Pipeline { .. } => 2,
        Role::UnsafePipeline { .. } => 3,
    };
    bytes.push(code);
    if let Some(group) = role.group() {
        put_text(bytes, cut_text(group));
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_varint(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// The longest beginning of `text` that fits.
pub(crate) fn cut_text(text: &str) -> &str {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn put_set(bytes: &mut Vec<u8>, set: &IntervalSet) {
    put_varint(bytes, set.interval_count() as u64);
    let mut base = 0;
    for interval in set.iter() {
        put_varint(bytes, interval.first - base);
        put_varint(bytes, interval.last - interval.first);
        base = interval.last.saturating_add(2);
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
