//! How a handler fails.

use std::fmt;

use moorline_protocol::{code::Code, frame::Failure, payload::Payload};
use serde::Serialize;

/// The failure of a call. What [`Fail::new`] is given reaches the client; the text of any other error stays here.
///
/// Any [`std::error::Error`] becomes a `Fail` with `?`: the client hears `internal`, the log has the text.
pub struct Fail {
    failure: Failure,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    no_guess: bool,
}

impl Fail {
    /// A failure with a code and a text that the client sees. A code of the registry (`not_found`, `invalid_params` …)
    /// is that one; every other is the application's own.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let registered = Code::from_name(code).filter(|code| code.0 < 2000 && *code != Code::APPLICATION);
        let mut failure = Failure::with_message(registered.unwrap_or(Code::APPLICATION), message);
        if registered.is_none() {
            failure.name = code.to_owned();
        }
        Self { failure, source: None, no_guess: false }
    }

    /// There is nothing of what was asked for.
    pub fn not_found() -> Self {
        Self::of(Code::NOT_FOUND)
    }

    pub(crate) fn of(code: Code) -> Self {
        Self { failure: Failure::of(code), source: None, no_guess: false }
    }

    pub(crate) fn failed(failure: Failure) -> Self {
        Self { failure, source: None, no_guess: false }
    }

    pub(crate) fn with_message(code: Code, message: impl Into<String>) -> Self {
        Self { failure: Failure::with_message(code, message), source: None, no_guess: false }
    }

    /// Adds a value for the client's program. One that has no JSON form is left out, and the log says so.
    #[must_use]
    pub fn data(mut self, data: &impl Serialize) -> Self {
        match serde_json::to_vec(data) {
            Ok(json) => self.failure.data = Some(Payload::json(json)),
            Err(error) => tracing::error!(%error, "the data of a failure has no JSON form"),
        }
        self
    }

    /// Says of an auth handler's refusal that it is not about a password, a code or whatever else can be guessed: a room
    /// that is full, a name that is missing. It then does not count among the failed handshakes of its address. Elsewhere
    /// it means nothing.
    #[must_use]
    pub fn not_a_guess(mut self) -> Self {
        self.no_guess = true;
        self
    }

    /// Whether an auth handler that fails so has judged something and found it wrong: with a code of the application's, or
    /// one of those that say so. Of the others some are our fault, and who shows what has not even the right shape has not
    /// guessed yet.
    pub(crate) fn is_guess(&self) -> bool {
        let judged = matches!(self.failure.code, Code::APPLICATION | Code::FORBIDDEN | Code::NOT_FOUND);
        judged && !self.no_guess
    }

    /// What the client hears, after the log has heard the rest.
    pub(crate) fn into_failure(self, handler: &str) -> Failure {
        if let Some(source) = self.source {
            tracing::error!(handler, error = &*source, "a handler failed");
        }
        self.failure
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Fail {
    fn from(error: E) -> Self {
        Self { failure: Failure::of(Code::INTERNAL), source: Some(Box::new(error)), no_guess: false }
    }
}

// Not an `Error` itself: that would collide with the conversion from every error.
impl fmt::Debug for Fail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(formatter)
    }
}
