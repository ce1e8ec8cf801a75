//! The flow under any script of assignments, results, late results and stops, against a model
//! that knows the truth of every record.

use std::collections::{BTreeMap, BTreeSet};

use lossproof_audit::identity::Identity;
use lossproof_client::{Record, TopicPartition};
use lossproof_pipeline::flow::{End, Flow, Limits, Mode, Task};
use proptest::prelude::*;

const LIMITS: Limits = Limits { in_flight_max: 8, partition_in_flight_max: 5 };

fn place(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".to_owned(), partition }
}

fn record(partition: i32, offset: i64, key: u8) -> Record {
    let key = (key > 0).then(|| vec![key].into());
    Record { topic: "t".to_owned(), partition, offset, key, ..Record::default() }
}

fn identity(partition: i32, offset: i64) -> Identity {
    Identity::Natural { topic: "t".to_owned(), partition, offset }
}

#[derive(Clone, Debug)]
enum Action {
    Assign(i32),
    Admit { partition: i32, key: u8 },
    Start,
    Finish { index: usize, end: End },
    GiveUp(usize),
    Stop(usize),
    Leave(i32),
    Unassign(i32),
    Commit,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let end = prop_oneof![
        3 => Just(End::Confirmed), 1 => Just(End::Filtered), 1 => Just(End::DeadLettered)
    ];
    let action = prop_oneof![
        2 => (0..3).prop_map(Action::Assign),
        10 => (0..3, 0..3_u8).prop_map(|(partition, key)| Action::Admit { partition, key }),
        8 => Just(Action::Start),
        6 => (any::<usize>(), end).prop_map(|(index, end)| Action::Finish { index, end }),
        1 => any::<usize>().prop_map(Action::GiveUp),
        1 => any::<usize>().prop_map(Action::Stop),
        1 => (0..3).prop_map(Action::Leave),
        1 => (0..3).prop_map(Action::Unassign),
        4 => Just(Action::Commit),
    ];
    prop::collection::vec(action, 0..200)
}

/// What a partition has seen in its present assignment.
#[derive(Debug, Default)]
struct Assigned {
    start: i64,
    next: i64,
    admitted: BTreeSet<i64>,
    settled: BTreeSet<i64>,
    stopped_at: Option<i64>,
}

#[derive(Debug)]
struct Model {
    mode: Mode,
    flow: Flow,
    assigned: BTreeMap<i32, Assigned>,
    /// The cluster's word.
    committed: BTreeMap<i32, i64>,
    running: Vec<Task>,
    settled: u64,
}

impl Model {
    fn act(&mut self, action: Action) {
        match action {
            Action::Assign(partition) => {
                let start = self.committed.get(&partition).copied().unwrap_or(0);
                self.flow.assign(&place(partition), start);
                let fresh = Assigned { start, next: start, ..Assigned::default() };
                self.assigned.insert(partition, fresh);
            }
            Action::Admit { partition, key } => self.admit(partition, key),
            Action::Start => self.start(),
            Action::Finish { index, end } => self.finish(index, end),
            Action::GiveUp(index) => {
                if let Some(task) = self.take(index) {
                    self.flow.give_up(&task);
                }
            }
            Action::Stop(index) => self.stop(index),
            Action::Leave(partition) => self.flow.begin_leaving(&[place(partition)]),
            Action::Unassign(partition) => {
                self.flow.unassign(&[place(partition)]);
                self.assigned.remove(&partition);
            }
            Action::Commit => self.commit(),
        }
    }

    fn admit(&mut self, partition: i32, key: u8) {
        let Some(assigned) = self.assigned.get_mut(&partition) else {
            assert!(self.flow.admit(record(partition, 0, key), identity(partition, 0)).is_none());
            return;
        };
        let offset = assigned.next;
        let task = self.flow.admit(record(partition, offset, key), identity(partition, offset));
        assert_eq!(task.is_some(), assigned.stopped_at.is_none());
        if task.is_some() {
            assigned.next += 1;
            assigned.admitted.insert(offset);
        }
    }

    fn start(&mut self) {
        let Some(task) = self.flow.start() else { return };
        let same_lane = |other: &&Task| {
            let same_key = self.mode == Mode::Partition
                || (task.record.key.is_some() && other.record.key == task.record.key);
            self.mode != Mode::Unordered && other.ticket.epoch == task.ticket.epoch && same_key
        };
        assert!(!self.running.iter().any(|other| same_lane(&other)), "FLOW-3: two of a lane run");
        self.running.push(task);
    }

    fn take(&mut self, index: usize) -> Option<Task> {
        let count = self.running.len();
        (count > 0).then(|| self.running.swap_remove(index % count))
    }

    fn finish(&mut self, index: usize, end: End) {
        let Some(task) = self.take(index) else { return };
        let current = self.flow.is_current(&task.ticket);
        let counted = self.flow.finish(&task, end);
        let partition = task.ticket.partition.partition;
        let held = self.assigned.get_mut(&partition);
        let known = held.filter(|assigned| {
            // The model does not know of epochs: a ticket is good if it was not given before the
            // last assignment, which the flow tells by `is_current` or by the stop.
            (current || assigned.stopped_at.is_some())
                && assigned.admitted.contains(&task.ticket.offset)
        });
        if counted {
            let assigned = known.expect("FLOW-2: a late result was counted");
            assert!(assigned.settled.insert(task.ticket.offset));
            self.settled += 1;
        } else {
            assert!(!current, "a result in time was thrown away");
        }
        assert!(!self.flow.finish(&task, end), "a record was finished twice");
    }

