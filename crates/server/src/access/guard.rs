//! Guards: what a declaration asks of who uses it.

use std::{fmt, sync::Arc};

use moorline_protocol::{
    code::Code,
    frame::Failure,
    payload::{Encoding, Payload},
    scope::{Operation, Scope, Scopes},
};

use super::Principal;
use crate::{limits::Turns, rate::Rate};

type Predicate = Arc<dyn Fn(&Principal) -> bool + Send + Sync>;

/// Longest message about an argument, in characters: the rest of it repeats what the caller has sent.
const LONGEST_MESSAGE: usize = 300;

/// What a handler asks of its caller, beside what the caller's scopes permit: values that add up.
#[derive(Clone, Default)]
pub struct Guard {
    scope: Option<Result<Scope, String>>,
    roles: Vec<String>,
    authenticated: bool,
    skips_auth: bool,
    predicates: Vec<Predicate>,
    schema: Option<Result<Arc<jsonschema::Validator>, String>>,
    rate: Option<Rate>,
}

impl Guard {
    /// Nothing beside what scopes permit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Needs exactly this scope.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(Scope::parse(scope).map_err(|error| error.to_string()));
        self
    }

    /// Needs this role, or one of those that were named before.
    #[must_use]
    pub fn role(mut self, role: &str) -> Self {
        self.roles.push(role.to_owned());
        self
    }

    /// Needs somebody who has signed in.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        self.authenticated = true;
        self
    }

    /// Needs whatever this function says yes to.
    #[must_use]
    pub fn allow(mut self, predicate: impl Fn(&Principal) -> bool + Send + Sync + 'static) -> Self {
        self.predicates.push(Arc::new(predicate));
        self
    }

    /// Takes everybody, those among them who have shown nothing: a server with such a handler lets guests in, who may
    /// use nothing else.
    #[must_use]
    pub fn skip_auth(mut self) -> Self {
        self.skips_auth = true;
        self
    }

    /// Needs an argument that fits this JSON Schema (draft 2020-12, or what its `$schema` says). References lead to places
    /// within it and never to others.
    #[must_use]
    pub fn schema(mut self, schema: &serde_json::Value) -> Self {
        let validator = jsonschema::validator_for(schema).map(Arc::new);
        self.schema = Some(validator.map_err(|error| format!("its schema: {error}")));
        self
    }

    /// No more often than this: of one subject, of one client where everybody is anonymous. The last one counts.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    pub(crate) fn turns(&self) -> Option<Turns> {
        self.rate.map(Turns::new)
    }

    pub(crate) fn skips_auth(&self) -> bool {
        self.skips_auth
    }

    /// What was written wrong.
    pub(crate) fn error(&self) -> Option<&str> {
        let scope = self.scope.as_ref().and_then(|scope| scope.as_ref().err());
        let schema = self.schema.as_ref().and_then(|schema| schema.as_ref().err());
        let never = || self.rate.filter(|rate| rate.is_never()).map(|_| "a rate of 0 would refuse every call");
        scope.or(schema).map(String::as_str).or_else(never)
    }

    /// Whether the argument fits, before any code sees it.
    ///
    /// # Errors
    /// `invalid_params` with the place that does not, as a JSON Pointer (RFC 6901).
    pub(crate) fn check(&self, payload: &Payload) -> Result<(), Failure> {
        let Some(Ok(schema)) = &self.schema else { return Ok(()) };
        let invalid = |message: String| {
            let message: String = message.chars().take(LONGEST_MESSAGE).collect();
            Failure::with_message(Code::INVALID_PARAMS, message)
        };
        if payload.encoding != Encoding::Json {
            return Err(invalid("the argument must be JSON, not bytes".to_owned()));
        }
        let argument = serde_json::from_slice(&payload.bytes).map_err(|error| invalid(error.to_string()))?;
        schema.validate(&argument).map_err(|error| match error.instance_path().as_str() {
            "" => invalid(error.masked().to_string()),
            path => invalid(format!("{path}: {}", error.masked())),
        })
    }

    /// May he do it?
    pub(crate) fn permits(&self, principal: &Principal, operation: Operation<'_>) -> bool {
        if self.skips_auth {
            return true;
        }
        let scope = match &self.scope {
            None => None,
            Some(Ok(scope)) => Some(scope),
            // Found when the server was built.
            Some(Err(_)) => return false,
        };
        let everything = principal.scopes == Scopes::All;
        principal.scopes.may(scope, operation)
            && (everything
                || self.roles.is_empty()
                || principal.role.as_ref().is_some_and(|role| self.roles.contains(role)))
            && (everything || !self.authenticated || !principal.subject.is_anonymous())
            && self.predicates.iter().all(|predicate| predicate(principal))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Guard").field("scope", &self.scope).field("roles", &self.roles).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use moorline_protocol::subject::{Subject, Tenant};

    use super::*;

    fn somebody(role: Option<&str>, scopes: Scopes) -> Principal {
        let subject = Subject::new(Tenant::default(), "ann").expect("a name");
        Principal { role: role.map(str::to_owned), scopes, ..Principal::new(subject) }
    }

    #[test]
    fn guards_add_up_and_each_can_refuse() {
        let call = Operation::call("move");
        let listed = |text| Scopes::from_text(text).expect("scopes");
        let admin = || somebody(Some("admin"), listed("game.write call:move"));
        let guest = Principal::anonymous(listed(""));
        let all =
            Guard::new().scope("game.write").role("mod").role("admin").authenticated().allow(|who| who.meta.is_null());
        assert!(all.permits(&admin(), call));
        assert!(!all.permits(&somebody(Some("admin"), listed("call:move")), call), "the scope");
        assert!(!all.permits(&somebody(Some("user"), listed("game.write")), call), "the role");
        assert!(!all.permits(&somebody(None, listed("game.write")), call), "no role");
        assert!(!all.permits(&Principal { meta: 1.into(), ..admin() }, call), "the predicate");
        assert!(all.permits(&Principal { meta: serde_json::Value::Null, ..Principal::anonymous(Scopes::All) }, call));
        assert!(!Guard::new().authenticated().permits(&Principal::anonymous(Scopes::Unlisted), call));
        assert!(Guard::new().permits(&Principal::anonymous(Scopes::Unlisted), call));
        assert!(!Guard::new().permits(&guest, call), "a guest may use nothing");
        assert!(Guard::new().skip_auth().permits(&guest, call), "but what skips all this");
    }

    /// The table of `docs/AUTH.md` § Guards, row by row.
    #[test]
    fn guards_ask_for_what_the_guide_says() {
        let listed = |text| Scopes::from_text(text).expect("scopes");
        let callers = [
            Principal::anonymous(Scopes::All),
            Principal::anonymous(listed("")),
            Principal::anonymous(Scopes::Unlisted),
            somebody(None, Scopes::Unlisted),
            somebody(Some("admin"), Scopes::Unlisted),
            somebody(Some("admin"), listed("call:move")),
            somebody(Some("admin"), listed("game.write")),
        ];
        let new = Guard::new;
        let rows = [
            ("nothing", new(), [1, 0, 1, 1, 1, 1, 0]),
            ("authenticated", new().authenticated(), [1, 0, 0, 1, 1, 1, 0]),
            ("scope", new().scope("game.write"), [1, 0, 0, 0, 0, 0, 1]),
            ("role", new().role("admin").role("mod"), [1, 0, 0, 0, 1, 1, 0]),
            ("allow, yes", new().allow(|_| true), [1, 0, 1, 1, 1, 1, 0]),
            ("allow, no", new().allow(|_| false), [0; 7]),
            ("skip_auth", new().skip_auth().scope("game.write").role("mod"), [1; 7]),
        ];
        for (declared, guard, expected) in rows {
            let permitted = callers.each_ref().map(|caller| u8::from(guard.permits(caller, Operation::call("move"))));
            assert_eq!(permitted, expected, "{declared}");
        }
    }

    #[test]
    fn an_argument_that_does_not_fit_its_schema_is_told_the_place_and_not_repeated() {
        let schema = serde_json::json!({
            "type": "object", "required": ["room", "text"],
            "properties": { "room": { "type": "string" }, "text": { "type": "string", "maxLength": 5 } },
        });
        let guard = Guard::new().schema(&schema);
        let check = |text: &str| {
            guard.check(&Payload::json(text.to_owned())).map_err(|failure| (failure.code, failure.message))
        };
        assert_eq!(check(r#"{"room":"lobby","text":"hello"}"#), Ok(()));
        for (argument, place) in [
            (r#"{"room":"lobby","text":"swordfish"}"#, "/text: "),
            (r#"{"room":7,"text":"hi"}"#, "/room: "),
            (r#"{"room":"lobby"}"#, "\"text\""),
            ("[", "EOF"),
        ] {
            let (code, message) = check(argument).expect_err(argument);
            assert_eq!(code, Code::INVALID_PARAMS);
            assert!(message.contains(place) && !message.contains("swordfish"), "{message}");
        }
        assert!(guard.check(&Payload::bytes(Vec::new())).is_err());
        assert!(Guard::new().schema(&serde_json::json!({ "type": "sting" })).error().is_some());
        let elsewhere = serde_json::json!({ "$ref": "http://127.0.0.1:9/schema" });
        assert!(Guard::new().schema(&elsewhere).error().is_some(), "nothing is fetched");
    }

    #[test]
    fn a_scope_that_is_none_is_found_and_lets_nobody_in() {
        let guard = Guard::new().scope("topics.publish:x");
        assert!(guard.error().is_some());
        assert!(!guard.permits(&somebody(None, Scopes::Unlisted), Operation::call("x")));
    }
}
