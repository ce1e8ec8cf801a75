//! The macro in which all messages are written down, and what they have in common.
//!
//! ```text
//! message! {
//!     /// One request or response: the first struct. Versions we serve; first flexible version.
//!     pub struct NameRequest: Name, versions 1..=9, flexible 6 {
//!         everywhere: i32;                               // in all versions, default 0
//!         with_default: i32 = -1, in 4..;                // elsewhere left out and read as -1
//!         meaning_changes: bool, only 8..=10;            // elsewhere an error when it is set
//!         maybe: Option<String>, in 3.., null 5..;       // null in 3 and 4 is an error
//!         extra: i64 = -1, in 6.., tag 0;                // tagged field, written when not default
//!     }
//!     /// Further structs that it contains.
//!     pub struct Part { .. }
//! }
//! ```
//! `in` is what Kafka's schemas call ignorable: a version without the field just loses it.
//! `only` is the opposite: encoding refuses to lose it in silence.

use std::ops::{RangeBounds, RangeInclusive};

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::out::Out;
use crate::reader::DecodeError;
use crate::wire::EncodeError;

/// A request or a response of one API.
pub trait Message: Sized {
    /// The API it belongs to.
    const API_KEY: ApiKey;
    /// The versions that can be encoded and decoded.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: i16;
    /// The struct's name.
    const NAME: &'static str;

