//! What AlterConfigs and IncrementalAlterConfigs have in common: each resource by itself, the
//! broker refused, topics changed durably.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use lossproof_wire::ErrorCode;

use super::k32_describe_configs::{BROKER, TOPIC};
use crate::broker::Broker;
use crate::error::topic_error;
use crate::settings::broker_setting;
use crate::topic_config::Alteration;

pub(super) type Refusal = (ErrorCode, String);

/// A topic or a broker, in the protocol's terms.
pub(super) type Resource = (i8, String);

/// What a request names more than once: it cannot be told what is wanted of it.
pub(super) fn named_twice<T: Clone + Eq + Hash>(names: impl Iterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    names.filter(|name| !seen.insert(name.clone())).collect()
}

pub(super) fn invalid(message: impl ToString) -> Refusal {
    (ErrorCode::INVALID_REQUEST, message.to_string())
}

/// Changes a topic, or says why this resource cannot be changed. `names` are the settings wanted.
pub(super) async fn alter(
    broker: &Arc<Broker>,
    (kind, name): &Resource,
    names: &[String],
    alteration: Alteration,
    validate_only: bool,
) -> Result<(), Refusal> {
    match *kind {
        TOPIC => {}
        BROKER => return Err(refuse_broker(broker.node_id(), name, names)),
        _ => return Err(invalid("only topics have settings that can be changed")),
    }
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(invalid(format!("the request names setting {twice} twice")));
    }
    let topic = broker.topics.catalog().by_name(name).cloned();
    let topic = topic.ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic".to_owned()))?;
    let refusal = |error| (topic_error(&error), error.to_string());
    if validate_only {
        return broker.topics.check_alteration(topic.id, &alteration).map_err(refusal);
    }
    broker.alter_topic(topic.id, alteration).await.map_err(refusal)
}

/// None of the broker's settings can be changed while it runs: what it promises must be readable
/// from its file and its command line.
fn refuse_broker(node: i32, name: &str, names: &[String]) -> Refusal {
    if !name.is_empty() && name != node.to_string() {
        return invalid(format!("there is only broker {node}"));
    }
    let unknown = names.iter().find_map(|name| broker_setting(name).err());
    unknown.map_or_else(
        || invalid("the broker's settings are given at its start: change its file, and restart it"),
        invalid,
    )
}
