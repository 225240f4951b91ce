//! Who a client is: what it shows, and what the server makes of it, at first or later.
//!
//! Implements `docs/PROTOCOL.md` § Welcome (12 to 14), § Authenticate and Authenticated, § Warn.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{cut, read_code};
use crate::{
    code::Code,
    error::Malformed,
    limits::{MAX_AUTH, MAX_GIVEN, MAX_IDENTITY, MAX_REFUSAL_NAME, MAX_TEXT},
    payload::Payload,
    subject::SubjectMark,
    wire::{self, Reader, Sink},
};

/// What a client shows for itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A token, as text.
    pub token: Option<Zeroizing<String>>,
    /// What the application's auth handler is to see.
    pub data: Option<Payload>,
}

/// Fields of AUTH and of Authenticate.
const TOKEN: u64 = 2;
const DATA: u64 = 3;

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials")
    }
}

impl Credentials {
    /// A token alone.
    pub fn token(token: &str) -> Self {
        Self { token: Some(Zeroizing::new(token.to_owned())), data: None }
    }

    /// Data for the auth handler alone.
    pub fn data(data: Payload) -> Self {
        Self { token: None, data: Some(data) }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.token.is_none() && self.data.is_none()
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) {
        if let Some(token) = &self.token {
            wire::put_field(sink, TOKEN, token.as_bytes());
        }
        put_payload(sink, DATA, self.data.as_ref());
    }

