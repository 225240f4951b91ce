//! A token taken apart: three parts between dots (RFC 7515 § 3.1), of which two are JSON objects that say nothing twice.
//!
//! Nothing here is believed yet.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::error::Reason;

/// Longest token that is read, in bytes: no more fits AUTH.
pub(crate) const MAX_TOKEN: usize = 8 * 1024;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// How an object is read.
pub(crate) type Read = fn(&[u8]) -> Result<Object, Reason>;

/// What a token says, signed by nobody knows whom.
pub(crate) struct Parts<'a> {
    pub(crate) header: Object,
    pub(crate) claims: Object,
    /// The bytes that the signature is about.
    pub(crate) signed: &'a [u8],
    /// In base64url.
    pub(crate) signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn split(token: &'a str, read: Read) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Reason::Shape)?;
        let (header, claims) = signed.split_once('.').ok_or(Reason::Shape)?;
        let part = |text: &str| read(&Base64UrlUnpadded::decode_vec(text).map_err(|_| Reason::Shape)?);
        Ok(Self { header: part(header)?, claims: part(claims)?, signed: signed.as_bytes(), signature })
    }
}

/// A JSON object in which no name stands twice, at any depth. What is nested too deeply does not read.
pub(crate) fn object(json: &[u8]) -> Result<Object, Reason> {
    match serde_json::from_slice(json) {
        Ok(Once(Value::Object(object))) => Ok(object),
        // Only a name that stands twice is an error of the data: every value fits.
        Err(error) if error.is_data() => Err(Reason::Duplicate),
        Ok(Once(_)) | Err(_) => Err(Reason::NotJson),
    }
}

/// A JSON value whose objects have every name once. (serde_json's own takes the last one, others the first: whoever
/// gets both into a token tells its maker one thing and its reader another.)
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnceVisitor).map(Self)
    }
}

struct OnceVisitor;

impl<'de> Visitor<'de> for OnceVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Once(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Once(value))) = entries.next_entry::<String, Once>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        for json in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[{"b":1,"\u0062":2}]}"#] {
            assert_eq!(object(json.as_bytes()), Err(Reason::Duplicate), "{json}");
        }
        let nested = [r#"{"a":"#.repeat(9_999), "1".to_owned(), "}".repeat(9_999)].concat();
        for json in ["", "null", "[]", "{", r#"{"a":1}x"#, "{a:1}", "\u{feff}{}", &nested, r#"{"a":1e999}"#] {
            assert_eq!(object(json.as_bytes()), Err(Reason::NotJson), "{json:.99}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(Reason::NotJson));
    }

    #[test]
    fn what_is_said_once_reads_as_it_does_elsewhere() {
        let json = r#"{"a":[1,-1,1.5,1e3,18446744073709551615,true,null,"ä\n"],"b":{"a":{}},"":[]}"#;
        assert_eq!(object(json.as_bytes()).map(Value::Object).ok(), serde_json::from_str(json).ok());
    }

    #[test]
    fn a_token_has_three_parts_and_at_most_8_kib() {
        let split = |token: &str| Parts::split(token, object).err();
        assert_eq!(split("e30.e30.c2ln"), None);
        assert_eq!(split("e30.e30."), None, "the signature is for the key to judge");
        for token in ["", ".", "..", "e30", "e30.e30", "e30=.e30.", "e30.e30\n.", "e30.e31.", " e30.e30."] {
            assert!(matches!(split(token), Some(Reason::Shape | Reason::NotJson)), "{token}");
        }
        assert_eq!(split("e30.e30.x.y"), Some(Reason::Shape));
        let long = format!("e30.e30.{}", "x".repeat(MAX_TOKEN - 8));
        assert_eq!(split(&long), None);
        assert_eq!(split(&format!("{long}x")), Some(Reason::TooLong));
    }
}
