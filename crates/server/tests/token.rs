//! `POST /api/token` of a server that runs: who gets a token, and that it says no more than it may.

use std::{error::Error, time::Duration};

use moorline_server::{
    Config, Server,
    config::{JwtAlgorithm, Secret},
    protocol::scope::{Operation, Scope, Scopes},
    token::{self, Grant},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// Longer than any of this takes: what fails is to fail, not to hang.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    config: Config,
    authority: String,
    serving: JoinHandle<()>,
    _directory: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> TestResult<Value> {
        Ok(serde_json::from_str(&self.body)?)
    }

    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line.eq_ignore_ascii_case(header))
    }
}

impl Running {
    async fn start(change: impl FnOnce(&mut Config)) -> TestResult<Self> {
        let directory = TempDir::new()?;
        let mut config = Config::default();
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.server.data_dir = directory.path().to_owned();
        config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
        config.auth.jwt.secret = Some(Secret::new("a secret of tests, 32 bytes or more"));
        config.auth.jwt.audience = vec!["app".into()];
        change(&mut config);
        let server = Server::builder().config(config.clone()).build().await?;
        let authority = server.local_addr().to_string();
        let serving = tokio::spawn(async move {
            // It serves until the test is over, and none of its ends are of interest here.
            let _ = server.serve(std::future::pending()).await;
        });
        Ok(Self { config, authority, serving, _directory: directory })
    }

    /// A token with these scopes, made with the server's key.
    fn token(&self, scopes: &str) -> TestResult<String> {
        let mut grant = Grant::new(&self.config, "root");
        grant.scopes = Some(scopes.split_whitespace().map(Scope::parse).collect::<Result<_, _>>()?);
        Ok(token::issue(&self.config, &grant)?.token)
    }

    async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> TestResult<Answer> {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{lines}\r\n{body}",
            self.authority,
            body.len()
        );
        timeout(PATIENCE, async {
            let mut socket = TcpStream::connect(&self.authority).await?;
            // A server that refuses may not read to the end.
            let _ = socket.write_all(request.as_bytes()).await;
            let mut text = String::new();
            socket.read_to_string(&mut text).await?;
            let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
            let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
            Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
        })
        .await?
    }

    /// Asks for a token as a program would.
    async fn ask(&self, shown: &str, wish: &Value) -> TestResult<Answer> {
        let bearer = format!("Bearer {shown}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        self.send("POST", "/api/token", &headers, &wish.to_string()).await
    }
}

#[tokio::test]
async fn whoever_may_gets_a_token_that_is_believed() -> TestResult {
    let server = Running::start(|_| {}).await?;
    let admin = server.token("token.issue call:**")?;
    let answer = server.ask(&admin, &json!({ "sub": "ann", "scope": "call:say", "exp": "90d" })).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.has("cache-control: no-store") && answer.has("content-type: application/json"), "{}", answer.head);
    let said = answer.json()?;
    let made = said["token"].as_str().ok_or("no token")?;
    let verified = token::verify(&server.config, made, None).await?;
    assert_eq!(verified.principal.subject.name(), "ann");
    assert!(verified.principal.scopes.may(None, Operation::call("say")));
    assert_eq!(verified.principal.scopes, Scopes::from_text("call:say")?);
    assert_eq!((&verified.claims["aud"], &verified.claims["jti"]), (&json!("app"), &said["jti"]));
    let claims = &verified.claims;
    let lasts = claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(end, begin)| end - begin);
    assert_eq!((lasts, &claims["exp"]), (Some(30 * 86_400), &said["expires"]), "capped, and told");
    Ok(())
}

