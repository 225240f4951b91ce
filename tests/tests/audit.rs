//! What the audit says, in both formats of the log: one line for each event, with what was shown to the client, and
//! nothing that a name could forge.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moorline_client::{Client, ClientBuilder};
use moorline_protocol::{
    client::{ConnectFailure, Status},
    subject::{Subject, Tenant},
};
use moorline_server::{
    Admit,
    config::{JwtAlgorithm, Secret},
    prelude::*,
    token::{self, Grant},
};
use moorline_tests::{TestResult, TestServer, raw::PATIENCE};
use serde_json::Value;
use tokio::time::timeout;
use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

const SECRET: &str = "a secret of thirty-two bytes or more";
const CANARY: &str = "canary-51ac";

/// Text that would begin a line of its own, clear a terminal, and pass for another field.
const FORGED: &str =
    "x\n2026-01-01T00:00:00Z  INFO moorline::audit: event=\"accept\" subject=root\r\u{1b}[2J\u{9b}1m\u{202e}";

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn judge(attempt: Attempt) -> Result<Admit, Fail> {
    let data: Value = attempt.data()?;
    let text = |name: &str| data[name].as_str().map(str::to_owned);
    if let Some(code) = text("refuse") {
        return Err(Fail::new(&code, code.clone()));
    }
    let name = text("name").unwrap_or_default();
    let tenant = Tenant::new(&name)?;
    let admit = Admit::new(Principal::new(Subject::new(tenant, &name)?));
    Ok(if data["brief"].is_null() { admit } else { admit.for_a(Duration::from_millis(100)) })
}

/// Why a client is not let in, or is closed.
async fn failure(builder: ClientBuilder) -> Result<ConnectFailure, Box<dyn std::error::Error>> {
    let client = builder.configure(|config| config.backoff = None).connect()?;
    let ended = client.wait_for(|status| matches!(status, Status::Closed(_)));
    match timeout(PATIENCE, ended).await? {
        Ok(Status::Closed(Some(failure))) | Err(moorline_client::Error::Closed(Some(failure))) => Ok(failure),
        other => Err(format!("{other:?}").into()),
    }
}

/// The one event of the audit that has all of these fields.
fn event(log: &Log, fields: &[(&str, &str)]) -> Result<Value, Box<dyn std::error::Error>> {
    let events = log.text();
    let events = events.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let matching =
        events.into_iter().filter(|event| fields.iter().all(|(name, value)| event[*name].as_str() == Some(value)));
    let mut matching = matching.collect::<Vec<_>>();
    match (matching.pop(), matching.len()) {
        (Some(event), 0) => Ok(event),
        (found, others) => Err(format!("{fields:?}: {found:?} and {others} more in {}", log.text()).into()),
    }
}

/// Waits for an event; the server writes some after its client knows.
async fn awaited(log: &Log, fields: &[(&str, &str)]) -> Result<Value, Box<dyn std::error::Error>> {
    let found = async {
        while event(log, fields).is_err() {
            tokio::task::yield_now().await;
        }
    };
    let _ = timeout(PATIENCE, found).await;
    event(log, fields)
}

