//! What members of groups may say of themselves, and who is refused when that is too much.

use crate::common;

use std::time::Duration;

use bytes::Bytes;
use common::world::{SESSION, World, join, named};
use lossproof_broker::group::{GroupError, GroupSettings, Groups, Join, Leaving};

/// What all members together may say of themselves and of each other.
fn bounded() -> GroupSettings {
    GroupSettings {
        bytes_max: 20_000,
        group_bytes_max: usize::MAX,
        initial_rebalance_delay: Duration::ZERO,
        ..GroupSettings::default()
    }
}

fn bounded_world() -> World {
    World::with(bounded())
}

/// Somebody who has so many bytes to say of itself.
fn talker(group: &str, fresh: &str, bytes: usize) -> Join {
    let protocols = vec![("range".into(), vec![7; bytes].into())];
    Join { group: group.into(), protocols, ..join("", fresh) }
}

/// Whether there is room for somebody else with half of what there may be, who leaves at once.
fn is_half_free(world: &mut World) -> bool {
    let token = world.join(talker("elsewhere", "z", 9_000));
    let error = world.joined(token).error;
    if error.is_some() {
        assert_eq!(error, Some(GroupError::CoordinatorNotAvailable));
        return false;
    }
    let leaving = Leaving { member_id: "z".into(), instance: None };
    let left = world.groups.leave(world.now, "elsewhere", &leaving, &mut vec![]);
    assert_eq!(left, Ok(()));
    true
}

/// A group of `a` and `b`, which have more than half of the room together, and `b` the most of it.
fn talkative() -> World {
    let mut world = bounded_world();
    world.join(talker("g", "a", 2_000));
    world.join(talker("g", "b", 9_000));
    let token = world.join(Join { member_id: "a".into(), ..talker("g", "-", 2_000) });
    assert_eq!((world.joined(token).error, world.joined(token).generation), (None, 2));
    assert!(!is_half_free(&mut world));
    world
}

/// GROUP-5.
#[test]
fn what_members_say_of_themselves_is_bounded() {
    let mut world = bounded_world();
    assert!(is_half_free(&mut world) && is_half_free(&mut world), "nothing of it stays");
    world.join(talker("g", "a", 8_000));
    assert!(is_half_free(&mut world));
    world.join(Join { member_id: "a".into(), ..talker("g", "-", 10_500) });
    assert!(!is_half_free(&mut world), "its last word counts");
    world.leave("a").expect("it is a member");
    assert!(is_half_free(&mut world));
    world.join(Join { protocol_type: "p".repeat(11_000), ..join("", "a") });
    assert!(!is_half_free(&mut world));
    world.leave("a").expect("it is a member");
    assert!(is_half_free(&mut world), "nor does what stays of a group without members");
}

/// GROUP-5.
#[test]
fn what_leaders_say_of_members_is_bounded_and_kept_over_a_restart() {
    let mut world = bounded_world();
    world.join(talker("g", "a", 9_000));
    let token = world.sync("a", 1, &[("a", &"p".repeat(11_000))]);
    assert_eq!(world.synced(token).error, Some(GroupError::CoordinatorNotAvailable));
    assert!(is_half_free(&mut world));
    let token = world.sync("a", 1, &[("a", &"p".repeat(5_000))]);
    assert_eq!(world.synced(token).error, None);
    let kept = world.kept.clone().expect("it is stored");
    assert!(!is_half_free(&mut world));
    world.groups = Groups::new(bounded());
    world.groups.restore(world.now, "g", kept);
    assert!(!is_half_free(&mut world));
    world.leave("a").expect("it is a member");
    assert!(is_half_free(&mut world));
}

/// GROUP-5.
#[test]
fn who_leaves_others_or_expires_among_them_gives_its_room_back() {
    let mut world = talkative();
    world.leave("b").expect("it is a member");
    assert!(is_half_free(&mut world));
    let mut world = talkative();
    world.pass(SESSION / 2);
    assert_eq!(world.heartbeat("a", 2), Ok(()));
    world.pass(SESSION / 2);
    assert_eq!(world.heartbeat("b", 2), Err(GroupError::UnknownMember), "it has expired");
    assert!(is_half_free(&mut world));
}

/// GROUP-5.
#[test]
fn ids_that_were_handed_out_take_room_until_they_expire() {
    let mut world = bounded_world();
    for number in 0..25 {
        let fresh = format!("id {number}");
        world.join(Join { requires_known_member_id: true, ..join("", &fresh) });
    }
    assert!(!is_half_free(&mut world));
    world.pass(SESSION);
    assert!(is_half_free(&mut world));
}

/// Room for a few groups that say as much as they may.
fn shared_world() -> World {
    World::with(GroupSettings {
        bytes_max: 60_000,
        group_bytes_max: 20_000,
        initial_rebalance_delay: Duration::ZERO,
        ..GroupSettings::default()
    })
}

/// New groups come, of much to say and then of little, until none finds room; those that did.
fn fill(world: &mut World) -> Vec<String> {
    let mut filled = vec![];
    for bytes in [9_000, 4_500, 0] {
        loop {
            let name = format!("of {:?}", world.token());
            let token = world.join(talker(&name, "f", bytes));
            if let Some(error) = world.joined(token).error {
                assert_eq!(error, GroupError::CoordinatorNotAvailable, "clients come again");
                break;
            }
            filled.push(name);
        }
    }
    filled
}

