//! What the client programs print, and the checks of it. A client judges nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::Failure;

/// Partition and offset.
pub(crate) type Place = (i32, i64);

/// One line of a client, in the order in which it was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The broker has stored the value there.
    Acked(Place, String),
    /// The same, of a client that does not say which value.
    Placed(Place),
    /// It was read from there.
    Record(Place, String),
    /// The partition is committed up to, but not including, the offset.
    Committed(Place),
    /// `partitions`, `config` or `topics`, and the rest.
    Fact(String, String),
}

impl Line {
    /// The partition of an acknowledgement.
    pub(crate) fn stored_in(&self) -> Option<i32> {
        match self {
            Self::Acked((partition, _), _) | Self::Placed((partition, _)) => Some(*partition),
            _ => None,
        }
    }
}

/// What kcat says of each record, ahead of its partition and offset.
const KCAT_PLACED: &str = "% Message delivered to partition ";

/// Whole lines only: what is still being written comes with the next look. Other lines are the
/// client's own chatter.
pub(crate) fn parse(text: &str) -> Vec<Line> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    if let Some(place) = line.strip_prefix(KCAT_PLACED) {
        let (partition, rest) = place.split_once(" (offset ")?;
        let (offset, _) = rest.split_once(')')?;
        return Some(Line::Placed((partition.parse().ok()?, offset.parse().ok()?)));
    }
    let (word, rest) = line.split_once(' ')?;
    if ["partitions", "config", "topics"].contains(&word) {
        return Some(Line::Fact(word.to_owned(), rest.to_owned()));
    }
    let mut words = rest.splitn(3, ' ');
    let place = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    match (word, words.next()) {
        ("acked", Some(value)) => Some(Line::Acked(place, value.to_owned())),
        ("record", Some(value)) => Some(Line::Record(place, value.to_owned())),
        ("committed", None) => Some(Line::Committed(place)),
        _ => None,
    }
}

pub(crate) fn records(lines: &[Line]) -> Vec<(Place, String)> {
    let record = |line: &Line| match line {
        Line::Record(place, value) => Some((*place, value.clone())),
        _ => None,
    };
    lines.iter().filter_map(record).collect()
}

pub(crate) fn fact<'a>(lines: &'a [Line], word: &str) -> Vec<&'a str> {
    let fact = |line: &'a Line| match line {
        Line::Fact(found, rest) if found == word => Some(rest.as_str()),
        _ => None,
    };
    lines.iter().filter_map(fact).collect()
}

/// Everything that was sent to a topic: in the order of sending, and where it was stored.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    values: Vec<String>,
    /// Where something is, and what, where the client has said so.
    places: BTreeMap<Place, Option<String>>,
}

impl Sent {
    pub(crate) fn values(&self) -> &[String] {
        &self.values
    }

    /// Takes what a producer was given and what it says about it: each value must be acknowledged
    /// exactly once, at a place of its own. Where it does not say which, as many as there are.
    pub(crate) fn add(
        &mut self,
        values: &[String],
        lines: &[Line],
        says_which: bool,
    ) -> Result<(), Failure> {
        let (mut acked, mut count) = (BTreeSet::new(), 0);
        for line in lines {
            let (place, value) = match line {
                Line::Acked(place, value) => (*place, Some(value.clone())),
                Line::Placed(place) => (*place, None),
                _ => continue,
            };
            count += 1;
            if let Some(value) = &value
                && !acked.insert(value.clone())
            {
                return Err(Failure::broken(format!("{value} was acknowledged twice")));
            }
            if let Some(other) = self.places.insert(place, value.clone()) {
                let what = format!("two records at {place:?}: {other:?} and {value:?}");
                return Err(Failure::broken(what));
            }
        }
        let missing = values.iter().find(|value| !acked.contains(*value));
        if let Some(value) = missing.filter(|_| says_which) {
            return Err(Failure::broken(format!("{value} was never acknowledged")));
        }
        if count != values.len() {
            let given = values.len();
            return Err(Failure::broken(format!("{count} of {given} values were acknowledged")));
        }
        self.values.extend_from_slice(values);
        Ok(())
    }

