use std::fmt::Debug;

/// Randomness: session ids, incarnations, jitter.
pub trait Rng: Debug + Send + Sync {
    fn next_u64(&self) -> u64;
}
