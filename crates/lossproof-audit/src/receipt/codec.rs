use thiserror::Error;

/// Why bytes are no receipt.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    #[error("receipt version {found} is not known, this program reads {known}: use a newer one")]
    UnknownVersion { found: u8, known: u8 },
    #[error("receipt is damaged: its checksum does not fit")]
    Checksum,
    #[error("receipt is malformed at its {field}")]
    Malformed { field: &'static str },
}
