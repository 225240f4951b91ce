//! Values that handlers keep, by a real server: per tenant, over a restart.

use std::path::Path;

use moorline_client::{Client, Error};
use moorline_protocol::{
    code::Code,
    scope::Scopes,
    subject::{Subject, Tenant},
};
use moorline_server::{key_value::Expected, prelude::*};
use moorline_tests::{TestResult, TestServer};

struct Scores;
struct Settings;

/// Who shows two names is the second one, of the first's tenant.
async fn judge(attempt: Attempt) -> Result<Principal, Fail> {
    let (tenant, name): (String, String) = attempt.data()?;
    let subject = Subject::new(Tenant::new(&tenant)?, &name)?;
    Ok(Principal { scopes: Scopes::All, ..Principal::new(subject) })
}

async fn win(scores: KeyValue<Scores>, who: Principal) -> Result<Json<u32>, Fail> {
    Ok(Json(scores.update(who.subject.name(), |won: Option<u32>| won.unwrap_or(0) + 1).await?.value))
}

async fn list(scores: KeyValue<Scores>, Json(prefix): Json<String>) -> Result<Json<Vec<(String, u32)>>, Fail> {
    let page = scores.list::<u32>(&prefix, None, 10).await?;
    Ok(Json(page.entries.into_iter().map(|(name, score)| (name, score.value)).collect()))
}

/// Makes a setting, which nobody has made before.
async fn set(settings: KeyValue<Settings>, Json((name, value)): Json<(String, String)>) -> Result<(), Fail> {
    settings.put_if(&name, &value, Expected::Nothing).await?;
    Ok(())
}

fn app() -> ServerBuilder {
    Server::builder()
        .auth(judge)
        .key_value::<Scores>("scores")
        .key_value::<Settings>("settings")
        .handler("win", win)
        .handler("list", list)
        .handler("set", set)
}

async fn start(directory: &Path) -> Result<TestServer, moorline_server::Error> {
    TestServer::start_with(app(), |config| config.server.data_dir = directory.to_owned()).await
}

fn connect(server: &TestServer, tenant: &str, name: &str) -> Result<Client, Error> {
    server.client()?.auth(&(tenant, name))?.connect()
}

#[tokio::test]
async fn handlers_keep_values_of_each_tenant_over_a_restart() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = start(directory.path()).await?;
    let (ann, bob) = (connect(&server, "acme", "ann")?, connect(&server, "acme", "bob")?);
    let other = connect(&server, "other", "ann")?;
    for won in 1..=3 {
        assert_eq!(ann.call::<u32>("win", &()).await?, won);
    }
    assert_eq!(bob.call::<u32>("win", &()).await?, 1);
    assert_eq!(other.call::<u32>("win", &()).await?, 1);
    ann.call::<()>("set", &("motd", "hello")).await?;
    for client in [ann, bob, other] {
        client.close().await;
    }
    server.stop().await?;

    let server = start(directory.path()).await?;
    let ann = connect(&server, "acme", "ann")?;
    let scores: Vec<(String, u32)> = ann.call("list", &"").await?;
    assert_eq!(scores, [("ann".to_owned(), 3), ("bob".to_owned(), 1)]);
    assert_eq!(connect(&server, "other", "bob")?.call::<Vec<(String, u32)>>("list", &"").await?.len(), 1);
    // What is there is not made again, and the caller hears nothing of why.
    match ann.call::<()>("set", &("motd", "bye")).await {
        Err(Error::Failed(failure)) => assert_eq!((failure.code, failure.message.as_str()), (Code::INTERNAL, "")),
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_is_not_declared_or_declared_twice_stops_the_start() {
    for (app, said) in [
        (
            Server::builder().handler("win", win),
            "the handler \"win\" takes KeyValue<key_value::Scores>, which is not declared",
        ),
        (
            Server::builder().key_value::<Settings>("scores").on_connect(win),
            "the handler \"on_connect\" takes KeyValue<",
        ),
        (app().key_value::<u8>("scores"), "the namespace \"scores\" is declared twice"),
        (app().key_value::<Scores>("points"), "Scores has two namespaces"),
        (app().key_value::<u8>("moorline.x"), "\"moorline.x\" is no name for a namespace"),
    ] {
        let error = TestServer::start(app).await.err().expect("it does not start").to_string();
        assert!(error.contains(said), "{error}");
    }
}
