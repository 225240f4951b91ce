//! Who may come in, and what they may do: over real sockets, by every way in.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use moorline_client::{Client, ClientBuilder, Error};
use moorline_protocol::{
    client::{AuthorizeReason, Status},
    code::Code,
    entropy::Entropy,
    frame::{Credentials, ResetReason},
    key::SharedKey,
    payload::Payload,
    scope::{Scope, Scopes},
    subject::{Subject, Tenant},
};
use moorline_server::{
    Admit, Config,
    config::{JwtAlgorithm, Secret},
    prelude::*,
    token::{self, Grant, Issued},
};
use moorline_tests::{
    TestResult, TestServer,
    channels::{PATIENCE, hasty},
    cutter::{Cutter, Harm},
    seed,
};
use serde_json::{Value, json};
use tokio::time::timeout;

const SECRET: &str = "a secret of thirty-two bytes or more";
/// A server that believes tokens of `SECRET`, without leeway, so that a test need not wait for it.
fn believes(config: &mut Config) {
    config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
    config.auth.jwt.secret = Some(Secret::new(SECRET));
    config.auth.jwt.leeway = Duration::ZERO;
}

fn grant(subject: &str, change: impl FnOnce(&mut Grant)) -> Issued {
    let mut config = Config::default();
    believes(&mut config);
    let mut grant = Grant::new(&config, subject);
    change(&mut grant);
    token::issue(&config, &grant).expect("a token")
}

fn token(subject: &str) -> String {
    grant(subject, |_| {}).token
}

async fn whoami(principal: Principal) -> Json<Value> {
    Json(json!({ "subject": principal.subject.name(), "role": principal.role }))
}

fn app() -> ServerBuilder {
    Server::builder().handler("whoami", whoami)
}

async fn start() -> Result<TestServer, moorline_server::Error> {
    TestServer::start_with(app(), believes).await
}

/// Why a client is not let in.
async fn refusal(builder: ClientBuilder) -> Result<String, Box<dyn std::error::Error>> {
    let client = builder.configure(|config| config.backoff = None).connect()?;
    let status = timeout(PATIENCE, client.wait_for(|status| !matches!(status, Status::Connecting { .. }))).await?;
    Ok(match status {
        Ok(Status::Closed(Some(failure))) => failure.name(),
        Err(Error::Closed(Some(failure))) => failure.name(),
        other => format!("{other:?}"),
    })
}

// ---- tokens ----

