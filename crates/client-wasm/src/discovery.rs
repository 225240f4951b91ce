//! `DiscoveryResult`: what the shell's GET of the identity document gave.
//!
//! Implements `docs/PROTOCOL.md` § Identity document, as far as it is JSON; what follows from it, the protocol decides.

use moorline_protocol::discovery::Discovery;
use wasm_bindgen::JsValue;

use crate::object::{field, texts};

pub(crate) fn read(result: &JsValue) -> Discovery {
    if field(result, "kind") != "answer" {
        return Discovery::Unreachable;
    }
    let document = field(result, "document");
    if let Some(code) = field(&field(&document, "error"), "code").as_string() {
        return Discovery::refusal(&code);
    }
    match (
        field(&document, "encryption").as_string(),
        texts(&field(&document, "keys")),
        texts(&field(&document, "suites")),
    ) {
        (Some(encryption), Some(keys), Some(suites)) => {
            Discovery::document(keys.iter().map(String::as_str), suites.iter().map(String::as_str), &encryption)
        }
        _ => Discovery::foreign(field(result, "status").as_f64().unwrap_or_default() as u16),
    }
}
