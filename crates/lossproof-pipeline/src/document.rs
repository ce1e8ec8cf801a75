//! A record's value on its way through the steps: a JSON object whose fields keep the very text
//! they came with, so that no number loses a digit and nothing is written differently than it was
//! received.

use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::depth::{DEPTH_MAX, is_shallow};

/// Fields in their order. See the module.
#[derive(Clone, Debug, Default)]
pub struct Document {
    fields: Vec<(String, Box<RawValue>)>,
}

#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DocumentError {
    #[error("the value is not a JSON object: {detail}")]
    NoObject { detail: String },
    #[error("the value is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
}

impl Document {
    /// What somebody else wrote: a record, an answer, the result of an expression.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let document = Self::read_back(bytes)?;
        if is_shallow(bytes) { Ok(document) } else { Err(DocumentError::TooDeep) }
    }

    /// What a pipeline wrote, of any version: as deep as it is. Nothing here goes into the fields.
    pub(crate) fn read_back(bytes: &[u8]) -> Result<Self, DocumentError> {
        serde_json::from_slice(bytes)
            .map_err(|error| DocumentError::NoObject { detail: error.to_string() })
    }

    pub fn get(&self, field: &str) -> Option<&RawValue> {
        self.fields.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_ref())
    }

    /// Replaces the field where it is, or adds it at the end.
    pub fn set(&mut self, field: &str, value: Box<RawValue>) {
        match self.fields.iter_mut().find(|(name, _)| name == field) {
            Some((_, old)) => *old = value,
            None => self.fields.push((field.to_owned(), value)),
        }
    }

    /// As JSON text on one line.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string(self).expect("text and raw JSON always serialise");
        // Line breaks in JSON outside of strings are white space; inside they are escaped.
        if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text }
    }

    /// The same with a first field that names the record; it must have none of that name.
    pub fn to_json_with(&self, field: &str, text: &str) -> String {
        assert!(self.get(field).is_none(), "a field of the record would be lost");
        let raw = serde_json::value::to_raw_value(text).expect("text always serialises");
        let mut fields = vec![(field.to_owned(), raw)];
        fields.extend(self.fields.iter().cloned());
        Self { fields }.to_json()
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut document = Document::default();
                let mut names = std::collections::HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if !names.insert(name.clone()) {
                        // Readers differ in which of the two they take; none may be dropped here.
                        return Err(A::Error::custom(format!("field `{name}` is there twice")));
                    }
                    document.fields.push((name, value));
                }
                Ok(document)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_fields_keep_their_text() {
        let text = r#"{"n":12345678901234567890123.4500,"b":1e400,"a":"\u00e4","z":[1, 2]}"#;
        let mut document = Document::parse(text.as_bytes()).unwrap();
        assert_eq!(document.to_json(), text);
        document.set("a", RawValue::from_string("null".to_owned()).unwrap());
        assert_eq!(document.to_json(), text.replace(r#""\u00e4""#, "null"));
        assert!(document.to_json_with("_id", "x").starts_with(r#"{"_id":"x","n":1234"#));
    }

    #[test]
    fn one_line_whatever_came_in() {
        let document = Document::parse(b"{\n \"a\":\r\n [1,\n 2],\"b\":\"x\\ny\"}\n").unwrap();
        assert!(!document.to_json().contains('\n'));
        let again = Document::parse(document.to_json().as_bytes()).unwrap();
        assert_eq!(again.get("b").unwrap().get(), r#""x\ny""#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["", "[]", "1", "{", "{\"a\":1}x", "{\"a\":1,\"a\":2}", "\u{feff}{}"] {
            assert!(Document::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Document::parse(b"{\"a\":\"\xff\"}").is_err());
    }
}
