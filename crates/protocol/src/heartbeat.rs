//! Notices a connection that is silently dead, and measures its round trip.
//!
//! Implements `docs/PROTOCOL.md` § Heartbeat. Any record counts as a sign of life; a ping goes out only after silence.

use std::time::Duration;

use crate::time::Timestamp;

/// When to ask and when to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// Silence after which a ping is sent.
    pub idle: Duration,
    /// How long an answer may take.
    pub grace: Duration,
}

impl HeartbeatConfig {
    /// The server asks first, so that a page in the background need not.
    pub const SERVER: Self = Self { idle: Duration::from_secs(25), grace: Duration::from_secs(10) };
    /// The client's own watch, for a server that is gone.
    pub const CLIENT: Self = Self { idle: Duration::from_secs(30), grace: Duration::from_secs(10) };
}

/// A timer this much late means that this side slept; the other side gets another chance to answer.
const LATE: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    /// Something came at `since` or later.
    Alive { until: Timestamp },
    /// A ping went out and nothing has come since.
    Probing { until: Timestamp },
}

/// What a due timer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping(u64),
    Dead,
}

#[derive(Debug)]
pub(crate) struct Heartbeat {
    config: HeartbeatConfig,
    state: State,
    next_ping: u64,
    /// The newest ping, until it is answered.
    asked: Option<(u64, Timestamp)>,
    rtt: Option<Duration>,
}

impl Heartbeat {
    pub(crate) fn new(config: HeartbeatConfig, now: Timestamp) -> Self {
        Self { config, state: State::Alive { until: now + config.idle }, next_ping: 0, asked: None, rtt: None }
    }

    /// Something came from the other side.
    pub(crate) fn handle_life(&mut self, now: Timestamp) {
        self.state = State::Alive { until: now + self.config.idle };
    }

    pub(crate) fn handle_pong(&mut self, number: u64, now: Timestamp) {
        if let Some((_, sent)) = self.asked.take_if(|(asked, _)| *asked == number) {
            self.rtt = Some(now - sent);
        }
    }

    /// The number for a ping that is sent now.
    pub(crate) fn ping(&mut self, now: Timestamp) -> u64 {
        let number = self.next_ping;
        self.next_ping += 1;
        self.asked = Some((number, now));
        number
    }

    pub(crate) fn handle_timeout(&mut self, now: Timestamp) -> Due {
        match self.state {
            State::Alive { until } | State::Probing { until } if now < until => Due::Nothing,
            State::Probing { until } if now - until < LATE => Due::Dead,
            State::Alive { .. } | State::Probing { .. } => {
                self.state = State::Probing { until: now + self.config.grace };
                Due::Ping(self.ping(now))
            }
        }
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        match self.state {
            State::Alive { until } | State::Probing { until } => until,
        }
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn silence_is_probed_and_then_dead() {
        let mut heartbeat = Heartbeat::new(HeartbeatConfig::SERVER, at(0));
        assert_eq!(heartbeat.handle_timeout(at(24)), Due::Nothing);
        assert_eq!(heartbeat.handle_timeout(at(25)), Due::Ping(0));
        assert_eq!(heartbeat.handle_timeout(at(34)), Due::Nothing);
        assert_eq!(heartbeat.handle_timeout(at(35)), Due::Dead);
    }

    #[test]
    fn any_record_is_life_and_the_pong_gives_the_round_trip() {
        let mut heartbeat = Heartbeat::new(HeartbeatConfig::SERVER, at(0));
        assert_eq!(heartbeat.handle_timeout(at(25)), Due::Ping(0));
        heartbeat.handle_life(at(26));
        heartbeat.handle_pong(7, at(26));
        assert_eq!(heartbeat.rtt(), None, "a pong that was not asked for counts for nothing");
        heartbeat.handle_pong(0, at(27));
        assert_eq!(heartbeat.rtt(), Some(Duration::from_secs(2)));
        assert_eq!(heartbeat.deadline(), at(51));
    }

    #[test]
    fn a_side_that_slept_asks_again_before_it_gives_up() {
        let mut heartbeat = Heartbeat::new(HeartbeatConfig::CLIENT, at(0));
        assert_eq!(heartbeat.handle_timeout(at(30)), Due::Ping(0));
        // The laptop was closed for an hour: one ping, not a verdict and not a burst.
        assert_eq!(heartbeat.handle_timeout(at(3_640)), Due::Ping(1));
        assert_eq!(heartbeat.handle_timeout(at(3_649)), Due::Nothing);
        assert_eq!(heartbeat.handle_timeout(at(3_650)), Due::Dead);
    }
}
