use std::collections::{BTreeMap, BTreeSet, HashMap};
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
        let mut turn = broker.turns.next().await;
        let request: DescribeTransactionsRequest = call.decode()?;
        let catalog = broker.topics.catalog();
        let names = names(&catalog);
        let mut transaction_states = Vec::new();
        for id in once(request.transactional_ids, String::clone) {
            let found = broker.transactions.get(&id);
            let partitions = found.iter().flatten().map(|it| it.partitions.len()).sum::<usize>();
            turn.looked_at(1 + partitions).await;
            transaction_states.push(describe(&names, id, found));
        }
        call.late(&DescribeTransactionsResponse { transaction_states, ..Default::default() })
    }))
}

fn describe(
    names: &Names<'_>,
    transactional_id: String,
    found: Result<Option<Arc<Transaction>>, TransactionError>,
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
            topics: named(names, &transaction.partitions),
            ..refused(ErrorCode::NONE)
        },
    }
}

/// Topic and number of each partition.
type Names<'a> = HashMap<PartitionId, (&'a str, i32)>;

fn names(catalog: &Catalog) -> Names<'_> {
    let numbered = catalog.iter().flat_map(|topic| {
        let numbered = topic.partitions.iter().zip(0..);
        numbered.map(|(id, index)| (*id, (topic.name.as_str(), index)))
    });
    numbered.collect()
}

/// Partitions by the names that clients know; those of deleted topics have none.
fn named(names: &Names<'_>, ids: &BTreeSet<PartitionId>) -> Vec<DescribedTransactionTopic> {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, index) in ids.iter().filter_map(|id| names.get(id)) {
        topics.entry(topic).or_default().insert(*index);
    }
    let topic = |(topic, partitions): (&str, BTreeSet<i32>)| DescribedTransactionTopic {
        topic: topic.to_owned(),
        partitions: partitions.into_iter().collect(),
    };
    topics.into_iter().map(topic).collect()
}
