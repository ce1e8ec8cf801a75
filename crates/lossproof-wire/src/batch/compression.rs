//! The four compressions, as bounded streams.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;

use crate::batch::BatchError;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Blocks in the framing of snappy-java ("xerial"), or one raw block as librdkafka writes it.
    Snappy = 2,
    /// One LZ4 frame.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in the attributes.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The compression of a number.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.code() == code)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// A stream over the decompressed records; it holds at most 32 MiB of them, and lz4's blocks of
/// 4 MiB, at a time. `limit` bounds single blocks; the reader of the stream
/// counts what it takes from it.
pub(super) fn decompress<'a>(
    compression: Compression,
    payload: &'a [u8],
    limit: u64,
) -> io::Result<Box<dyn BufRead + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(payload),
        Compression::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(payload))),
        Compression::Snappy => Box::new(SnappyReader::new(payload, limit)),
        Compression::Lz4 => Box::new(BufReader::new(lz4_flex::frame::FrameDecoder::new(payload))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(BufReader::new(decoder))
        }
    })
}

/// Compresses the records of a batch.
pub(super) fn compress(compression: Compression, records: &[u8]) -> Result<Vec<u8>, BatchError> {
    compress_io(compression, records)
        .map_err(|error| BatchError::Undecodable { compression, reason: error.to_string() })
}

fn compress_io(compression: Compression, records: &[u8]) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(records.to_vec()),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(records)?;
            encoder.finish()
        }
        Compression::Snappy => snappy_compress(records),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(records)?;
            encoder.finish().map_err(io::Error::from)
        }
        Compression::Zstd => zstd::stream::encode_all(records, zstd::DEFAULT_COMPRESSION_LEVEL),
    }
}

/// First bytes of the xerial framing; version and lowest compatible version follow.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_VERSION: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Size of the blocks that we write, snappy-java's default.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Raw Snappy is one block, which is there as a whole while it is read. librdkafka, which writes
/// it, fills no batch beyond 1 MB.
const SNAPPY_BLOCK_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// As a power of two: 32 MiB of window, which only the highest levels ask for on so much text.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// No Snappy element makes more of its bytes: a copy of 64 bytes takes three.
const SNAPPY_RATIO_MAX: usize = 22;

fn snappy_compress(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = [XERIAL_MAGIC, XERIAL_VERSION].concat();
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        // A block of 32 KiB never grows near to what four bytes can tell.
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

/// Snappy block by block.
#[derive(Debug)]
struct SnappyReader<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    used: usize,
    limit: u64,
}

impl<'a> SnappyReader<'a> {
    fn new(payload: &'a [u8], limit: u64) -> Self {
        let after_header = payload
            .strip_prefix(&XERIAL_MAGIC)
            .and_then(|rest| rest.get(XERIAL_HEADER_BYTES - XERIAL_MAGIC.len()..));
        let (rest, framed) = after_header.map_or((payload, false), |rest| (rest, true));
        Self { rest, framed, block: Vec::new(), used: 0, limit }
    }

    fn next_compressed(&mut self) -> io::Result<&'a [u8]> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(block)
    }

    fn next_block(&mut self) -> io::Result<()> {
        let compressed = self.next_compressed()?;
        let length = snap::raw::decompress_len(compressed)?;
        let possible = compressed.len().saturating_mul(SNAPPY_RATIO_MAX);
        if length > possible || length as u64 > self.limit.min(SNAPPY_BLOCK_BYTES_MAX) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "block claims too many bytes"));
        }
        self.used = 0;
        self.block.clear();
        self.block.resize(length, 0);
        snap::raw::Decoder::new().decompress(compressed, &mut self.block)?;
        Ok(())
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "framing ends early")
}

impl BufRead for SnappyReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // Each round takes bytes from the rest, so empty blocks cannot hold it up for ever.
        while self.used >= self.block.len() && !self.rest.is_empty() {
            self.next_block()?;
        }
        Ok(self.block.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.used = self.used.saturating_add(amount).min(self.block.len());
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.read(out)?;
        self.consume(amount);
        Ok(amount)
    }
}
