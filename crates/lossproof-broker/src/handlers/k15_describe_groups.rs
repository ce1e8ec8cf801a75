use std::sync::Arc;

use lossproof_wire::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember, ErrorCode,
};

use super::once;
use crate::broker::Broker;
use crate::call::{Call, Reply};
use crate::error::{group_error, offsets_error};
use crate::group::{GroupOverview, Phase};
use crate::offsets::has_offsets;

/// From here on a group that does not exist is an error, and not only `Dead` (KIP-1043).
const FIRST_WITH_NOT_FOUND: i16 = 6;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let request: DescribeGroupsRequest = call.decode()?;
        let groups = once(request.groups, String::clone).into_iter();
        let groups = groups.map(|group| describe(&broker, group, call.version));
        let groups = groups.collect();
        call.late(&DescribeGroupsResponse { groups, ..Default::default() })
    }))
}

fn describe(broker: &Broker, group_id: String, version: i16) -> DescribedGroup {
    let refuse =
        |group_id, error_code| DescribedGroup { group_id, error_code, ..Default::default() };
    let overview = match broker.groups.overview(&group_id) {
        Err(error) => return refuse(group_id, group_error(error)),
        Ok(overview) => overview,
    };
    match (overview, has_offsets(&broker.log, &group_id)) {
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
