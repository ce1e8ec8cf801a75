//! The classic group protocol as clients live it: joining, being assigned, heartbeats, leaving,
//! dying, coming back under the same instance id. No clock: time is a number.

use crate::common;

use std::time::Duration;

use bytes::Bytes;
use common::world::{REBALANCE, SESSION, World, join, named};
use lossproof_broker::group::{CommitFence, GroupError, GroupSettings, Inside, Join, Phase};

#[test]
fn one_member_joins_and_is_assigned() {
    let mut world = World::new(Duration::ZERO);
    let token = world.join(join("", "a"));
    let answer = world.joined(token).clone();
    assert_eq!((answer.error, answer.generation, answer.leader.as_str()), (None, 1, "a"));
    assert_eq!(answer.members.len(), 1);
    assert_eq!(answer.protocol.as_deref(), Some("range"));
    let token = world.sync("a", 1, &[("a", "p0")]);
    assert_eq!(world.synced(token).assignment, "p0");
    assert_eq!(world.heartbeat("a", 1), Ok(()));
}

#[test]
fn followers_wait_for_the_leader_and_get_their_part() {
    let mut world = World::new(Duration::ZERO);
    let (_, _, generation) = world.of_two();
    let parts: Vec<_> = world.syncs.iter().map(|(_, answer)| answer.assignment.clone()).collect();
    assert_eq!((parts.len(), generation), (2, 2));
    assert!(parts.contains(&Bytes::from_static(b"p0")) && parts.contains(&"p1".into()));
}

#[test]
fn a_first_rebalance_waits_for_more_members_and_longer_when_they_come() {
    let delay = Duration::from_millis(100);
    let mut world = World::new(delay);
    let a = world.join(join("", "a"));
    world.pass(Duration::from_millis(60));
    let b = world.join(join("", "b"));
    world.pass(Duration::from_millis(60));
    assert!(world.waits(a) && world.waits(b), "the second member has extended the wait");
    world.pass(Duration::from_millis(40));
    assert_eq!(world.joined(a).generation, 1);
    assert_eq!(world.joined(b).generation, 1);
}

#[test]
fn member_id_required_and_then_joined() {
    let mut world = World::new(Duration::ZERO);
    let first = Join { requires_known_member_id: true, ..join("", "a") };
    let token = world.join(first);
    let answer = world.joined(token);
    assert_eq!(
        (answer.error, answer.member_id.as_str()),
        (Some(GroupError::MemberIdRequired), "a")
    );
    let again = Join { requires_known_member_id: true, ..join("a", "unused") };
    let token = world.join(again);
    assert_eq!(world.joined(token).generation, 1);
}

#[test]
fn a_handed_out_member_id_is_good_for_a_session() {
    let mut world = World::new(Duration::ZERO);
    world.join(Join { requires_known_member_id: true, ..join("", "a") });
    world.pass(SESSION);
    let token = world.join(Join { requires_known_member_id: true, ..join("a", "x") });
    assert_eq!(world.joined(token).error, Some(GroupError::UnknownMember));
}

#[test]
fn a_silent_member_is_expired_and_the_others_rebalance() {
    let mut world = World::new(Duration::ZERO);
    let (leader, other, generation) = world.of_two();
    world.pass(Duration::from_secs(6));
    assert_eq!(world.heartbeat(&leader, generation), Ok(()));
    world.pass(Duration::from_secs(6));
    let told = world.heartbeat(&leader, generation);
    assert_eq!(told, Err(GroupError::RebalanceInProgress));
    let token = world.join(join(&leader, "-"));
    let answer = world.joined(token);
    assert_eq!((answer.generation, answer.members.len()), (generation + 1, 1));
    assert_eq!(world.heartbeat(&other, generation), Err(GroupError::UnknownMember));
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut world = World::new(Duration::ZERO);
    let (leader, other, generation) = world.of_two();
    let c = world.join(join("", "c"));
    // Both keep their sessions alive, but only one joins again.
    let rejoined = world.join(join(&leader, "-"));
    for _ in 0..12 {
        world.pass(Duration::from_secs(5));
        let _ = world.heartbeat(&other, generation);
    }
    assert_eq!(world.joined(c).generation, generation + 1);
    assert_eq!(world.joined(rejoined).generation, generation + 1);
    assert_eq!(world.heartbeat(&other, generation + 1), Err(GroupError::UnknownMember));
}

#[test]
fn a_leader_that_never_assigns_is_replaced() {
    let mut world = World::new(Duration::ZERO);
    let a = world.join(join("", "a"));
    let generation = world.joined(a).generation;
    for _ in 0..12 {
        world.pass(Duration::from_secs(5));
        let _ = world.heartbeat("a", generation);
    }
    assert_eq!(world.groups.phase("g"), Phase::Empty);
    assert_eq!(world.heartbeat("a", generation), Err(GroupError::UnknownMember));
}