/// Says other things than a [`talker`], which it takes a rebalance to tell all others.
fn of_another_mind(id: &str, bytes: usize) -> Join {
    let protocols = vec![("range".into(), vec![8; bytes].into())];
    Join { member_id: id.into(), protocols, ..join("", "-") }
}

/// GROUP-10.
#[test]
fn who_is_in_comes_again_and_assigns_as_much_as_before_though_others_fill_the_broker() {
    let mut world = shared_world();
    world.join(talker("g", "a", 4_500));
    let part = "p".repeat(4_400);
    let token = world.sync("a", 1, &[("a", &part)]);
    assert_eq!(world.synced(token).error, None);
    assert!(fill(&mut world).len() > 2);
    let token = world.join(of_another_mind("a", 4_500));
    assert_eq!((world.joined(token).error, world.joined(token).generation), (None, 2));
    assert_eq!(fill(&mut world), [""; 0], "what it is to be assigned is kept free for it");
    let token = world.sync("a", 2, &[("a", &part)]);
    assert_eq!((world.synced(token).error, world.synced(token).assignment.len()), (None, 4_400));
    let token = world.join(of_another_mind("a", 100));
    assert_eq!(world.joined(token).error, None);
    assert_eq!(fill(&mut world), [""; 0], "what it said once it may say again");
    let token = world.join(of_another_mind("a", 4_500));
    assert_eq!(world.joined(token).error, None);
    let generation = world.joined(token).generation;
    let token = world.join(of_another_mind("a", 14_000));
    assert_eq!(world.joined(token).error, Some(GroupError::CoordinatorNotAvailable), "more");
    let token = world.sync("a", generation, &[("a", &"p".repeat(10_000))]);
    assert_eq!(world.synced(token).error, Some(GroupError::CoordinatorNotAvailable), "more");
    let token = world.sync("a", generation, &[("a", &part)]);
    assert_eq!(world.synced(token).error, None, "it is in as before");
}

/// GROUP-10. With most members everything fits into what is kept free for each.
#[test]
fn what_members_of_few_words_say_may_change_though_there_is_no_room() {
    let mut world = shared_world();
    world.join(talker("g", "a", 10));
    world.sync("a", 1, &[("a", "p")]);
    assert!(fill(&mut world).len() > 2);
    let token = world.join(of_another_mind("a", 1_000));
    assert_eq!((world.joined(token).error, world.joined(token).generation), (None, 2));
    let token = world.sync("a", 2, &[("a", &"p".repeat(1_000))]);
    assert_eq!(world.synced(token).error, None);
}

/// GROUP-10.
#[test]
fn a_static_member_comes_back_though_others_fill_the_broker() {
    let mut world = shared_world();
    let protocols = vec![("range".into(), vec![7; 4_500].into())];
    world.join(Join { protocols: protocols.clone(), ..named("i", "old") });
    world.sync("old", 1, &[("old", &"p".repeat(2_000))]);
    assert!(fill(&mut world).len() > 2);
    let token = world.join(Join { protocols, ..named("i", "new") });
    assert_eq!(world.joined(token).error, None);
    assert_eq!(world.heartbeat("new", 1), Ok(()));
}

/// GROUP-5.
#[test]
fn who_finds_no_room_comes_again_and_finds_it_when_others_have_left() {
    let mut world = shared_world();
    let filled = fill(&mut world);
    let late = || talker("late", "a", 9_000);
    let token = world.join(late());
    assert_eq!(world.joined(token).error, Some(GroupError::CoordinatorNotAvailable));
    let leaving = Leaving { member_id: "f".into(), instance: None };
    let left = world.groups.leave(world.now, &filled[0], &leaving, &mut vec![]);
    assert_eq!(left, Ok(()));
    let token = world.join(late());
    assert_eq!(world.joined(token).error, None);
}

/// GROUP-5.
#[test]
fn a_group_that_has_said_what_it_may_is_full_and_no_other_is() {
    let mut world = shared_world();
    world.join(talker("g", "a", 12_000));
    let token = world.join(talker("g", "b", 12_000));
    assert_eq!(world.joined(token).error, Some(GroupError::GroupFull));
    let token = world.sync("a", 1, &[("a", &"p".repeat(12_000))]);
    assert_eq!(world.synced(token).error, Some(GroupError::GroupFull));
    let token = world.sync("nobody", 1, &[("a", &"p".repeat(12_000))]);
    assert_eq!(world.synced(token).error, Some(GroupError::UnknownMember), "it is asked first");
    let token = world.join(talker("h", "b", 12_000));
    assert_eq!(world.joined(token).error, None);
}

/// GROUP-5: with three of them nobody else could be in any group.
#[test]
fn a_member_with_more_to_say_than_a_group_may_is_refused_by_name() {
    const BYTES: usize = 85 << 20;
    let mut world = World::new(Duration::ZERO);
    let protocols = vec![("range".into(), Bytes::from(vec![7; BYTES]))];
    for group in ["x", "y", "z"] {
        let large = Join { group: group.into(), protocols: protocols.clone(), ..join("", "l") };
        let token = world.join(large);
        assert_eq!(world.joined(token).error, Some(GroupError::MemberTooLarge));
    }
    let token = world.join(join("", "a"));
    assert_eq!(world.joined(token).error, None);
    let grown = Join { protocols, ..join("a", "-") };
    let token = world.join(grown);
    assert_eq!(world.joined(token).error, Some(GroupError::MemberTooLarge));
    let token = world.sync("a", 1, &[("a", "p")]);
    assert_eq!(world.synced(token).error, None, "it is in as before");
}