/// One test: what is logged is one for the process.
#[tokio::test]
async fn every_event_is_one_line_with_the_reference_that_the_client_was_shown_and_no_name_forges_any() -> TestResult {
    let (pretty, json) = (Log::default(), Log::default());
    let (writes, writes_json) = (pretty.clone(), json.clone());
    let filter = || "moorline::audit=trace,info".parse::<Targets>();
    // As the program has them.
    let lines = fmt::layer().with_writer(move || writes.clone()).with_ansi(false).with_filter(filter()?);
    let json_lines =
        fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(move || writes_json.clone());
    tracing_subscriber::registry().with(lines).with(json_lines.with_filter(filter()?)).try_init()?;

    let directory = tempfile::tempdir()?;
    let server = TestServer::start_with(Server::builder().auth(judge).control(), |config| {
        config.server.data_dir = directory.path().to_owned();
        config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
        config.auth.jwt.secret = Some(Secret::new(SECRET));
    })
    .await?;
    let mut config = Config::default();
    config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
    config.auth.jwt.secret = Some(Secret::new(SECRET));
    let issued = token::issue(&config, &Grant::new(&config, FORGED))?;
    let by_token = issued.token;

    // Let in, by either way, with a name that forges.
    let with = |data: Value| server.client()?.auth(&data);
    let ann = with(serde_json::json!({ "name": FORGED, "more": CANARY }))?.connect()?;
    let session = timeout(PATIENCE, ann.ready()).await??.id.to_string();
    let accepted = awaited(&json, &[("event", "accept"), ("session", &session)]).await?;
    assert_eq!((&accepted["way"], &accepted["resumed"]), (&"auth handler".into(), &false.into()));
    for field in ["subject", "tenant"] {
        let name = accepted[field].as_str().ok_or("no name")?;
        assert!(name.starts_with("x\\u{a}2026-01-01") && !name.contains([' ', '=', '"']), "{name}");
    }
    assert!(accepted["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")));
    let bob: Client = server.client()?.token(&by_token).connect()?;
    let other = timeout(PATIENCE, bob.ready()).await??.id.to_string();
    assert_eq!(awaited(&json, &[("event", "accept"), ("session", &other)]).await?["way"], "jwt");
    ann.close().await;
    let gone = awaited(&json, &[("event", "disconnect"), ("session", &session)]).await?;
    assert_eq!((&gone["reason"], &gone["over"]), (&"bye".into(), &true.into()));

    // Taken back. That his session is over by it is no event of its own: see the end.
    #[cfg(unix)]
    {
        use moorline_server::control::{self, Request, Revocation};

        let (path, jti) = (directory.path().to_owned(), issued.id);
        let revoke =
            move || control::Client::connect(path)?.ask::<Value>(&Request::TokenRevoke(Revocation::Token { jti }));
        tokio::task::spawn_blocking(revoke).await??;
        let revoked = awaited(&json, &[("event", "revoke"), ("session", &other)]).await?;
        assert_eq!((&revoked["way"], &revoked["undelivered"]), (&"jwt".into(), &0.into()));
        assert!(revoked["ref"].is_string(), "{revoked}");
    }

    // Refused, with a megabyte for a code; and by a token that is none.
    let long = format!("{FORGED}{}", "x".repeat(1 << 20));
    // What a client can show is 8 KiB; the application makes of it what it likes.
    let refuse = move |_: Attempt| {
        let long = long.clone();
        async move { Err::<Admit, _>(Fail::new(&long, long.clone())) }
    };
    let strict = TestServer::start(Server::builder().auth(refuse)).await?;
    let builder = strict.client()?.auth(&serde_json::json!({ "password": CANARY }))?;
    let refused = failure(builder).await?;
    let reference = refused.reference.ok_or("no reference")?.to_string();
    let line = awaited(&json, &[("event", "refuse"), ("ref", &reference)]).await?;
    assert!(line["code"].as_str().is_some_and(|code| code.len() < 2_000 && code.ends_with('…')), "{line}");
    assert_eq!(line["way"], "auth handler");
    let refused = failure(server.client()?.token(&format!("{CANARY}.y.z"))).await?;
    let reference = refused.reference.ok_or("no reference")?.to_string();
    let line = awaited(&json, &[("event", "refuse"), ("ref", &reference)]).await?;
    assert_eq!((&line["code"], &line["way"]), (&"unauthorized".into(), &"jwt".into()));

    // Over by time.
    let ended = failure(with(serde_json::json!({ "name": "brief", "brief": true }))?).await?;
    let reference = ended.reference.ok_or("no reference")?.to_string();
    awaited(&json, &[("event", "expire"), ("ref", &reference), ("subject", "brief")]).await?;

    // A revoked token left two lines, one that it was revoked and one that its connection was gone.
    #[cfg(unix)]
    assert!(event(&json, &[("event", "disconnect"), ("session", &other)]).is_err());

    // Each line is one event: it begins with its time, and holds nothing that a terminal obeys.
    let text = pretty.text();
    assert_eq!(text.lines().count(), json.text().lines().count());
    for line in text.lines() {
        let time = line.split('Z').next().unwrap_or_default();
        assert!(time.starts_with("20") && time.len() > 18 && line.len() < 4_000, "{line}");
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert_eq!(line.matches(" event=").count(), usize::from(line.contains("moorline::audit:")), "{line}");
    }
    for log in [text, json.text()] {
        assert!(!log.contains(CANARY) && !log.contains(&by_token), "payloads and tokens stay out");
    }
    Ok(())
}

/// Control: the same names, written by the same layer without being escaped.
#[test]
fn a_name_that_is_not_escaped_begins_a_line_of_its_own_and_forges_an_event() {
    let log = Log::default();
    let writes = log.clone();
    let lines = fmt::layer().with_writer(move || writes.clone()).with_ansi(false);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        tracing::info!(target: "moorline::audit", event = "refuse", subject = %FORGED);
        tracing::info!(target: "moorline::audit", event = "refuse", subject = %"x".repeat(1 << 20));
    });
    let text = log.text();
    let [first, forged, .., long] = &text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(first.ends_with("subject=x"), "{first}");
    assert!(
        forged.starts_with("2026-01-01T00:00:00Z  INFO moorline::audit: event=\"accept\" subject=root"),
        "{forged}"
    );
    assert!(text.contains('\u{202e}') && long.len() > 1 << 20);
}
