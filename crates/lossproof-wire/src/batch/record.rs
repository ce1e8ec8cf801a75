//! One record, read from a stream or from memory by the same code.

use std::io::BufRead;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Why a record cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The record is not well formed.
    Malformed(&'static str),
    /// The decompressor failed.
    Stream(std::io::Error),
    /// More bytes than allowed were taken.
    Limit,
}

/// Where records are read from. `Chunk` is what is kept of keys and values.
pub(super) trait Source {
    type Chunk;
    fn byte(&mut self) -> Result<u8, Fault>;
    fn chunk(&mut self, length: usize) -> Result<Self::Chunk, Fault>;
}

const ENDS_EARLY: Fault = Fault::Malformed("it ends early");

/// Keeps nothing: for validation (`BATCH-2`).
#[derive(Debug)]
pub(super) struct Skim<R> {
    pub(super) stream: R,
    /// Bytes that may still be taken.
    pub(super) allowance: u64,
}

impl<R: BufRead> Skim<R> {
    fn spend(&mut self, amount: u64) -> Result<(), Fault> {
        self.allowance = self.allowance.checked_sub(amount).ok_or(Fault::Limit)?;
        Ok(())
    }

    pub(super) fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.stream.fill_buf().map_err(Fault::Stream)?.is_empty())
    }
}

impl<R: BufRead> Source for Skim<R> {
    type Chunk = ();

    fn byte(&mut self) -> Result<u8, Fault> {
        let first = self.stream.fill_buf().map_err(Fault::Stream)?.first().copied();
        let byte = first.ok_or(ENDS_EARLY)?;
        self.stream.consume(1);
        self.spend(1)?;
        Ok(byte)
    }

    fn chunk(&mut self, length: usize) -> Result<(), Fault> {
        self.spend(length as u64)?;
        let mut left = length;
        while left > 0 {
            let available = self.stream.fill_buf().map_err(Fault::Stream)?.len();
            if available == 0 {
                return Err(ENDS_EARLY);
            }
            let taken = available.min(left);
            self.stream.consume(taken);
            left -= taken;
        }
        Ok(())
    }
}

impl Source for Bytes {
    type Chunk = Bytes;

    fn byte(&mut self) -> Result<u8, Fault> {
        self.try_get_u8().map_err(|_| ENDS_EARLY)
    }

    fn chunk(&mut self, length: usize) -> Result<Bytes, Fault> {
        if length > self.len() {
            return Err(ENDS_EARLY);
        }
        Ok(self.split_to(length))
    }
}

/// A source that ends with the record's announced length.
struct Body<'a, S> {
    source: &'a mut S,
    left: usize,
}

impl<S: Source> Body<'_, S> {
    fn spend(&mut self, amount: usize) -> Result<(), Fault> {
        let left = self.left.checked_sub(amount);
        self.left = left.ok_or(Fault::Malformed("its fields are longer than its length"))?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.spend(1)?;
        self.source.byte()
    }

    fn varint(&mut self) -> Result<i32, Fault> {
        varint(|| self.byte())
    }

    /// A length and that many bytes; -1 is null.
    fn chunk(&mut self) -> Result<Option<S::Chunk>, Fault> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length)
                    .map_err(|_| Fault::Malformed("a length is below -1"))?;
                self.spend(length)?;
                self.source.chunk(length).map(Some)
            }
        }
    }
}

/// A record before its offset and timestamp are known.
#[derive(Debug)]
pub(super) struct RawRecord<C> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<C>,
    pub(super) value: Option<C>,
}

/// Reads one record. Its headers are handed out one by one, so that a stream keeps none.
pub(super) fn read_record<S: Source>(
    source: &mut S,
    mut header: impl FnMut(S::Chunk, Option<S::Chunk>),
) -> Result<RawRecord<S::Chunk>, Fault> {
    let length = varint(|| source.byte())?;
    let left = usize::try_from(length).map_err(|_| Fault::Malformed("its length is negative"))?;
    let mut body = Body { source, left };
    let _attributes = body.byte()?;
    let timestamp_delta = varlong(|| body.byte())?;
    let offset_delta = body.varint()?;
    let key = body.chunk()?;
    let value = body.chunk()?;
    let headers = body.varint()?;
    if headers < 0 {
        return Err(Fault::Malformed("its header count is negative"));
    }
    // Each header takes two bytes at least, so a huge count soon spends the record's length.
    for _ in 0..headers {
        let name = body.chunk()?.ok_or(Fault::Malformed("a header has no key"))?;
        let content = body.chunk()?;
        header(name, content);
    }
    if body.left > 0 {
        return Err(Fault::Malformed("its length is longer than its fields"));
    }
    Ok(RawRecord { timestamp_delta, offset_delta, key, value })
}

fn varint(byte: impl FnMut() -> Result<u8, Fault>) -> Result<i32, Fault> {
    let value = unsigned(byte, 5)?;
    let value =
        u32::try_from(value).map_err(|_| Fault::Malformed("a number is wider than 32 bits"))?;
    Ok((value >> 1) as i32 ^ -((value & 1) as i32))
}

fn varlong(byte: impl FnMut() -> Result<u8, Fault>) -> Result<i64, Fault> {
    let value = unsigned(byte, 10)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

fn unsigned(mut byte: impl FnMut() -> Result<u8, Fault>, bytes_max: u32) -> Result<u64, Fault> {
    let mut value = 0;
    for index in 0..bytes_max {
        let next = byte()?;
        value |= u64::from(next & 0x7f) << (7 * index);
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Fault::Malformed("a number does not end"))
}

pub(super) fn put_varint(out: &mut BytesMut, value: i32) {
    put_varlong(out, i64::from(value));
}

pub(super) fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Appends a length and the bytes; -1 is null.
pub(super) fn put_chunk(out: &mut BytesMut, chunk: Option<&[u8]>) {
    match chunk {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}
