//! How each type of the schemas stands on the wire.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::out::Out;
use crate::reader::{DecodeError, Reader};

/// Why a value cannot be written in a version. All but `Unsupported` mean a mistake of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// What was asked for.
        version: i16,
    },
    /// The field is set, the version does not have it, and leaving it out changes the meaning.
    #[error("{field} is set, but version {version} cannot carry it")]
    FieldNotInVersion {
        /// Struct and field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string, array or payload is longer than its length field can tell.
    #[error("length {length} does not fit its length field")]
    TooLong {
        /// Length of the value.
        length: usize,
    },
}

/// The form in which one field of one version is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) version: i16,
    /// Compact lengths, and tagged fields after each struct.
    pub(crate) flexible: bool,
    /// Whether an optional value may be null in this version.
    pub(crate) null: bool,
}

impl Form {
    pub(crate) fn with_null(self, null: bool) -> Self {
        Self { null, ..self }
    }
}

/// A type that can stand in a message.
pub(crate) trait Wire: Sized {
    /// The fewest bytes that a value takes; a bound for counts, hence never 0.
    fn min_size(form: Form) -> usize;
    fn read(reader: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut dyn Out, form: Form) -> Result<(), EncodeError>;
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Wire for $int {
            fn min_size(_: Form) -> usize {
                size_of::<Self>()
            }

            fn read(reader: &mut Reader<'_>, _: Form) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_be_bytes)
            }

            fn write(&self, out: &mut dyn Out, _: Form) -> Result<(), EncodeError> {
                out.put(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}
integers!(i8, i16, i32, i64);

impl Wire for bool {
    fn min_size(_: Form) -> usize {
        1
    }

    fn read(reader: &mut Reader<'_>, _: Form) -> Result<Self, DecodeError> {
        reader.array().map(|[byte]| byte != 0)
    }

    fn write(&self, out: &mut dyn Out, _: Form) -> Result<(), EncodeError> {
        out.put(&[u8::from(*self)]);
        Ok(())
    }
}

/// A 16-byte identifier, of a topic for instance. All zero means none.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// No identifier.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is the identifier that stands for none.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl From<[u8; 16]> for Uuid {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl From<Uuid> for [u8; 16] {
    fn from(uuid: Uuid) -> Self {
        uuid.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

impl Wire for Uuid {
    fn min_size(_: Form) -> usize {
        16
    }

    fn read(reader: &mut Reader<'_>, _: Form) -> Result<Self, DecodeError> {
        reader.array().map(Self)
    }

    fn write(&self, out: &mut dyn Out, _: Form) -> Result<(), EncodeError> {
        out.put(&self.0);
        Ok(())
    }
}

/// Width of the length in front of a value in versions that are not flexible.
#[derive(Debug, Clone, Copy)]
enum Width {
    Two,
    Four,
}

fn length_size(width: Width, form: Form) -> usize {
    match (form.flexible, width) {
        (true, _) => 1,
        (false, Width::Two) => 2,
        (false, Width::Four) => 4,
    }
}

/// Reads a length; `None` is null.
fn read_length(
    reader: &mut Reader<'_>,
    width: Width,
    form: Form,
) -> Result<Option<usize>, DecodeError> {
    if form.flexible {
        return Ok((reader.unsigned_varint()? as usize).checked_sub(1));
    }
    let length = match width {
        Width::Two => i64::from(i16::read(reader, form)?),
        Width::Four => i64::from(i32::read(reader, form)?),
    };
    match length {
        -1 => Ok(None),
        _ => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength { length }),
    }
}

fn write_length(
    out: &mut dyn Out,
    width: Width,
    form: Form,
    value: Option<usize>,
) -> Result<(), EncodeError> {
    // None goes out as empty in the versions that have no null; Kafka does the same by hand.
    let value = if value.is_none() && !form.null { Some(0) } else { value };
    let too_long = EncodeError::TooLong { length: value.unwrap_or_default() };
    if form.flexible {
        let plus_one = value.map_or(0, |length| length.saturating_add(1));
        put_unsigned_varint(out, u32::try_from(plus_one).map_err(|_| too_long)?);
        return Ok(());
    }
    let value = value.map_or(Ok(-1), i32::try_from).map_err(|_| too_long.clone())?;
    match width {
        Width::Two => out.put(&i16::try_from(value).map_err(|_| too_long)?.to_be_bytes()),
        Width::Four => out.put(&value.to_be_bytes()),
    }
    Ok(())
}

pub(crate) fn put_unsigned_varint(out: &mut dyn Out, mut value: u32) {
    while value >= 0x80 {
        out.put(&[(value & 0x7f) as u8 | 0x80]);
        value >>= 7;
    }
    out.put(&[value as u8]);
}

/// A value with its length in front of it. Null is the length's business, so that the required
/// and the optional form of a type share everything else.
trait Lengthed: Sized {
    const WIDTH: Width;
    fn length(&self) -> usize;
    fn read_content(
        reader: &mut Reader<'_>,
        length: usize,
        form: Form,
    ) -> Result<Self, DecodeError>;
    fn write_content(&self, out: &mut dyn Out, form: Form) -> Result<(), EncodeError>;
}

impl Lengthed for String {
    const WIDTH: Width = Width::Two;

    fn length(&self) -> usize {
        self.len()
    }

    fn read_content(reader: &mut Reader<'_>, length: usize, _: Form) -> Result<Self, DecodeError> {
        reader.string(length)
    }

    fn write_content(&self, out: &mut dyn Out, _: Form) -> Result<(), EncodeError> {
        out.put(self.as_bytes());
        Ok(())
    }
}

impl Lengthed for Bytes {
    const WIDTH: Width = Width::Four;

    fn length(&self) -> usize {
        self.len()
    }

    fn read_content(reader: &mut Reader<'_>, length: usize, _: Form) -> Result<Self, DecodeError> {
        reader.take(length)
    }

    fn write_content(&self, out: &mut dyn Out, _: Form) -> Result<(), EncodeError> {
        out.put_shared(self);
        Ok(())
    }
}

/// A payload in as many pieces as it was read in; how many is not told by the bytes.
#[derive(Clone, Default)]
pub struct Records {
    pieces: Vec<Bytes>,
}

impl Records {
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// In one piece; copied only where they are in several.
    pub fn into_bytes(mut self) -> Bytes {
        match self.pieces.len() {
            0 | 1 => self.pieces.pop().unwrap_or_default(),
            _ => self.pieces.concat().into(),
        }
    }
}

/// By the bytes alone.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.pieces.iter().flatten().eq(other.pieces.iter().flatten())
    }
}

impl Eq for Records {}

/// As the bytes it is on the wire.
impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.clone().into_bytes(), f)
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        let mut this = Self::default();
        this.push(bytes);
        this
    }
}

