//! The gate: what somebody shows, and who that makes him.
//!
//! The ways in are asked in one order: a token, the auth handler, a shared key, the rule for everybody. The first that
//! something was shown for decides, so that nobody becomes less than he shows, nor more by showing something wrong
//! beside something right.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::BoxFuture};
use moorline_protocol::{
    code::Code,
    frame::{Admission, Credentials, Denial},
    key::SharedKeyId,
    limits::{MAX_GIVEN, MAX_IDENTITY},
    payload::{Encoding, Payload},
    scope::Scopes,
    server::Arrival,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    Principal,
    jwt::{Jwt, TokenError, TokenVerifier},
    verified::Verified,
};
use crate::{audit::Way, fail::Fail, limits::TooMuch};

/// Somebody who wants to come in, or to be somebody else, as an auth handler sees him.
#[derive(Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// Where he comes from: the client's address, not that of a proxy.
    pub address: SocketAddr,
    /// The client's key, for as long as it lives; `None` without encryption.
    pub client_key: Option<[u8; 32]>,
    /// The shared key that the client has shown to have.
    pub shared_key: Option<SharedKeyId>,
    /// The URL that the client dialled.
    pub url: String,
    credentials: Credentials,
}

impl Attempt {
    pub(crate) fn new(address: SocketAddr, arrival: &Arrival, credentials: Credentials) -> Self {
        let Arrival { auth, client_key, shared_key, .. } = arrival;
        Self {
            address,
            client_key: *client_key,
            shared_key: *shared_key,
            url: auth.url.as_str().to_owned(),
            credentials,
        }
    }

    /// Whether there is something that could be right or wrong.
    pub(crate) fn shows_something(&self) -> bool {
        !self.credentials.is_empty()
    }

    /// The token that was shown.
    pub fn token(&self) -> Option<&str> {
        self.credentials.token.as_ref().map(|token| token.as_str())
    }

    /// What the page gave as `auth`.
    ///
    /// # Errors
    /// `invalid_params` with the place that did not fit, which the page is told.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Fail> {
        let json = self.credentials.data.as_ref().filter(|data| data.encoding == Encoding::Json);
        let bytes = json.map_or(&b"null"[..], |data| &data.bytes);
        serde_json::from_slice(bytes).map_err(|error| Fail::new("invalid_params", error.to_string()))
    }
}

/// What an auth handler makes of somebody it lets in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Admit {
    /// Who it is.
    pub principal: Principal,
    /// How long that holds; `None` for as long as the connection.
    pub lives: Option<Duration>,
    data: Option<Payload>,
}

impl From<Principal> for Admit {
    fn from(principal: Principal) -> Self {
        Self { principal, lives: None, data: None }
    }
}

impl Admit {
    /// Lets somebody in.
    pub fn new(principal: Principal) -> Self {
        principal.into()
    }

    /// Lets him in for so long. Then the client is asked for something fresh.
    #[must_use]
    pub fn for_a(mut self, time: Duration) -> Self {
        self.lives = Some(time);
        self
    }

    /// Gives the page a value, as `client.identity.data`.
    ///
    /// # Errors
    /// When it has no JSON form, or more than [`MAX_GIVEN`] bytes of it.
    pub fn with_data(mut self, data: &impl Serialize) -> Result<Self, Fail> {
        let json = serde_json::to_vec(data)?;
        if json.len() > MAX_GIVEN {
            return Err(std::io::Error::other("what is given to a page with its identity has at most 48 KiB").into());
        }
        self.data = Some(Payload::json(json));
        Ok(self)
    }
}

/// Decides who somebody is that shows data of the application's own. An async function of an [`Attempt`] is one.
///
/// A [`Fail`] with a code of the application's reaches the page, code and text. Every other error is logged, and the
/// page hears `unauthorized`.
pub trait AuthHandler: Send + Sync + 'static {
    /// Decides.
    fn decide(&self, attempt: Attempt) -> BoxFuture<'static, Result<Admit, Fail>>;
}

impl<F, Fut, A> AuthHandler for F
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Fail>> + Send + 'static,
    A: Into<Admit>,
{
    fn decide(&self, attempt: Attempt) -> BoxFuture<'static, Result<Admit, Fail>> {
        self(attempt).map(|decided| decided.map(Into::into)).boxed()
    }
}

