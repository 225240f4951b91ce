//! What the pages beside the room share, without a line of code between them: a chat that is kept, pages that find each
//! other, a text.
//!
//! `www/src/api.ts` has the page's side.

use std::time::Duration;

use moorline_server::prelude::*;
use serde_json::{Value, json};

/// A chat for each name. Without a server of one's own it is `[topics."chat:{room}"]` in `moorline.toml`.
pub(crate) const CHAT: &str = "chat:{room}";
/// Pages that look for each other, to have a line of their own.
pub(crate) const PEERS: &str = "peers:{room}";
/// A text for each name, which many write at once.
pub(crate) const TEXT: &str = "text:{name}";

/// What a guest may do: all of these, and nothing else.
pub(crate) const SCOPES: &str = "topic.subscribe:chat:* topic.publish:chat:* topic.subscribe:peers:* topic.publish:peers:* \
                                 store.read:text:* store.write:text:*";

const MAX_MESSAGES: u64 = 1_000;
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MAX_TEXT_BYTES: u64 = 8 << 20;

/// Kept in SQLite, so that it is there after a restart.
pub(crate) fn chat() -> TopicPolicy {
    TopicPolicy::new().history(MAX_MESSAGES, MAX_AGE).presence().publish(Guard::new().schema(&message()))
}

/// Kept nowhere: what is sent to a member goes to it alone.
pub(crate) fn peers() -> TopicPolicy {
    TopicPolicy::new().presence()
}

/// Whoever writes may also replace the text's past by a snapshot, which is no more than he may do to the text.
pub(crate) fn text() -> StorePolicy {
    StorePolicy::new().writers_keep_snapshots().max_bytes(MAX_TEXT_BYTES)
}

/// A message of the chat. Whose it is and when it came the server adds.
fn message() -> Value {
    json!({
        "type": "object",
        "required": ["text"],
        "additionalProperties": false,
        "properties": { "text": { "type": "string", "maxLength": 500, "pattern": "\\S" } },
    })
}
