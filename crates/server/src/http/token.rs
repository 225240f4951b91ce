//! `POST /api/token`: a token for somebody else, made for whoever has one with the scope `token.issue`.
//!
//! The rules and the format are in `docs/AUTH.md` § Issuing. Pages may ask under the same rules of `Origin` as sockets.
//! What is wrong with the token that was shown is told to nobody but the log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::Refusal;
use crate::{
    access::{
        issue::{ISSUE, IssueError, Issuer, Wish, delegate},
        jwt::{TokenVerifier, Verified},
    },
    config::Config,
    error::Error,
    shared::Shared,
};

pub(super) const PATH: &str = "/api/token";

/// Largest request: what a token of 8 KiB can say, with room for how JSON writes it.
const MAX_BODY: usize = 16 * 1024;

/// Requests a second, and at once, of everybody together: each costs a signature to be checked and one to be made.
const A_SECOND: f64 = 10.0;
const AT_ONCE: f64 = 30.0;

/// What makes tokens on this server.
pub(crate) struct Issuing {
    issuer: Issuer,
    verifier: Arc<TokenVerifier>,
    allowance: Mutex<Allowance>,
}

impl Issuing {
    /// `None` where no key signs, or none judges who asks.
    pub(crate) fn new(config: &Config, verifier: Option<&Arc<TokenVerifier>>) -> Result<Option<Self>, Error> {
        let Some(verifier) = verifier.cloned() else { return Ok(None) };
        let allowance = Mutex::new(Allowance { left: AT_ONCE, at: Instant::now() });
        Ok(Issuer::new(config)?.map(|issuer| Self { issuer, verifier, allowance }))
    }
}

/// How many requests may come yet; it fills again by and by.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        self.left = AT_ONCE.min(self.left + (now - self.at).as_secs_f64() * A_SECOND);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

/// Why there is no token.
enum Denied {
    /// The request is not one.
    Request(StatusCode, &'static str),
    TooMany,
    /// No token was shown.
    NoToken,
    /// The one that was shown is not believed.
    Unauthorized,
    /// It does not have the scope.
    Forbidden,
    /// What is asked for cannot be had: a mistake, or more than one has oneself.
    Declined(StatusCode, String),
    /// It is our fault.
    Internal,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        const CHALLENGE: &str = "Bearer realm=\"moorline\"";
        let (status, code, message) = match self {
            Self::Request(status, message) => (status, "invalid_request", message.to_owned()),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Wait a second.".to_owned()),
            Self::NoToken => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "Show a token: Authorization: Bearer …".to_owned())
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "The token is refused.".to_owned()),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", format!("The token lacks the scope {ISSUE}.")),
            Self::Declined(status, ref message) => {
                let code = if status == StatusCode::FORBIDDEN { "forbidden" } else { "invalid_request" };
                (status, code, message.clone())
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The log says more.".to_owned()),
        };
        let mut response = (status, json(&json!({ "error": { "code": code, "message": message } }))).into_response();
        // RFC 6750 § 3.
        let challenge = match self {
            Self::NoToken => Some(CHALLENGE.to_owned()),
            Self::Unauthorized => Some(format!("{CHALLENGE}, error=\"invalid_token\"")),
            Self::Forbidden => Some(format!("{CHALLENGE}, error=\"insufficient_scope\", scope=\"{ISSUE}\"")),
            Self::Request(..) | Self::TooMany | Self::Declined(..) | Self::Internal => None,
        };
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn json(body: &serde_json::Value) -> impl IntoResponse + use<> {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body.to_string())
}

