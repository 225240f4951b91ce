//! Handlers with a guard in front of them: `validate.scope("game.write").role("admin")`.

use crate::{
    access::{Guard, Principal},
    handler::{Context, Handler, Running},
    rate::Rate,
    states::StateType,
    stream::{Items, StreamHandler},
};

/// A handler, or a stream's, with what it asks of its callers. Further calls of the same methods add to it.
#[derive(Clone)]
pub struct Restricted<H> {
    handler: H,
    guard: Guard,
}

/// Puts a guard in front of a handler. What it does not name, the caller's scopes decide: `call:NAME` where the caller
/// has a list.
pub trait Restrict: Clone + Send + Sync + Sized + 'static {
    /// Needs all of this.
    fn guard(self, guard: Guard) -> Restricted<Self> {
        Restricted { handler: self, guard }
    }

    /// Needs exactly this scope.
    fn scope(self, scope: &str) -> Restricted<Self> {
        self.guard(Guard::new().scope(scope))
    }

    /// Needs this role; called again, one of them.
    fn role(self, role: &str) -> Restricted<Self> {
        self.guard(Guard::new().role(role))
    }

    /// Needs somebody who has signed in.
    fn authenticated(self) -> Restricted<Self> {
        self.guard(Guard::new().authenticated())
    }

    /// Needs whatever this function says yes to.
    fn allow(self, predicate: impl Fn(&Principal) -> bool + Send + Sync + 'static) -> Restricted<Self> {
        self.guard(Guard::new().allow(predicate))
    }

    /// Needs an argument that fits this JSON Schema: `invalid_params` names the place that does not.
    fn schema(self, schema: &serde_json::Value) -> Restricted<Self> {
        self.guard(Guard::new().schema(schema))
    }

    /// Runs no more often than this for one subject, or one client where everybody is anonymous: `per_second(10)`. One call
    /// more fails with `too_many_requests` and `{ "retryAfterMs": n }`; one notification more is dropped, and its client
    /// warned.
    fn rate(self, rate: Rate) -> Restricted<Self> {
        self.guard(Guard::new().rate(rate))
    }

    /// Takes everybody, also who has shown nothing at a server that asks for something: a sign-up, a list of rooms.
    fn skip_auth(self) -> Restricted<Self> {
        self.guard(Guard::new().skip_auth())
    }
}

impl<H: Clone + Send + Sync + 'static> Restrict for H {}

// These come before those of the trait, so that a guard is added to and not put in front of another.
impl<H> Restricted<H> {
    /// See [`Restrict::scope`]; the last one counts.
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        Self { guard: self.guard.scope(scope), ..self }
    }

    /// See [`Restrict::role`].
    #[must_use]
    pub fn role(self, role: &str) -> Self {
        Self { guard: self.guard.role(role), ..self }
    }

    /// See [`Restrict::authenticated`].
    #[must_use]
    pub fn authenticated(self) -> Self {
        Self { guard: self.guard.authenticated(), ..self }
    }

    /// See [`Restrict::allow`].
    #[must_use]
    pub fn allow(self, predicate: impl Fn(&Principal) -> bool + Send + Sync + 'static) -> Self {
        Self { guard: self.guard.allow(predicate), ..self }
    }

    /// See [`Restrict::schema`].
    #[must_use]
    pub fn schema(self, schema: &serde_json::Value) -> Self {
        Self { guard: self.guard.schema(schema), ..self }
    }

    /// See [`Restrict::rate`]; the last one counts.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { guard: self.guard.rate(rate), ..self }
    }

    /// See [`Restrict::skip_auth`].
    #[must_use]
    pub fn skip_auth(self) -> Self {
        Self { guard: self.guard.skip_auth(), ..self }
    }
}

impl<Args, H: Handler<Args, Future = Running>> Handler<Args> for Restricted<H> {
    type Future = Running;

    fn run(self, context: Context) -> Running {
        self.handler.run(context)
    }

    fn states() -> Vec<StateType> {
        H::states()
    }

    fn guard(&self) -> Guard {
        self.guard.clone()
    }
}

impl<Args, H: StreamHandler<Args>> StreamHandler<Args> for Restricted<H> {
    fn run(self, context: Context) -> Items {
        self.handler.run(context)
    }

    fn states() -> Vec<StateType> {
        H::states()
    }

    fn guard(&self) -> Guard {
        self.guard.clone()
    }
}
