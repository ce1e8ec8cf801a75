use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Unit of sharing between images, and what a device may ruin when it rewrites in place.
pub(crate) const BLOCK_BYTES: usize = 4096;

type Block = [u8; BLOCK_BYTES];

/// The bytes of one file. Clones share blocks until one of them writes; blocks nobody wrote are
/// zeros and take no memory.
#[derive(Clone, Default)]
pub(crate) struct Content {
    length: u64,
    blocks: Vec<Option<Arc<Block>>>,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        for (index, within) in spans(offset, count) {
            let target = &mut buffer[done..done + within.len()];
            match self.blocks.get(index) {
                Some(Some(block)) => target.copy_from_slice(&block[within.clone()]),
                _ => target.fill(0),
            }
            done += within.len();
        }
        count
    }

    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        for (index, within) in spans(offset, bytes.len()) {
            if self.blocks.len() <= index {
                self.blocks.resize(index + 1, None);
            }
            let block = self.blocks[index].get_or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            let count = within.len();
            Arc::make_mut(block)[within].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
        if !bytes.is_empty() {
            self.length = self.length.max(offset + bytes.len() as u64);
        }
    }

    pub(crate) fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    pub(crate) fn truncate(&mut self, length: u64) {
        if length >= self.length {
            return;
        }
        self.length = length;
        self.blocks.truncate(length.div_ceil(BLOCK_BYTES as u64) as usize);
        let within = (length % BLOCK_BYTES as u64) as usize;
        let last = (length / BLOCK_BYTES as u64) as usize;
        if let Some(Some(block)) = self.blocks.get_mut(last).filter(|_| within > 0) {
            Arc::make_mut(block)[within..].fill(0);
        }
    }

    /// Feeds length and the blocks in `indexes` to `hasher`.
    pub(crate) fn fingerprint(&self, indexes: &[usize], hasher: &mut impl Hasher) {
        self.length.hash(hasher);
        for index in indexes {
            match self.blocks.get(*index) {
                Some(Some(block)) if block.iter().any(|byte| *byte != 0) => block.hash(hasher),
                _ => 0_u8.hash(hasher),
            }
        }
    }
}

/// The blocks that `count` bytes at `offset` touch, each with the range inside it.
pub(crate) fn spans(
    offset: u64,
    count: usize,
) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let end = offset + count as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (index, start) = (at / BLOCK_BYTES as u64, (at % BLOCK_BYTES as u64) as usize);
        let length = ((end - at) as usize).min(BLOCK_BYTES - start);
        at += length as u64;
        Some((index as usize, start..start + length))
    })
}
