//! What the configuration declares, as the policies that a program would have written.

use std::fs;

use crate::{
    access::Guard,
    config::{GuardSection, PublishSection, SnapshotsBy, StoreSection, TopicSection},
    error::{Error, SchemaProblem},
    store::StorePolicy,
    topic::TopicPolicy,
};

/// The policy of a table of `[topics]`.
///
/// # Errors
/// When the file of its schema does not do.
pub(crate) fn topic(section: &TopicSection) -> Result<TopicPolicy, Error> {
    let TopicSection { history, presence, subscribe, publish, .. } = section;
    let mut policy = TopicPolicy::new().subscribe(guard(subscribe)).publish(publishing(section, publish)?);
    if let Some(history) = history {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        policy = policy.history_within(number(history.count), history.age, number(history.bytes));
    }
    Ok(if *presence { policy.presence() } else { policy })
}

/// The policy of a table of `[stores]`.
pub(crate) fn store(section: &StoreSection) -> StorePolicy {
    let StoreSection { max_bytes, snapshots, presence, read, write, admin, .. } = section;
    let writing = match write.rate {
        Some(rate) => guard(&write.guard).rate(rate),
        None => guard(&write.guard),
    };
    let mut policy = StorePolicy::new().read(guard(read)).write(writing).admin(guard(admin));
    policy = policy.max_bytes(u64::try_from(*max_bytes).unwrap_or(u64::MAX));
    if *snapshots == SnapshotsBy::Write {
        policy = policy.writers_keep_snapshots();
    }
    if *presence { policy } else { policy.without_presence() }
}

fn guard(section: &GuardSection) -> Guard {
    let GuardSection { scope, roles, authenticated } = section;
    let mut guard = roles.iter().fold(Guard::new(), |guard, role| guard.role(role));
    if let Some(scope) = scope {
        guard = guard.scope(&scope.to_string());
    }
    if *authenticated { guard.authenticated() } else { guard }
}

fn publishing(topic: &TopicSection, section: &PublishSection) -> Result<Guard, Error> {
    let PublishSection { guard: asked, rate, schema_file } = section;
    let mut publish = guard(asked);
    if let Some(rate) = rate {
        publish = publish.rate(*rate);
    }
    let Some(path) = schema_file else { return Ok(publish) };
    let wrong = |problem| Error::Schema { place: topic.place.clone(), path: path.clone(), problem };
    let text = fs::read_to_string(path).map_err(|error| wrong(SchemaProblem::Unreadable(error)))?;
    let schema = serde_json::from_str(&text).map_err(|error| wrong(SchemaProblem::NotJson(error)))?;
    let publish = publish.schema(&schema);
    match publish.error() {
        Some(error) => Err(wrong(SchemaProblem::NotASchema(error.into()))),
        None => Ok(publish),
    }
}
