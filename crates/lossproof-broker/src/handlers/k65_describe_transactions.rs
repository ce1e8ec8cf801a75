use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lossproof_log::PartitionId;
use lossproof_wire::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, DescribedTransaction,
    DescribedTransactionTopic, ErrorCode,
};

use super::once;
use crate::broker::Broker;
use crate::call::{Call, Reply};
use crate::topics::Catalog;
use crate::transaction::{Transaction, TransactionError};

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let request: DescribeTransactionsRequest = call.decode()?;
        let catalog = broker.topics.catalog();
        let mut transaction_states = Vec::new();
        for id in once(request.transactional_ids, String::clone) {
            let found = broker.transactions.get(&id).await;
            transaction_states.push(describe(&catalog, id, found));
        }
        call.late(&DescribeTransactionsResponse { transaction_states, ..Default::default() })
    }))
}

fn describe(
    catalog: &Catalog,
    transactional_id: String,
    found: Result<Option<Transaction>, TransactionError>,
) -> DescribedTransaction {
    let refused = |error_code| DescribedTransaction {
        error_code,
        transactional_id: transactional_id.clone(),
        producer_id: -1,
        producer_epoch: -1,
        transaction_start_time_ms: -1,
        ..Default::default()
    };
    match found {
        Err(error) => refused(error.code(ErrorCode::PRODUCER_FENCED)),
        Ok(None) => refused(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND),
        Ok(Some(transaction)) => DescribedTransaction {
            transaction_state: transaction.phase.name().to_owned(),
            transaction_timeout_ms: transaction.timeout_ms,
            transaction_start_time_ms: transaction.started_ms,
            producer_id: transaction.identity.producer_id,
            producer_epoch: transaction.identity.epoch,
            topics: named(catalog, &transaction.partitions),
            ..refused(ErrorCode::NONE)
        },
    }
}

/// Partitions by the names that clients know; those of deleted topics have none.
fn named(catalog: &Catalog, ids: &BTreeSet<PartitionId>) -> Vec<DescribedTransactionTopic> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for topic in catalog.iter() {
        for (index, _) in (0..).zip(&topic.partitions).filter(|(_, id)| ids.contains(id)) {
            topics.entry(&topic.name).or_default().push(index);
        }
    }
    let topic = |(topic, partitions): (&str, Vec<i32>)| DescribedTransactionTopic {
        topic: topic.to_owned(),
        partitions,
    };
    topics.into_iter().map(topic).collect()
}