    /// Takes a field of these; `false` when it is another.
    pub(crate) fn read_field(&mut self, tag: u64, value: Reader<'_>) -> Result<bool, Malformed> {
        match tag {
            TOKEN => self.token = Some(Zeroizing::new(value.only_str(MAX_AUTH)?.to_owned())),
            DATA => self.data = Some(read_payload(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

pub(super) fn put_payload(sink: &mut impl Sink, tag: u64, payload: Option<&Payload>) {
    if let Some(payload) = payload {
        wire::put_field(sink, tag, &[&[payload.encoding as u8], &payload.bytes[..]].concat());
    }
}

pub(super) fn read_payload(mut reader: Reader<'_>) -> Result<Payload, Malformed> {
    let bytes = Bytes::copy_from_slice(reader.rest());
    Payload::read(&bytes, &mut Reader::new(&bytes))
}

/// What a client is told when it is let in, or has shown something new: who it is now.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Its identity, one JSON object; empty where there is nothing to say, left out where it is above [`MAX_IDENTITY`].
    pub identity: Bytes,
    /// What the auth handler gives it; left out where it is above [`MAX_GIVEN`].
    pub data: Option<Payload>,
    /// How long it holds, in milliseconds; `None` as long as the connection.
    pub expires_in_ms: Option<u64>,
    /// Which subject it is; `None` where the server does not say.
    pub subject: Option<SubjectMark>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Admission").field("expires_in_ms", &self.expires_in_ms).finish_non_exhaustive()
    }
}

impl Admission {
    /// Numbers of the fields: `first` and the two above. The subject has a number of its own.
    pub(super) fn write(&self, sink: &mut impl Sink, first: u64) {
        // What is too large is left out: the frame would not fit a record, and nothing would ever follow it.
        if !self.identity.is_empty() && self.identity.len() <= MAX_IDENTITY {
            wire::put_field(sink, first, &self.identity);
        }
        put_payload(sink, first + 1, self.data.as_ref().filter(|data| data.bytes.len() <= MAX_GIVEN));
        if let Some(expires) = self.expires_in_ms {
            wire::put_varint_field(sink, first + 2, expires);
        }
    }

    pub(super) fn write_subject(&self, sink: &mut impl Sink, tag: u64) {
        if let Some(SubjectMark(mark)) = &self.subject {
            wire::put_field(sink, tag, mark);
        }
    }

    /// Takes a field of these; `false` when it is another.
    pub(super) fn read_field(&mut self, tag: u64, first: u64, mut value: Reader<'_>) -> Result<bool, Malformed> {
        match tag.checked_sub(first) {
            Some(0) => {
                let identity = value.rest();
                if identity.is_empty() || identity.len() > MAX_IDENTITY {
                    return Err(Malformed::TooLong);
                }
                self.identity = Bytes::copy_from_slice(identity);
            }
            Some(1) => {
                let data = read_payload(value)?;
                if data.bytes.len() > MAX_GIVEN {
                    return Err(Malformed::TooLong);
                }
                self.data = Some(data);
            }
            Some(2) => self.expires_in_ms = Some(value.only_varint()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The client's number for something that it showed on an open connection: from 1, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthenticateId(pub u64);

/// Why something shown on an open connection changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The registry's code, 4000 and above.
    pub code: Code,
    /// The application's own name for it; empty unless `code` is [`Code::REFUSED`].
    pub name: String,
    /// A text that the user may see.
    pub message: String,
}

impl Denial {
    /// The stable name that programs compare: the application's, or the registry's.
    pub fn name(&self) -> String {
        if self.name.is_empty() { self.code.text() } else { self.name.clone() }
    }
}

/// The answer to what a client showed on an open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// The client's number for it.
    pub id: AuthenticateId,
    /// Who the client is now, or why it is who it was.
    pub result: Result<Admission, Denial>,
}

impl Authenticated {
    pub(super) fn write(&self, sink: &mut impl Sink) {
        wire::put_varint(sink, self.id.0);
        match &self.result {
            Ok(admission) => {
                admission.write(sink, 1);
                admission.write_subject(sink, 7);
            }
            Err(Denial { code, name, message }) => {
                wire::put_varint_field(sink, 4, u64::from(code.0));
                wire::put_field(sink, 5, cut(name, MAX_REFUSAL_NAME).as_bytes());
                wire::put_field(sink, 6, cut(message, MAX_TEXT).as_bytes());
            }
        }
    }

    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let id = AuthenticateId(reader.varint()?);
        let (mut admission, mut is_admitted, mut last) = (Admission::default(), false, None);
        let (mut code, mut name, mut message) = (None, None, None);
        while let Some((tag, mut value)) = reader.field(&mut last)? {
            match tag {
                4 => {
                    code = Some(read_code(&mut value)?);
                    value.finish()?;
                }
                5 => name = Some(value.only_str(MAX_REFUSAL_NAME)?.to_owned()),
                6 => message = Some(value.only_str(MAX_TEXT)?.to_owned()),
                7 => {
                    admission.subject = Some(SubjectMark(value.only_array()?));
                    is_admitted = true;
                }
                _ => is_admitted |= admission.read_field(tag, 1, value)?,
            }
        }
        let result = match (code, name, message) {
            (None, None, None) => Ok(admission),
            (Some(code), Some(name), Some(message)) if !is_admitted => Err(Denial { code, name, message }),
            // One or the other.
            _ => return Err(Malformed::FieldMissing),
        };
        Ok(Self { id, result })
    }
}

/// Something that a client shows on an open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    /// The client's number for it.
    pub id: AuthenticateId,
    /// What it shows.
    pub credentials: Credentials,
}

impl Authenticate {
    pub(super) fn write(&self, sink: &mut impl Sink) {
        wire::put_varint(sink, self.id.0);
        self.credentials.write(sink);
    }

    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let id = AuthenticateId(reader.varint()?);
        let (mut credentials, mut last) = (Credentials::default(), None);
        while let Some((tag, value)) = reader.field(&mut last)? {
            credentials.read_field(tag, value)?;
        }
        Ok(Self { id, credentials })
    }
}

/// Something that a client ought to know before it becomes a reason to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warn {
    /// The registry's code of what it would be.
    pub code: Code,
    /// A text for whoever runs the client.
    pub message: String,
}

impl Warn {
    pub(super) fn write(&self, sink: &mut impl Sink) {
        wire::put_varint(sink, u64::from(self.code.0));
        wire::put_bytes(sink, cut(&self.message, MAX_TEXT).as_bytes());
    }

    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let warn = Self { code: read_code(&mut reader)?, message: reader.str(MAX_TEXT)?.to_owned() };
        reader.finish().map(|()| warn)
    }
}
