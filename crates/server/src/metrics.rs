//! What a server counts, for those who run it; `docs/METRICS.md` has the table.
//!
//! Every server owns its numbers and their registry, so that several in one process, and tests side by side, do not mix.
//! What is counted for every message is an atomic that stands ready: no lock, no allocation, no search by name. No label
//! ever has a value that a peer chose.
//!
//! The rest of the crate says what happened (`metrics.received(&record)`); which numbers follow from it is decided here.

mod label;
mod series;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moorline_protocol::{
    PeerEvent,
    code::Code,
    frame::ResetReason,
    server::{ChannelWish, Ended, HandshakeFailure, ServerEvent},
    session::{Outcome, Sent},
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::{Registry, Unit},
};

pub(crate) use self::label::{CallResult, Direction, Limited, RefusedUpgrade};
use self::{
    label::{
        COMPLETED, ChannelRequest, CloseCode, HandshakeKey, HandshakeResult, Label as _, NO_KEY, RejectCode,
        Resumption, SessionEnd, SessionState,
    },
    series::{Durations, Moment, Split},
};

/// What the exposition is: https://prometheus.io/docs/specs/om/open_metrics_spec/.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What [`classic`] is: https://prometheus.io/docs/instrumenting/exposition_formats/.
pub(crate) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The durations of every declared handler.
type ByHandler = Family<[(&'static str, String); 1], Durations>;

/// Handshakes by their result and the server's key.
type Handshakes = Family<[(&'static str, &'static str); 2], Counter>;

/// The numbers of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,

    // Sockets and connections.
    open: Gauge,
    accepted: Counter,
    refused_upgrades: Split<RefusedUpgrade>,
    handshakes: Handshakes,
    handshake_durations: Durations,
    auth_deadline_misses: Counter,
    rejects: Split<RejectCode>,
    closes: Split<CloseCode>,
    limited: Split<Limited>,
    rate_warnings: Split<Limited>,

    // Sessions.
    sessions: [Gauge; 2],
    resumptions: Split<Resumption>,
    session_ends: Split<SessionEnd>,
    undelivered: Counter,

    // Records and messages.
    records: Split<Direction>,
    record_bytes: Split<Direction>,
    messages: Split<Direction>,
    notifications: Split<Direction>,
    volatile_dropped: Counter,

    // Channels.
    followed: Gauge,
    channel_requests: Split<ChannelRequest>,
    channel_reads: Counter,

    // Calls.
    served: Split<CallResult>,
    asked: Split<CallResult>,
    call_durations: ByHandler,
    panics: Counter,

    // TLS.
    certificate_ends: Moment,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            open: Gauge::default(),
            accepted: Counter::default(),
            refused_upgrades: Split::default(),
            handshakes: Handshakes::default(),
            handshake_durations: Durations::default(),
            auth_deadline_misses: Counter::default(),
            rejects: Split::default(),
            closes: Split::default(),
            limited: Split::default(),
            rate_warnings: Split::default(),
            sessions: Default::default(),
            resumptions: Split::default(),
            session_ends: Split::default(),
            undelivered: Counter::default(),
            records: Split::default(),
            record_bytes: Split::default(),
            messages: Split::default(),
            notifications: Split::default(),
            volatile_dropped: Counter::default(),
            followed: Gauge::default(),
            channel_requests: Split::default(),
            channel_reads: Counter::default(),
            served: Split::default(),
            asked: Split::default(),
            call_durations: Family::default(),
            panics: Counter::default(),
            certificate_ends: Moment::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The names and what they mean. The registry appends the unit, and `_total` to counters; and a full stop.
    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = Family::<_, ConstGauge>::new_with_constructor(|| ConstGauge::new(1));
        drop(version.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("moorline_build_info", "The version that runs; always 1", version);

        registry.register("moorline_connections_open", "WebSockets that are open now", self.open.clone());
        registry.register(
            "moorline_connections_accepted",
            "WebSockets that were opened, whatever became of them",
            self.accepted.clone(),
        );
        registry.register(
            "moorline_upgrades_refused",
            "Requests for a WebSocket that were refused before it was open",
            self.refused_upgrades.clone(),
        );
        for result in HandshakeResult::values() {
            let keys = HandshakeKey::values();
            for key in keys.into_iter().filter(|key| *key == NO_KEY || result == COMPLETED) {
                drop(self.handshakes.get_or_create(&[(HandshakeResult::NAME, result), (HandshakeKey::NAME, key)]));
            }
        }
        registry.register(
            "moorline_handshakes",
            "Handshakes that ended, how, and with which of the server's keys",
            self.handshakes.clone(),
        );
        registry.register_with_unit(
            "moorline_handshake_duration",
            "From the open WebSocket to the last message of a handshake that succeeded",
            Unit::Seconds,
            self.handshake_durations.clone(),
        );
        registry.register(
            "moorline_auth_deadline_misses",
            "Clients that did not come to the end of their handshake in time",
            self.auth_deadline_misses.clone(),
        );
        registry.register(
            "moorline_rejects",
            "Clients that were told, sealed, that they may not come in",
            self.rejects.clone(),
        );
        registry.register("moorline_closes", "Connections that ended after their handshake", self.closes.clone());
        registry.register("moorline_limited", "What was refused or ended because of a limit", self.limited.clone());
        registry.register(
            "moorline_rate_warnings",
            "Clients that were warned because they send too much",
            self.rate_warnings.clone(),
        );

        let sessions = Family::<[(&str, &str); 1], Gauge>::default();
        for (gauge, state) in self.sessions.iter_mut().zip(SessionState::values()) {
            *gauge = sessions.get_or_create(&[(SessionState::NAME, state)]).clone();
        }
        registry.register("moorline_sessions", "Sessions, with a connection and without", sessions);
        registry.register(
            "moorline_resumptions",
            "Clients that came back and asked for their session, and what became of it",
            self.resumptions.clone(),
        );
        registry.register("moorline_session_ends", "Sessions that ended, and why", self.session_ends.clone());
        registry.register(
            "moorline_undelivered",
            "Messages that a session's client had not confirmed when it ended",
            self.undelivered.clone(),
        );

        registry.register("moorline_records", "Records of established connections", self.records.clone());
        registry.register_with_unit(
            "moorline_record",
            "Bytes of these records, as they are on the wire",
            Unit::Bytes,
            self.record_bytes.clone(),
        );
        registry.register(
            "moorline_messages",
            "Calls, their answers and notifications, without what the protocol says on its own",
            self.messages.clone(),
        );
        registry.register("moorline_notifications", "Notifications, volatile ones too", self.notifications.clone());
        registry.register(
            "moorline_volatile_dropped",
            "Volatile messages that a client's connection had no room for",
            self.volatile_dropped.clone(),
        );

        registry.register(
            "moorline_channels_followed",
            "Channels that clients have open, each once for each that has",
            self.followed.clone(),
        );
        registry.register(
            "moorline_channel_requests",
            "What clients wanted done in channels, refused or not",
            self.channel_requests.clone(),
        );
        registry.register(
            "moorline_channel_reads",
            "Times that a log was read for a client that had just come or did not keep up",
            self.channel_reads.clone(),
        );

        registry.register("moorline_calls", "Calls of clients that ended, and how", self.served.clone());
        registry.register("moorline_outgoing_calls", "Calls of the server that ended, and how", self.asked.clone());
        registry.register_with_unit(
            "moorline_call_duration",
            "How long handlers ran for calls, whatever came of it",
            Unit::Seconds,
            self.call_durations.clone(),
        );
        registry.register("moorline_handler_panics", "Panics of handlers, listeners and hooks", self.panics.clone());

        registry.register_with_unit(
            "moorline_tls_certificate_not_after",
            "When the certificate that is served ends, in seconds since 1970",
            Unit::Seconds,
            self.certificate_ends.clone(),
        );
    }

    /// All numbers as OpenMetrics text.
    pub(crate) fn exposition(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A WebSocket is open, until what this gives is dropped.
    pub(crate) fn open(&self) -> Open {
        self.accepted.inc();
        self.open.inc();
        Open(self.open.clone())
    }

    /// How many channels are open, for who counts them.
    pub(crate) fn followed(&self) -> Gauge {
        self.followed.clone()
    }

    pub(crate) fn refuse_upgrade(&self, reason: RefusedUpgrade) {
        self.refused_upgrades.of(reason).inc();
    }

    /// Something was refused or ended because of this limit.
    pub(crate) fn limit(&self, limit: Limited) {
        self.limited.of(limit).inc();
    }

    /// A client was warned that it comes to this limit.
    pub(crate) fn warn(&self, limit: Limited) {
        self.rate_warnings.of(limit).inc();
    }

    /// Once for each connection, beside a Diffie-Hellman: a search among a dozen costs nothing here.
    fn handshake(&self, result: HandshakeResult, key: HandshakeKey) {
        self.handshakes.get_or_create(&[result.pair(), key.pair()]).inc();
    }

    /// What an endpoint says before its connection is established, and how long the WebSocket has been open.
    pub(crate) fn greet(&self, event: &ServerEvent, since: Duration) {
        match event {
            ServerEvent::Arrived(arrival) => {
                self.handshake(HandshakeResult::Completed, HandshakeKey::of(arrival.server_key));
                self.handshake_durations.observe(since);
            }
            ServerEvent::HandshakeFailed(failure) => {
                self.handshake(HandshakeResult::of(*failure), HandshakeKey::None);
                match failure {
                    HandshakeFailure::Deadline => {
                        self.auth_deadline_misses.inc();
                    }
                    HandshakeFailure::WrongEndpoint(_) => {
                        self.rejects.of(RejectCode(Code::WRONG_ENDPOINT)).inc();
                    }
                    HandshakeFailure::ClientHello
                    | HandshakeFailure::ClientFinish
                    | HandshakeFailure::Record
                    | HandshakeFailure::SocketClosed => {}
                }
            }
            ServerEvent::Ended(Ended::Closed(code), _) => {
                self.rejects.of(RejectCode(*code)).inc();
            }
            ServerEvent::Ended(ended, _) => {
                self.closes.of(CloseCode::of(*ended)).inc();
            }
            ServerEvent::Connected(_)
            | ServerEvent::Authenticate(_)
            | ServerEvent::Resumed
            | ServerEvent::Parked(_)
            | ServerEvent::Channel(_)
            | ServerEvent::Request(_)
            | ServerEvent::Volatile(_)
            | ServerEvent::Peer(_) => {}
        }
    }

    fn session(&self, state: SessionState) -> &Gauge {
        &self.sessions[state.place()]
    }

    /// A client that had asked for its session begins another one.
    pub(crate) fn reset(&self, reason: ResetReason) {
        self.resumptions.of(reason.into()).inc();
    }

    /// What the endpoint of a session says; `live` is whether it had a connection until then.
    pub(crate) fn hear(&self, event: &ServerEvent, live: bool) {
        let message = || {
            self.messages.of(Direction::In).inc();
        };
        match event {
            ServerEvent::Peer(PeerEvent::Call { .. }) => message(),
            ServerEvent::Request(request) => {
                message();
                self.channel_requests.of(ChannelRequest::of(&request.what)).inc();
            }
            ServerEvent::Volatile(_) => {
                message();
                self.channel_requests.of(ChannelRequest::Volatile).inc();
            }
            ServerEvent::Channel(wish) => {
                if let ChannelWish::Read(..) = **wish {
                    self.channel_reads.inc();
                }
            }
            ServerEvent::Peer(PeerEvent::Message { .. }) => {
                message();
                self.notifications.of(Direction::In).inc();
            }
            ServerEvent::Peer(PeerEvent::Settled { outcome, .. }) => {
                let result = match outcome {
                    Outcome::Reply(_) | Outcome::End => CallResult::Ok,
                    Outcome::Failed(_) => CallResult::Failed,
                    Outcome::TimedOut => CallResult::Timeout,
                    Outcome::Unknown | Outcome::NotSent => CallResult::Unknown,
                };
                self.asked.of(result).inc();
                if matches!(outcome, Outcome::Reply(_) | Outcome::Failed(_)) {
                    message();
                }
            }
            ServerEvent::Connected(_) => {
                self.session(SessionState::Live).inc();
            }
            ServerEvent::Resumed => {
                self.resumptions.of(Resumption::Resumed).inc();
                // The newer connection may come before the older one is known to be gone.
                if !live {
                    self.session(SessionState::Parked).dec();
                    self.session(SessionState::Live).inc();
                }
            }
            ServerEvent::Parked(because) => {
                self.closes.of(CloseCode::of(*because)).inc();
                self.session(SessionState::Live).dec();
                self.session(SessionState::Parked).inc();
            }
            ServerEvent::Ended(ended, undelivered) => {
                if live {
                    self.closes.of(CloseCode::of(*ended)).inc();
                }
                self.session(if live { SessionState::Live } else { SessionState::Parked }).dec();
                self.session_ends.of((*ended).into()).inc();
                self.undelivered.inc_by(*undelivered as u64);
            }
            ServerEvent::Peer(PeerEvent::Item { .. }) => message(),
            ServerEvent::Peer(
                PeerEvent::Cancelled(_) | PeerEvent::Credit(_) | PeerEvent::Confirmed(_) | PeerEvent::Room,
            )
            | ServerEvent::Arrived(_)
            | ServerEvent::Authenticate(_)
            | ServerEvent::HandshakeFailed(_) => {}
        }
    }

    /// A record of an established connection came, or goes.
    pub(crate) fn record(&self, direction: Direction, bytes: usize) {
        self.records.of(direction).inc();
        self.record_bytes.of(direction).inc_by(bytes as u64);
    }

    /// A notification was handed to an endpoint.
    pub(crate) fn notify(&self, sent: Sent) {
        match sent {
            Sent::Queued => {
                self.messages.of(Direction::Out).inc();
                self.notifications.of(Direction::Out).inc();
            }
            Sent::Dropped => self.drop_volatile(),
        }
    }

    /// A volatile message found no room.
    pub(crate) fn drop_volatile(&self) {
        self.volatile_dropped.inc();
    }

    /// A call to a client, or an answer to it, was handed to an endpoint.
    pub(crate) fn send_message(&self) {
        self.messages.of(Direction::Out).inc();
    }

    /// The server gave up on a call to a client.
    pub(crate) fn cancel_call(&self) {
        self.asked.of(CallResult::Cancelled).inc();
    }

    /// A certificate is served that ends then.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only with TLS there is a certificate"))]
    pub(crate) fn serve_certificate(&self, ends: std::time::SystemTime) {
        self.certificate_ends.set(ends);
    }

    /// A client called a name that nobody answers to, or too often.
    pub(crate) fn refuse_call(&self) {
        self.served.of(CallResult::Failed).inc();
        self.send_message();
    }
}

/// A WebSocket that is open.
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts the runs of one handler, listener or hook.
#[derive(Clone)]
pub(crate) struct Meter {
    metrics: Arc<Metrics>,
    /// Of a handler of calls; listeners and hooks have none.
    durations: Option<Durations>,
}

impl Meter {
    /// For a handler of calls. Its name becomes a label: it is the application's, and there are only so many.
    pub(crate) fn of_handler(metrics: &Arc<Metrics>, name: &str) -> Self {
        let durations = metrics.call_durations.get_or_create(&[("handler", name.to_owned())]).clone();
        Self { metrics: metrics.clone(), durations: Some(durations) }
    }

    /// For a listener or a hook.
    pub(crate) fn of_listener(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: metrics.clone(), durations: None }
    }

    /// A run begins. It ends when what this gives is dropped, which for a caller that gave up is before its result.
    pub(crate) fn begin(&self) -> Run {
        Run { meter: self.clone(), began: Instant::now(), result: CallResult::Cancelled }
    }
}

/// One run of a handler.
pub(crate) struct Run {
    meter: Meter,
    began: Instant,
    result: CallResult,
}

impl Run {
    pub(crate) fn end(&mut self, result: CallResult) {
        self.result = result;
    }

    pub(crate) fn panic(&self) {
        self.meter.metrics.panics.inc();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(durations) = &self.meter.durations {
            durations.observe(self.began.elapsed());
            self.meter.metrics.served.of(self.result).inc();
        }
    }
}

/// OpenMetrics as Prometheus's older text: there a counter's family has the name of its samples.
pub(crate) fn classic(exposition: &str) -> String {
    let words = |line: &str| -> [String; 4] {
        let mut words = line.splitn(4, ' ').map(str::to_owned);
        std::array::from_fn(|_| words.next().unwrap_or_default())
    };
    let counters: Vec<String> = exposition
        .lines()
        .map(words)
        .filter(|[hash, kind, _, rest]| hash == "#" && kind == "TYPE" && rest == "counter")
        .map(|[_, _, name, _]| name)
        .collect();
    let mut text = String::with_capacity(exposition.len() + 512);
    for line in exposition.lines() {
        match words(line) {
            [hash, kind, ..] if hash == "#" && (kind == "UNIT" || kind == "EOF") => {}
            [hash, kind, name, rest] if hash == "#" && counters.contains(&name) => {
                text.extend(["# ", &kind, " ", &name, "_total ", &rest, "\n"]);
            }
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_text_names_counters_as_their_samples() {
        let open = "# HELP a_b Of a.\n# TYPE a_b counter\n# UNIT a_b b\na_b_total{x=\"# TYPE y counter\"} 1\n\
                    # HELP g Of g.\n# TYPE g gauge\ng 2\n# EOF\n";
        let expected = "# HELP a_b_total Of a.\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE y counter\"} 1\n\
                        # HELP g Of g.\n# TYPE g gauge\ng 2\n";
        assert_eq!(classic(open), expected);
    }

    #[test]
    fn what_is_open_is_what_was_not_dropped() {
        let metrics = Metrics::default();
        let (one, two) = (metrics.open(), metrics.open());
        drop(one);
        assert_eq!((metrics.open.get(), metrics.accepted.get()), (1, 2));
        drop(two);
        assert_eq!((metrics.open.get(), metrics.accepted.get()), (0, 2));
    }

    #[test]
    fn a_run_that_is_dropped_was_cancelled_and_only_handlers_count_as_calls() {
        let metrics = Arc::new(Metrics::default());
        let (handler, listener) = (Meter::of_handler(&metrics, "double"), Meter::of_listener(&metrics));
        drop(handler.begin());
        handler.begin().end(CallResult::Ok);
        listener.begin().end(CallResult::Ok);
        listener.begin().panic();
        let count = |result| metrics.served.of(result).get();
        assert_eq!((count(CallResult::Cancelled), count(CallResult::Ok), metrics.panics.get()), (1, 1, 1));
        assert!(metrics.exposition().contains("moorline_call_duration_seconds_count{handler=\"double\"} 2\n"));
    }

    #[test]
    fn two_servers_do_not_count_together() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.record(Direction::In, 3);
        assert!(one.exposition().contains("moorline_record_bytes_total{direction=\"in\"} 3\n"));
        assert!(other.exposition().contains("moorline_record_bytes_total{direction=\"in\"} 0\n"));
    }
}