/// Found by the model: a member that waited for its assignment longer than its session, because the
/// leader was slow, was thrown out the moment the wait was broken off.
#[test]
fn waiting_for_the_leader_does_not_use_up_the_session() {
    let mut world = World::new(Duration::from_millis(1));
    let (a, b) = (world.join(join("", "a")), world.join(join("", "b")));
    world.pass(Duration::from_millis(1));
    let leader = world.joined(a).leader.clone();
    let other = if leader == "a" { "b" } else { "a" };
    let generation = world.joined(b).generation;
    world.sync(other, generation, &[]);
    for _ in 0..3 {
        world.pass(Duration::from_secs(5));
        assert_eq!(world.heartbeat(&leader, generation), Ok(()));
    }
    world.leave(&leader).expect("the leader is a member");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.heartbeat(other, generation), Err(GroupError::RebalanceInProgress));
}

#[test]
fn leaving_rebalances_at_once() {
    let mut world = World::new(Duration::ZERO);
    let (leader, other, generation) = world.of_two();
    assert_eq!(world.leave(&leader), Ok(()));
    assert_eq!(world.heartbeat(&other, generation), Err(GroupError::RebalanceInProgress));
    let token = world.join(join(&other, "-"));
    let answer = world.joined(token);
    assert_eq!((answer.leader.clone(), answer.generation), (other, generation + 1));
    assert_eq!(world.leave(&leader), Err(GroupError::UnknownMember));
}

