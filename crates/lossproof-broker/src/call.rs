//! One request on its way through the broker, and its answer.

use core::net::IpAddr;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use lossproof_wire::{
    ApiKey, DecodeError, EncodeError, Message, Out, Pieces, RequestHeader, ResponseHeader,
};

use crate::budget::{Share, TINY_ANSWER_BYTES};
use crate::handlers::SERVED;

/// A request whose header has been read.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) client_id: String,
    pub(crate) peer: IpAddr,
    pub(crate) answer: Answerer,
    pub(crate) body: Bytes,
    /// The memory that the request takes.
    pub(crate) share: Share,
}

/// Why a connection is closed by the broker: it cannot be in step any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CallError {
    #[error("a request of {bytes} bytes has no header that can be read: {source}")]
    Header { bytes: usize, source: DecodeError },
    #[error("api key {key} is not served")]
    UnknownApi { key: i16 },
    #[error("{key:?} request of version {version} cannot be read: {source}")]
    Body { key: ApiKey, version: i16, source: DecodeError },
    #[error("{key:?} version {version} is not served")]
    Version { key: ApiKey, version: i16 },
    #[error("answer to {key:?} version {version} cannot be written: {source}")]
    Answer { key: ApiKey, version: i16, source: EncodeError },
    #[error("a produce without acknowledgement failed, and this is the only way to say so: {0}")]
    UnacknowledgedProduce(String),
}

/// Writes the answer in the form the request asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answerer {
    pub(crate) key: ApiKey,
    correlation_id: i32,
}

/// What is to be sent, and when.
pub(crate) enum Reply {
    /// The answer, with its length in front.
    Ready(Answer),
    /// The answer, or nothing where the request wants none; worked out when all answers before it
    /// have been sent.
    Later(Later),
}

pub(crate) type Later = Pin<Box<dyn Future<Output = Result<Option<Answer>, CallError>> + Send>>;

/// An answer, and the memory that is held until it is sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) pieces: Pieces,
    /// Of the answers; grown to what it takes before it is sent.
    pub(crate) share: Share,
    /// Of the request, where the answer was written at once and takes its place.
    request: Share,
}

impl Answer {
    /// Takes no more than its request did, or next to nothing.
    pub(crate) fn is_covered(&self) -> bool {
        self.pieces.len() <= self.request.bytes().max(TINY_ANSWER_BYTES)
    }
}

impl Call {
    pub(crate) fn parse(mut frame: Bytes, peer: IpAddr, share: Share) -> Result<Self, CallError> {
        let bytes = frame.len();
        let header = RequestHeader::decode(&mut frame)
            .map_err(|source| CallError::Header { bytes, source })?;
        let key = ApiKey::from_code(header.request_api_key)
            .filter(|key| SERVED.contains(key))
            .ok_or(CallError::UnknownApi { key: header.request_api_key })?;
        let version = header.request_api_version;
        if key != ApiKey::ApiVersions && !key.served().contains(&version) {
            return Err(CallError::Version { key, version });
        }
        Ok(Self {
            key,
            version,
            client_id: header.client_id.unwrap_or_default(),
            peer,
            answer: Answerer { key, correlation_id: header.correlation_id },
            body: frame,
            share,
        })
    }

    /// Answers at once.
    pub(crate) fn ready<M: Message>(self, message: &M) -> Result<Reply, CallError> {
        let version = self.version;
        self.ready_in(message, version)
    }

    /// For the one answer whose version is not the request's.
    pub(crate) fn ready_in<M: Message>(
        self,
        message: &M,
        version: i16,
    ) -> Result<Reply, CallError> {
        let pieces = self.answer.write_in(message, version)?;
        Ok(Reply::Ready(Answer { pieces, share: Share::default(), request: self.share }))
    }

    /// The end of a [`Later`].
    pub(crate) fn late<M: Message>(self, message: &M) -> Result<Option<Answer>, CallError> {
        self.late_with(message, Share::default())
    }

    /// The same where memory for the answer has been reserved.
    pub(crate) fn late_with<M: Message>(
        self,
        message: &M,
        share: Share,
    ) -> Result<Option<Answer>, CallError> {
        let pieces = self.answer.write_in(message, self.version)?;
        Ok(Some(Answer { pieces, share, request: Share::default() }))
    }

    pub(crate) fn decode<M: Message>(&mut self) -> Result<M, CallError> {
        let decoded = self.peek();
        self.body = Bytes::new(); // What is kept of it is copied, or shares its memory.
        decoded
    }

    /// Gives the memory of the request back where it is going to wait for other clients, and
    /// nothing of it is kept that is not counted elsewhere (BUDGET-4).
    pub(crate) fn release(&mut self) {
        (self.body, self.client_id, self.share) = Default::default();
    }

    /// What [`Call::decode`] will give.
    pub(crate) fn peek<M: Message>(&self) -> Result<M, CallError> {
        M::decode(&mut self.body.clone(), self.version).map_err(|source| CallError::Body {
            key: self.key,
            version: self.version,
            source,
        })
    }
}

impl Answerer {
    fn write_in<M: Message>(self, message: &M, version: i16) -> Result<Pieces, CallError> {
        let key = self.key;
        let header_version = key.response_header_version(version);
        let mut out = Pieces::default();
        out.put(&[0; 4]);
        let header = ResponseHeader { correlation_id: self.correlation_id };
        header
            .encode(&mut out, header_version)
            .and_then(|()| message.encode(&mut out, version))
            .map_err(|source| CallError::Answer { key, version, source })?;
        let length = out.len() - 4;
        let Ok(announced) = i32::try_from(length) else {
            let source = EncodeError::TooLong { length };
            return Err(CallError::Answer { key, version, source });
        };
        *out.front_mut().expect("its place was put first") = announced.to_be_bytes();
        Ok(out)
    }
}
