//! Claims as a type of the program's, and where they are not one.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Where claims do not fit a type. What stands there is not repeated: errors of `serde` quote it, and a log is read by
/// more people than a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit(String);

impl fmt::Display for Misfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "." => formatter.write_str("one is missing, or they are of another shape altogether"),
            path => write!(formatter, "{path:?} is not of its type, or something in it is missing"),
        }
    }
}

/// Reads claims into a type.
pub(crate) fn read<T: DeserializeOwned>(claims: Map<String, Value>) -> Result<T, Misfit> {
    serde_path_to_error::deserialize(Value::Object(claims)).map_err(|error| Misfit(error.path().to_string()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct User {
        sub: String,
        level: Option<u8>,
        kind: Option<Kind>,
        #[serde(default)]
        pets: Vec<Pet>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum Kind {}

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pet {
        age: u8,
    }

    fn of(claims: Value) -> Result<User, String> {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        read(claims).map_err(|misfit| misfit.to_string())
    }

    /// The log had serde's sentence: `invalid type: string "swordfish", expected u8`.
    #[test]
    fn regression_claims_that_do_not_fit_are_told_by_their_place_and_not_by_what_they_say() {
        for (claims, place) in [
            (json!({ "sub": "ann", "level": "swordfish" }), "\"level\""),
            (json!({ "sub": "ann", "kind": "swordfish" }), "\"kind\""),
            (json!({ "sub": "ann", "pets": [{ "age": 1 }, { "age": "swordfish" }] }), "\"pets[1].age\""),
            (json!({ "level": 1, "password": "swordfish" }), "one is missing"),
        ] {
            let told = of(claims).unwrap_err();
            assert!(told.starts_with(place) && !told.contains("swordfish"), "{told}");
        }
        let user = User { sub: "ann".into(), level: Some(1), kind: None, pets: vec![Pet { age: 2 }] };
        assert_eq!(of(json!({ "sub": "ann", "level": 1, "pets": [{ "age": 2 }], "exp": 3 })), Ok(user));
    }
}
