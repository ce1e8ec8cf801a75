//! What of a group outlives the broker, and what nobody is told before it does (GROUP-8). No clock,
//! no disk: what becomes of an entry of the journal is for the test to say.

use crate::common;

use std::time::Duration;

use common::world::{Journal, World, join, named};
use lossproof_broker::group::{GroupError, Phase};

/// GROUP-8: the work that members have done before a restart can still be committed after it.
#[test]
fn members_go_on_after_a_restart_with_a_whole_session() {
    let mut world = World::new(Duration::ZERO);
    let (leader, other, generation) = world.of_two();
    world.pass(Duration::from_secs(9));
    world.restart();
    assert_eq!(world.groups.phase("g"), Phase::Stable);
    assert_eq!(world.commit(&leader, generation), Ok(()));
    assert_eq!(world.commit(&other, generation - 1), Err(GroupError::IllegalGeneration));
    assert_eq!(world.commit("", -1), Err(GroupError::UnknownMember), "the group is not empty");
    world.pass(Duration::from_secs(9));
    assert_eq!(world.heartbeat(&leader, generation), Ok(()));
    let token = world.sync(&other, generation, &[]);
    assert_eq!(world.synced(token).assignment, "p1", "the same assignment");
    world.pass(Duration::from_secs(9));
    assert_eq!(world.heartbeat(&other, generation), Ok(()));
    world.pass(Duration::from_secs(2));
    let told = world.heartbeat(&other, generation);
    assert_eq!(told, Err(GroupError::RebalanceInProgress), "the leader has been silent too long");
    world.join(join(&other, "-"));
    world.leave(&other).expect("the last member");
    assert_eq!(world.kept, None, "nobody is left");
}

/// GROUP-8.
#[test]
fn an_assignment_is_told_to_nobody_before_it_is_stored() {
    let mut world = World::new(Duration::ZERO);
    world.journal = Journal::Slow;
    let token = world.join(join("", "a"));
    let generation = world.joined(token).generation;
    let early = world.sync("a", generation, &[("a", "p0")]);
    assert!(world.waits(early), "it is on its way to the disk");
    assert_eq!(world.heartbeat("a", generation), Ok(()));
    assert_eq!(world.commit("a", generation), Err(GroupError::RebalanceInProgress));
    // The client asks again, on a new connection: the newer word is the one that counts.
    let late = world.sync("a", generation, &[("a", "p1")]);
    assert_eq!(world.synced(early).error, Some(GroupError::RebalanceInProgress));
    assert!(world.waits(late));
    world.journal = Journal::Good;
    world.store();
    assert_eq!(world.synced(late).assignment, "p1");
    world.restart();
    let token = world.sync("a", generation, &[]);
    assert_eq!(world.synced(token).assignment, "p1");
}

/// GROUP-8: the members of two generations, the older of which is stored late.
#[test]
fn what_is_stored_of_a_generation_does_not_answer_the_next() {
    let mut world = World::new(Duration::ZERO);
    world.journal = Journal::Slow;
    let token = world.join(join("", "a"));
    let generation = world.joined(token).generation;
    let first = world.sync("a", generation, &[("a", "p0")]);
    let b = world.join(join("", "b"));
    assert_eq!(world.synced(first).error, Some(GroupError::RebalanceInProgress));
    world.join(join("a", "-"));
    assert_eq!(world.joined(b).generation, generation + 1);
    let follower = world.sync("b", generation + 1, &[]);
    world.journal = Journal::Good;
    world.store();
    assert!(world.waits(follower), "its leader has not spoken");
    assert_eq!(world.groups.phase("g"), Phase::Completing);
    world.restart();
    assert_eq!(world.heartbeat("a", generation), Ok(()), "the older one is what is known");
    assert_eq!(world.heartbeat("a", generation + 1), Err(GroupError::IllegalGeneration));
}

#[test]
fn an_assignment_that_cannot_be_stored_is_refused_and_agreed_on_anew() {
    let mut world = World::new(Duration::ZERO);
    let token = world.join(join("", "a"));
    let generation = world.joined(token).generation;
    world.journal = Journal::Full;
    let token = world.sync("a", generation, &[("a", "p0")]);
    assert_eq!(world.synced(token).error, Some(GroupError::CoordinatorNotAvailable));
    assert_eq!(world.heartbeat("a", generation), Err(GroupError::RebalanceInProgress));
    world.journal = Journal::Good;
    let token = world.join(join("a", "-"));
    assert_eq!(world.joined(token).generation, generation + 1);
    let token = world.sync("a", generation + 1, &[("a", "p0")]);
    assert_eq!(world.synced(token).assignment, "p0");
}

/// GROUP-4, GROUP-8: if a restart knew only the old id it would fence the new one.
#[test]
fn a_static_member_is_told_its_new_id_once_that_is_stored() {
    let mut world = World::new(Duration::ZERO);
    let token = world.join(named("i", "old"));
    let generation = world.joined(token).generation;
    world.sync("old", generation, &[("old", "p0")]);
    world.journal = Journal::Slow;
    let token = world.join(named("i", "new"));
    assert!(world.waits(token));
    world.journal = Journal::Good;
    world.store();
    assert_eq!(world.joined(token).generation, generation, "no rebalance");
    world.restart();
    assert_eq!(world.heartbeat("new", generation), Ok(()));
    assert_eq!(world.heartbeat("old", generation), Err(GroupError::UnknownMember));
    let token = world.join(named("i", "newer"));
    assert_eq!(world.joined(token).generation, generation, "nor after a restart");
    // Where the others begin to rebalance it has joined already.
    world.journal = Journal::Slow;
    let token = world.join(named("i", "newest"));
    let b = world.join(join("", "b"));
    assert_eq!(world.joined(token).generation, generation + 1);
    assert_eq!(world.joined(b).generation, generation + 1);
}