impl Lengthed for Records {
    const WIDTH: Width = Width::Four;

    fn length(&self) -> usize {
        self.len()
    }

    fn read_content(
        reader: &mut Reader<'_>,
        length: usize,
        form: Form,
    ) -> Result<Self, DecodeError> {
        Bytes::read_content(reader, length, form).map(Self::from)
    }

    fn write_content(&self, out: &mut dyn Out, form: Form) -> Result<(), EncodeError> {
        self.pieces.iter().try_for_each(|piece| piece.write_content(out, form))
    }
}

impl<T: Wire> Lengthed for Vec<T> {
    const WIDTH: Width = Width::Four;

    fn length(&self) -> usize {
        self.len()
    }

    fn read_content(
        reader: &mut Reader<'_>,
        count: usize,
        form: Form,
    ) -> Result<Self, DecodeError> {
        let remaining = reader.remaining();
        if count > remaining / T::min_size(form) {
            return Err(DecodeError::CountTooLarge { count, remaining });
        }
        reader.charge_entries(count, size_of::<T>(), T::min_size(form))?;
        let mut values = Self::with_capacity(count);
        for _ in 0..count {
            values.push(T::read(reader, form)?);
        }
        Ok(values)
    }

    fn write_content(&self, out: &mut dyn Out, form: Form) -> Result<(), EncodeError> {
        self.iter().try_for_each(|value| value.write(out, form))
    }
}

/// Gives a type its required and its optional form. (A blanket implementation would collide with
/// the one for integers.)
macro_rules! lengthed {
    ($([$($generics:tt)*] $type:ty),*) => {$(
        impl<$($generics)*> Wire for $type {
            fn min_size(form: Form) -> usize {
                length_size(<Self as Lengthed>::WIDTH, form)
            }

            fn read(reader: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError> {
                match read_length(reader, Self::WIDTH, form)? {
                    Some(length) => Self::read_content(reader, length, form),
                    None => Err(DecodeError::UnexpectedNull),
                }
            }

            fn write(&self, out: &mut dyn Out, form: Form) -> Result<(), EncodeError> {
                write_length(out, Self::WIDTH, form, Some(self.length()))?;
                self.write_content(out, form)
            }
        }

        impl<$($generics)*> Wire for Option<$type> {
            fn min_size(form: Form) -> usize {
                <$type>::min_size(form)
            }

            fn read(reader: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError> {
                match read_length(reader, <$type>::WIDTH, form)? {
                    Some(length) => <$type>::read_content(reader, length, form).map(Some),
                    None if form.null => Ok(None),
                    None => Err(DecodeError::UnexpectedNull),
                }
            }

            fn write(&self, out: &mut dyn Out, form: Form) -> Result<(), EncodeError> {
                let length = self.as_ref().map(Lengthed::length);
                write_length(out, <$type>::WIDTH, form, length)?;
                self.as_ref().map_or(Ok(()), |value| value.write_content(out, form))
            }
        }
    )*};
}
lengthed!([] String, [] Bytes, [] Records, [T: Wire] Vec<T>);

/// A struct of a message, as opposed to the types that have a length.
pub(crate) trait Structure: Wire {}

/// A struct that may be null has a byte in front of it: negative for null.
impl<T: Structure> Wire for Option<T> {
    fn min_size(_: Form) -> usize {
        1
    }

    fn read(reader: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError> {
        if i8::read(reader, form)? < 0 {
            return Ok(None);
        }
        T::read(reader, form).map(Some)
    }

    fn write(&self, out: &mut dyn Out, form: Form) -> Result<(), EncodeError> {
        let Some(value) = self else { return (-1_i8).write(out, form) };
        1_i8.write(out, form)?;
        value.write(out, form)
    }
}

/// The tagged fields of one struct on their way out. Tags must be added in rising order.
#[derive(Debug, Default)]
pub(crate) struct TaggedFields {
    count: u32,
    bytes: BytesMut,
}

impl TaggedFields {
    pub(crate) fn add(
        &mut self,
        tag: u32,
        value: &impl Wire,
        form: Form,
    ) -> Result<(), EncodeError> {
        let mut content = BytesMut::new();
        value.write(&mut content, form)?;
        let length = content.len();
        let size = u32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        self.count += 1;
        put_unsigned_varint(&mut self.bytes, tag);
        put_unsigned_varint(&mut self.bytes, size);
        self.bytes.put(&content);
        Ok(())
    }

    pub(crate) fn write(&self, out: &mut dyn Out) {
        put_unsigned_varint(out, self.count);
        out.put(&self.bytes);
    }
}
