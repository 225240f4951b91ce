//! What tests of channels have in common: who may what, and what is told next.

use std::time::Duration;

use moorline_client::{ClientBuilder, Error, Topic, TopicEvent, TopicMessage};
use moorline_protocol::{
    channel::Start,
    scope::Scopes,
    subject::{Subject, Tenant},
};
use moorline_server::prelude::*;
use tokio::time::timeout;

/// How long something may take that has to come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A client that comes back at once.
pub fn hasty(builder: ClientBuilder) -> ClientBuilder {
    builder.configure(|config| {
        if let Some(backoff) = &mut config.backoff {
            (backoff.base, backoff.cap) = (Duration::from_millis(5), Duration::from_millis(50));
        }
    })
}

/// Who shows a name is called so, and has the scopes that it shows.
///
/// # Errors
/// When what it shows is not that.
pub async fn judge(attempt: Attempt) -> Result<Principal, Fail> {
    let (name, scopes): (String, Option<String>) = attempt.data()?;
    let scopes = scopes.map_or(Ok(Scopes::Unlisted), |scopes| Scopes::from_text(&scopes));
    let subject = Subject::new(Tenant::default(), &name).map_err(|_| Fail::new("name", ""))?;
    Ok(Principal { scopes: scopes.map_err(|_| Fail::new("scopes", ""))?, ..Principal::new(subject) })
}

/// What happens next in a topic.
///
/// # Errors
/// When it ends, or nothing happens.
pub async fn event(topic: &mut Topic) -> Result<TopicEvent, Error> {
    match timeout(PATIENCE, topic.next()).await.map_err(|_| Error::TimedOut)? {
        Some(event) => event,
        None => Err(Error::Closed(None)),
    }
}

/// How a topic goes on, which must be told next.
///
/// # Errors
/// As [`event`].
///
/// # Panics
/// When something else happens.
pub async fn opened(topic: &mut Topic) -> Result<Start, Error> {
    match event(topic).await? {
        TopicEvent::Opened(start) => Ok(start),
        other => panic!("{other:?}"),
    }
}

/// The next message of a topic, whatever else happens.
///
/// # Errors
/// As [`event`].
pub async fn said(topic: &mut Topic) -> Result<TopicMessage, Error> {
    timeout(PATIENCE, topic.message()).await.map_err(|_| Error::TimedOut)?
}

/// What a message says.
///
/// # Panics
/// When it is no text.
pub fn text(message: &TopicMessage) -> String {
    message.data().expect("it is a text")
}