#[tokio::test]
async fn a_token_says_who_a_client_is_and_without_one_nobody_comes_in() -> TestResult {
    let server = start().await?;
    let token = grant("ann", |grant| {
        grant.role = Some("admin".into());
        grant.meta = json!({ "level": 3 });
    });
    let client = server.client()?.token(&token.token).connect()?;
    assert_eq!(client.call::<Value>("whoami", &()).await?, json!({ "subject": "ann", "role": "admin" }));
    let identity = client.identity();
    assert_eq!((&identity["subject"], &identity["meta"]["level"]), (&json!("ann"), &json!(3)));
    assert_eq!(identity["scopes"], Value::Null);

    assert_eq!(refusal(server.client()?).await?, "token_missing");
    // Whatever is wrong with a token, its client hears the same.
    let mut forged = token.token.clone();
    forged.replace_range(forged.len() - 3.., "AAA");
    for wrong in ["not.a.token", "", &forged] {
        assert_eq!(refusal(server.client()?.token(wrong)).await?, "unauthorized", "{wrong}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bound_token_is_of_use_to_its_client_alone() -> TestResult {
    let server = start().await?;
    let bound = grant("ann", |grant| grant.client_key = Some([7; 32]));
    assert_eq!(refusal(server.client()?.token(&bound.token)).await?, "unauthorized");
    Ok(())
}

#[derive(serde::Deserialize)]
struct User {
    sub: String,
    meta: Level,
}

#[derive(serde::Deserialize)]
struct Level {
    level: u32,
}

#[tokio::test]
async fn a_token_whose_claims_are_not_what_the_program_takes_lets_nobody_in() -> TestResult {
    async fn me(Auth(User { sub, meta }): Auth<User>) -> Json<String> {
        Json(format!("{sub} {}", meta.level))
    }
    let app = || Server::builder().auth(Jwt::from_config().claims::<User>()).handler("me", me);
    let server = TestServer::start_with(app(), believes).await?;
    let with = |meta: Value| grant("ann", |grant| grant.meta = meta).token;
    let client = server.client()?.token(&with(json!({ "level": 3, "more": true }))).connect()?;
    assert_eq!(client.call::<String>("me", &()).await?, "ann 3");
    for meta in [Value::Null, json!({}), json!({ "level": "3" }), json!({ "level": -1 })] {
        assert_eq!(refusal(server.client()?.token(&with(meta.clone()))).await?, "unauthorized", "{meta}");
        assert!(client.authenticate(Credentials::token(&with(meta))).await.is_err());
    }
    assert_eq!(client.call::<String>("me", &()).await?, "ann 3", "it stays who it was");
    // Nor without any: the program has said that tokens are the way in.
    assert_eq!(refusal(server.client()?).await?, "token_missing");
    let built = TestServer::start(app()).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(built.contains("this program takes tokens, and [auth.jwt] does not say"), "{built}");
    Ok(())
}

/// Counts the connections that a client has made, and what it is asked for.
fn asked(tokens: impl Fn(usize) -> String + Send + Sync + 'static) -> (Arc<Mutex<Vec<AuthorizeReason>>>, Provider) {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let heard = reasons.clone();
    let provider = move |reason| {
        let mut heard = heard.lock().expect("no test panics in here");
        heard.push(reason);
        std::future::ready(Some(Credentials::token(&tokens(heard.len()))))
    };
    (reasons, Box::new(provider))
}

type Provider = Box<dyn Fn(AuthorizeReason) -> std::future::Ready<Option<Credentials>> + Send + Sync>;

#[tokio::test]
async fn a_fresh_token_is_shown_before_the_last_expires_and_the_connection_goes_on() -> TestResult {
    let server = start().await?;
    let (reasons, provider) = asked(|_| grant("ann", |grant| grant.ttl = Duration::from_secs(3)).token);
    let client = hasty(server.client()?).credentials(provider).connect()?;
    let first = client.ready().await?;
    // Longer than the first token lasts.
    let renewed = async {
        while reasons.lock().expect("no test panics in here").len() < 3 {
            tokio::task::yield_now().await;
            client.call::<Value>("whoami", &()).await?;
        }
        Ok::<(), Error>(())
    };
    timeout(PATIENCE, renewed).await??;
    let reasons = reasons.lock().expect("no test panics in here").clone();
    assert_eq!(reasons[..3], [AuthorizeReason::Connect, AuthorizeReason::Expiring, AuthorizeReason::Expiring]);
    let now = client.ready().await?;
    assert_eq!((now.id, now.resumed), (first.id, first.resumed), "it never was another connection");
    Ok(())
}

#[tokio::test]
async fn what_has_expired_ends_the_connection_and_the_session_goes_on_with_a_fresh_token() -> TestResult {
    let server = start().await?;
    // When the second is asked for early, there is only the same again.
    let short = grant("ann", |grant| grant.ttl = Duration::from_secs(2)).token;
    let (reasons, provider) = asked(move |time| if time < 3 { short.clone() } else { token("ann") });
    let client = hasty(server.client()?).credentials(provider).connect()?;
    let first = client.ready().await?;
    let began = tokio::time::Instant::now();
    let lost = client.wait_for(|status| !matches!(status, Status::Connected));
    let Status::Connecting { error: Some(failure), .. } = timeout(PATIENCE, lost).await?? else {
        return Err("it is not told why".into());
    };
    assert_eq!(failure.code, Code::TOKEN_EXPIRED);
    assert!(began.elapsed() < Duration::from_secs(4), "within a second of its end");
    client.wait_for(|status| matches!(status, Status::Connected)).await?;
    let second = client.ready().await?;
    assert_eq!((second.id, second.resumed), (first.id, true));
    assert!(reasons.lock().expect("no test panics in here").contains(&AuthorizeReason::Expired));
    Ok(())
}

#[tokio::test]
async fn a_session_is_not_given_to_another_subject_though_the_client_is_the_same() -> TestResult {
    let server = start().await?;
    // As somebody else; and, as a control, as the same with another token.
    for (next, resumed) in [("bob", false), ("ann", true)] {
        let cutter = Cutter::start(server.address(), |_| Harm::None).await?;
        let (_, provider) = asked(move |time| token(if time == 1 { "ann" } else { next }));
        let client = hasty(server.client_at(&cutter.url())?).credentials(provider).connect()?;
        let first = client.ready().await?.id;
        let mut resets = client.resets();
        let peer = server.peers.all().pop().ok_or("nobody is there")?;
        let _ = peer.notify("for ann", &1);
        cutter.cut().await;
        if !resumed {
            assert_eq!(timeout(PATIENCE, resets.recv()).await??.reason, ResetReason::Unknown);
        }
        assert_eq!(client.call::<Value>("whoami", &()).await?["subject"], next);
        assert_eq!(client.ready().await?.id == first, resumed);
        client.close().await;
    }
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn a_revoked_token_ends_its_connection_within_two_seconds_and_lets_nobody_in_again() -> TestResult {
    use moorline_server::control::{self, Request, Revocation};

    let directory = tempfile::tempdir()?;
    let server = TestServer::start_with(app().control(), |config| {
        believes(config);
        config.server.data_dir = directory.path().to_owned();
    })
    .await?;
    let (ann, bob, carl) = (grant("ann", |_| {}), grant("bob", |_| {}), grant("carl", |_| {}));
    let connect = |token: &str| server.client()?.token(token).connect();
    let (one, other, third) = (connect(&ann.token)?, connect(&bob.token)?, connect(&carl.token)?);
    for client in [&one, &other, &third] {
        client.ready().await?;
    }
    let revoke = |what: Revocation| {
        let directory = directory.path().to_owned();
        tokio::task::spawn_blocking(move || {
            control::Client::connect(directory)?.ask::<Value>(&Request::TokenRevoke(what))
        })
    };
    let stopped = async |client: &Client| {
        let stopped =
            timeout(Duration::from_secs(2), client.wait_for(|status| matches!(status, Status::Closed(_)))).await;
        matches!(stopped, Ok(Ok(Status::Closed(Some(failure)))) if failure.code == Code::UNAUTHORIZED)
    };
    revoke(Revocation::Token { jti: ann.id }).await??;
    assert!(stopped(&one).await, "{:?}", one.status());
    revoke(Revocation::Subject { subject: "bob".into(), tenant: None }).await??;
    assert!(stopped(&other).await, "{:?}", other.status());
    assert_eq!(third.call::<Value>("whoami", &()).await?["subject"], "carl");
    for revoked in [&ann.token, &bob.token] {
        assert_eq!(refusal(server.client()?.token(revoked)).await?, "unauthorized");
    }
    Ok(())
}

// ---- the auth handler ----

async fn doorman(attempt: Attempt) -> Result<Admit, Fail> {
    let name: String = attempt.data()?;
    match name.as_str() {
        "" => Err(Fail::new("name_required", "Tell us your name first")),
        "broken" => Err(std::io::Error::other("the password is swordfish").into()),
        "panics" => panic!("on purpose"),
        name => {
            let subject =
                Subject::new(Tenant::default(), name).map_err(|error| Fail::new("bad_name", error.to_string()))?;
            let scopes = Scopes::from_text("call:whoami").expect("a scope");
            Admit::new(Principal { scopes, ..Principal::new(subject) }).with_data(&json!({ "welcome": name }))
        }
    }
}

#[tokio::test]
async fn an_auth_handler_decides_by_what_the_page_shows_and_its_words_alone_reach_it() -> TestResult {
    let server = TestServer::start(app().auth(doorman).handler("other", async || {})).await?;
    let client = server.client()?.auth(&"ann")?.connect()?;
    assert_eq!(client.call::<Value>("whoami", &()).await?["subject"], "ann");
    let forbidden = client.call::<Value>("other", &()).await;
    assert!(matches!(&forbidden, Err(Error::Failed(failure)) if failure.code == Code::FORBIDDEN), "{forbidden:?}");
    assert_eq!(client.identity()["scopes"], json!(["call:whoami"]));
    for (name, code) in [("", "name_required"), ("broken", "unauthorized"), ("panics", "unauthorized")] {
        assert_eq!(refusal(server.client()?.auth(&name)?).await?, code, "{name}");
    }
    assert_eq!(refusal(server.client()?.auth(&7)?).await?, "invalid_params");
    assert_eq!(refusal(server.client()?).await?, "token_missing");
    Ok(())
}

#[tokio::test]
async fn somebody_becomes_somebody_else_on_the_open_connection() -> TestResult {
    let server = TestServer::start_with(app().auth(doorman), |config| config.auth.anonymous = true).await?;
    let cutter = Cutter::start(server.address(), |_| Harm::None).await?;
    let client = hasty(server.client_at(&cutter.url())?).connect()?;
    assert_eq!(client.call::<Value>("whoami", &()).await?["subject"], "anonymous");
    let name = |name: &str| Credentials::data(Payload::json(json!(name).to_string()));
    assert_eq!(client.authenticate(name("ann")).await?["subject"], "ann");
    assert_eq!(client.call::<Value>("whoami", &()).await?["subject"], "ann");
    let denied = client.authenticate(name("")).await;
    assert!(matches!(&denied, Err(Error::Denied(code, _)) if code == "name_required"), "{denied:?}");
    assert_eq!(client.call::<Value>("whoami", &()).await?["subject"], "ann", "it stays who it was");
    // What it has become is what its session belongs to.
    let before = client.ready().await?;
    cutter.cut().await;
    while !client.ready().await?.resumed {
        tokio::task::yield_now().await;
    }
    let after = client.ready().await?;
    assert_eq!((after.id, after.resumed), (before.id, true));
    assert_eq!(client.call::<Value>("whoami", &()).await?["subject"], "ann");
    Ok(())
}

// ---- guards and guests ----

#[tokio::test]
async fn guards_ask_for_scopes_roles_and_whatever_a_function_says() -> TestResult {
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    let done = move || {
        let count = count.clone();
        async move {
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    let server = TestServer::start_with(
        app()
            .handler("scoped", done.clone().scope("game.write"))
            .handler("ruled", done.clone().role("admin").role("mod"))
            .handler("odd", done.clone().allow(|who| who.meta["odd"] == json!(true)))
            .handler("both", done.scope("game.write").role("admin"))
            .stream("rows", (async || futures_util::stream::iter([Ok::<_, Fail>(1)])).scope("report.read"))
            .listener("told", whoami.scope("game.write")),
        believes,
    )
    .await?;
    let connect = |scopes: Option<&[&str]>, role: Option<&str>, odd: bool| {
        let issued = grant("ann", |grant| {
            grant.scopes = scopes.map(|list| list.iter().map(|scope| Scope::parse(scope).expect("a scope")).collect());
            grant.role = role.map(str::to_owned);
            grant.meta = json!({ "odd": odd });
        });
        server.client()?.token(&issued.token).connect()
    };
    // Each row: who, and which of the handlers he may call.
    type Row<'a> = (Option<&'a [&'a str]>, Option<&'a str>, bool, &'a [&'a str]);
    let rows: [Row<'_>; 6] = [
        (None, None, false, &[]),
        (None, Some("mod"), true, &["ruled", "odd"]),
        (Some(&["game.write"]), Some("admin"), true, &["scoped", "both"]),
        (Some(&["game.write", "call:*"]), Some("admin"), false, &["scoped", "ruled", "both"]),
        (Some(&[]), Some("admin"), true, &[]),
        (Some(&["call:odd"]), None, true, &["odd"]),
    ];
    for (scopes, role, odd, may) in rows {
        let client = connect(scopes, role, odd)?;
        for name in ["scoped", "ruled", "odd", "both"] {
            let before = ran.load(Ordering::SeqCst);
            let called = client.call::<()>(name, &()).await;
            let ok = may.contains(&name);
            let forbidden = matches!(&called, Err(Error::Failed(failure)) if failure.code == Code::FORBIDDEN);
            assert_eq!((called.is_ok(), forbidden), (ok, !ok), "{scopes:?} {role:?} {odd}: {name}: {called:?}");
            assert_eq!(ran.load(Ordering::SeqCst), before + usize::from(ok), "code runs for nobody else");
        }
        let first = client.stream::<u64>("rows", &()).await?.next().await;
        assert!(matches!(&first, Some(Err(Error::Failed(failure))) if failure.code == Code::FORBIDDEN), "{first:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_guest_may_use_what_skips_auth_and_nothing_else() -> TestResult {
    async fn sign_up(Json(name): Json<String>) -> Json<String> {
        Json(token(&name))
    }
    let server = TestServer::start_with(app().handler("signUp", sign_up.skip_auth()), believes).await?;
    let client = server.client()?.connect()?;
    let forbidden = client.call::<Value>("whoami", &()).await;
    assert!(matches!(&forbidden, Err(Error::Failed(failure)) if failure.code == Code::FORBIDDEN), "{forbidden:?}");
    let token: String = client.call("signUp", &"ann").await?;
    client.authenticate(Credentials::token(&token)).await?;
    assert_eq!(client.call::<Value>("whoami", &()).await?["subject"], "ann");
    assert_eq!(refusal(server.client()?.token("x.y.z")).await?, "unauthorized", "no guest by a wrong token");
    Ok(())
}

#[tokio::test]
async fn a_guard_that_is_written_wrong_is_found_at_the_start() {
    let built = TestServer::start(app().handler("x", (async || {}).scope("topics.publish:x"))).await;
    assert!(matches!(built, Err(moorline_server::Error::InvalidGuard { .. })));
}

// ---- shared keys ----

#[tokio::test]
async fn who_has_the_shared_key_comes_in_and_others_learn_nothing() -> TestResult {
    let [key, other] = [seed(), seed()].map(|seed| SharedKey::generate(&mut Entropy::new(seed)));
    let server = TestServer::start_with(app(), |config| {
        config.auth.shared_key.keys = Some(Secret::new(key.text().as_str()));
        config.auth.shared_key.role = Some("service".into());
        config.auth.shared_key.required = true;
    })
    .await?;
    let client = server.client()?.shared_key(&key.text())?.connect()?;
    assert_eq!(client.call::<Value>("whoami", &()).await?["role"], "service");
    // Without a pin, and not over TLS: that the server has the key shows that it is the right one.
    let unpinned = Client::builder(&server.url())?.shared_key(&key.text())?.connect()?;
    assert_eq!(unpinned.call::<Value>("whoami", &()).await?["role"], "service");
    assert_eq!(refusal(server.client()?.shared_key(&other.text())?).await?, "handshake_failed");
    assert_eq!(refusal(server.client()?).await?, "handshake_failed");
    Ok(())
}

#[tokio::test]
async fn a_server_that_asks_for_something_is_open_to_nobody_and_may_listen_anywhere() -> TestResult {
    let server = TestServer::start_with(app(), |config| {
        believes(config);
        config.server.listen = ([0, 0, 0, 0], 0).into();
    })
    .await?;
    let url = format!("ws://127.0.0.1:{}/moorline", server.address().port());
    let client = server.client_at(&url)?.token(&token("ann")).connect()?;
    assert_eq!(client.call::<Value>("whoami", &()).await?["subject"], "ann");
    Ok(())
}
