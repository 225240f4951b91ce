//! What an application sends: bytes that the protocol carries and never looks into.

use bytes::Bytes;

use crate::{
    error::Malformed,
    limits::MAX_NAME,
    wire::{self, Reader, Sink},
};

/// How the bytes of a payload are to be read by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// Bytes of the application's own.
    Bytes = 0,
    /// One JSON value in UTF-8.
    Json = 1,
}

impl Encoding {
    /// The encoding of a number of the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Bytes),
            1 => Some(Self::Json),
            _ => None,
        }
    }
}

/// One value of the application. Cloning shares the bytes. Its `Debug` tells how many there are and not which.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// How to read the bytes.
    pub encoding: Encoding,
    /// The bytes. The protocol does not check that they are what `encoding` says.
    pub bytes: Bytes,
}

impl Payload {
    /// A payload of plain bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { encoding: Encoding::Bytes, bytes: bytes.into() }
    }

    /// A payload of JSON text.
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self { encoding: Encoding::Json, bytes: text.into() }
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) {
        sink.put(&[self.encoding as u8]);
        sink.put(&self.bytes);
    }

    /// Reads what is left of a body. `body` is what `reader` reads from; the payload shares its memory.
    pub(crate) fn read(body: &Bytes, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let encoding = Encoding::from_number(reader.u8()?).ok_or(Malformed::UnknownValue)?;
        Ok(Self { encoding, bytes: body.slice_ref(reader.rest()) })
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { encoding, bytes } = self;
        formatter.debug_struct("Payload").field("encoding", encoding).field("len", &bytes.len()).finish()
    }
}

/// The name of a handler: 1 to 200 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Bytes);

impl Name {
    /// The name, if it is one.
    ///
    /// # Errors
    /// [`Malformed::InvalidName`] when it is empty, too long, or has a control character.
    pub fn new(name: &str) -> Result<Self, Malformed> {
        Self::check(name.as_bytes()).map(|_| Self(Bytes::copy_from_slice(name.as_bytes())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Every constructor has checked; an empty name, which never is, stands for the impossible.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn check(bytes: &[u8]) -> Result<&str, Malformed> {
        let name = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
        let valid = !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
        if valid { Ok(name) } else { Err(Malformed::InvalidName) }
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) {
        wire::put_bytes(sink, &self.0);
    }

    pub(crate) fn read(body: &Bytes, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bytes = reader.bytes(MAX_NAME)?;
        Self::check(bytes)?;
        Ok(Self(body.slice_ref(bytes)))
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{:?}` of an event, as it stands in a log, had all that the application had said.
    #[test]
    fn regression_a_payload_is_shown_by_its_length() {
        let payload = Payload::json(r#"{"password":"swordfish"}"#);
        assert_eq!(format!("{payload:?}"), "Payload { encoding: Json, len: 24 }");
    }

    #[test]
    fn names_are_short_plain_text() {
        assert!(Name::new("room:join").is_ok());
        assert!(Name::new(&"é".repeat(100)).is_ok());
        for bad in ["", "a\nb", "\u{7f}", &"x".repeat(201)] {
            assert_eq!(Name::new(bad), Err(Malformed::InvalidName));
        }
    }
}