    fn stop(&mut self, index: usize) {
        let Some(task) = self.take(index) else { return };
        let current = self.flow.is_current(&task.ticket);
        assert_eq!(self.flow.stop_partition(&task, "reason"), current);
        if current && let Some(assigned) = self.assigned.get_mut(&task.ticket.partition.partition) {
            assigned.stopped_at = Some(task.ticket.offset);
        }
    }

    fn commit(&mut self) {
        let offsets = self.flow.committable(None);
        for (name, offset) in &offsets {
            let assigned = &self.assigned[&name.partition];
            let open = assigned.admitted.range(..offset).find(|o| !assigned.settled.contains(o));
            assert_eq!(open, None, "{offset} committed");
            assert!(*offset <= assigned.next && *offset >= assigned.start);
            assert!(assigned.stopped_at.is_none_or(|stop| *offset <= stop), "FLOW-4");
            let before = self.committed.insert(name.partition, *offset);
            assert!(before.is_none_or(|before| before < *offset), "a commit went back");
        }
        self.flow.committed(&offsets);
    }

    fn check(&self) {
        let counts = self.flow.counts();
        assert!(counts.conserved(), "FLOW-1: {counts:?}");
        let ended = counts.confirmed + counts.filtered + counts.dead_lettered;
        assert_eq!(ended, self.settled);
    }
}

proptest! {
    #[test]
    fn nothing_is_committed_that_is_not_settled(
        mode in prop_oneof![Just(Mode::Unordered), Just(Mode::Key), Just(Mode::Partition)],
        actions in actions(),
    ) {
        let mut model = Model {
            mode,
            flow: Flow::new(mode, LIMITS, false),
            assigned: BTreeMap::new(),
            committed: BTreeMap::new(),
            running: Vec::new(),
            settled: 0,
        };
        for action in actions {
            model.act(action);
            model.check();
        }
        model.act(Action::Commit);
    }

    /// FLOW-3: whatever is started, one key's records come out in the order of their offsets.
    #[test]
    fn keys_keep_their_order(
        keys in prop::collection::vec(1..4_u8, 1..40),
        picks in prop::collection::vec(any::<usize>(), 200),
    ) {
        let mut flow = Flow::new(Mode::Key, LIMITS, false);
        flow.assign(&place(0), 0);
        for (offset, key) in keys.iter().enumerate() {
            flow.admit(record(0, offset as i64, *key), identity(0, offset as i64)).unwrap();
        }
        let (mut running, mut done): (Vec<Task>, BTreeMap<u8, i64>) = (Vec::new(), BTreeMap::new());
        let mut finished = 0;
        for pick in picks {
            while let Some(task) = flow.start() {
                running.push(task);
            }
            if running.is_empty() {
                break;
            }
            let task = running.swap_remove(pick % running.len());
            let key = task.record.key.as_ref().unwrap()[0];
            let before = done.insert(key, task.ticket.offset);
            prop_assert!(before.is_none_or(|before| before < task.ticket.offset));
            prop_assert!(flow.finish(&task, End::Confirmed));
            finished += 1;
        }
        prop_assert_eq!(finished, keys.len());
        prop_assert_eq!(flow.committable(None), vec![(place(0), keys.len() as i64)]);
    }
}

#[test]
fn reading_pauses_when_full_and_goes_on_only_when_there_is_room_again() {
    let mut flow = Flow::new(Mode::Unordered, LIMITS, false);
    flow.assign(&place(0), 0);
    flow.assign(&place(1), 0);
    for offset in 0..5 {
        flow.admit(record(0, offset, 0), identity(0, offset)).unwrap();
    }
    assert_eq!(flow.pause_changes(false), (vec![place(0)], vec![]));
    let one = flow.start().unwrap();
    assert!(flow.finish(&one, End::Confirmed));
    assert_eq!(flow.pause_changes(false), (vec![], vec![]), "4 of 5 is still too much");
    let two = flow.start().unwrap();
    assert!(flow.finish(&two, End::Confirmed));
    assert_eq!(flow.pause_changes(false), (vec![], vec![place(0)]));
    for offset in 0..5 {
        flow.admit(record(1, offset, 0), identity(1, offset)).unwrap();
    }
    let (pause, _) = flow.pause_changes(false);
    assert_eq!(pause, vec![place(0), place(1)], "8 of 8 in all");
    // An open breaker holds everything, whatever room there is.
    let mut empty = Flow::new(Mode::Unordered, LIMITS, false);
    empty.assign(&place(0), 0);
    assert_eq!(empty.pause_changes(true), (vec![place(0)], vec![]));
    assert_eq!(empty.pause_changes(false), (vec![], vec![place(0)]));
}
