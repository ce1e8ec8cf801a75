use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::real::write_zeros;
use crate::sim::spans;

const BLOCK_BYTES: usize = 4096;
/// Neighbouring blocks are written together up to this size.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// Fills a buffer from an offset of the real file.
pub(crate) type Below<'a> = &'a dyn Fn(&mut [u8], u64) -> io::Result<()>;

/// What the process sees of a file where it differs from what the file system has.
pub(crate) struct Overlay {
    length: u64,
    /// Bytes of the real file from here on were cut off, though it still has them.
    real_length: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>,
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay")
            .field("length", &self.length)
            .field("real_length", &self.real_length)
            .field("blocks", &self.blocks.len())
            .finish()
    }
}

impl Overlay {
    pub(crate) fn new(length: u64) -> Self {
        Self { length, real_length: length, blocks: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn read(
        &self,
        real: Below<'_>,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        let count = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        if self.blocks.is_empty() {
            return self.read_real(real, &mut buffer[..count], offset).map(|()| count);
        }
        let mut done = 0;
        for (index, within) in spans(offset, count) {
            let target = &mut buffer[done..done + within.len()];
            match self.blocks.get(&(index as u64)) {
                Some(block) => target.copy_from_slice(&block[within.clone()]),
                None => self.read_real(real, target, offset + done as u64)?,
            }
            done += within.len();
        }
        Ok(count)
    }

    /// Zeros where the real file has nothing, or nothing any more.
    fn read_real(&self, real: Below<'_>, target: &mut [u8], offset: u64) -> io::Result<()> {
        let count = self.real_length.saturating_sub(offset).min(target.len() as u64) as usize;
        let (there, beyond) = target.split_at_mut(count);
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { real(there, offset) }
    }

    pub(crate) fn write(&mut self, real: Below<'_>, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        for (index, within) in spans(offset, bytes.len()) {
            let index = index as u64;
            if !self.blocks.contains_key(&index) {
                let mut block = Box::new([0; BLOCK_BYTES]);
                if within.len() < BLOCK_BYTES {
                    self.read_real(real, &mut block[..], index * BLOCK_BYTES as u64)?;
                }
                self.blocks.insert(index, block);
            }
            let count = within.len();
            if let Some(block) = self.blocks.get_mut(&index) {
                block[within].copy_from_slice(&bytes[done..done + count]);
            }
            done += count;
        }
        if !bytes.is_empty() {
            self.length = self.length.max(offset + bytes.len() as u64);
        }
        Ok(())
    }

    pub(crate) fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    pub(crate) fn truncate(&mut self, length: u64) {
        if length >= self.length {
            return;
        }
        self.length = length;
        self.real_length = self.real_length.min(length);
        let (last, within) = (length / BLOCK_BYTES as u64, (length % BLOCK_BYTES as u64) as usize);
        self.blocks.split_off(&length.div_ceil(BLOCK_BYTES as u64));
        if let Some(block) = self.blocks.get_mut(&last) {
            block[within..].fill(0);
        }
    }

    /// Writes to the real file what it lacks, and syncs it (`FORGET-1`). After an error the bytes
    /// are still here and go with the next sync.
    pub(crate) fn sync(&mut self, file: &File) -> io::Result<()> {
        if self.real_length < file.metadata()?.len() {
            file.set_len(self.real_length)?;
        }
        write_zeros(file, self.length)?;
        let mut run: (u64, Vec<u8>) = (0, Vec::new());
        for (index, block) in &self.blocks {
            let offset = index * BLOCK_BYTES as u64;
            let count = self.length.saturating_sub(offset).min(BLOCK_BYTES as u64) as usize;
            let follows = run.0 + run.1.len() as u64 == offset;
            if !follows || run.1.len() >= WRITE_BYTES_MAX {
                file.write_all_at(&run.1, run.0)?;
                run = (offset, Vec::new());
            }
            run.1.extend_from_slice(&block[..count]);
        }
        file.write_all_at(&run.1, run.0)?;
        file.sync_data()?;
        self.blocks.clear();
        self.real_length = self.length;
        Ok(())
    }
}
