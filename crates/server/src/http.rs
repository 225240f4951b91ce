//! The HTTP side of the listener: the identity document and the upgrade on one path, `token` on another, static files on
//! the rest.

mod token;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::any,
};
use base64ct::{Base64, Encoding as _};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use moorline_protocol::{
    code::Code,
    record::{SUBPROTOCOL, SUBPROTOCOL_PLAIN},
};
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::either::Either;
use tower_http::{compression::CompressionLayer, services::ServeDir};

use crate::{
    access::{self, Denied},
    audit::About,
    connection,
    limits::{Held, Origin, TooMuch},
    listener::Terms,
    metrics::RefusedUpgrade,
    newcomer::{Io, Place},
    proxy_protocol::{Arrival, ProxyProtocol},
    shared::Shared,
};

/// TCP connections beyond those that may hold a WebSocket: for documents, pages and refusals.
const SPARE_SOCKETS: usize = 512;

/// How long a full server asks to be left alone.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// Of the document and of every refusal: a page of any origin may read what it is told, and nobody keeps it.
const JSON: [(header::HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "application/json"),
    (header::CACHE_CONTROL, "no-store"),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
];

/// Whose a request is: the client's address, whatever proxies it has come through.
#[derive(Clone, Copy)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// What the public listener serves, and its limits.
pub(crate) fn terms(shared: &Arc<Shared>) -> Terms {
    let config = &shared.config;
    Terms {
        router: routes(shared.clone(), &config.server.path, config.server.public.as_deref()),
        sockets: config.limits.connections + SPARE_SOCKETS,
        limited: Some(shared.clone()),
        head: config.timeouts.upgrade,
        tasks: shared.tasks.clone(),
        proxies: config.server.proxy_protocol.then(|| ProxyProtocol {
            trusted: config.server.trusted_proxies.clone(),
            deadline: config.timeouts.upgrade,
        }),
        #[cfg(feature = "tls")]
        tls: shared.tls.clone().map(|tls| (tls, config.timeouts.tls_accept)),
    }
}

fn routes(shared: Arc<Shared>, path: &str, files: Option<&Path>) -> Router {
    let mut router = Router::new()
        .route(path, any(endpoint))
        .route("/.well-known/moorline", any(endpoint))
        .route(token::PATH, any(token::serve));
    #[cfg(feature = "testing")]
    if let Some(echo) = shared.echo {
        let answer = move |State(shared): State<Arc<Shared>>, request: Request| async move {
            upgrade(&shared, request, Speaks::Echo(echo)).unwrap_or_else(|refusal| refusal.of_upgrade(&shared))
        };
        router = router.route(crate::testing::ECHO_PATH, any(answer));
    }
    if let Some(files) = files {
        // `ServeDir` knows the types, ranges and Last-Modified; a `.br` or `.gz` beside a file is sent in its place.
        let files = ServeDir::new(files).precompressed_br().precompressed_gzip();
        router = router.fallback_service(static_files(files));
    }
    router
        .layer(middleware::from_fn_with_state(shared.clone(), check_host))
        .layer(middleware::from_fn_with_state(shared.clone(), headers))
        .with_state(shared)
}

/// What browsers are told with every page, document and refusal. A WebSocket has no use for it.
async fn headers(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().extend(shared.headers.iter().cloned());
    }
    response
}

/// Static files, compressed where the client takes it, cached where the name says that the content never changes.
fn static_files(files: ServeDir) -> Router {
    Router::new()
        .fallback_service(files)
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn(cache_control))
        .layer(middleware::from_fn(hide_dotfiles))
}

/// What begins with a dot is the author's and not the page's: `.git`, `.env`, `.htpasswd`.
async fn hide_dotfiles(request: Request, next: Next) -> Response {
    if is_hidden(request.uri().path()) { StatusCode::NOT_FOUND.into_response() } else { next.run(request).await }
}

/// Whether a part of this path begins with a dot, save `.well-known` at the root (RFC 8615), or it does not decode, so
/// that nobody can say.
fn is_hidden(path: &str) -> bool {
    let Some(path) = percent_decode(path) else { return true };
    let mut parts = path.split(['/', '\\']).filter(|part| !part.is_empty()).peekable();
    parts.next_if_eq(&".well-known");
    parts.any(|part| part.starts_with('.'))
}

