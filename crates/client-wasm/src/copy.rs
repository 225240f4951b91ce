//! Bytes in and out: one copy each way, and never more of what comes in than the protocol could take.
//!
//! What is larger is cut to one byte above its limit. The protocol refuses that as it would the whole, and neither a page
//! nor a peer makes the memory grow, which in WebAssembly never shrinks again.

use bytes::Bytes;
use js_sys::Uint8Array;
use moorline_protocol::limits::{MAX_PAYLOAD, MAX_RECORD};

pub(crate) fn payload(array: &Uint8Array) -> Bytes {
    copy(array, MAX_PAYLOAD)
}

pub(crate) fn record(array: &Uint8Array) -> Bytes {
    copy(array, MAX_RECORD)
}

fn copy(array: &Uint8Array, limit: usize) -> Bytes {
    let most = limit as u32 + 1;
    if array.length() > most { array.subarray(0, most).to_vec().into() } else { array.to_vec().into() }
}

pub(crate) fn array(bytes: &Bytes) -> Uint8Array {
    Uint8Array::from(&bytes[..])
}