/// A way in that [`ServerBuilder::auth`](crate::ServerBuilder::auth) takes: an [`AuthHandler`], or [`Jwt`].
pub trait WayIn: sealed::Sealed {}

impl<H: AuthHandler> WayIn for H {}
impl WayIn for Jwt {}

pub(crate) mod sealed {
    use super::{Arc, AuthHandler, Jwt};

    /// A way in, told from the others.
    pub enum Way {
        Handler(Arc<dyn AuthHandler>),
        Jwt(Jwt),
    }

    pub trait Sealed {
        fn way(self) -> Way;
    }

    impl<H: AuthHandler> Sealed for H {
        fn way(self) -> Way {
            Way::Handler(Arc::new(self))
        }
    }

    impl Sealed for Jwt {
        fn way(self) -> Way {
            Way::Jwt(self)
        }
    }
}

/// Somebody who is in.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) principal: Arc<Principal>,
    /// What the client is told beside who it is.
    data: Option<Payload>,
    expires: Option<SystemTime>,
    /// The token that made him who he is.
    pub(crate) token: Option<Arc<Verified>>,
    /// By which way he came in.
    pub(crate) way: Way,
}

impl Entry {
    fn of(way: Way, principal: Principal) -> Self {
        Self { principal: Arc::new(principal), data: None, expires: None, token: None, way }
    }

    /// Somebody for tests of other things.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self::of(Way::Open, Principal::anonymous(Scopes::All))
    }

    /// What is known of him, as the claims of a token are named.
    pub(crate) fn claims(&self) -> serde_json::Map<String, serde_json::Value> {
        if let Some(token) = &self.token {
            return token.claims.clone();
        }
        let Principal { subject, role, meta, .. } = &*self.principal;
        let mut claims = meta.as_object().cloned().unwrap_or_default();
        claims.insert("sub".to_owned(), subject.name().into());
        claims.insert("tenant".to_owned(), subject.tenant().as_str().into());
        claims.insert("role".to_owned(), role.clone().into());
        claims
    }

    /// What the client is told.
    pub(crate) fn admission(&self, now: SystemTime) -> Admission {
        let Principal { subject, role, scopes, meta } = &*self.principal;
        let listed = match scopes {
            Scopes::All | Scopes::Unlisted => None,
            Scopes::Listed(scopes) => Some(scopes.iter().map(ToString::to_string).collect::<Vec<_>>()),
        };
        let identity = |meta: &serde_json::Value| {
            let (name, tenant) = (subject.name(), subject.tenant().as_str());
            json!({ "subject": name, "tenant": tenant, "role": role, "scopes": listed, "meta": meta }).to_string()
        };
        let mut told = identity(meta);
        if told.len() > MAX_IDENTITY {
            tracing::warn!("an identity is too large for its client to be told all of it");
            told = json!({ "subject": subject.name(), "tenant": subject.tenant().as_str() }).to_string();
        }
        let left = self.expires.map(|expires| expires.duration_since(now).unwrap_or_default());
        let expires_in_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Admission { identity: told.into(), data: self.data.clone(), expires_in_ms, subject: Some(subject.mark()) }
    }
}

/// Why somebody is not let in: what he is told, and what only the log is.
pub(crate) struct TurnedAway {
    pub(crate) denial: Denial,
    pub(crate) reason: String,
    /// By which way he tried.
    pub(crate) way: Option<Way>,
    /// Whether what he showed is what somebody shows who guesses.
    pub(crate) is_guess: bool,
}

impl TurnedAway {
    pub(crate) fn new(code: Code, reason: impl ToString) -> Self {
        Self {
            denial: Denial { code, name: String::new(), message: String::new() },
            reason: reason.to_string(),
            way: None,
            is_guess: false,
        }
    }

    fn by(self, way: Way) -> Self {
        Self { way: Some(way), ..self }
    }
}

/// Why somebody stays outside.
pub(crate) enum Outside {
    TurnedAway(TurnedAway),
    /// He was not even judged: his address has guessed too often.
    TooMuch(TooMuch),
}

/// The ways into one server.
pub(crate) struct Gate {
    pub(crate) tokens: Option<Arc<TokenVerifier>>,
    pub(crate) handler: Option<Arc<dyn AuthHandler>>,
    /// Who a shared key makes somebody.
    pub(crate) shared_keys: BTreeMap<SharedKeyId, Principal>,
    /// What everybody may do who shows nothing; `None` where nobody like that is let in.
    pub(crate) everybody: Option<Scopes>,
}