    /// Takes one message from the front of `bytes`. What follows it is left there.
    fn decode(bytes: &mut Bytes, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message to `out`, which is left with a part of it on an error.
    fn encode(&self, out: &mut dyn Out, version: i16) -> Result<(), EncodeError>;
}

/// Whether a version lies in a range of them, for the macro's sake.
pub(crate) fn within(range: impl RangeBounds<i16>, version: i16) -> bool {
    range.contains(&version)
}

/// See the module's documentation.
macro_rules! message {
    (
        $(#[$attr:meta])*
        pub struct $name:ident: $key:ident, versions $versions:expr, flexible $flexible:literal
        { $($fields:tt)* }
        $($rest:tt)*
    ) => {
        $crate::message::wire_struct! { $(#[$attr])* pub struct $name { $($fields)* } }

        impl $crate::message::Message for $name {
            const API_KEY: $crate::api_key::ApiKey = $crate::api_key::ApiKey::$key;
            const VERSIONS: ::std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE_FROM: i16 = $flexible;
            const NAME: &'static str = stringify!($name);

            fn decode(
                bytes: &mut ::bytes::Bytes,
                version: i16,
            ) -> Result<Self, $crate::reader::DecodeError> {
                let (min, max) = (*Self::VERSIONS.start(), *Self::VERSIONS.end());
                if version < min || version > max {
                    let message = Self::NAME;
                    return Err($crate::reader::DecodeError::UnsupportedVersion {
                        message, version, min, max,
                    });
                }
                let flexible = version >= Self::FLEXIBLE_FROM;
                let form = $crate::wire::Form { version, flexible, null: true };
                $crate::wire::Wire::read(&mut $crate::reader::Reader::new(bytes), form)
            }

            fn encode(
                &self,
                out: &mut dyn $crate::out::Out,
                version: i16,
            ) -> Result<(), $crate::wire::EncodeError> {
                if !Self::VERSIONS.contains(&version) {
                    let message = Self::NAME;
                    return Err($crate::wire::EncodeError::UnsupportedVersion { message, version });
                }
                let flexible = version >= Self::FLEXIBLE_FROM;
                let form = $crate::wire::Form { version, flexible, null: true };
                $crate::wire::Wire::write(self, out, form)
            }
        }

        impl $name {
            /// Takes one message from the front of `bytes`. What follows it is left there.
            pub fn decode(
                bytes: &mut ::bytes::Bytes,
                version: i16,
            ) -> Result<Self, $crate::reader::DecodeError> {
                <Self as $crate::message::Message>::decode(bytes, version)
            }

            /// Appends the message to `out`, which is left with a part of it on an error.
            pub fn encode(
                &self,
                out: &mut dyn $crate::out::Out,
                version: i16,
            ) -> Result<(), $crate::wire::EncodeError> {
                <Self as $crate::message::Message>::encode(self, out, version)
            }
        }

        $crate::message::wire_structs! { $($rest)* }
    };
}
pub(crate) use message;

/// The structs that a message contains.
macro_rules! wire_structs {
    ($($(#[$attr:meta])* pub struct $name:ident { $($fields:tt)* })*) => {
        $($crate::message::wire_struct! { $(#[$attr])* pub struct $name { $($fields)* } })*
    };
}
pub(crate) use wire_structs;

/// One struct: its definition, its defaults, and how it is read and written.
macro_rules! wire_struct {
    (
        $(#[$attr:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_attr:meta])*
                $field:ident: $type:ty $(= $default:expr)?
                    $(, in $in:expr)? $(, only $only:expr)? $(, null $null:expr)?
                     $(, tag $tag:expr)?
                ;
            )*
        }
    ) => {
        $(#[$attr])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_attr])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::message::default_of!($($default)?),)* }
            }
        }

        #[cfg(feature = "samples")]
        impl $crate::samples::Sample for $name {
            fn sample(
                sampler: &mut $crate::samples::Sampler<'_>,
                form: $crate::wire::Form,
            ) -> Self {
                let mut this = Self::default();
                $(
                    if $crate::message::present!(form, $($in)? $($only)?) {
                        let form = form.with_null($crate::message::present!(form, $($null)?));
                        this.$field = $crate::samples::Sample::sample(sampler, form);
                    }
                )*
                this
            }
        }

        impl $crate::wire::Structure for $name {}

        impl $crate::wire::Wire for $name {
            fn min_size(form: $crate::wire::Form) -> usize {
                let mut size = usize::from(form.flexible);
                $(
                    if $crate::message::present!(form, $($in)? $($only)?)
                        && $crate::message::tag_of!($($tag)?).is_none()
                    {
                        size += <$type as $crate::wire::Wire>::min_size(form);
                    }
                )*
                size.max(1)
            }

            fn read(
                reader: &mut $crate::reader::Reader<'_>,
                form: $crate::wire::Form,
            ) -> Result<Self, $crate::reader::DecodeError> {
                let mut this = Self::default();
                $(
                    if $crate::message::present!(form, $($in)? $($only)?)
                        && $crate::message::tag_of!($($tag)?).is_none()
                    {
                        let form = form.with_null($crate::message::present!(form, $($null)?));
                        this.$field = $crate::wire::Wire::read(reader, form)?;
                    }
                )*
                if form.flexible {
                    reader.tagged_fields(|tag, reader| {
                        $(
                            if $crate::message::tag_of!($($tag)?) == Some(tag)
                                && $crate::message::present!(form, $($in)? $($only)?)
                            {
                                this.$field = $crate::wire::Wire::read(reader, form)?;
                                return Ok(true);
                            }
                        )*
                        Ok(false)
                    })?;
                }
                Ok(this)
            }

            fn write(
                &self,
                out: &mut dyn $crate::out::Out,
                form: $crate::wire::Form,
            ) -> Result<(), $crate::wire::EncodeError> {
                let default = Self::default();
                let mut tagged = $crate::wire::TaggedFields::default();
                $(
                    let set = self.$field != default.$field;
                    let present = $crate::message::present!(form, $($in)? $($only)?);
                    if set && $crate::message::lost!(form, $($only)?) {
                        return Err($crate::wire::EncodeError::FieldNotInVersion {
                            field: concat!(stringify!($name), ".", stringify!($field)),
                            version: form.version,
                        });
                    }
                    match $crate::message::tag_of!($($tag)?) {
                        Some(tag) if present && set => tagged.add(tag, &self.$field, form)?,
                        None if present => {
                            let null = $crate::message::present!(form, $($null)?);
                            let form = form.with_null(null);
                            $crate::wire::Wire::write(&self.$field, out, form)?;
                        }
                        _ => {}
                    }
                )*
                if form.flexible {
                    tagged.write(out);
                }
                Ok(())
            }
        }
    };
}
pub(crate) use wire_struct;

/// The default that a field declares, or its type's.
macro_rules! default_of {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}
pub(crate) use default_of;

/// Whether a version lies in the declared range; with none declared, it does.
macro_rules! present {
    ($form:ident,) => {
        true
    };
    ($form:ident, $range:expr) => {
        $crate::message::within($range, $form.version)
    };
}
pub(crate) use present;

/// Whether a version lies outside the range to which a field is limited.
macro_rules! lost {
    ($form:ident,) => {
        false
    };
    ($form:ident, $only:expr) => {
        !$crate::message::within($only, $form.version)
    };
}
pub(crate) use lost;

/// The tag that a field declares.
macro_rules! tag_of {
    () => {
        None::<u32>
    };
    ($tag:expr) => {
        Some::<u32>($tag)
    };
}
pub(crate) use tag_of;
