//! What operators see of groups, and how newcomers are kept out while offsets are removed.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};

use super::message::{ClientName, GroupError};
use super::state::{Group, Groups, Phase, check_id};

/// The protocol type of consumers; only their metadata can be read here.
const CONSUMER: &str = "consumer";

/// A group as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOverview {
    pub phase: Phase,
    pub protocol_type: String,
    /// Empty until the assignment is done.
    pub protocol: String,
    pub members: Vec<MemberOverview>,
}

/// A member as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberOverview {
    pub member_id: String,
    pub instance: Option<String>,
    pub client: ClientName,
    /// Both are empty until the assignment is done.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// Who is in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// The group has never been heard of; offsets may be there.
    Unknown,
    /// Nobody.
    Nobody,
    /// Consumers, and the topics that one of them subscribes to; `None` where that cannot be read.
    Consumers(Option<BTreeSet<String>>),
    /// Members whose metadata mean something else.
    Others,
}

impl Phase {
    /// What Kafka calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl Groups {
    /// Name, phase and protocol type of every group that somebody is in or about to come into.
    pub fn list(&self) -> Result<Vec<(String, Phase, String)>, GroupError> {
        if self.stopped {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let entry = |(name, group): (&String, &Group)| {
            (name.clone(), group.phase, group.protocol_type.clone())
        };
        Ok(self.by_id.iter().map(entry).collect())
    }

    pub fn overview(&self, group: &str) -> Result<Option<GroupOverview>, GroupError> {
        if self.stopped {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        check_id(group)?;
        Ok(self.by_id.get(group).map(Group::overview))
    }

    /// Tells who is in a group, and lets nobody join it until it is opened again (GROUP-7).
    pub fn close(&mut self, group: &str) -> Result<Inside, GroupError> {
        let overview = self.overview(group)?;
        if !self.closed.insert(group.to_owned()) {
            // Somebody else removes offsets of it just now.
            return Err(GroupError::CoordinatorNotAvailable);
        }
        Ok(match self.by_id.get(group) {
            None => Inside::Unknown,
            Some(_) if overview.is_none_or(|overview| overview.members.is_empty()) => {
                Inside::Nobody
            }
            Some(group) if group.protocol_type == CONSUMER => {
                Inside::Consumers(group.subscribed_topics())
            }
            Some(_) => Inside::Others,
        })
    }

    /// Lets members join again.
    pub fn reopen(&mut self, group: &str) {
        assert!(self.closed.remove(group), "GROUP-7: reopened by the one who closed it");
    }
}

impl Group {
    fn overview(&self) -> GroupOverview {
        let agreed = self.protocol.as_deref().filter(|_| self.phase == Phase::Stable);
        let members = self.members.iter().map(|(id, member)| MemberOverview {
            member_id: id.clone(),
            instance: member.instance.clone(),
            client: member.client.clone(),
            metadata: agreed.map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: agreed.map(|_| member.assignment.clone()).unwrap_or_default(),
        });
        GroupOverview {
            phase: self.phase,
            protocol_type: self.protocol_type.clone(),
            protocol: agreed.unwrap_or_default().to_owned(),
            members: members.collect(),
        }
    }

    /// Of all protocols that a member offers, for none may be chosen yet.
    fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        let offers = self.members.values().flat_map(|member| &member.protocols);
        let mut topics = BTreeSet::new();
        for (_, metadata) in offers {
            topics.extend(subscription(metadata.clone())?);
        }
        Some(topics)
    }
}

/// The topics of a `ConsumerProtocolSubscription`, which stand first in all of its versions.
fn subscription(mut metadata: Bytes) -> Option<Vec<String>> {
    let version = metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    if version < 0 || count < 0 {
        return None;
    }
    // Nothing is allocated by the count: each name needs bytes that must be there.
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        if length > metadata.len() {
            return None;
        }
        topics.push(String::from_utf8(metadata.split_to(length).to_vec()).ok()?);
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_topics_of_a_subscription_are_read_and_nothing_else_is_taken_for_one() {
        let whole = b"\0\x03\0\0\0\x02\0\x01a\0\x02bcuser data";
        assert_eq!(subscription(Bytes::from_static(whole)), Some(vec!["a".into(), "bc".into()]));
        for length in 0..13 {
            let cut = Bytes::copy_from_slice(&whole[..length]);
            assert_eq!(subscription(cut), None, "cut at {length}");
        }
        assert_eq!(subscription(Bytes::from_static(b"\0\0\x7f\xff\xff\xff")), None);
        assert_eq!(subscription(Bytes::from_static(b"\0\0\xff\xff\xff\xff")), None);
    }

    proptest! {
        #[test]
        fn no_metadata_make_a_panic(bytes: Vec<u8>) {
            let _ = subscription(Bytes::from(bytes));
        }
    }
}
