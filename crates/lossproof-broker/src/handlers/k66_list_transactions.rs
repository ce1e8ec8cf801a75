use std::sync::Arc;

use lossproof_wire::{
    ErrorCode, ListTransactionsRequest, ListTransactionsResponse, ListedTransaction,
};
use regex_lite::{Regex, RegexBuilder};

use crate::broker::Broker;
use crate::call::{Call, Reply};
use crate::transaction::Transaction;

/// What an expression may take when it is compiled; so what one id costs is bounded as well.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// All that there are in Kafka. Here a transaction ends at once, so nobody is ever seen preparing.
const STATES: [&str; 7] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "PrepareEpochFence",
];

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let request: ListTransactionsRequest = call.decode()?;
        let response = list(&broker, &request).await;
        call.late(&response)
    }))
}

async fn list(broker: &Broker, request: &ListTransactionsRequest) -> ListTransactionsResponse {
    let Ok(pattern) = pattern(request) else {
        let error_code = ErrorCode::INVALID_REGULAR_EXPRESSION;
        return ListTransactionsResponse { error_code, ..Default::default() };
    };
    let now_ms = broker.env.clock.wall_ms();
    let matches = |id: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
    let listed = broker.transactions.of_all(|id, transaction| {
        (matches(id) && is_wanted(request, transaction, now_ms)).then(|| ListedTransaction {
            transactional_id: id.to_owned(),
            producer_id: transaction.identity.producer_id,
            transaction_state: transaction.phase.name().to_owned(),
        })
    });
    let transaction_states = match listed.await {
        Ok(listed) => listed,
        Err(error) => {
            let error_code = error.code(ErrorCode::PRODUCER_FENCED);
            return ListTransactionsResponse { error_code, ..Default::default() };
        }
    };
    let unknown = request.state_filters.iter().filter(|name| !STATES.contains(&name.as_str()));
    ListTransactionsResponse {
        transaction_states,
        unknown_state_filters: unknown.cloned().collect(),
        ..Default::default()
    }
}

/// The expression that an id has to match from its first to its last letter (KIP-1152).
fn pattern(request: &ListTransactionsRequest) -> Result<Option<Regex>, regex_lite::Error> {
    let pattern = request.transactional_id_pattern.as_deref().filter(|given| !given.is_empty());
    // It has to be one by itself: `a)(b` is not.
    pattern
        .map(|given| {
            RegexBuilder::new(given).size_limit(PATTERN_BYTES_MAX).build()?;
            let whole = format!("^(?:{given})$");
            RegexBuilder::new(&whole).size_limit(PATTERN_BYTES_MAX).build()
        })
        .transpose()
}

fn is_wanted(request: &ListTransactionsRequest, transaction: &Transaction, now_ms: i64) -> bool {
    let states = &request.state_filters;
    let ids = &request.producer_id_filters;
    let open_for = now_ms.saturating_sub(transaction.started_ms);
    let long_enough = request.duration_filter < 0
        || transaction.is_ongoing() && open_for > request.duration_filter;
    (states.is_empty() || states.iter().any(|name| name == transaction.phase.name()))
        && (ids.is_empty() || ids.contains(&transaction.identity.producer_id))
        && long_enough
}
