//! Payloads in and out: one copy each way, and never more of what comes in than the protocol could send.

use bytes::Bytes;
use js_sys::Uint8Array;
use moorline_protocol::{
    limits::MAX_PAYLOAD,
    payload::{Encoding, Payload},
};

/// A payload of the shell's; `None` when the encoding is not one.
///
/// What is too large is cut to a byte more than any limit: the protocol refuses that as it would the whole, and the
/// memory, which in WebAssembly never shrinks again, does not grow for it.
pub(crate) fn read(encoding: u8, body: &Uint8Array) -> Option<Payload> {
    let most = MAX_PAYLOAD as u32 + 1;
    let bytes = if body.length() > most { body.subarray(0, most).to_vec() } else { body.to_vec() };
    Some(Payload { encoding: Encoding::from_number(encoding)?, bytes: bytes.into() })
}

/// A copy of its own: who looks later than now would find other bytes in the memory.
pub(crate) fn array(bytes: &Bytes) -> Uint8Array {
    Uint8Array::from(&bytes[..])
}