#[tokio::test]
async fn whoever_may_not_is_told_so_and_not_why() -> TestResult {
    let server = Running::start(|_| {}).await?;
    let wish = json!({ "sub": "ann", "scope": "" });
    let none = server.send("POST", "/api/token", &[("Content-Type", "application/json")], &wish.to_string()).await?;
    assert_eq!(none.status, 401);
    assert!(none.has("www-authenticate: Bearer realm=\"moorline\""), "{}", none.head);
    let basic = server.send("POST", "/api/token", &[("Authorization", "Basic cm9vdA==")], "").await?;
    assert_eq!(basic.status, 401);

    let other = Running::start(|config| {
        config.auth.jwt.secret = Some(Secret::new("another secret, of 32 bytes or more"));
    })
    .await?;
    let mut bound = Grant::new(&server.config, "root");
    (bound.client_key, bound.scopes) = (Some([7; 32]), Some(vec![Scope::parse("token.issue")?]));
    let mut elsewhere = Grant::new(&server.config, "root");
    elsewhere.audience = "other".into();
    let mut bodies = Vec::new();
    for token in [
        "x".to_owned(),
        "x".repeat(9_000),
        other.token("token.issue")?,
        token::issue(&server.config, &bound)?.token,
        token::issue(&server.config, &elsewhere)?.token,
    ] {
        let answer = server.ask(&token, &wish).await?;
        assert_eq!(answer.status, 401, "{}", answer.body);
        assert!(answer.has("www-authenticate: Bearer realm=\"moorline\", error=\"invalid_token\""), "{}", answer.head);
        bodies.push(answer.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");

    let unlisted = token::issue(&server.config, &Grant::new(&server.config, "root"))?.token;
    for token in [server.token("call:** token.read")?, server.token("")?, unlisted] {
        let answer = server.ask(&token, &wish).await?;
        assert_eq!(answer.status, 403);
        assert!(
            answer.has(
                "www-authenticate: Bearer realm=\"moorline\", error=\"insufficient_scope\", scope=\"token.issue\""
            )
        );
    }
    Ok(())
}

#[tokio::test]
async fn nothing_beyond_ones_own_is_handed_on() -> TestResult {
    let server = Running::start(|_| {}).await?;
    let admin = server.token("token.issue call:game:* topic.publish:room:*")?;
    for scope in ["call:**", "topic.publish:**", "store.read:x", "game.write", "token.issue"] {
        let answer = server.ask(&admin, &json!({ "sub": "ann", "scope": scope })).await?;
        assert_eq!((answer.status, answer.json()?["error"]["code"].as_str()), (403, Some("forbidden")), "{scope}");
    }
    for wish in [
        json!({ "sub": "ann" }),
        json!({ "sub": "ann", "scope": "tpic.publish:x" }),
        json!({ "sub": "ann", "scope": "", "exp": "1" }),
        json!({ "sub": "", "scope": "" }),
        json!({ "sub": "anonymous", "scope": "" }),
        json!({ "sub": "ann", "scope": "", "tenant": "rival" }),
        json!({ "sub": "ann", "scope": "", "aud": "other" }),
        json!({ "sub": "ann", "scope": "", "meta": "x".repeat(9_000) }),
    ] {
        let answer = server.ask(&admin, &wish).await?;
        assert_eq!(answer.status, 400, "{wish}: {}", answer.body);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_with_its_status() -> TestResult {
    let server = Running::start(|_| {}).await?;
    let admin = format!("Bearer {}", server.token("token.issue")?);
    let bearer = ("Authorization", admin.as_str());
    let (json, wish) = (("Content-Type", "application/json; charset=utf-8"), r#"{"sub":"ann","scope":""}"#);
    let status = async |method, target, headers: &[(&str, &str)], body: &str| {
        Ok::<_, Box<dyn Error>>(server.send(method, target, headers, body).await?.status)
    };
    assert_eq!(status("POST", "/api/token", &[bearer, json], wish).await?, 200);
    assert_eq!(status("POST", "/api/token?token=x", &[bearer, json], wish).await?, 400);
    assert_eq!(status("POST", "/api/token", &[bearer, bearer, json], wish).await?, 400);
    assert_eq!(status("GET", "/api/token", &[bearer], "").await?, 405);
    assert_eq!(status("POST", "/api/token", &[bearer], wish).await?, 415);
    assert_eq!(status("POST", "/api/token", &[bearer, ("Content-Type", "text/plain")], wish).await?, 415);
    assert_eq!(status("POST", "/api/token", &[bearer, json], "{").await?, 400);
    assert_eq!(status("POST", "/api/token", &[bearer, json], &" ".repeat(16 * 1024 + 1)).await?, 413);
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() -> TestResult {
    let server = Running::start(|config| config.timeouts.upgrade = Duration::from_secs(1)).await?;
    let mut socket = TcpStream::connect(&server.authority).await?;
    let head = format!(
        "POST /api/token HTTP/1.1\r\nHost: {}\r\nContent-Length: 24\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {}\r\n\r\n",
        server.authority,
        server.token("token.issue")?
    );
    socket.write_all(head.as_bytes()).await?;
    let mut line = [0; 12];
    timeout(PATIENCE, socket.read_exact(&mut line)).await??;
    assert_eq!(&line, b"HTTP/1.1 408");
    Ok(())
}

#[tokio::test]
async fn pages_ask_under_the_rules_of_sockets() -> TestResult {
    let server = Running::start(|_| {}).await?;
    let page = "http://localhost:5173";
    let asked = [("Origin", page), ("Access-Control-Request-Method", "POST")];
    let answer = server.send("OPTIONS", "/api/token", &asked, "").await?;
    assert_eq!(answer.status, 204);
    for header in [
        "access-control-allow-origin: http://localhost:5173",
        "access-control-allow-methods: POST",
        "access-control-allow-headers: authorization, content-type",
        "vary: Origin",
    ] {
        assert!(answer.has(header), "{header}: {}", answer.head);
    }
    let bearer = format!("Bearer {}", server.token("token.issue")?);
    for (origin, status) in [(page, 200), ("https://evil.example", 403), ("null", 403)] {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Origin", origin)];
        let answer = server.send("POST", "/api/token", &headers, r#"{"sub":"ann","scope":""}"#).await?;
        assert_eq!(answer.status, status, "{origin}");
        assert_eq!(answer.has(&format!("access-control-allow-origin: {origin}")), status == 200, "{origin}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_key_that_signs_there_is_no_such_place() -> TestResult {
    let server = Running::start(|config| config.auth = Default::default()).await?;
    for method in ["POST", "GET", "OPTIONS"] {
        assert_eq!(server.send(method, "/api/token", &[], "").await?.status, 404, "{method}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_beyond_the_allowance_wait() -> TestResult {
    let server = Running::start(|_| {}).await?;
    let mut status = 401;
    let mut asked = 0;
    // The allowance fills by ten a second; no machine is slow enough to ask less often than that for good.
    while status == 401 && asked < 10_000 {
        let answer = server.send("POST", "/api/token", &[], "").await?;
        (status, asked) = (answer.status, asked + 1);
        assert!(status == 401 || answer.has("retry-after: 1"), "{}", answer.head);
    }
    assert_eq!(status, 429);
    assert!(asked > 30);
    Ok(())
}

#[tokio::test]
async fn one_address_does_not_keep_another_from_a_token() -> TestResult {
    let server =
        Running::start(|config| config.server.trusted_proxies = vec!["127.0.0.1".parse().expect("one")]).await?;
    let admin = format!("Bearer {}", server.token("token.issue")?);
    let ask = async |address: &str| {
        let headers =
            [("Authorization", admin.as_str()), ("Content-Type", "application/json"), ("X-Forwarded-For", address)];
        server.send("POST", "/api/token", &headers, r#"{"sub":"ann","scope":""}"#).await
    };
    let mut asked = 0;
    while ask("203.0.113.9").await?.status == 200 {
        asked += 1;
        assert!(asked < 10_000);
    }
    assert!(asked >= 30);
    let refused = ask("1.1.1.1, 203.0.113.9").await?;
    assert!(refused.status == 429 && refused.has("retry-after: 1"), "{} {}", refused.status, refused.head);
    assert_eq!(ask("203.0.113.10").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn whoever_guesses_tokens_here_is_shut_out_and_whoever_shows_an_old_one_is_not() -> TestResult {
    let server = Running::start(|config| {
        config.limits.failed_handshakes_per_minute_per_address = 3;
        config.auth.jwt.leeway = Duration::ZERO;
    })
    .await?;
    let wish = json!({ "sub": "ann", "scope": "" });
    let mut old = Grant::new(&server.config, "root");
    (old.ttl, old.scopes) = (Duration::ZERO, Some(vec![Scope::parse("token.issue")?]));
    let old = token::issue(&server.config, &old)?.token;
    for _ in 0..6 {
        assert_eq!(server.ask(&old, &wish).await?.status, 401);
    }
    let (signed, _) = old.rsplit_once('.').ok_or("no token")?;
    let guess = format!("{signed}.{}", "A".repeat(43));
    for _ in 0..3 {
        assert_eq!(server.ask(&guess, &wish).await?.status, 401);
    }
    let refused = server.ask(&server.token("token.issue")?, &wish).await?;
    let seconds =
        refused.head.to_lowercase().split("retry-after: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    assert!(
        refused.status == 429 && seconds.is_some_and(|seconds: u64| (1..=21).contains(&seconds)),
        "{}",
        refused.head
    );
    Ok(())
}

#[tokio::test]
async fn settings_that_do_not_do_keep_a_server_from_starting() -> TestResult {
    let short = Running::start(|config| config.auth.jwt.secret = Some(Secret::new("short"))).await;
    assert!(short.err().is_some_and(|error| error.to_string().contains("at least 32 bytes")));
    Ok(())
}
