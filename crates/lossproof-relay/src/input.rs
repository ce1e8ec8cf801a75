//! How far an input file was accepted: which file, up to which byte, and how to tell that it is
//! still the same.

use bytes::Bytes;
use lossproof_audit::identity::checksum;
use lossproof_log::{StateChange, StateKind};
use serde::{Deserialize, Serialize};

use crate::error::PositionError;

/// Bytes at the front of the file, and before the position, by which it is recognised.
pub const INPUT_SAMPLE_BYTES: u64 = 4096;

/// Journaled in the same frame as the records that were accepted up to it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InputPosition {
    /// The byte behind the last line that was accepted or refused.
    pub offset: u64,
    /// Lines up to there.
    pub lines: u64,
    /// Of these, how many were refused (and named then).
    pub refused: u64,
    /// Checksum of the first [`INPUT_SAMPLE_BYTES`] (or fewer, up to `offset`).
    pub head: u32,
    /// Checksum of the last [`INPUT_SAMPLE_BYTES`] (or fewer) before `offset`.
    pub tail: u32,
}

impl InputPosition {
    /// The start of an input.
    pub fn start() -> Self {
        let none = checksum(None, Some(b""));
        Self { offset: 0, lines: 0, refused: 0, head: none, tail: none }
    }

    /// Ranges `[from, to)` of the file that [`InputPosition::sample`] and
    /// [`InputPosition::verify`] want to see, head first.
    pub fn sample_ranges(offset: u64) -> [(u64, u64); 2] {
        [(0, offset.min(INPUT_SAMPLE_BYTES)), (offset.saturating_sub(INPUT_SAMPLE_BYTES), offset)]
    }

    /// Fills in what the file is recognised by.
    #[must_use]
    pub fn sample(self, head: &[u8], tail: &[u8]) -> Self {
        Self { head: checksum(None, Some(head)), tail: checksum(None, Some(tail)), ..self }
    }

    /// Whether the file still is the one that was accepted up to here.
    pub fn verify(&self, length: u64, head: &[u8], tail: &[u8]) -> Result<(), PositionError> {
        let offset = self.offset;
        if length < offset {
            return Err(PositionError::InputCut { offset });
        }
        let seen = self.clone().sample(head, tail);
        if seen == *self { Ok(()) } else { Err(PositionError::InputChanged { offset }) }
    }

    /// How many of the bytes `next`, which follow the position, belong to a last line that was
    /// accepted without its end: the end, that has come since, or none. `tail` as for
    /// [`InputPosition::verify`].
    pub fn line_end(&self, tail: &[u8], next: &[u8]) -> Result<u64, PositionError> {
        let is_open = tail.last().is_some_and(|last| *last != b'\n');
        match next {
            [b'\n', ..] if is_open => Ok(1),
            [b'\r', b'\n', ..] if is_open => Ok(2),
            [_, ..] if is_open => Err(PositionError::LineWentOn { line: self.lines }),
            _ => Ok(0),
        }
    }
}

/// Names one input file of one topic in the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownInput {
    key: Bytes,
}

impl KnownInput {
    /// `file` tells the file from others for as long as it lives (its inode and birth, or its path
    /// where the disk has no such thing).
    pub fn new(topic: &str, file: &str) -> Self {
        Self { key: format!("input/{topic}/{file}").into() }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn change(&self, position: &InputPosition) -> StateChange {
        let value = serde_json::to_vec(position).expect("numbers always encode");
        let key = self.key.clone();
        StateChange { kind: StateKind::InputPosition, key, value: Some(value.into()) }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<InputPosition, PositionError> {
        serde_json::from_slice(bytes).map_err(|_| PositionError::UnknownState)
    }
}
