//! Cuts a stream of bytes into lines, with a bound on what one line keeps in memory.

use bytes::{Bytes, BytesMut};

/// One line without its line feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// `None` where it was longer than the bound: only its length is known.
    pub bytes: Option<Bytes>,
    /// Of the line without its line feed.
    pub length: u64,
    /// Of the line with its line feed: what the position advances by.
    pub consumed: u64,
}

/// Takes bytes as they come and gives lines as they are complete.
#[derive(Debug)]
pub struct LineSplitter {
    line_bytes_max: usize,
    kept: BytesMut,
    /// Length of the line so far, of which at most `line_bytes_max` bytes are kept.
    length: u64,
}

impl LineSplitter {
    pub fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, kept: BytesMut::new(), length: 0 }
    }

    /// Hands each complete line to `each`; what is left waits for the next call.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Line)) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(at);
            self.keep(line);
            each(self.take(1));
            rest = behind.get(1..).unwrap_or_default();
        }
        self.keep(rest);
    }

    /// The last line, where the input does not end with a line feed.
    pub fn finish(&mut self) -> Option<Line> {
        (self.length > 0).then(|| self.take(0))
    }

    fn keep(&mut self, part: &[u8]) {
        self.length += part.len() as u64;
        if self.length <= self.line_bytes_max as u64 {
            self.kept.extend_from_slice(part);
        } else {
            self.kept.clear();
        }
    }

    fn take(&mut self, line_feed: u64) -> Line {
        let length = std::mem::take(&mut self.length);
        let bytes = self.kept.split().freeze();
        let bytes = (bytes.len() as u64 == length).then_some(bytes);
        Line { bytes, length, consumed: length + line_feed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], step: usize) -> Vec<(Option<String>, u64)> {
        let mut splitter = LineSplitter::new(5);
        let mut lines = Vec::new();
        for chunk in input.chunks(step) {
            splitter.push(chunk, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        lines.into_iter().map(|line| (line.bytes.map(text), line.consumed)).collect()
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_come_and_no_byte_is_unaccounted_for() {
        let input = b"one\n\nfives\nsixsix\nveryverylong\nend";
        for step in 1..=input.len() {
            let found = lines(input, step);
            let one = |text: &str, consumed| (Some(text.to_owned()), consumed);
            assert_eq!(
                found,
                [one("one", 4), one("", 1), one("fives", 6), (None, 7), (None, 13), one("end", 3),]
            );
            let consumed: u64 = found.iter().map(|(_, consumed)| consumed).sum();
            assert_eq!(consumed, input.len() as u64);
        }
    }
}
