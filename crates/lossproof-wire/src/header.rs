//! What stands in front of every request and response, after the frame's length.

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::out::Out;
use crate::reader::{DecodeError, Reader};
use crate::wire::{EncodeError, Form, TaggedFields, Wire};

/// In front of a request. The first eight bytes are the same in all versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// Number of the API; see [`ApiKey::from_code`].
    pub request_api_key: i16,
    /// Version of the request.
    pub request_api_version: i16,
    /// Returned in the response, so that the client can pair them.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
}

/// The classic form: the client id keeps it even in the flexible header.
const CLASSIC: Form = Form { version: 0, flexible: false, null: true };

impl RequestHeader {
    /// Takes the header from the front of a request, in the version that its API and API version
    /// call for. An API or a version that we do not know is no error here: the header is then read
    /// as far as it is the same everywhere, and the caller has all it needs for an answer.
    pub fn decode(bytes: &mut Bytes) -> Result<Self, DecodeError> {
        let reader = &mut Reader::new(bytes);
        let request_api_key = i16::read(reader, CLASSIC)?;
        let request_api_version = i16::read(reader, CLASSIC)?;
        let correlation_id = i32::read(reader, CLASSIC)?;
        let mut this =
            Self { request_api_key, request_api_version, correlation_id, client_id: None };
        let served = ApiKey::from_code(request_api_key)
            .filter(|key| key.versions().contains(&request_api_version));
        if let Some(key) = served {
            this.client_id = Option::read(reader, CLASSIC)?;
            if key.request_header_version(request_api_version) >= 2 {
                reader.tagged_fields(|_, _| Ok(false))?;
            }
        }
        Ok(this)
    }

    /// Appends the header in one of its versions: see [`ApiKey::request_header_version`].
    pub fn encode(&self, out: &mut dyn Out, header_version: i16) -> Result<(), EncodeError> {
        self.request_api_key.write(out, CLASSIC)?;
        self.request_api_version.write(out, CLASSIC)?;
        self.correlation_id.write(out, CLASSIC)?;
        if header_version >= 1 {
            self.client_id.write(out, CLASSIC)?;
        }
        if header_version >= 2 {
            TaggedFields::default().write(out);
        }
        Ok(())
    }
}

/// In front of a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The request's.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Takes the header from the front of a response; see [`ApiKey::response_header_version`].
    pub fn decode(bytes: &mut Bytes, header_version: i16) -> Result<Self, DecodeError> {
        let reader = &mut Reader::new(bytes);
        let correlation_id = i32::read(reader, CLASSIC)?;
        if header_version >= 1 {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self { correlation_id })
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut dyn Out, header_version: i16) -> Result<(), EncodeError> {
        self.correlation_id.write(out, CLASSIC)?;
        if header_version >= 1 {
            TaggedFields::default().write(out);
        }
        Ok(())
    }
}