async fn cache_control(request: Request, next: Next) -> Response {
    let hashed = is_hashed(request.uri().path());
    let mut response = next.run(request).await;
    if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
        let value = if hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
    }
    response
}

/// Whether bundlers made this name from the content: `assets/NAME-HASH.EXT` with a hash of at least eight characters.
fn is_hashed(path: &str) -> bool {
    let Some((_, file)) = path.rsplit_once("/assets/") else { return false };
    let stem = file.split('.').next().unwrap_or_default();
    // A hash may itself hold a dash, so the test is on what follows the first one.
    stem.split_once('-').is_some_and(|(_, hash)| hash.len() >= 8)
}

async fn check_host(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    if let Some(arrival) = request.extensions().get::<Arrival>().copied() {
        let client = shared.callers.address(arrival, request.headers());
        request.extensions_mut().insert(Remote(client));
    }
    // RFC 9112 § 3.2: of several the proxy in front may have believed another one than we would.
    let refusal = if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
        Refusal::bad_request()
    } else {
        match shared.access.check_host(request.headers()) {
            Ok(()) => return next.run(request).await,
            Err(denied) => Refusal::denied(denied, &request, &shared),
        }
    };
    if wants_upgrade(request.headers()) { refusal.of_upgrade(&shared) } else { refusal.response }
}

async fn endpoint(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return ([(header::ALLOW, "GET")], StatusCode::METHOD_NOT_ALLOWED).into_response();
    }
    let headers = request.headers();
    let upgrading = wants_upgrade(headers);
    let origin = match headers.get(header::ORIGIN) {
        Some(origin) => Some(origin.to_str().unwrap_or("null").to_owned()),
        // A page's GET to its own host has no Origin; when it asks why its socket was refused, it says it here.
        None => query(&request, "origin"),
    };
    if let Err(denied) = shared.access.check_origin(headers, origin.as_deref()) {
        let refusal = Refusal::denied(denied, &request, &shared);
        return if upgrading { refusal.of_upgrade(&shared) } else { refusal.response };
    }
    if !upgrading {
        return document(&shared, &request);
    }
    upgrade(&shared, request, Speaks::Moorline).unwrap_or_else(|refusal| refusal.of_upgrade(&shared))
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

fn query(request: &Request, name: &str) -> Option<String> {
    let pair = request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    percent_decode(pair)
}

/// Undoes percent-encoding; `None` when what is left is no text.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// Whether a comma-separated header holds this word.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut words = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// A full server has nothing to offer to who reads the document; and whoever asks why its socket was refused hears it.
fn document(shared: &Shared, request: &Request) -> Response {
    if shared.connections.available_permits() == 0 {
        return refuse_for_lack_of_room();
    }
    if let Some(Remote(address)) = request.extensions().get::<Remote>()
        && let Err(too_much) = shared.limits.would_enter(address.ip(), Instant::now())
    {
        return refuse_for_now(too_much);
    }
    (JSON, shared.published.document()).into_response()
}

/// Why a request gets nothing, and how it is told.
struct Refusal {
    reason: RefusedUpgrade,
    response: Response,
}

impl Refusal {
    fn new(reason: RefusedUpgrade, response: impl IntoResponse) -> Self {
        Self { reason, response: response.into_response() }
    }

    fn bad_request() -> Self {
        Self::new(RefusedUpgrade::Request, StatusCode::BAD_REQUEST)
    }

    fn denied(denied: Denied, request: &Request, shared: &Shared) -> Self {
        let (status, reason) = match denied {
            Denied::HostInOpenMode | Denied::Host => (StatusCode::MISDIRECTED_REQUEST, RefusedUpgrade::Host),
            Denied::ProxyInOpenMode => (StatusCode::MISDIRECTED_REQUEST, RefusedUpgrade::Proxy),
            Denied::Origin => (StatusCode::FORBIDDEN, RefusedUpgrade::Origin),
        };
        let address = request.extensions().get::<Remote>().map(|remote| tracing::field::display(remote.0));
        match shared.warnings.of(denied).next(Instant::now()) {
            Some(left_out) => {
                tracing::warn!(address, reason = ?denied, remedy = denied.remedy(), left_out, "a request was refused");
            }
            // Whoever asks for so much may have it.
            None => tracing::debug!(address, reason = ?denied, "a request was refused"),
        }
        Self::new(reason, refuse(status, denied.code(), denied.remedy()))
    }

