//! # Invariants
//!
//! - BUDGET-1: the bytes of all requests in flight, until they are answered or nothing is kept of
//!   them but what is counted elsewhere (GROUP-5), are covered by one budget, but for
//!   [`SMALL_BYTES`] of small ones per connection; those of all answers, until they are sent, by
//!   another, but for: a batch that is larger than an answer may be, per connection one answer of
//!   [`SMALL_ANSWER_BYTES`], those that are written and wait for their share, of
//!   [`WAITING_BYTES`] together, and those that take no more than their requests did, or than
//!   [`TINY_ANSWER_BYTES`]. A fetch that is sent from the memory it was read into keeps up to a
//!   quarter more than its length of what was read with it.
//! - BUDGET-2: no set of half received requests can block all of them for good: one at a time
//!   may finish on the reserve, which is as large as the largest request.
//! - BUDGET-3: what decompression holds is beside the budget: 40 MiB (BATCH-2) for each of
//!   [`DECODERS_MAX`] batches at a time.
//! - BUDGET-4: nobody waits for a share of a budget while he holds another of the same, but for
//!   BUDGET-2; and who holds a share of the requests needs none to be answered. Nor does he wait
//!   for other clients: joins and syncs give theirs back before they do, a fetch does not wait on
//!   the reserve, and half a second at most with any other share but a small one; and behind one
//!   that waits only small ones are read on the same connection. So slow readers and waiting
//!   members cannot hold up producers, and requests that wait for each other always fit in.
//! - BUDGET-5: readers who take nothing can hold all memory of the answers for as long as they are
//!   borne with. Meanwhile others are answered as before where the answer is small, and consumers
//!   get small ones; but what is answered at once, with more than its request and
//!   [`TINY_ANSWER_BYTES`], waits for its share.
//! - BUDGET-6: what a request becomes before it is an answer is beside the budgets, and a request
//!   of a fetch session counts as the full one that it stands for. So one that
//!   only asks is decoded when all answers before it are out, and told of each thing once however
//!   often it names it: no more than what is there, and a bounded multiple of the request. One that
//!   may ask for very much lets others in between, and few of those are in work at a time.

use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Batches that are decompressed at a time: more would only take turns on the processors.
pub(crate) const DECODERS_MAX: usize = 4;

/// What one connection may have in flight of small requests beside the budget: those of groups and
/// of waiting consumers, which wait for others of their kind, and must not wait for memory as well.
pub(crate) const SMALL_BYTES: usize = 128 << 10;
/// Memory for answers under way: sixteen of the largest.
pub(crate) const ANSWER_BYTES: usize = 256 << 20;

/// An answer that needs no share, one at a time on each connection.
pub(crate) const SMALL_ANSWER_BYTES: usize = 64 << 10;
/// An answer that needs no share, however many of them wait on a connection.
pub(crate) const TINY_ANSWER_BYTES: usize = 1 << 10;
/// Answers that are written before there is memory for them; whose answer comes on top is dropped.
pub(crate) const WAITING_BYTES: usize = 64 << 20;

/// Permits are handed out in units of this many bytes.
const UNIT_BYTES: usize = 1 << 10;

/// The memory that all requests in flight share, or all answers.
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
    /// Of the connection's own, beside the budget; given back like the rest.
    small: Option<OwnedSemaphorePermit>,
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

    /// Makes `share` cover `bytes` where there is so much at hand.
    pub(crate) fn try_grow(&self, share: &mut Share, bytes: usize) -> bool {
        if bytes <= share.bytes || share.reserve.is_some() {
            return true;
        }
        let units = units(bytes - share.bytes);
        let permit = Arc::clone(&self.shared).try_acquire_many_owned(units);
        permit.map(|permit| share.add(permit, units)).is_ok()
    }

    /// Makes `share` cover `bytes`; waits for the reserve where the budget is used up.
    pub(crate) async fn grow(&self, share: &mut Share, bytes: usize) {
        if self.try_grow(share, bytes) {
            return;
        }
        let units = units(bytes - share.bytes);
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
    /// A share that needs no budget, where the connection has so much left of its own.
    pub(crate) fn small(own: &Arc<Semaphore>, bytes: usize) -> Option<Self> {
        let small = Arc::clone(own).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()?;
        Some(Self { bytes, small: Some(small), ..Self::default() })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes a small one cover `bytes`, where the connection has so much left of its own.
    pub(crate) fn try_grow_small(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let Some(small) = self.small.as_mut().filter(|_| self.permits.is_none()) else {
            return false;
        };
        let own = Arc::clone(small.semaphore());
        let grown = u32::try_from(more).ok().and_then(|more| own.try_acquire_many_owned(more).ok());
        grown.map(|permit| small.merge(permit)).is_some_and(|()| {
            self.bytes += more;
            true
        })
    }

    /// Beside the budget: nobody else waits for it.
    pub(crate) fn is_small(&self) -> bool {
        self.small.is_some() && self.permits.is_none()
    }

    /// Others may wait for the reserve: not to be kept for long.
    pub(crate) fn is_on_reserve(&self) -> bool {
        self.reserve.is_some()
    }

    fn add(&mut self, permit: OwnedSemaphorePermit, units: u32) {
        self.bytes += units as usize * UNIT_BYTES;
        match &mut self.permits {
            Some(permits) => permits.merge(permit),
            None => self.permits = Some(permit),
        }
    }

    /// Gives back what is beyond `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
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

    /// BUDGET-4.
    #[tokio::test]
    async fn small_requests_need_no_budget() {
        let own = Arc::new(Semaphore::new(SMALL_BYTES));
        let held = Share::small(&own, SMALL_BYTES - 10).expect("there is room");
        assert!(Share::small(&own, 11).is_none());
        let budget = Budget::new(32 << 10, 16 << 10);
        let mut last = Share::small(&own, 10).expect("exactly");
        budget.grow(&mut last, 10).await;
        assert_eq!(budget.free_bytes(), 16 << 10);
        drop((held, last));
        assert_eq!(own.available_permits(), SMALL_BYTES);
    }

    /// BUDGET-4.
    #[tokio::test]
    async fn a_small_one_grows_by_what_is_left_of_its_connections_own() {
        let own = Arc::new(Semaphore::new(SMALL_BYTES));
        let mut share = Share::small(&own, 100).expect("there is room");
        assert!(share.try_grow_small(99) && share.try_grow_small(SMALL_BYTES - 10));
        assert_eq!((share.bytes, own.available_permits()), (SMALL_BYTES - 10, 10));
        assert!(!share.try_grow_small(SMALL_BYTES + 1) && share.is_small());
        let budget = Budget::new(SMALL_BYTES + (16 << 10), 0);
        assert!(budget.try_grow(&mut share, SMALL_BYTES + 1));
        assert_eq!(budget.free_bytes(), SMALL_BYTES + (15 << 10));
        assert!(!share.is_small(), "others may wait for it");
        drop(share);
        assert_eq!(own.available_permits(), SMALL_BYTES);
        assert!(!Share::default().try_grow_small(1));
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
