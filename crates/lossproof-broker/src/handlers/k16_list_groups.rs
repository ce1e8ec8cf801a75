use std::collections::BTreeMap;
use std::sync::Arc;

use lossproof_wire::{ErrorCode, ListGroupsRequest, ListGroupsResponse, ListedGroup};

use crate::broker::Broker;
use crate::call::{Call, Reply};
use crate::error::{group_error, offsets_error};
use crate::group::Phase;
use crate::offsets::groups_of;

/// The only type of groups there is: those whose members agree among themselves.
const CLASSIC: &str = "classic";

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let request: ListGroupsRequest = call.decode()?;
        let response = match list(&broker) {
            Ok(groups) => ListGroupsResponse {
                groups: groups.into_values().filter(|group| is_wanted(&request, group)).collect(),
                ..Default::default()
            },
            Err(error_code) => ListGroupsResponse { error_code, ..Default::default() },
        };
        call.late(&response)
    }))
}

/// Those that somebody is in, and those that only have offsets.
fn list(broker: &Broker) -> Result<BTreeMap<String, ListedGroup>, ErrorCode> {
    let with_offsets = groups_of(&broker.log).map_err(offsets_error)?.into_iter();
    let with_offsets = with_offsets.map(|name| (name, Phase::Empty, String::new()));
    let with_members = broker.groups.list().map_err(group_error)?;
    let groups = with_offsets.chain(with_members).map(|(group_id, phase, protocol_type)| {
        let group = ListedGroup {
            group_id: group_id.clone(),
            protocol_type,
            group_state: phase.name().to_owned(),
            group_type: CLASSIC.to_owned(),
        };
        (group_id, group)
    });
    Ok(groups.collect())
}

/// Names of states and types are the same in upper and lower case, as in Apache Kafka.
fn is_wanted(request: &ListGroupsRequest, group: &ListedGroup) -> bool {
    let passes = |filter: &[String], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    passes(&request.states_filter, &group.group_state)
        && passes(&request.types_filter, &group.group_type)
}