    /// The response, counted.
    fn of_upgrade(self, shared: &Shared) -> Response {
        shared.metrics.refuse_upgrade(self.reason);
        self.response
    }
}

/// A refusal that the SDK reads when it asks why the socket did not open.
fn refuse(status: StatusCode, code: Code, remedy: &str) -> Response {
    let summary = code.entry().map_or("", |entry| entry.summary);
    let body = serde_json::json!({ "error": { "code": code.to_string(), "message": summary, "remedy": remedy } });
    (status, JSON, body.to_string()).into_response()
}

fn refuse_for_lack_of_room() -> Response {
    let mut response =
        refuse(StatusCode::SERVICE_UNAVAILABLE, Code::SERVER_FULL, "Wait, or raise [limits] connections.");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(FULL_RETRY.as_secs()));
    response
}

/// RFC 6585 § 4; the same for all limits, so that nobody learns by it what others do.
fn refuse_for_now(TooMuch { retry_after, .. }: TooMuch) -> Response {
    let mut response =
        refuse(StatusCode::TOO_MANY_REQUESTS, Code::RATE_LIMITED, "Wait; the server's [limits] may be raised.");
    response.headers_mut().insert(header::RETRY_AFTER, self::retry_after(retry_after));
    response
}

/// Whole seconds, the last of them begun.
fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs().saturating_add(1))
}

/// Whether this is what a client of RFC 6455 § 4.1 sends: 16 bytes in base64.
fn is_websocket_key(key: &[u8]) -> bool {
    Base64::decode(key, &mut [0; 16]).is_ok_and(|decoded| decoded.len() == 16)
}

/// What is spoken on a WebSocket once it is open.
#[derive(Clone, Copy)]
enum Speaks {
    Moorline,
    #[cfg(feature = "testing")]
    Echo(crate::testing::Echo),
}

impl Speaks {
    /// The subprotocol that both sides name.
    fn agree(self, shared: &Shared, request: &Request) -> Result<Option<&'static str>, Refusal> {
        match self {
            Self::Moorline => agree(shared, request).map(Some),
            #[cfg(feature = "testing")]
            Self::Echo(_) => Ok(None),
        }
    }

    /// A place among the sockets of the address.
    fn enter(self, shared: &Shared, address: SocketAddr) -> Result<Option<Held<Origin>>, Refusal> {
        match self {
            Self::Moorline => shared.limits.enter(address.ip(), Instant::now()).map_err(|too_much| {
                shared.metrics.limit(too_much.limit);
                shared.audit.limit_address(About::address(address), too_much.limit);
                Refusal::new(RefusedUpgrade::Limited, refuse_for_now(too_much))
            }),
            #[cfg(feature = "testing")]
            Self::Echo(_) => Ok(None),
        }
    }

    async fn serve(self, socket: Io, read: Bytes, shared: Arc<Shared>, address: SocketAddr, place: Place) {
        match self {
            Self::Moorline => connection::serve(socket, read, shared, address, place).await,
            #[cfg(feature = "testing")]
            Self::Echo(echo) => {
                echo.serve(socket, read).await;
                drop(place);
            }
        }
    }
}

/// What a Moorline client's request says beyond that of any WebSocket. Gives the subprotocol.
fn agree(shared: &Shared, request: &Request) -> Result<&'static str, Refusal> {
    if request.uri().query().is_some() {
        let remedy = "The URL must have no query: what is secret would end up in logs.";
        let response = refuse(StatusCode::BAD_REQUEST, Code::INVALID_URL, remedy);
        return Err(Refusal::new(RefusedUpgrade::Query, response));
    }
    let headers = request.headers();
    let (subprotocol, other) = match shared.encryption_is_on() {
        true => (SUBPROTOCOL, SUBPROTOCOL_PLAIN),
        false => (SUBPROTOCOL_PLAIN, SUBPROTOCOL),
    };
    if !has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, subprotocol) {
        let mismatch = has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, other);
        let code = if mismatch { Code::ENCRYPTION_MISMATCH } else { Code::VERSION_UNSUPPORTED };
        let remedy = format!("This server speaks the subprotocol {subprotocol}.");
        let response = refuse(StatusCode::BAD_REQUEST, code, &remedy);
        return Err(Refusal::new(RefusedUpgrade::Subprotocol, response));
    }
    Ok(subprotocol)
}

