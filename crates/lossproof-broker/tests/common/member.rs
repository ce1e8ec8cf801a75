//! A member of the group `g`, on a connection of its own, in the oldest or the newest version of
//! every request it makes.

use bytes::Bytes;
use lossproof_wire::*;

use super::{Broker, Client, ends, offset_commit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    Oldest,
    Newest,
}

impl Age {
    pub(crate) const BOTH: [Self; 2] = [Self::Oldest, Self::Newest];

    pub(crate) fn of(self, key: ApiKey) -> i16 {
        let [oldest, newest] = ends(key);
        if self == Self::Oldest { oldest } else { newest }
    }
}

pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) age: Age,
    /// Empty until it has joined.
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol: String,
    /// What it subscribes to, for those who can read it.
    pub(crate) metadata: Bytes,
}

impl Member {
    pub(crate) async fn new(broker: &Broker, age: Age) -> Self {
        let client = broker.client().await;
        let (id, protocol) = (String::new(), "range".to_owned());
        let metadata = Bytes::from_static(b"subscription");
        Self { client, age, id, instance: None, generation: -1, protocol, metadata }
    }

    /// A static member: only the newer versions know them.
    pub(crate) async fn named(broker: &Broker, instance: &str) -> Self {
        let instance = Some(instance.to_owned());
        Self { instance, ..Self::new(broker, Age::Newest).await }
    }

    /// A member alone in its group, with its assignment.
    pub(crate) async fn alone(broker: &Broker, age: Age) -> Self {
        let mut member = Self::new(broker, age).await;
        assert_eq!(member.join().await.error_code, ErrorCode::NONE);
        let all = [(member.id.clone(), "all")];
        assert_eq!(member.sync(&all).await.error_code, ErrorCode::NONE);
        member
    }

    /// Asks to join, twice where an id must be fetched first; the answer to that is taken later.
    pub(crate) async fn start_join(&mut self) {
        let version = self.age.of(ApiKey::JoinGroup);
        if self.age == Age::Newest && self.id.is_empty() && self.instance.is_none() {
            let answer: JoinGroupResponse = self.client.call(&self.join_request(), version).await;
            assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED);
            self.id = answer.member_id;
        }
        self.client.send(&self.join_request(), version).await;
    }

    pub(crate) async fn joined(&mut self) -> JoinGroupResponse {
        let version = self.age.of(ApiKey::JoinGroup);
        let answer: JoinGroupResponse = self.client.receive(version).await;
        if answer.error_code == ErrorCode::NONE {
            (self.id, self.generation) = (answer.member_id.clone(), answer.generation_id);
        }
        answer
    }

    pub(crate) async fn join(&mut self) -> JoinGroupResponse {
        self.start_join().await;
        self.joined().await
    }

    pub(crate) fn join_request(&self) -> JoinGroupRequest {
        let metadata = self.metadata.clone();
        JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol { name: self.protocol.clone(), metadata }],
            ..Default::default()
        }
    }

    pub(crate) async fn sync(&mut self, parts: &[(String, &'static str)]) -> SyncGroupResponse {
        self.start_sync(parts).await;
        self.synced().await
    }

    pub(crate) async fn start_sync(&mut self, parts: &[(String, &'static str)]) {
        let request = self.sync_request(parts);
        self.client.send(&request, self.age.of(ApiKey::SyncGroup)).await;
    }

    pub(crate) async fn synced(&mut self) -> SyncGroupResponse {
        self.client.receive(self.age.of(ApiKey::SyncGroup)).await
    }

    pub(crate) fn sync_request(&self, parts: &[(String, &'static str)]) -> SyncGroupRequest {
        let assignments = parts.iter().map(|(member, part)| SyncGroupRequestAssignment {
            member_id: member.clone(),
            assignment: Bytes::from_static(part.as_bytes()),
        });
        SyncGroupRequest {
            group_id: "g".into(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(self.protocol.clone()),
            assignments: assignments.collect(),
        }
    }

    pub(crate) async fn heartbeat(&mut self) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
        };
        let version = self.age.of(ApiKey::Heartbeat);
        let answer: HeartbeatResponse = self.client.call(&request, version).await;
        answer.error_code
    }

    /// As a client does: heartbeats until it is told that the others wait for it.
    pub(crate) async fn hears_of_a_rebalance(&mut self) {
        loop {
            match self.heartbeat().await {
                ErrorCode::NONE => {}
                told => return assert_eq!(told, ErrorCode::REBALANCE_IN_PROGRESS),
            }
        }
    }

    pub(crate) async fn leave(&mut self) -> ErrorCode {
        let version = self.age.of(ApiKey::LeaveGroup);
        let request = match self.age {
            Age::Oldest => LeaveGroupRequest {
                group_id: "g".into(),
                member_id: self.id.clone(),
                ..Default::default()
            },
            Age::Newest => LeaveGroupRequest {
                group_id: "g".into(),
                members: vec![MemberIdentity {
                    member_id: self.id.clone(),
                    group_instance_id: self.instance.clone(),
                    reason: Some("the test wants it".into()),
                }],
                ..Default::default()
            },
        };
        let answer: LeaveGroupResponse = self.client.call(&request, version).await;
        match answer.members.as_slice() {
            [] => answer.error_code,
            [member] => {
                assert_eq!(answer.error_code, ErrorCode::NONE, "the request as a whole is fine");
                assert_eq!(member.member_id, self.id);
                member.error_code
            }
            more => panic!("one member left, {more:?} are answered for"),
        }
    }

    /// Offset 0 of partition 0 of `topic`, which has this id.
    pub(crate) async fn commit(&mut self, topic: &str, topic_id: Uuid) -> ErrorCode {
        let mut request = offset_commit("g", self.generation, &self.id, topic, 0, 0);
        request.group_instance_id.clone_from(&self.instance);
        request.topics[0].topic_id = topic_id;
        let version = self.age.of(ApiKey::OffsetCommit);
        let answer: OffsetCommitResponse = self.client.call(&request, version).await;
        answer.topics[0].partitions[0].error_code
    }
}
