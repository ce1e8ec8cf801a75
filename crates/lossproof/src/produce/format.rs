//! Lines to records; a line that is no record is named.

use bytes::Bytes;
use lossproof_relay::{Line, NewRecord, RECORD_BYTES_MAX};
use serde_json::Value;

use super::{Arguments, Batch, Format, OnBadLine};

/// Turns lines into records.
pub(super) struct Reader {
    format: Format,
    key_field: Option<String>,
    on_bad_line: OnBadLine,
}

/// What became of the lines of one batch.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) records: Vec<NewRecord>,
    /// The line number of each record.
    pub(super) numbers: Vec<u64>,
    pub(super) refused: u64,
    /// Of the input, up to the end of the batch.
    pub(super) byte_count: u64,
    pub(super) line_count: u64,
}

impl Reader {
    pub(super) fn new(arguments: &Arguments) -> Self {
        Self {
            format: arguments.format,
            key_field: arguments.key_field.clone(),
            on_bad_line: arguments.on_bad_line,
        }
    }

    pub(super) fn read(&self, batch: &Batch) -> Lines {
        let mut lines = Lines::default();
        for (number, line) in (batch.first_line..).zip(&batch.lines) {
            lines.byte_count += line.consumed;
            lines.line_count += 1;
            match self.record(line) {
                Ok(record) => {
                    lines.records.push(record);
                    lines.numbers.push(number);
                }
                Err(reason) => {
                    crate::output::mutter!("REFUSED {number} {reason}");
                    lines.refused += 1;
                }
            }
        }
        lines
    }

    fn record(&self, line: &Line) -> Result<NewRecord, String> {
        let too_long = || format!("it has {} bytes, {RECORD_BYTES_MAX} are possible", line.length);
        let bytes = line.bytes.as_ref().ok_or_else(too_long)?;
        let record = match self.format {
            Format::Lines => Ok(NewRecord::value(bytes.clone())),
            Format::Json => self.json(bytes),
        };
        let record = match self.on_bad_line {
            OnBadLine::Refuse => record?,
            OnBadLine::Accept => record.unwrap_or_else(|_| NewRecord::value(bytes.clone())),
        };
        let key_bytes = record.key.as_ref().map_or(0, Bytes::len);
        if bytes.len() + key_bytes > RECORD_BYTES_MAX {
            return Err(too_long());
        }
        Ok(record)
    }

    /// The value is the line as it is, so that nothing is altered.
    fn json(&self, bytes: &Bytes) -> Result<NewRecord, String> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
        let Value::Object(fields) = value else { return Err("it is no JSON object".into()) };
        let mut record = NewRecord::value(bytes.clone());
        if let Some(name) = &self.key_field {
            let key = match fields.get(name) {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
                Some(_) => return Err(format!("its field '{name}' is no text and no number")),
                None => return Err(format!("it has no field '{name}'")),
            };
            record.key = Some(key.into());
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(format: Format, key_field: Option<&str>, on_bad_line: OnBadLine) -> Reader {
        Reader { format, key_field: key_field.map(str::to_owned), on_bad_line }
    }

    fn line(bytes: &[u8]) -> Line {
        let length = bytes.len() as u64;
        let bytes = (bytes.len() <= RECORD_BYTES_MAX).then(|| Bytes::copy_from_slice(bytes));
        Line { bytes, length, consumed: length + 1 }
    }

    #[test]
    fn bad_lines_are_refused_with_their_reason_and_counted() {
        let json = reader(Format::Json, Some("id"), OnBadLine::Refuse);
        let good = br#"{"id":7,"text":"a"}"#;
        let batch = Batch {
            lines: vec![
                line(good),
                line(b""),
                line(b"{"),
                line(b"[1]"),
                line(br#"{"text":"no id"}"#),
                line(br#"{"id":{}}"#),
                line(b"{\"id\":\"\xff\"}"),
                line(br#"{"id":"x"}"#),
            ],
            first_line: 10,
            is_last: true,
        };
        let lines = json.read(&batch);
        assert_eq!((lines.numbers.as_slice(), lines.refused), (&[10, 17][..], 6));
        assert_eq!(lines.records[0].key, Some("7".into()));
        assert_eq!(lines.records[0].value.as_deref(), Some(&good[..]));
        assert_eq!(lines.records[1].key, Some("x".into()));
        assert_eq!(lines.line_count, 8);
    }

    #[test]
    fn plain_lines_are_taken_whatever_their_bytes_are_up_to_the_bound() {
        let plain = reader(Format::Lines, None, OnBadLine::Refuse);
        for bytes in [&b""[..], b"\xff\xfe", b"text\r"] {
            assert_eq!(plain.record(&line(bytes)).unwrap().value.as_deref(), Some(bytes));
        }
        assert!(plain.record(&line(&vec![b'x'; RECORD_BYTES_MAX])).is_ok());
        let reason = plain.record(&line(&vec![b'x'; RECORD_BYTES_MAX + 1])).unwrap_err();
        assert!(reason.contains("995904"), "{reason}");
        let raw = reader(Format::Json, Some("id"), OnBadLine::Accept);
        assert_eq!(raw.record(&line(b"{")).unwrap(), NewRecord::value(&b"{"[..]));
    }
}
