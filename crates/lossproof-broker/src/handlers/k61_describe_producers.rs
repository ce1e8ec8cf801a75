use std::collections::HashSet;
use std::sync::Arc;

use lossproof_log::ProducerView;
use lossproof_wire::{
    DescribeProducersPartitionResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeProducersTopicResponse, DescribedProducer, ErrorCode, Uuid,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, Reply};

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let request: DescribeProducersRequest = call.decode()?;
        let catalog = broker.topics.catalog();
        let mut seen = HashSet::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let found = find_topic(&catalog, false, &topic.name, Uuid::default());
            let mut partitions = Vec::new();
            for index in topic.partition_indexes {
                let id = find_partition(&found, index);
                if id.is_ok_and(|id| !seen.insert(id)) {
                    continue; // BUDGET-6
                }
                let described = match id {
                    Ok(id) => broker.log.producers(id).await.map_err(|cause| {
                        tracing::warn!(%cause, "producers cannot be described");
                        ErrorCode::KAFKA_STORAGE_ERROR
                    }),
                    Err(error_code) => Err(error_code),
                };
                partitions.push(answer(index, described, broker.env.clock.wall_ms()));
            }
            topics.push(DescribeProducersTopicResponse { name: topic.name, partitions });
        }
        call.late(&DescribeProducersResponse { topics, ..Default::default() })
    }))
}

fn answer(
    partition_index: i32,
    described: Result<Vec<ProducerView>, ErrorCode>,
    now_ms: i64,
) -> DescribeProducersPartitionResponse {
    let producer = |view: ProducerView| DescribedProducer {
        producer_id: view.producer_id,
        producer_epoch: i32::from(view.epoch),
        last_sequence: view.last_sequence.unwrap_or(-1),
        // The broker's time and not the record's: who looks for what hangs asks how long ago.
        last_timestamp: now_ms.saturating_sub_unsigned(view.idle_ms),
        current_txn_start_offset: view.transaction_start.unwrap_or(-1),
        ..Default::default()
    };
    let response = DescribeProducersPartitionResponse { partition_index, ..Default::default() };
    match described {
        Ok(views) => DescribeProducersPartitionResponse {
            active_producers: views.into_iter().map(producer).collect(),
            ..response
        },
        Err(error_code) => DescribeProducersPartitionResponse { error_code, ..response },
    }
}
