//! LEDGER-6: what the auditor has read in the topics of dead letters.

use std::collections::{BTreeMap, BTreeSet};

use lossproof_client::Record;

use super::{LaneKey, Ledger, header_of};
use crate::identity::{
    GROUP_HEADER, ORIGIN_OFFSET_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_TOPIC_HEADER,
};
use crate::interval::IntervalSet;
use crate::receipt::{LaneId, Place};

/// Dead letters by group and lane of origin.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    /// Where each group says that it puts them.
    topics: BTreeMap<String, BTreeSet<String>>,
    read: BTreeMap<(String, LaneKey), IntervalSet>,
}

impl DeadLetters {
    pub(super) fn name_topic(&mut self, group: &str, topic: &str) {
        self.topics.entry(group.to_owned()).or_default().insert(topic.to_owned());
    }

    /// Records of the lane that the group has put aside.
    pub(super) fn of(&self, group: &str, key: &LaneKey) -> IntervalSet {
        self.read.get(&(group.to_owned(), key.clone())).cloned().unwrap_or_default()
    }
}

impl Ledger {
    /// Topics in which the reporters say that they put dead letters.
    pub fn dead_letter_topics(&self) -> BTreeSet<String> {
        self.dead_letters.topics.values().flatten().cloned().collect()
    }

    /// The auditor has read this record in a topic of dead letters, below the high watermark.
    pub fn observe_dead_letter(&mut self, record: &Record) {
        let Some(group) = text_of(record, GROUP_HEADER) else { return };
        let found = match header_of(record) {
            Some(header) => {
                let lane = LaneId { session: header.id.session, lane: header.id.lane };
                Some((LaneKey::Stamped(lane), header.id.seq))
            }
            None => origin_of(record).map(|(place, offset)| (LaneKey::Natural(place), offset)),
        };
        if let Some((key, number)) = found {
            let read = self.dead_letters.read.entry((group.to_owned(), key)).or_default();
            read.insert(number);
        }
    }

    /// Why a dead letter of the group that was not found may be there all the same.
    pub(super) fn dead_letters_silence(&self, group: &str) -> Option<String> {
        let Some(topics) = self.dead_letters.topics.get(group) else {
            return Some(format!("group {group} has not named the topic of its dead letters"));
        };
        topics.iter().find_map(|topic| {
            let about = |why: &str| Some(format!("topic {topic} of the dead letters: {why}"));
            if let Some(why) = self.unread_topics.get(topic) {
                return about(why);
            }
            let lows = self.topics.lows_of(topic);
            match lows.iter().max() {
                None => about("it is not there, or was not read"),
                Some(low) if *low > 0 => about("its beginning was removed"),
                Some(_) => None,
            }
        })
    }
}

/// Of headers of the same name the last one holds: a dead letter that is put aside again keeps
/// those that it came with.
fn text_of<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().rfind(|(header, _)| header == name)?;
    std::str::from_utf8(value.as_deref()?).ok()
}

fn origin_of(record: &Record) -> Option<(Place, u64)> {
    let topic = text_of(record, ORIGIN_TOPIC_HEADER)?;
    let partition = text_of(record, ORIGIN_PARTITION_HEADER)?.parse().ok()?;
    let offset = text_of(record, ORIGIN_OFFSET_HEADER)?.parse().ok()?;
    Some((Place::new(topic, partition), offset))
}
