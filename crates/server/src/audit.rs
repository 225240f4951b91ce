//! The audit: who came in, who did not, and how it ended, one line each on the target `moorline::audit`.
//!
//! Lines say ids and addresses, never payloads, tokens or keys. What a peer or an issuer chose is escaped and cut, so that
//! no name can begin a line, move a terminal's cursor or look like another field. `docs/OPERATING.md` § Audit has the
//! fields.

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use moorline_protocol::{
    frame::{Ref, SessionId},
    subject::Subject,
};
use tokio::time::Instant;

use crate::{
    limits::{Bucket, Rate},
    metrics::Limited,
};

/// Characters of one name in a line.
const LONGEST: usize = 128;

/// Lines a second, and at once, about those who have proven nothing: they must not fill a disk.
const OF_STRANGERS: usize = 20;

/// By which way somebody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Jwt,
    AuthHandler,
    SharedKey,
    /// By the rule for everybody, guests among them.
    Anonymous,
    /// Nobody configured who may come in.
    Open,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::AuthHandler => "auth handler",
            Self::SharedKey => "shared key",
            Self::Anonymous => "anonymous",
            Self::Open => "open",
        }
    }
}

/// Whom a line is about, as far as that is known.
#[derive(Clone, Copy, Default)]
pub(crate) struct About<'a> {
    /// What the client was shown, and what a user reads out.
    pub(crate) reference: Option<Ref>,
    pub(crate) session: Option<SessionId>,
    pub(crate) subject: Option<&'a Subject>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) way: Option<Way>,
}

impl About<'_> {
    /// A stranger.
    pub(crate) fn address(address: SocketAddr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }
}

/// A text of somebody else's: nothing in it is a control character, a space, or what changes the direction of writing,
/// and what is too long is cut. A backslash is doubled, so that an escape is one and not somebody's name.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(LONGEST) {
            match character {
                '\\' => formatter.write_str("\\\\")?,
                '"' | '=' => write!(formatter, "\\u{{{:x}}}", u32::from(character))?,
                _ if character.is_control() || character.is_whitespace() || is_invisible(character) => {
                    write!(formatter, "\\u{{{:x}}}", u32::from(character))?;
                }
                _ => formatter.write_char(character)?,
            }
        }
        if characters.next().is_some() { formatter.write_char('…') } else { Ok(()) }
    }
}

/// What is not seen and changes how the rest is: joiners, marks and overrides of direction, the mark of byte order, tags.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

macro_rules! line {
    ($event:literal, $about:expr $(, $name:literal = $value:expr)* $(,)?) => {{
        let About { reference, session, subject, address, way } = $about;
        tracing::info!(
            target: "moorline::audit",
            event = $event,
            "ref" = reference.map(tracing::field::display),
            session = session.map(tracing::field::display),
            tenant = subject.map(|subject| tracing::field::display(Escaped(subject.tenant().as_str()))),
            subject = subject.map(|subject| tracing::field::display(Escaped(subject.name()))),
            address = address.map(tracing::field::display),
            way = way.map(Way::name),
            $($name = $value,)*
        )
    }};
}

/// Writes the lines.
pub(crate) struct Audit {
    /// What is left of the lines about strangers, and how many were left out since the last.
    strangers: Mutex<(Option<(Rate, Bucket)>, u64)>,
}

impl Audit {
    pub(crate) fn new(now: Instant) -> Self {
        let second = Duration::from_secs(1);
        let rate = Rate::new(OF_STRANGERS, second, second);
        Self { strangers: Mutex::new((rate.map(|rate| (rate, Bucket::full(rate, now))), 0)) }
    }

    /// Whether there is to be a line about a stranger, and how many were left out since the last.
    fn stranger(&self, now: Instant) -> Option<u64> {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, left_out) = &mut *strangers;
        let has_room = bucket.as_mut().is_none_or(|(rate, bucket)| bucket.take(*rate, now));
        if has_room {
            return Some(std::mem::take(left_out));
        }
        *left_out += 1;
        None
    }

    /// Somebody is in, with a new session or the one that he had.
    pub(crate) fn accept(&self, about: About<'_>, resumed: bool) {
        line!("accept", about, "resumed" = resumed);
    }

    /// Somebody who has shaken hands is not let in, or stays who he is.
    pub(crate) fn refuse(&self, about: About<'_>, code: &str, reason: &str) {
        line!(
            "refuse",
            about,
            "code" = tracing::field::display(Escaped(code)),
            "reason" = tracing::field::display(Escaped(reason)),
        );
    }

    /// A handshake came to nothing.
    pub(crate) fn refuse_handshake(&self, address: SocketAddr, reason: &str) {
        if let Some(left_out) = self.stranger(Instant::now()) {
            line!(
                "refuse",
                About::address(address),
                "code" = "handshake_failed",
                "reason" = reason,
                "left_out" = left_out
            );
        }
    }

    /// What somebody has shown is over.
    pub(crate) fn expire(&self, about: About<'_>) {
        line!("expire", about);
    }

    /// What somebody has shown was taken back.
    pub(crate) fn revoke(&self, about: About<'_>) {
        line!("revoke", about);
    }

    /// Somebody came to a limit, and is refused or parted from for it.
    pub(crate) fn limit(&self, about: About<'_>, limit: Limited) {
        line!("limit", about, "limit" = limit.name());
    }

    /// A stranger came to a limit.
    pub(crate) fn limit_address(&self, address: SocketAddr, limit: Limited) {
        if let Some(left_out) = self.stranger(Instant::now()) {
            line!("limit", About::address(address), "limit" = limit.name(), "left_out" = left_out);
        }
    }

    /// A connection has ended. `over`: so has the session, with so many messages that its client has not confirmed.
    pub(crate) fn disconnect(&self, about: About<'_>, reason: &str, over: bool, undelivered: usize) {
        line!("disconnect", about, "reason" = reason, "over" = over, "undelivered" = undelivered as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_begin_a_line_or_a_field_or_move_a_cursor() {
        for (name, expected) in [
            ("ann", "ann"),
            ("Zoë-李", "Zoë-李"),
            ("a\nb", "a\\u{a}b"),
            ("a\r\n2026 INFO forged", "a\\u{d}\\u{a}2026\\u{20}INFO\\u{20}forged"),
            ("\u{1b}[2J\u{9b}31m", "\\u{1b}[2J\\u{9b}31m"),
            ("ann event=accept", "ann\\u{20}event\\u{3d}accept"),
            ("\\u{a}", "\\\\u{a}"),
            ("a\"b", "a\\u{22}b"),
            ("\u{202e}nna\u{2028}\u{85}\0\u{7f}", "\\u{202e}nna\\u{2028}\\u{85}\\u{0}\\u{7f}"),
        ] {
            assert_eq!(Escaped(name).to_string(), expected);
        }
    }

    #[test]
    fn a_megabyte_is_cut() {
        for name in ["a", "\n", "李"] {
            let line = Escaped(&name.repeat(1 << 20)).to_string();
            assert!(line.ends_with('…') && line.len() < 10 * LONGEST, "{}", line.len());
        }
        assert_eq!(Escaped(&"a".repeat(LONGEST)).to_string().len(), LONGEST);
    }

    #[test]
    fn strangers_fill_no_disk_and_are_counted() {
        let now = Instant::now();
        let audit = Audit::new(now);
        assert_eq!((0..1_000).filter_map(|_| audit.stranger(now)).collect::<Vec<_>>(), [0; OF_STRANGERS]);
        assert_eq!(audit.stranger(now + Duration::from_secs(1)), Some(1_000 - OF_STRANGERS as u64));
    }
}
