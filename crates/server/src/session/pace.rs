//! How fast a client may send: counted here, judged by `limits::pace`.

use super::*;

impl Driver {
    /// A message was handed on. That of a record is counted with it, so that records without any, as pings are, count too.
    pub(super) fn count_message(&mut self) {
        match self.counted.checked_sub(1) {
            Some(left) => self.counted = left,
            None => self.keep_pace(1, 0),
        }
    }

    /// So much came: it is passed over, or the client is warned, or parted from.
    pub(super) fn keep_pace(&mut self, messages: usize, bytes: usize) {
        match self.pace.take(messages, bytes, Instant::now()) {
            Verdict::Fine => {}
            Verdict::Warn(limit) => {
                let text = format!("more than [limits] {} allows; the connection closes if this goes on", limit.name());
                if self.endpoint.warn(Code::RATE_LIMITED, &text) {
                    self.shared.metrics.warn(limit);
                }
            }
            Verdict::Part(limit, retry_after) => {
                let now = self.shared.now();
                let reference = self.endpoint.part(now, Code::RATE_LIMITED, limit.name(), retry_after);
                if reference.is_some() {
                    self.shared.metrics.limit(limit);
                    self.shared.audit.limit(self.about(), limit);
                }
            }
        }
    }
}
