//! `POST /api/token`: a token for somebody else, made for whoever has one with the scope `token.issue`.
//!
//! The rules and the format are in `docs/AUTH.md` § Issuing. Pages may ask under the same rules of `Origin` as sockets.
//! What is wrong with the token that was shown is told to nobody but the log.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Refusal, Remote};
use crate::{
    access::{
        issue::{ISSUE, IssueError, Issuing, Wish, delegate},
        verified::Verified,
    },
    audit::{About, Way},
    limits::TooMuch,
    shared::Shared,
};

pub(super) const PATH: &str = "/api/token";

/// Largest request: what a token of 8 KiB can say, with room for how JSON writes it.
const MAX_BODY: usize = 16 * 1024;

/// Why there is no token.
enum Denied {
    /// The request is not one.
    Request(StatusCode, &'static str),
    /// Its address asks too often, or has guessed too often; there will be room so much later.
    TooMany(Duration),
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
            Self::TooMany(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Wait; Retry-After says how long.".to_owned())
            }
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
            Self::Request(..) | Self::TooMany(_) | Self::Declined(..) | Self::Internal => None,
        };
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Self::TooMany(wait) = self {
            response.headers_mut().insert(header::RETRY_AFTER, super::retry_after(wait));
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
    let Some(Remote(address)) = request.extensions().get::<Remote>().copied() else { return Err(Denied::Internal) };
    let limit = |TooMuch { limit, retry_after }: TooMuch| {
        shared.metrics.limit(limit);
        shared.audit.limit_address(About::address(address), limit);
        Denied::TooMany(retry_after)
    };
    shared.limits.ask_for_token(address.ip(), Instant::now()).map_err(limit)?;
    let shown = bearer(request.headers())?;
    let undecided = shared.limits.attempt(address.ip(), Instant::now()).map_err(limit)?;
    let own = authenticate(shared, issuing, shown, address).await?;
    drop(undecided);
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

/// The token that is shown.
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (shown.next(), shown.next()) {
        (None, _) => return Err(Denied::NoToken),
        (Some(_), Some(_)) => return Err(Denied::Request(StatusCode::BAD_REQUEST, "One Authorization is enough.")),
        (Some(one), None) => one.to_str().ok().and_then(|text| text.split_once(' ')),
    };
    let (_, token) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).ok_or(Denied::NoToken)?;
    Ok(token.trim())
}

/// Who asks, if he may.
async fn authenticate(
    shared: &Shared,
    issuing: &Issuing,
    token: &str,
    address: SocketAddr,
) -> Result<Verified, Denied> {
    let verified = issuing.verifier.verify_bearer(token, SystemTime::now()).await.map_err(|error| {
        if error.is_guess() {
            shared.limits.fail(address.ip(), Instant::now());
        }
        let about = About { way: Some(Way::Jwt), ..About::address(address) };
        shared.audit.refuse(about, "token_request", &error.to_string());
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
