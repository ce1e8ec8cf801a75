use std::sync::Arc;

use lossproof_wire::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
    IncrementalAlterableConfig,
};

use super::alteration::{Refusal, Resource, alter, invalid, named_twice};
use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::topic_config::{Alteration, Change};

/// The protocol's numbers of what can be done to a setting.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: IncrementalAlterConfigsRequest = call.decode()?;
    let resource_of =
        |one: &IncrementalAlterConfigsResource| (one.resource_type, one.resource_name.clone());
    let twice = named_twice(request.resources.iter().map(resource_of));
    let mut responses = Vec::with_capacity(request.resources.len());
    for wanted in request.resources {
        let resource = resource_of(&wanted);
        let outcome = if twice.contains(&resource) {
            Err(invalid("the request names this resource twice"))
        } else {
            change(broker, &resource, wanted.configs, request.validate_only).await
        };
        let (error_code, error_message) = outcome.err().unzip();
        responses.push(IncrementalAlterConfigsResourceResponse {
            error_code: error_code.unwrap_or_default(),
            error_message,
            resource_type: resource.0,
            resource_name: resource.1,
        });
    }
    call.ready(&IncrementalAlterConfigsResponse { responses, ..Default::default() })
}

async fn change(
    broker: &Arc<Broker>,
    resource: &Resource,
    configs: Vec<IncrementalAlterableConfig>,
    validate_only: bool,
) -> Result<(), Refusal> {
    let names: Vec<_> = configs.iter().map(|config| config.name.clone()).collect();
    let mut changes = Vec::with_capacity(configs.len());
    for config in configs {
        let change = match (config.config_operation, config.value) {
            (SET | DELETE, None) | (DELETE, _) => Change::Remove,
            (SET, Some(value)) => Change::Set(value),
            (APPEND, Some(value)) => Change::Append(value),
            (SUBTRACT, Some(value)) => Change::Subtract(value),
            (APPEND | SUBTRACT, None) => {
                return Err(invalid(format!("setting {} lacks a value", config.name)));
            }
            (unknown, _) => return Err(invalid(format!("there is no operation {unknown}"))),
        };
        changes.push((config.name, change));
    }
    alter(broker, resource, &names, Alteration::Change(changes), validate_only).await
}
