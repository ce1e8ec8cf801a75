use lossproof_log::{CommitCause, Log};

/// Ids reserved at a time: one durable write for so many producers.
const BLOCK_IDS: u32 = 1_000;

/// Producer ids: out of durably reserved blocks, none given twice. What is left of a block when
/// the broker ends is never given out.
#[derive(Debug)]
pub(crate) struct ProducerIdBlocks {
    log: Log,
    free: tokio::sync::Mutex<std::ops::Range<i64>>,
}

impl ProducerIdBlocks {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, free: tokio::sync::Mutex::new(0..0) }
    }

    pub(crate) async fn next(&self) -> Result<i64, CommitCause> {
        let mut free = self.free.lock().await;
        if let Some(id) = free.next() {
            return Ok(id);
        }
        let block = self.log.reserve_producer_ids(BLOCK_IDS).await?;
        *free = block.first..block.first.saturating_add(i64::from(block.count));
        free.next().ok_or(CommitCause::Closed)
    }
}
