//! A fetch without a client library: librdkafka asks again, and for ever, where the broker says
//! that its storage is damaged, so that only the answer itself tells what was served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::failure::{Context, Failure};

const FETCH: [u8; 4] = [0, 1, 0, 4];
/// An answer takes a moment; one that does not come is a failure.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(50);
const BYTES_MAX: u32 = 16 << 20;
/// The header of a record batch, whose first offset, length and last offset are read here.
const BATCH_BYTES: usize = 61;

/// What stands in an answer for the one partition that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) error: i16,
    /// The end of what is committed.
    pub(crate) end: i64,
    /// Whole ones only.
    pub(crate) batches: Vec<Batch>,
}

/// A record batch as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) bytes: Vec<u8>,
}

/// A connection for fetches.
#[derive(Debug)]
pub(crate) struct Asking {
    stream: TcpStream,
}

impl Asking {
    pub(crate) fn new(bootstrap: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(bootstrap).context("connect")?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).context("connect")?;
        Ok(Self { stream })
    }

    /// Asks for what is at an offset, committed or not.
    pub(crate) fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Answer, Failure> {
        let what = format!("fetch {topic}-{partition} at {offset}");
        self.stream.write_all(&request(topic, partition, offset)).context(&what)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context(&what)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).context(&what)?;
        parse(&body).ok_or_else(|| Failure::broken(format!("{what}: an answer of another shape")))
    }

    /// All batches of a partition that is sound, from its first record on.
    pub(crate) fn read_all(&mut self, topic: &str, partition: i32) -> Result<Vec<Batch>, Failure> {
        let mut batches: Vec<Batch> = Vec::new();
        loop {
            let next = batches.last().map_or(0, |batch| batch.last + 1);
            let Answer { error, end, batches: more } = self.fetch(topic, partition, next)?;
            if error == 0 && next == end {
                return Ok(batches);
            }
            if error != 0 || more.is_empty() {
                let what = format!("{topic}-{partition} at {next} of {end}: error {error}");
                return Err(Failure::broken(what));
            }
            batches.extend(more);
        }
    }
}

fn request(topic: &str, partition: i32, offset: i64) -> Vec<u8> {
    let mut body = FETCH.to_vec();
    // A number of its own, and no name of the client.
    body.extend([0, 0, 0, 7, 0xff, 0xff]);
    // No replica, no wait, one byte at least, so many at most, and all that is there.
    body.extend((-1_i32).to_be_bytes());
    body.extend([0_u32.to_be_bytes(), 1_u32.to_be_bytes(), BYTES_MAX.to_be_bytes()].concat());
    body.push(0);
    body.extend(1_u32.to_be_bytes());
    body.extend((topic.len() as u16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1_u32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(offset.to_be_bytes());
    body.extend(BYTES_MAX.to_be_bytes());
    [&(body.len() as u32).to_be_bytes(), body.as_slice()].concat()
}

/// Of an answer to one topic and one partition.
fn parse(body: &[u8]) -> Option<Answer> {
    // The number of the request, the time that the client is to wait, and how many topics.
    let (_, rest) = body.split_first_chunk::<12>()?;
    let (name, rest) = rest.split_first_chunk()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*name))..)?;
    // How many partitions, and which.
    let (_, rest) = rest.split_first_chunk::<8>()?;
    let (error, rest) = rest.split_first_chunk()?;
    let (end, rest) = rest.split_first_chunk()?;
    // The end of what is stable.
    let (_, rest) = rest.split_first_chunk::<8>()?;
    let (aborted, rest) = rest.split_first_chunk()?;
    // Each is a producer and an offset; none is a negative count.
    let rest = rest.get(16 * i32::from_be_bytes(*aborted).max(0) as usize..)?;
    let (length, rest) = rest.split_first_chunk()?;
    let records = rest.get(..i32::from_be_bytes(*length).max(0) as usize)?;
    let (error, end) = (i16::from_be_bytes(*error), i64::from_be_bytes(*end));
    Some(Answer { error, end, batches: split(records) })
}

fn split(mut records: &[u8]) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some((batch, rest)) = first_of(records) {
        batches.push(batch);
        records = rest;
    }
    batches
}

fn first_of(records: &[u8]) -> Option<(Batch, &[u8])> {
    let header = records.get(..BATCH_BYTES)?;
    let first = i64::from_be_bytes(*header.first_chunk()?);
    let length = 12 + u32::from_be_bytes(*header.get(8..)?.first_chunk()?) as usize;
    let last = first + i64::from(u32::from_be_bytes(*header.get(23..)?.first_chunk()?));
    let (bytes, rest) = records.split_at_checked(length)?;
    Some((Batch { first, last, bytes: bytes.to_vec() }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: i64, count: u32, fill: u8) -> Vec<u8> {
        let mut batch = vec![fill; 80];
        batch[..8].copy_from_slice(&first.to_be_bytes());
        batch[8..12].copy_from_slice(&68_u32.to_be_bytes());
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch
    }

    fn answer(error: i16, aborted: i32, records: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 12];
        body.extend(*b"\0\x01t\0\0\0\x01\0\0\0\x02");
        body.extend(error.to_be_bytes());
        body.extend(9_i64.to_be_bytes());
        body.extend(8_i64.to_be_bytes());
        body.extend(aborted.to_be_bytes());
        body.extend(vec![1; 16 * aborted.max(0) as usize]);
        body.extend((records.len() as u32).to_be_bytes());
        [&body, records].concat()
    }

    #[test]
    fn an_answer_is_an_error_or_whole_batches() {
        for aborted in [-1, 0, 2] {
            let none = Answer { error: 56, end: 9, batches: Vec::new() };
            assert_eq!(parse(&answer(56, aborted, &[])), Some(none));
            let (one, two) = (batch(3, 2, 5), batch(5, 1, 6));
            let records = [&one[..], &two, &batch(6, 3, 7)[..70]].concat();
            let batches = vec![
                Batch { first: 3, last: 4, bytes: one },
                Batch { first: 5, last: 5, bytes: two },
            ];
            let expected = Answer { error: 0, end: 9, batches };
            assert_eq!(parse(&answer(0, aborted, &records)), Some(expected));
        }
        assert_eq!(parse(&answer(0, 0, &batch(3, 2, 5))[..90]), None);
    }
}