/// GROUP-2.
#[test]
fn commits_are_fenced_by_generation_and_member() {
    let mut world = World::new(Duration::ZERO);
    let (leader, other, generation) = world.of_two();
    assert_eq!(world.commit(&leader, generation), Ok(()));
    assert_eq!(world.commit(&leader, generation - 1), Err(GroupError::IllegalGeneration));
    assert_eq!(world.commit("stranger", generation), Err(GroupError::UnknownMember));
    assert_eq!(world.commit("", -1), Err(GroupError::UnknownMember));
    // While the others join again the old generation may still commit, and not after.
    let c = world.join(join("", "c"));
    assert_eq!(world.commit(&other, generation), Ok(()));
    world.join(join(&leader, "-"));
    world.join(join(&other, "-"));
    assert_eq!(world.joined(c).generation, generation + 1);
    assert_eq!(world.commit(&other, generation), Err(GroupError::IllegalGeneration));
    assert_eq!(world.commit(&other, generation + 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_consumer_without_membership_may_commit_where_there_are_no_members() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit("", -1), Ok(()));
    assert_eq!(world.commit("gone", 7), Err(GroupError::UnknownMember));
}

/// Java clients before the mend of KAFKA-14201 and librdkafka send the instance id that they were
/// given, although they assign to themselves.
#[test]
fn a_consumer_without_membership_may_have_an_instance_id() {
    let mut world = World::new(Duration::ZERO);
    let fence = || CommitFence {
        group: "g".into(),
        generation: -1,
        member_id: String::new(),
        instance: Some("i".into()),
    };
    assert_eq!(world.groups.check_commit(world.now, &fence()), Ok(()));
    world.join(join("", "a"));
    let refused = world.groups.check_commit(world.now, &fence());
    assert_eq!(refused, Err(GroupError::UnknownMember), "the group is not empty");
    world.leave("a").expect("it is a member");
    assert_eq!(world.groups.check_commit(world.now, &fence()), Ok(()));
}

/// GROUP-3.
#[test]
fn the_protocol_that_all_know_and_most_like_is_chosen() {
    let likes = |names: &[&str], fresh: &str| Join {
        protocols: names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect(),
        ..join("", fresh)
    };
    let mut world = World::new(Duration::from_millis(1));
    let tokens = [
        world.join(likes(&["x", "y", "z"], "a")),
        world.join(likes(&["z", "y"], "b")),
        world.join(likes(&["w", "z", "y"], "c")),
    ];
    world.pass(Duration::from_millis(1));
    for token in tokens {
        assert_eq!(world.joined(token).protocol.as_deref(), Some("z"));
    }
    let token = world.join(likes(&["x"], "d"));
    assert_eq!(world.joined(token).error, Some(GroupError::InconsistentProtocol));
    let token = world.join(Join { protocol_type: "connect".into(), ..likes(&["z"], "e") });
    assert_eq!(world.joined(token).error, Some(GroupError::InconsistentProtocol));
}

/// GROUP-4.
#[test]
fn static_members_come_back_without_a_rebalance_and_fence_the_old_one() {
    let mut world = World::new(Duration::ZERO);
    let token = world.join(named("i", "old"));
    let generation = world.joined(token).generation;
    world.sync("old", generation, &[("old", "p0")]);
    let token = world.join(Join { can_skip_assignment: true, ..named("i", "new") });
    let answer = world.joined(token).clone();
    assert_eq!((answer.error, answer.generation), (None, generation), "no rebalance");
    assert_eq!((answer.leader.as_str(), answer.skip_assignment), ("new", true));
    assert_eq!(answer.members.len(), 1);
    let token = world.sync("new", generation, &[]);
    assert_eq!(world.synced(token).assignment, "p0");
    let fence = CommitFence {
        group: "g".into(),
        generation,
        member_id: "old".into(),
        instance: Some("i".into()),
    };
    let fenced = world.groups.check_commit(world.now, &fence);
    assert_eq!(fenced, Err(GroupError::FencedInstance));
    assert_eq!(world.heartbeat("old", generation), Err(GroupError::UnknownMember));
    assert_eq!(world.heartbeat("new", generation), Ok(()));
}

/// GROUP-3, GROUP-4: it came in beside the holder, whose protocols it need not share then; and the
/// rebalance that found none that both know ended the process.
#[test]
fn who_was_handed_a_member_id_takes_no_instance_with_it() {
    let mut world = World::new(Duration::ZERO);
    let patient = |join| Join { session_timeout: 2 * REBALANCE, ..join };
    let token = world.join(patient(named("i", "a")));
    let generation = world.joined(token).generation;
    world.sync("a", generation, &[("a", "p0")]);
    world.join(patient(Join { requires_known_member_id: true, ..join("", "b") }));
    let protocols = vec![("other".into(), Bytes::new())];
    let with = |instance| Join { member_id: "b".into(), ..named(instance, "-") };
    let taken = world.join(patient(Join { protocols, ..with("i") }));
    let free = world.join(patient(with("j")));
    world.pass(REBALANCE);
    assert_eq!(world.joined(taken).error, Some(GroupError::FencedInstance));
    assert_eq!(world.joined(free).error, Some(GroupError::UnknownMember));
    assert_eq!(world.heartbeat("a", generation), Ok(()), "it is not disturbed");
    let token = world.join(join("b", "-"));
    assert!(world.waits(token), "its id is as good as it was");
}

#[test]
fn an_old_client_that_returns_as_static_leader_is_not_made_to_assign() {
    let mut world = World::new(Duration::ZERO);
    let token = world.join(named("i", "old"));
    let generation = world.joined(token).generation;
    world.sync("old", generation, &[("old", "p0")]);
    let token = world.join(named("i", "new"));
    let answer = world.joined(token);
    assert_eq!((answer.leader.as_str(), answer.members.len()), ("old", 0));
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_for_a_session() {
    let mut world = World::new(Duration::ZERO);
    let token = world.join(named("i", "a"));
    let generation = world.joined(token).generation;
    world.sync("a", generation, &[("a", "p0")]);
    world.pass(SESSION.saturating_sub(Duration::from_millis(1)));
    assert_eq!(world.groups.phase("g"), Phase::Stable);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.groups.phase("g"), Phase::Empty);
}

/// GROUP-5.
#[test]
fn a_full_group_takes_nobody() {
    let mut world = World::with(GroupSettings {
        members_max: 1,
        groups_max: 1,
        initial_rebalance_delay: Duration::ZERO,
        ..GroupSettings::default()
    });
    world.join(join("", "a"));
    let token = world.join(join("", "b"));
    assert_eq!(world.joined(token).error, Some(GroupError::GroupFull));
    // Others take its place: it comes again, and may find one.
    let token = world.join(Join { group: "h".into(), ..join("", "b") });
    assert_eq!(world.joined(token).error, Some(GroupError::CoordinatorNotAvailable));
}

/// Each is compared with each of every other.
#[test]
fn a_member_with_very_many_protocols_is_refused() {
    let mut world = World::new(Duration::ZERO);
    let protocols =
        |count| (0..count).map(|name: u32| (name.to_string(), Bytes::new())).collect::<Vec<_>>();
    let token = world.join(Join { protocols: protocols(65), ..join("", "a") });
    assert_eq!(world.joined(token).error, Some(GroupError::InconsistentProtocol));
    let token = world.join(Join { protocols: protocols(64), ..join("", "a") });
    assert_eq!(world.joined(token).error, None);
}

/// GROUP-6. Nobody has joined when it ends, and the static member keeps its place: it began anew at
/// once, again and again.
#[test]
fn a_rebalance_takes_time_even_where_no_member_wants_any() {
    let mut world = World::new(Duration::ZERO);
    let at_once = |join| Join { rebalance_timeout: Duration::ZERO, ..join };
    let token = world.join(at_once(named("i", "a")));
    let generation = world.joined(token).generation;
    world.sync("a", generation, &[("a", "p0")]);
    world.join(at_once(join("", "b")));
    world.leave("b").expect("it is a member");
    world.pass(Duration::from_secs(1));
    let next = world.groups.next_deadline().expect("the next try");
    assert!(next > world.now, "{next:?}");
}

/// GROUP-6. Clients may ask for 24 days.
#[test]
fn no_rebalance_waits_for_longer_than_a_day() {
    const DAY: Duration = Duration::from_hours(24);
    let patient = |join| Join { rebalance_timeout: Duration::from_millis(i32::MAX as u64), ..join };
    let mut world = World::new(Duration::from_millis(100));
    world.join(patient(join("", "a")));
    let Phase::Preparing { extensible_until, .. } = world.groups.phase("g") else {
        panic!("it waits for more members");
    };
    assert_eq!(extensible_until, Some(DAY));
    let mut world = World::new(Duration::ZERO);
    world.join(patient(join("", "a")));
    world.join(patient(join("", "b")));
    let Phase::Preparing { deadline, .. } = world.groups.phase("g") else {
        panic!("it waits for the first member");
    };
    assert_eq!(deadline, DAY);
}

/// GROUP-9. Counted, and not timed: it went through all groups at each step.
#[test]
fn time_is_looked_for_only_in_the_group_where_something_is_due() {
    const GROUPS: u64 = 1_000;
    let mut world = World::new(Duration::ZERO);
    let handed_out = |number: u64| Join {
        group: format!("group {number}"),
        session_timeout: SESSION + Duration::from_secs(number),
        requires_known_member_id: true,
        ..join("", "a")
    };
    for number in 0..GROUPS {
        world.join(handed_out(number));
    }
    assert_eq!(world.groups.visits(), 0, "by requests");
    world.pass(SESSION);
    assert_eq!(world.groups.visits(), 1);
    world.now += Duration::from_secs(GROUPS);
    for others in 2..=GROUPS {
        world.groups.tick(world.now, &mut vec![]);
        assert_eq!(world.groups.visits(), others, "each by itself");
    }
    assert_eq!((world.groups.member_counts(), world.groups.next_deadline()), (vec![], None));

    // A member that is heard of moves its end, and is not looked for again each time.
    let token = world.join(join("", "a"));
    assert_eq!(world.joined(token).generation, 1);
    world.sync("a", 1, &[("a", "p0")]);
    for _ in 0..100 {
        world.pass(SESSION / 10);
        assert_eq!(world.heartbeat("a", 1), Ok(()));
    }
    assert_eq!(world.groups.visits(), GROUPS + 11, "after ten seconds, and then every nine");
}

#[test]
fn session_timeouts_outside_the_bounds_are_refused() {
    let mut world = World::new(Duration::ZERO);
    for session_timeout in [Duration::ZERO, Duration::from_secs(10_000)] {
        let token = world.join(Join { session_timeout, ..join("", "a") });
        assert_eq!(world.joined(token).error, Some(GroupError::InvalidSessionTimeout));
    }
    for group in [String::new(), "g".repeat(1_025)] {
        let token = world.join(Join { group, ..join("", "a") });
        assert_eq!(world.joined(token).error, Some(GroupError::InvalidGroup));
    }
}

/// GROUP-1.
#[test]
fn stopping_answers_everything_that_waits() {
    let mut world = World::new(Duration::from_secs(1));
    let token = world.join(join("", "a"));
    let mut out = vec![];
    world.groups.stop(&mut out);
    world.take(out);
    assert_eq!(world.joined(token).error, Some(GroupError::CoordinatorNotAvailable));
    let token = world.join(join("", "b"));
    assert_eq!(world.joined(token).error, Some(GroupError::CoordinatorNotAvailable));
}

/// GROUP-7.
#[test]
fn nobody_joins_a_group_while_offsets_of_it_are_removed() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.groups.close("g"), Ok(Inside::Unknown));
    assert_eq!(world.groups.close("g"), Err(GroupError::CoordinatorNotAvailable), "one at a time");
    let token = world.join(join("", "a"));
    assert_eq!(world.joined(token).error, Some(GroupError::CoordinatorNotAvailable));
    assert_eq!(world.groups.overview("g"), Ok(None), "it left no trace");
    let elsewhere = world.join(Join { group: "h".into(), ..join("", "a") });
    assert_eq!(world.joined(elsewhere).error, None);
    world.groups.reopen("g");

    let (leader, _, generation) = world.of_two();
    assert_eq!(world.groups.close("g"), Ok(Inside::Consumers(None)));
    let token = world.join(join("", "c"));
    assert_eq!(world.joined(token).error, Some(GroupError::CoordinatorNotAvailable));
    assert_eq!(world.heartbeat(&leader, generation), Ok(()), "the members are not disturbed");
    assert_eq!(world.commit(&leader, generation), Ok(()));
    world.groups.reopen("g");
    let token = world.join(join("", "c"));
    assert!(world.waits(token), "for the others to join again");
}
