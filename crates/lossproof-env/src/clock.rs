use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Time. Intervals are measured on the monotonic clock only; the wall clock is for what people
/// and protocols read.
pub trait Clock: Debug + Send + Sync {
    /// Time since an arbitrary fixed point; never goes back.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since the Unix epoch; may jump either way.
    fn wall_ms(&self) -> i64;

    /// Completes once [`Clock::monotonic`] has advanced by `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// The same for a thread of its own.
    fn sleep_blocking(&self, duration: Duration);
}