pub(super) async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Some(issuing) = &shared.issuing else { return StatusCode::NOT_FOUND.into_response() };
    let origin = request.headers().get(header::ORIGIN).cloned();
    let named = origin.as_ref().map(|origin| origin.to_str().unwrap_or("null"));
    if let Err(denied) = shared.access.check_origin(request.headers(), named) {
        return Refusal::denied(denied, &request, &shared).response;
    }
    let mut response = match *request.method() {
        // RFC Fetch § CORS protocol: a page asks first whether it may.
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        Method::POST => answer(&shared, issuing, request).await.unwrap_or_else(IntoResponse::into_response),
        _ => ([(header::ALLOW, "OPTIONS, POST")], StatusCode::METHOD_NOT_ALLOWED).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        let allowed = HeaderValue::from_static("authorization, content-type");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

async fn answer(shared: &Shared, issuing: &Issuing, request: Request) -> Result<Response, Denied> {
    // Before anything else: who puts a token there is to learn it at once, and logs keep URLs.
    if request.uri().query().is_some() {
        return Err(Denied::Request(
            StatusCode::BAD_REQUEST,
            "The URL must have no query: what is secret would end up in logs.",
        ));
    }
    if !issuing.allowance.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
        return Err(Denied::TooMany);
    }
    let own = authenticate(issuing, request.headers()).await?;
    let wish = read(shared, request).await?;
    let grant = delegate(&own, wish, &shared.config).map_err(|declined| {
        let status = if declined.is_forbidden() { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
        Denied::Declined(status, declined.to_string())
    })?;
    let issued = issuing.issuer.issue(&grant, SystemTime::now()).map_err(|error| match error {
        IssueError::Subject | IssueError::Role | IssueError::TooLong | IssueError::Tenant => {
            Denied::Declined(StatusCode::BAD_REQUEST, error.to_string())
        }
        IssueError::Signing | IssueError::NoEntropy => {
            tracing::error!(%error, "a token was not made");
            Denied::Internal
        }
    })?;
    let by = &own.principal.subject;
    let (tenant, by, subject) = (by.tenant().as_str(), by.name(), grant.subject.as_str());
    tracing::info!(tenant, by, subject, jti = issued.id, expires = issued.expires, "a token was made");
    let body = json!({ "token": issued.token, "expires": issued.expires, "jti": issued.id });
    Ok(json(&body).into_response())
}

/// Who asks, if he may.
async fn authenticate(issuing: &Issuing, headers: &HeaderMap) -> Result<Verified, Denied> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (shown.next(), shown.next()) {
        (None, _) => return Err(Denied::NoToken),
        (Some(_), Some(_)) => return Err(Denied::Request(StatusCode::BAD_REQUEST, "One Authorization is enough.")),
        (Some(one), None) => one.to_str().ok().and_then(|text| text.split_once(' ')),
    };
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).ok_or(Denied::NoToken)?.1;
    let verified = issuing.verifier.verify_bearer(token.trim(), SystemTime::now()).await.map_err(|error| {
        tracing::warn!(%error, "a token that was to make others was refused");
        Denied::Unauthorized
    })?;
    let may = moorline_protocol::scope::Scope::parse(ISSUE).is_ok_and(|scope| verified.principal.scopes.holds(&scope));
    if may { Ok(verified) } else { Err(Denied::Forbidden) }
}

async fn read(shared: &Shared, request: Request) -> Result<Wish, Denied> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Denied::Request(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be application/json."));
    }
    let body = timeout(shared.config.timeouts.upgrade, to_bytes(request.into_body(), MAX_BODY)).await;
    let body = body.map_err(|_| Denied::Request(StatusCode::REQUEST_TIMEOUT, "The body did not come in time."))?;
    // Cut off or too long: who is cut off does not read it.
    let body = body.map_err(|_| Denied::Request(StatusCode::PAYLOAD_TOO_LARGE, "The body has at most 16 KiB."))?;
    serde_json::from_slice(&body).map_err(|error| Denied::Declined(StatusCode::BAD_REQUEST, error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_requests_come_at_once_and_then_ten_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance { left: AT_ONCE, at: start };
        let mut taken = |after: Duration| (0..1_000).filter(|_| allowance.take(start + after)).count();
        assert_eq!(taken(Duration::ZERO), 30);
        assert_eq!(taken(Duration::from_millis(50)), 0);
        assert_eq!(taken(Duration::from_millis(1_050)), 10);
        assert_eq!(taken(Duration::from_secs(999)), 30);
    }
}
