//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use moorline_protocol::time::UnixMillis;

/// Now, as everybody tells the time.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