impl Gate {
    /// The ways in, for whoever runs the server.
    pub(crate) fn ways(&self) -> String {
        let everybody = match &self.everybody {
            Some(Scopes::All) => Some("open"),
            Some(Scopes::Listed(scopes)) if scopes.is_empty() => Some("guests"),
            Some(_) => Some("anonymous"),
            None => None,
        };
        let ways = [
            self.tokens.is_some().then_some("jwt"),
            self.handler.is_some().then_some("auth handler"),
            (!self.shared_keys.is_empty()).then_some("shared key"),
            everybody,
        ];
        ways.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Whether he came in by a token that is believed no more.
    pub(crate) fn is_revoked(&self, entry: &Entry) -> bool {
        let (Some(tokens), Some(token)) = (&self.tokens, &entry.token) else { return false };
        tokens.revocations().is_revoked(token)
    }

    /// Who somebody is.
    pub(crate) async fn decide(&self, attempt: Attempt, now: SystemTime) -> Result<Entry, TurnedAway> {
        if let (Some(token), Some(tokens)) = (attempt.token(), &self.tokens) {
            return match tokens.verify(token, attempt.client_key.as_ref(), now).await {
                Ok(verified) => Ok(Entry {
                    expires: Some(verified.expires),
                    token: Some(Arc::new(verified.clone())),
                    ..Entry::of(Way::Jwt, verified.principal)
                }),
                Err(TokenError::Expired) => {
                    Err(TurnedAway::new(Code::TOKEN_EXPIRED, "the token has expired").by(Way::Jwt))
                }
                Err(refused) => {
                    let is_guess = refused.is_guess();
                    Err(TurnedAway { is_guess, ..TurnedAway::new(Code::UNAUTHORIZED, refused).by(Way::Jwt) })
                }
            };
        }
        if let Some(handler) = &self.handler
            && !attempt.credentials.is_empty()
        {
            return self.ask(handler.as_ref(), attempt, now).await.map_err(|away| away.by(Way::AuthHandler));
        }
        if let Some(principal) = attempt.shared_key.and_then(|id| self.shared_keys.get(&id)) {
            return Ok(Entry::of(Way::SharedKey, principal.clone()));
        }
        match &self.everybody {
            Some(Scopes::All) => Ok(Entry::of(Way::Open, Principal::anonymous(Scopes::All))),
            // What was shown and nobody judges must not pass for a guest's nothing.
            Some(_) if !attempt.credentials.is_empty() => {
                Err(TurnedAway::new(Code::UNAUTHORIZED, "it shows what this server has nobody to judge for"))
            }
            Some(scopes) => Ok(Entry::of(Way::Anonymous, Principal::anonymous(scopes.clone()))),
            None => Err(TurnedAway::new(Code::TOKEN_MISSING, "it shows nothing")),
        }
    }

    async fn ask(&self, handler: &dyn AuthHandler, attempt: Attempt, now: SystemTime) -> Result<Entry, TurnedAway> {
        let decided = match std::panic::catch_unwind(AssertUnwindSafe(|| handler.decide(attempt))) {
            Ok(deciding) => AssertUnwindSafe(deciding).catch_unwind().await,
            Err(panic) => Err(panic),
        };
        match decided {
            Ok(Ok(Admit { principal, lives, data })) => {
                Ok(Entry { data, expires: lives.map(|lives| now + lives), ..Entry::of(Way::AuthHandler, principal) })
            }
            Ok(Err(fail)) => {
                let is_guess = fail.is_guess();
                let failure = fail.into_failure("auth");
                Err(match failure.code {
                    Code::INTERNAL => TurnedAway::new(Code::UNAUTHORIZED, "the auth handler failed"),
                    _ => TurnedAway {
                        // Not its text, which the application may have made of what was shown.
                        reason: "the auth handler refused".to_owned(),
                        way: None,
                        is_guess,
                        denial: Denial { code: Code::REFUSED, name: failure.name(), message: failure.message },
                    },
                })
            }
            Err(_) => {
                tracing::error!("the auth handler panicked");
                Err(TurnedAway::new(Code::UNAUTHORIZED, "the auth handler panicked"))
            }
        }
    }
}