fn upgrade(shared: &Arc<Shared>, mut request: Request, speaks: Speaks) -> Result<Response, Refusal> {
    let headers = request.headers();
    if request.version() != Version::HTTP_11 || !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(Refusal::bad_request());
    }
    if access::text(headers, header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
        return Err(Refusal::new(RefusedUpgrade::Request, (StatusCode::UPGRADE_REQUIRED, version)));
    }
    let subprotocol = speaks.agree(shared, &request)?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| is_websocket_key(key.as_bytes()));
    let Some(key) = key.cloned() else {
        return Err(Refusal::bad_request());
    };
    let Some(Remote(address)) = request.extensions().get::<Remote>().copied() else {
        return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    };
    // Before the place of the server is asked for: who comes too often is told so also by a full one.
    let held = speaks.enter(shared, address)?;
    let Ok(permit) = shared.connections.clone().try_acquire_owned() else {
        if let Some(left_out) = shared.warnings.full.next(Instant::now()) {
            tracing::warn!(left_out, "a connection was refused: the server is full");
        }
        return Err(Refusal::new(RefusedUpgrade::Full, refuse_for_lack_of_room()));
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let (place, shared) = (Place::new(permit, shared.metrics.open(), held), shared.clone());
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        // The raw stream, so that a message does not pass through another buffer and a virtual call.
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => {
                let socket = Either::Left(parts.io.into_inner());
                speaks.serve(socket, parts.read_buf, shared, address, place).await;
            }
            // With TLS that call is small beside the TLS.
            Err(upgraded) => {
                let socket = Either::Right(TokioIo::new(upgraded));
                speaks.serve(socket, Bytes::new(), shared, address, place).await;
            }
        }
    });
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).unwrap_or(HeaderValue::from_static(""));
    let headers = [
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    if let Some(subprotocol) = subprotocol {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_made_from_the_content_are_cached_for_good() {
        for path in ["/assets/index-B2xk9_aQ.js", "/app/assets/core-DeadBeef.wasm", "/assets/index-Ab-cdef12.css"] {
            assert!(is_hashed(path), "{path}");
        }
        for path in ["/index.html", "/assets/logo.svg", "/assets/my-logo.svg", "/index-B2xk9_aQ.js"] {
            assert!(!is_hashed(path), "{path}");
        }
    }

    /// A directory with the page in it often has more: `--public .` gave `.git` and `.env` to everybody.
    #[test]
    fn regression_what_begins_with_a_dot_is_served_to_nobody() {
        for path in [
            "/.env",
            "/.git/HEAD",
            "/.git",
            "/app/.env.local",
            "//.env",
            "/%2eenv",
            "/%2Egit/config",
            "/app%2f.env",
            "/app%5c.env",
            "/./.env",
            "/.well-known/.env",
            "/app/.well-known/x",
            "/.well-known%00/x",
            "/.env%",
            "/%ff",
        ] {
            assert!(is_hidden(path), "{path}");
        }
        for path in ["/", "/index.html", "/.well-known/security.txt", "/a.b/c.tar.gz", "/a..b", "/100%25", "/%C3%A9"] {
            assert!(!is_hidden(path), "{path}");
        }
    }

    #[test]
    fn a_websocket_key_is_16_bytes_in_base64() {
        assert!(is_websocket_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZSE=",
            "dGhlIHNhbXBsZSBub25j",
            "____________________-Q==",
        ] {
            assert!(!is_websocket_key(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        assert_eq!(percent_decode("http%3A%2F%2Fa%3a80").as_deref(), Some("http://a:80"));
        assert_eq!(percent_decode("%4"), None);
        assert_eq!(percent_decode("%zz"), None);
        assert_eq!(percent_decode("%ff"), None);
    }
}