    /// What was read from a place is what was stored there, whoever read it.
    pub(crate) fn check_values(&self, records: &[(Place, String)]) -> Result<(), Failure> {
        for (place, value) in records {
            if let Some(Some(stored)) = self.places.get(place)
                && stored != value
            {
                let what = format!("{place:?} holds {stored}, but {value} was read");
                return Err(Failure::broken(what));
            }
        }
        Ok(())
    }

    /// A whole read by one member: all of it, each from a place that was acknowledged, nothing
    /// twice, in the order of sending within each partition.
    pub(crate) fn check_whole(&self, records: &[(Place, String)]) -> Result<(), Failure> {
        let read: Vec<String> = records.iter().map(|(_, value)| value.clone()).collect();
        crate::e2e::same_once(&self.values, &read)?;
        self.check_values(records)?;
        if let Some((place, _)) = records.iter().find(|it| !self.places.contains_key(&it.0)) {
            return Err(Failure::broken(format!("{place:?} was read and never acknowledged")));
        }
        let turns: BTreeMap<&String, usize> =
            self.values.iter().enumerate().map(|(turn, value)| (value, turn)).collect();
        let mut last: BTreeMap<i32, (i64, usize)> = BTreeMap::new();
        for ((partition, offset), value) in records {
            let now = (*offset, turns.get(value).copied().unwrap_or_default());
            if let Some(before) = last.insert(*partition, now)
                && (before.0 >= now.0 || before.1 >= now.1)
            {
                let what = format!("{value} at {partition}/{offset} is out of order");
                return Err(Failure::broken(what));
            }
        }
        Ok(())
    }
}

/// The offset up to which each partition is committed in a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor(BTreeMap<i32, i64>);

impl Floor {
    /// Goes through what a member of the group printed since this was the floor: nothing below it
    /// is delivered, and each commit raises it.
    pub(crate) fn check(&mut self, lines: &[Line]) -> Result<(), Failure> {
        for line in lines {
            match line {
                Line::Record((partition, offset), value) => {
                    let floor = self.of(*partition);
                    if *offset < floor {
                        return Err(Failure::broken(format!(
                            "{value} at {partition}/{offset} came again: {floor} was committed"
                        )));
                    }
                }
                Line::Committed((partition, offset)) => self.raise(*partition, *offset),
                Line::Acked(..) | Line::Placed(_) | Line::Fact(..) => {}
            }
        }
        Ok(())
    }

    /// The same for a member that has left in order. Only of one that does not say what it commits
    /// all that it printed is taken to be committed: another one may have lost its partitions
    /// before the commit was answered, and then it must not say that it was.
    pub(crate) fn after_leaving(
        &mut self,
        lines: &[Line],
        says_committed: bool,
    ) -> Result<(), Failure> {
        self.check(lines)?;
        if !says_committed {
            for ((partition, offset), _) in records(lines) {
                self.raise(partition, offset + 1);
            }
        }
        Ok(())
    }

    /// A member has given partitions to another one and not got them back yet: nothing of what it
    /// had committed comes to that one.
    pub(crate) fn check_handover(giver: &[Line], taker: &[Line]) -> Result<(), Failure> {
        let mut floor = Self::default();
        for line in giver {
            if let Line::Committed((partition, offset)) = line {
                floor.raise(*partition, *offset);
            }
        }
        floor.check(taker)
    }

    pub(crate) fn of(&self, partition: i32) -> i64 {
        self.0.get(&partition).copied().unwrap_or_default()
    }

