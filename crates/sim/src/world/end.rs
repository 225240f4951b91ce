//! What must be so in the end, and how full a queue may ever be.

use super::*;

impl World<'_> {
    /// What still keeps the world from rest.
    pub(super) fn unsettled(&self) -> Option<String> {
        let busy = |inspection: &Inspection| {
            inspection.has_output
                || inspection.kept_bytes > 0
                || inspection.asked > 0
                || inspection.serving > 0
                || inspection.partial
        };
        let mut live = 0;
        for (number, client) in self.clients.iter().enumerate() {
            if client.closed {
                continue;
            }
            live += 1;
            if !client.connected {
                return Some(format!("client {number} is not connected"));
            }
            let inspection = client.endpoint.inspect();
            if busy(&inspection) || !client.app.is_quiet() {
                return Some(format!("client {number} is busy: {inspection:?}"));
            }
            let Some(book) = client.book.map(|book| &self.books[book]) else {
                return Some(format!("client {number} has no session"));
            };
            let Some(served) = self.endpoints.get(&book.socket) else {
                return Some(format!("the session of client {number} has no endpoint"));
            };
            let inspection = served.endpoint.inspect();
            if busy(&inspection) || !book.app.is_quiet() || served.endpoint.is_parked() {
                return Some(format!("the server of client {number} is busy: {inspection:?}"));
            }
        }
        if self.registry.parked() > 0 || self.registry.live() != live {
            return Some(format!("{} sessions live, {} parked", self.registry.live(), self.registry.parked()));
        }
        if let Some(what) = self.ignorant() {
            return Some(what);
        }
        (self.endpoints.len() != live).then(|| format!("{} endpoints for {live} clients", self.endpoints.len()))
    }

    pub(super) fn finish(&mut self) -> Held {
        for client in &self.clients {
            let open = client.app.open_calls().next();
            hold!(open.is_none(), "S7", "a call never settled: {open:?}");
            if client.closed {
                continue;
            }
            let missing = client.app.missing(self.precise).next();
            hold!(missing.is_none(), "S1", "a message never arrived: {missing:?}");
            let unheard = client.app.unheard().next();
            hold!(unheard.is_none(), "S3", "a receipt was never heard of: {unheard:?}");
        }
        for book in &self.books {
            let open = book.app.open_calls().next();
            hold!(open.is_none() || book.killed, "S7", "a call of the server's never settled: {open:?}");
            let missing = book.app.missing(self.precise).next();
            hold!(missing.is_none() || book.over, "S1", "a message of the server's never arrived: {missing:?}");
        }
        let apps = self.clients.iter().map(|client| &client.app).chain(self.books.iter().map(|book| &book.app));
        let dropped = apps.filter(|app| app.volatile_said > app.volatile_heard).count();
        (0..dropped).for_each(|_| self.counters.add(Counter::VolatileDropped));
        self.finish_channels()
    }

    /// No queue is above its cap, with a little for what is said between two looks. The other side takes messages up to
    /// `largest`; of answers eight times as much has its place, beside what may be refused.
    pub(super) fn check_caps(&self, inspection: &Inspection, ours: &Caps, largest: usize) -> Held {
        let bytes = 9 * (ours.bytes + largest) + 256 * 1024;
        hold!(inspection.kept_bytes <= bytes, "S5", "{} of {bytes} bytes are kept", inspection.kept_bytes);
        let frames = 2 * ours.frames + ours.calls + bytes.div_ceil(16 * 1024) + 64;
        hold!(inspection.kept_frames <= frames, "S5", "{} of {frames} frames are kept", inspection.kept_frames);
        let control = inspection.control_frames;
        hold!(control <= ours.frames.max(32) + 64, "S5", "{control} of the protocol's own frames wait");
        let volatile = ours.volatile + PART + 1_024;
        let has = inspection.volatile_bytes;
        hold!(has <= volatile, "S5", "{has} of {volatile} volatile bytes wait");
        hold!(inspection.partial_bytes <= ours.message + 1_024, "S5", "{} bytes of parts", inspection.partial_bytes);
        Ok(())
    }
}
