//! A key set that is elsewhere: when it is got, and what becomes of tokens when it is not.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

/// A server of one document on this machine, and how often it was asked for it.
struct Documents {
    address: std::net::SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Documents {
    async fn serve(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let documents = Self { address, answer: answer.clone(), asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
                let answer = answer.lock().unwrap().clone();
                // Whoever has read enough goes away before the end.
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        documents
    }

    fn say(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn config(&self) -> Config {
        let mut config = settings(EdDsa);
        config.auth.jwt.public_key_file = None;
        config.auth.jwt.jwks_url = crate::config::JwksUrl::parse(&format!("http://{}/keys?a=b", self.address));
        config
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A set with the test's key under these names.
fn set(ids: &[&str]) -> String {
    let key = jsonwebtoken::jwk::Jwk::from_encoding_key(&signing_key(EdDsa), jsonwebtoken::Algorithm::EdDSA).unwrap();
    let keys: Vec<Value> = ids
        .iter()
        .map(|id| {
            let mut key = serde_json::to_value(&key).unwrap();
            key["kid"] = (*id).into();
            key
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

fn token_named(id: &str) -> String {
    let header = json!({ "alg": "EdDSA", "kid": id }).to_string();
    token_of(&header, &claims().to_string(), &signing_key(EdDsa), EdDsa)
}

/// Moves the clock of tokio, and lets it run on by itself: sockets are not in it.
async fn later(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_unknown_name_has_the_key_set_read_again_but_not_over_and_over() {
    let documents = Documents::serve(ok(&set(&["a"]))).await;
    let verifier = verifier(&documents.config());
    verifier.start().await;
    assert!(judge(&verifier, &token_named("a")).await.is_ok());
    assert_eq!(documents.asked(), 1);
    documents.say(ok(&set(&["b"])));
    for _ in 0..5 {
        assert_eq!(refused(&verifier, &token_named("b")).await, Reason::UnknownKey.into(), "it was just read");
    }
    assert_eq!(documents.asked(), 1);
    later(Duration::from_secs(30)).await;
    let (token, other) = (token_named("b"), token_named("c"));
    let (one, two, none) = tokio::join!(judge(&verifier, &token), judge(&verifier, &token), judge(&verifier, &other));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(none.err(), Some(Reason::UnknownKey.into()));
    assert_eq!(documents.asked(), 2, "once for all who ask");
    assert_eq!(refused(&verifier, &token_named("a")).await, Reason::UnknownKey.into(), "it is not in the set any more");
}

#[tokio::test]
async fn a_key_set_that_is_not_read_leaves_the_keys_from_before() {
    let documents = Documents::serve(ok(&set(&["a"]))).await;
    let verifier = verifier(&documents.config());
    verifier.start().await;
    let key_set = verifier.key_set.as_ref().unwrap();
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{}", "x".repeat(keys::MOST_BYTES + 1));
    for answer in [
        String::new(),
        "nonsense".to_owned(),
        "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/other\r\nContent-Length: 0\r\n\r\n", documents.address),
        ok("{}"),
        ok(r#"{"keys":[]}"#),
        ok(&set(&["x"; 65])),
        ok(&"x".repeat(keys::MOST_BYTES + 1)),
        endless,
    ] {
        documents.say(answer.clone());
        let before = documents.asked();
        key_set.refresh().await;
        assert_eq!(documents.asked(), before + 1, "{answer:.50}");
        assert!(judge(&verifier, &token_named("a")).await.is_ok(), "{answer:.50}");
    }
}

#[tokio::test]
async fn without_its_key_set_a_server_believes_nothing_and_asks_again() {
    let documents = Documents::serve("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    let verifier = verifier(&documents.config());
    verifier.start().await;
    assert_eq!(refused(&verifier, &token_named("a")).await, Reason::NoKeys.into());
    documents.say(ok(&set(&["a"])));
    later(Duration::from_secs(30)).await;
    assert!(judge(&verifier, &token_named("a")).await.is_ok());
}

/// The clock is tokio's and stands while something is under way, so a server that says nothing is waited for no longer
/// than it takes.
#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = settings(EdDsa);
    config.auth.jwt.public_key_file = None;
    let url = format!("http://{}/", listener.local_addr().unwrap());
    config.auth.jwt.jwks_url = crate::config::JwksUrl::parse(&url);
    let started = tokio::time::Instant::now();
    verifier(&config).start().await;
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_key_set_is_read_again_on_its_interval() -> TestResult {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), set(&["a"]))?;
    let mut config = settings(EdDsa);
    let jwt = &mut config.auth.jwt;
    (jwt.public_key_file, jwt.jwks_file) = (None, Some(file.path().to_owned()));
    let verifier = verifier(&config);
    assert!(judge(&verifier, &token_named("a")).await.is_ok());
    fs::write(file.path(), set(&["b"]))?;
    let started = tokio::time::Instant::now();
    let gone = async {
        while judge(&verifier, &token_named("a")).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = verifier.keep_fresh() => {}
        () = gone => {}
    }
    let took = started.elapsed();
    assert!((Duration::from_secs(600)..Duration::from_secs(602)).contains(&took), "{took:?}");
    assert!(judge(&verifier, &token_named("b")).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_token_without_a_name_is_tried_on_few_keys_only() -> TestResult {
    let file = tempfile::NamedTempFile::new()?;
    let mut config = settings(EdDsa);
    let jwt = &mut config.auth.jwt;
    (jwt.public_key_file, jwt.jwks_file) = (None, Some(file.path().to_owned()));
    let unnamed = token(EdDsa, &claims());
    fs::write(file.path(), set(&["a"; MOST_TRIED]))?;
    assert!(judge(&verifier(&config), &unnamed).await.is_ok());
    fs::write(file.path(), set(&["a"; MOST_TRIED + 1]))?;
    assert_eq!(refused(&verifier(&config), &unnamed).await, Reason::KeyIdMissing.into());
    Ok(())
}

/// It was said to have no `kid`, and whoever looked into it saw one.
#[tokio::test]
async fn regression_a_name_that_too_many_keys_have_is_not_said_to_be_missing() -> TestResult {
    let file = tempfile::NamedTempFile::new()?;
    let mut config = settings(EdDsa);
    let jwt = &mut config.auth.jwt;
    (jwt.public_key_file, jwt.jwks_file) = (None, Some(file.path().to_owned()));
    fs::write(file.path(), set(&["a"; MOST_TRIED + 1]))?;
    let error = refused(&verifier(&config), &token_named("a")).await;
    assert_eq!(error, Reason::KeyIdAmbiguous.into());
    assert!(!error.to_string().contains("has no kid"), "{error}");
    Ok(())
}