    fn raise(&mut self, partition: i32, offset: i64) {
        let floor = self.0.entry(partition).or_default();
        *floor = offset.max(*floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        let mut sent = Sent::default();
        let values: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let lines = parse("acked 0 0 a\nacked 1 0 b\nacked 0 1 c\n");
        sent.add(&values, &lines, true).unwrap();
        sent
    }

    fn read(text: &str) -> Vec<(Place, String)> {
        records(&parse(text))
    }

    #[test]
    fn lines_are_parsed_and_chatter_and_halves_are_not() {
        let text = "hello\nrecord 1 20 a b\ncommitted 1 21\nconfig x=y z\nacked 0 7 v\nrecord 1 2";
        let expected = [
            Line::Record((1, 20), "a b".to_owned()),
            Line::Committed((1, 21)),
            Line::Fact("config".to_owned(), "x=y z".to_owned()),
            Line::Acked((0, 7), "v".to_owned()),
        ];
        assert_eq!(parse(text), expected);
        assert_eq!(fact(&parse(text), "config"), ["x=y z"]);
    }

    #[test]
    fn what_is_not_acknowledged_once_is_noticed() {
        let values = ["a".to_owned()];
        let add = |text: &str, says| Sent::default().add(&values, &parse(text), says);
        assert!(add("acked 0 0 a\n", true).is_ok());
        assert!(add("", true).unwrap_err().to_string().contains("never"));
        let placed = |offset: u8| format!("{KCAT_PLACED}0 (offset {offset}) on broker 1\n");
        assert!(add(&placed(7), false).is_ok());
        assert!(add("", false).unwrap_err().to_string().contains("0 of 1"));
        assert!(add(&(placed(7) + &placed(8)), false).is_err(), "more than were sent");
        let both = ["a".to_owned(), "b".to_owned()];
        let lines = parse(&placed(7).repeat(2));
        assert!(Sent::default().add(&both, &lines, false).is_err(), "two at one place");
        assert!(add("acked 0 0 a\nacked 0 1 a\n", true).is_err());
        assert!(add("acked 0 0 a\nacked 0 0 b\n", true).is_err());
    }

    #[test]
    fn loss_repetition_alteration_and_disorder_are_noticed() {
        let sent = sent();
        let whole = |text: &str| sent.check_whole(&read(text));
        whole("record 0 0 a\nrecord 1 0 b\nrecord 0 1 c\n").unwrap();
        whole("record 1 0 b\nrecord 0 0 a\nrecord 0 1 c\n").unwrap();
        assert!(whole("record 0 0 a\nrecord 0 1 c\n").is_err(), "b is lost");
        let twice = whole("record 0 0 a\nrecord 1 0 b\nrecord 0 1 c\nrecord 1 0 b\n");
        assert!(twice.is_err(), "b came twice");
        assert!(whole("record 0 0 a\nrecord 1 0 c\nrecord 0 1 b\n").is_err(), "exchanged");
        assert!(whole("record 0 1 c\nrecord 1 0 b\nrecord 0 0 a\n").is_err(), "disorder");
        assert!(whole("record 0 0 a\nrecord 1 0 b\nrecord 0 2 c\n").is_err(), "another place");
    }

    #[test]
    fn nothing_below_the_commit_comes_again() {
        let mut floor = Floor::default();
        floor.check(&parse("record 0 4 a\ncommitted 0 5\nrecord 0 5 b\n")).unwrap();
        assert_eq!(floor.of(0), 5);
        assert!(floor.clone().check(&parse("record 0 5 b\n")).is_ok(), "b was not committed");
        assert!(floor.clone().check(&parse("record 0 4 a\n")).is_err());
        floor.after_leaving(&parse("record 0 5 b\n"), false).unwrap();
        assert!(floor.clone().check(&parse("record 0 5 b\n")).is_err());
        assert_eq!(floor.of(0), 6);
    }

    #[test]
    fn nothing_that_was_committed_comes_to_the_next_owner() {
        let giver = parse("record 0 4 a\ncommitted 0 5\nrecord 0 5 b\nrecord 1 7 c\n");
        let handover = |text: &str| Floor::check_handover(&giver, &parse(text));
        handover("record 0 5 b\nrecord 1 7 c\ncommitted 0 6\n").unwrap();
        assert!(handover("record 0 4 a\n").is_err());
        assert!(handover("record 0 5 b\ncommitted 0 6\nrecord 0 5 b\n").is_err());
    }

    /// Seen with Java: stopped just after a restart of the broker, its last commit was refused and
    /// its partitions were lost to it, so that it left without having committed what it printed.
    #[test]
    fn what_was_printed_and_never_committed_may_come_again() {
        let mut floor = Floor::default();
        let lines = parse("record 0 4 a\ncommitted 0 5\nrecord 0 5 b\n");
        floor.after_leaving(&lines, true).unwrap();
        assert_eq!(floor.of(0), 5);
        floor.check(&parse("record 0 5 b\n")).unwrap();
    }
}
