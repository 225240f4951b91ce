//! Reads plain objects of JavaScript, field by field.
//!
//! serde would do it with less code here and 13 KB more in the gzipped wasm: its errors can print any value, floating
//! point numbers among them. What goes out has no such errors and goes through serde (`report`).

use js_sys::{Array, Reflect};
use wasm_bindgen::JsValue;

/// The field, `undefined` when there is none or `object` is none.
pub(crate) fn field(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or_default()
}

/// The texts in an array; what is not a text is left out. `None` when it is not an array.
pub(crate) fn texts(value: &JsValue) -> Option<Vec<String>> {
    Array::is_array(value).then(|| Array::from(value).iter().filter_map(|text| text.as_string()).collect())
}
