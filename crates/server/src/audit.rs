//! The audit: who came in, who did not, and how it ended, one line each on the target `moorline::audit`.
//!
//! Lines say ids and addresses, never payloads, tokens or keys. What a peer or an issuer chose is escaped and cut, so that
//! no name can begin a line, move a terminal's cursor or look like another field. `docs/OPERATING.md` § Audit has the
//! fields.

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
    time::Duration,
};

use moorline_protocol::{
    frame::{Ref, SessionId},
    subject::Subject,
};
use tokio::time::Instant;

use crate::{limits::Lines, metrics::Limited};

/// Characters of one name in a line.
const LONGEST: usize = 128;

/// Lines a second, and at once, about those who have proven nothing; and as many about those who have shaken hands and
/// are not let in. They must not fill a disk, and the ones not hide the others.
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
    strangers: Lines,
    refused: Lines,
}

impl Audit {
    pub(crate) fn new(now: Instant) -> Self {
        let lines = || Lines::new(OF_STRANGERS, Duration::from_secs(1), now);
        Self { strangers: lines(), refused: lines() }
    }

    /// Somebody is in, with a new session or the one that he had.
    pub(crate) fn accept(&self, about: About<'_>, resumed: bool) {
        line!("accept", about, "resumed" = resumed);
    }

    /// Somebody who has shaken hands is not let in, or stays who he is.
    pub(crate) fn refuse(&self, about: About<'_>, code: &str, reason: &str) {
        if let Some(left_out) = self.refused.next(Instant::now()) {
            line!(
                "refuse",
                about,
                "code" = tracing::field::display(Escaped(code)),
                "reason" = tracing::field::display(Escaped(reason)),
                "left_out" = left_out,
            );
        }
    }

    /// A handshake came to nothing.
    pub(crate) fn refuse_handshake(&self, address: SocketAddr, reason: &str) {
        if let Some(left_out) = self.strangers.next(Instant::now()) {
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

    /// What somebody has shown was taken back, and his session is over by it, with so many messages that its client has
    /// not confirmed.
    pub(crate) fn revoke(&self, about: About<'_>, undelivered: usize) {
        line!("revoke", about, "undelivered" = undelivered as u64);
    }

    /// Somebody came to a limit, and is refused or parted from for it.
    pub(crate) fn limit(&self, about: About<'_>, limit: Limited) {
        line!("limit", about, "limit" = limit.name());
    }

    /// Somebody came to a limit of his address.
    pub(crate) fn limit_address(&self, about: About<'_>, limit: Limited) {
        if let Some(left_out) = self.strangers.next(Instant::now()) {
            line!("limit", about, "limit" = limit.name(), "left_out" = left_out);
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

    /// Whoever had shaken hands and was not let in left a line each time, as fast as handshakes are taken.
    #[test]
    fn regression_neither_strangers_nor_those_who_are_refused_fill_a_disk_or_hide_the_others() {
        let now = Instant::now();
        let audit = Audit::new(now);
        for lines in [&audit.strangers, &audit.refused] {
            assert_eq!((0..1_000).filter(|_| lines.next(now).is_some()).count(), OF_STRANGERS);
        }
    }
}
