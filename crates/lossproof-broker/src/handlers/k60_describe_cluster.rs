use std::sync::Arc;

use lossproof_wire::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse, ErrorCode,
};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: DescribeClusterRequest = call.decode()?;
    let (error_code, message) = match request.endpoint_type {
        BROKERS => {
            let this = DescribeClusterBroker {
                broker_id: broker.node_id(),
                host: broker.host.clone(),
                port: i32::from(broker.port),
                ..Default::default()
            };
            return call.ready(&DescribeClusterResponse {
                cluster_id: broker.cluster_id(),
                controller_id: broker.node_id(),
                brokers: vec![this],
                ..Default::default()
            });
        }
        CONTROLLERS => (ErrorCode::MISMATCHED_ENDPOINT_TYPE, "this is a broker's endpoint"),
        _ => (ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, "endpoint types are 1 and 2"),
    };
    call.ready(&DescribeClusterResponse {
        error_code,
        error_message: Some(message.to_owned()),
        endpoint_type: request.endpoint_type,
        ..Default::default()
    })
}
