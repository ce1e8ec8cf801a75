use std::sync::Arc;

use lossproof_wire::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember, ErrorCode,
};

use super::once;
use crate::broker::Broker;
use crate::call::{Call, Reply};
use crate::error::{group_error, offsets_error};
use crate::group::{GroupOverview, Phase};
use crate::offsets::{OffsetKey, UnreadableEntry, keys_of};

/// From here on a group that does not exist is an error, and not only `Dead` (KIP-1043).
const FIRST_WITH_NOT_FOUND: i16 = 6;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let mut turn = broker.turns.next().await;
        let request: DescribeGroupsRequest = call.decode()?;
        let mut groups = Vec::new();
        for group in once(request.groups, String::clone) {
            let offsets = keys_of(&broker.log, &group);
            let keys = offsets.as_ref().map_or(0, Vec::len);
            let group = describe(&broker, group, offsets, call.version);
            turn.looked_at(1 + keys + group.members.len()).await;
            groups.push(group);
        }
        call.late(&DescribeGroupsResponse { groups, ..Default::default() })
    }))
}

fn describe(
    broker: &Broker,
    group_id: String,
    offsets: Result<Vec<OffsetKey>, UnreadableEntry>,
    version: i16,
) -> DescribedGroup {
    let refuse =
        |group_id, error_code| DescribedGroup { group_id, error_code, ..Default::default() };
    let overview = match broker.groups.overview(&group_id) {
        Err(error) => return refuse(group_id, group_error(error)),
        Ok(overview) => overview,
    };
    match (overview, offsets.map(|keys| !keys.is_empty())) {
        (Some(overview), _) => described(group_id, overview),
        (None, Err(damage)) => refuse(group_id, offsets_error(damage)),
        (None, Ok(true)) => DescribedGroup {
            group_state: Phase::Empty.name().to_owned(),
            group_id,
            ..Default::default()
        },
        (None, Ok(false)) => {
            let dead = DescribedGroup { group_state: "Dead".to_owned(), ..Default::default() };
            if version < FIRST_WITH_NOT_FOUND {
                return DescribedGroup { group_id, ..dead };
            }
            DescribedGroup {
                error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                error_message: Some(format!("group {group_id} has neither members nor offsets")),
                group_id,
                ..dead
            }
        }
    }
}

fn described(group_id: String, overview: GroupOverview) -> DescribedGroup {
    let members = overview.members.into_iter().map(|member| DescribedGroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance,
        client_id: member.client.id,
        client_host: member.client.host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        group_id,
        group_state: overview.phase.name().to_owned(),
        protocol_type: overview.protocol_type,
        protocol_data: overview.protocol,
        members: members.collect(),
        ..Default::default()
    }
}
