//! # Invariants
//!
//! - BUDGET-1: the bytes of all requests and answers in flight are covered by shares of the budget
//!   until the answer is sent, but for: a batch that is larger than an answer may be; and per
//!   connection the one answer that is written and waits for its share.
//! - BUDGET-2: no set of half received requests can block all of them for good: one at a time
//!   may finish on the reserve, which is as large as the largest request.
//! - BUDGET-3: what decompression holds is beside the budget: 40 MiB (BATCH-2) for each of
//!   [`DECODERS_MAX`] batches at a time.

use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Batches that are decompressed at a time: more would only take turns on the processors.
pub(crate) const DECODERS_MAX: usize = 4;

/// Permits are handed out in units of this many bytes.
const UNIT_BYTES: usize = 1 << 10;

/// The memory that all requests in flight share.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    shared: Arc<Semaphore>,
    reserve: Arc<tokio::sync::Mutex<()>>,
}

/// A part of the budget; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Share {
    permits: Option<OwnedSemaphorePermit>,
    bytes: usize,
    /// Held by the one request that may finish on the reserve.
    reserve: Option<OwnedMutexGuard<()>>,
}

impl Budget {
    /// `total` bytes, of which `request_max` are the reserve.
    pub(crate) fn new(total: usize, request_max: usize) -> Self {
        let units = total.saturating_sub(request_max).max(UNIT_BYTES) / UNIT_BYTES;
        Self {
            shared: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            reserve: Arc::new(tokio::sync::Mutex::new(())),
        }
    }

    /// Makes `share` cover `bytes`; waits for the reserve where the budget is used up.
    pub(crate) async fn grow(&self, share: &mut Share, bytes: usize) {
        if bytes <= share.bytes || share.reserve.is_some() {
            return;
        }
        let units = units(bytes - share.bytes);
        if let Ok(permit) = Arc::clone(&self.shared).try_acquire_many_owned(units) {
            share.add(permit, units);
            return;
        }
        tracing::debug!(bytes, "memory budget is used up; waiting");
        tokio::select! {
            permit = Arc::clone(&self.shared).acquire_many_owned(units) => {
                // The semaphore is never closed.
                if let Ok(permit) = permit {
                    share.add(permit, units);
                }
            }
            reserve = Arc::clone(&self.reserve).lock_owned() => share.reserve = Some(reserve),
        }
    }

    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.shared.available_permits() * UNIT_BYTES
    }
}

impl Share {
    fn add(&mut self, permit: OwnedSemaphorePermit, units: u32) {
        self.bytes += units as usize * UNIT_BYTES;
        match &mut self.permits {
            Some(permits) => permits.merge(permit),
            None => self.permits = Some(permit),
        }
    }

    /// What is covered without the reserve.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what is beyond `bytes`, the reserve too where it is not needed for them.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if bytes <= self.bytes {
            self.reserve = None;
        }
        let surplus = self.bytes.saturating_sub(units(bytes) as usize * UNIT_BYTES);
        let permits = self.permits.as_mut();
        if let Some(returned) = permits.and_then(|held| held.split(surplus / UNIT_BYTES)) {
            drop(returned);
            self.bytes -= surplus;
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shares_come_back() {
        let budget = Budget::new(64 << 10, 16 << 10);
        let mut share = Share::default();
        budget.grow(&mut share, 20_000).await;
        assert_eq!(budget.free_bytes(), (48 << 10) - 20 * 1024);
        share.shrink(1_000);
        assert_eq!(budget.free_bytes(), 47 << 10);
        drop(share);
        assert_eq!(budget.free_bytes(), 48 << 10);
    }

    /// BUDGET-2.
    #[tokio::test]
    async fn one_half_received_request_can_always_finish() {
        let budget = Budget::new(32 << 10, 16 << 10);
        let (mut first, mut second) = (Share::default(), Share::default());
        budget.grow(&mut first, 8 << 10).await;
        budget.grow(&mut second, 8 << 10).await;
        budget.grow(&mut first, 16 << 10).await;
        let waiting = {
            let budget = budget.clone();
            tokio::spawn(async move {
                budget.grow(&mut second, 16 << 10).await;
                second
            })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.expect("the task does not panic");
        assert!(second.reserve.is_some() || second.bytes == 16 << 10);
    }
}
