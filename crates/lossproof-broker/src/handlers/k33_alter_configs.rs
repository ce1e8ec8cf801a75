use std::sync::Arc;

use lossproof_wire::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::alteration::{alter, invalid, named_twice};
use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::topic_config::Alteration;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: AlterConfigsRequest = call.decode()?;
    let resource_of = |one: &AlterConfigsResource| (one.resource_type, one.resource_name.clone());
    let twice = named_twice(request.resources.iter().map(resource_of));
    let mut responses = Vec::with_capacity(request.resources.len());
    for wanted in request.resources {
        let resource = resource_of(&wanted);
        let outcome = if twice.contains(&resource) {
            Err(invalid("the request names this resource twice"))
        } else {
            let names: Vec<_> = wanted.configs.iter().map(|config| config.name.clone()).collect();
            let settings = wanted.configs.into_iter().map(|config| (config.name, config.value));
            let alteration = Alteration::Replace(settings.collect());
            alter(broker, &resource, &names, alteration, request.validate_only).await
        };
        let (error_code, error_message) = outcome.err().unzip();
        responses.push(AlterConfigsResourceResponse {
            error_code: error_code.unwrap_or_default(),
            error_message,
            resource_type: resource.0,
            resource_name: resource.1,
        });
    }
    call.ready(&AlterConfigsResponse { responses, ..Default::default() })
}
