//! Messages of topics as lines of text. Who publishes one chooses what is in it, so nothing of it ends a line or moves a
//! cursor.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use moorline_client::{
    Aside, TopicMessage,
    protocol::{
        channel::{MemberId, Position},
        payload::{Encoding, Payload},
        time::UnixMillis,
    },
};
use serde::de::IgnoredAny;
use serde_json::Value;

/// A position from its text.
pub(crate) fn position(text: &str) -> Option<Position> {
    Position::from_bytes(&Base64UrlUnpadded::decode_vec(text).ok()?)
}

/// The text of a position: its bytes in base64url, as pages have it.
pub(crate) fn position_text(position: Position) -> String {
    Base64UrlUnpadded::encode_string(&position.to_bytes())
}

/// What somebody said in a topic.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// `None` for what is volatile, which is kept nowhere.
    position: Option<Position>,
    /// The rest of it.
    aside: Aside,
    /// It had been said before the topic was opened on this connection.
    before: bool,
}

impl From<TopicMessage> for Said {
    fn from(message: TopicMessage) -> Self {
        let TopicMessage { position, at, member, subject, before, payload } = message;
        Self { position: Some(position), aside: Aside { at, member, subject, payload }, before }
    }
}

impl From<Aside> for Said {
    fn from(aside: Aside) -> Self {
        Self { position: None, aside, before: false }
    }
}

/// For people: when, who, what.
pub(crate) fn pretty(said: &Said) -> String {
    let Aside { at, subject, payload, .. } = &said.aside;
    let data = match shown(payload) {
        Shown::Json(json) => json,
        Shown::Bytes(base64) => format!("bytes {base64}"),
    };
    let mark = if said.position.is_none() { "volatile " } else { "" };
    format!("{} {} {mark}{data}", date(*at), word(subject))
}

/// For programs: JSON in the shape that pages have it in. Bytes stand in base64 under `bytes`, in the place of `data`.
pub(crate) fn json(said: &Said) -> String {
    let Aside { at, member, subject, payload } = &said.aside;
    let (name, data) = match shown(payload) {
        Shown::Json(json) => ("data", json),
        Shown::Bytes(base64) => ("bytes", format!("\"{base64}\"")),
    };
    let position =
        said.position.map_or_else(|| "null".to_owned(), |position| format!("\"{}\"", position_text(position)));
    format!(
        "{{\"{name}\":{data},\"from\":{{\"member\":\"{}\",\"subject\":{}}},\"position\":{position},\"at\":{},\
         \"recovered\":{}}}",
        hex(*member),
        compact(&Value::from(&**subject).to_string()),
        at.0,
        said.before
    )
}

enum Shown {
    /// One line.
    Json(String),
    /// In base64.
    Bytes(String),
}

fn shown(payload: &Payload) -> Shown {
    let text = std::str::from_utf8(&payload.bytes).ok().filter(|_| payload.encoding == Encoding::Json);
    // What is called JSON need not be.
    match text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()) {
        Some(json) => Shown::Json(compact(json)),
        None => Shown::Bytes(Base64::encode_string(&payload.bytes)),
    }
}

/// The same JSON without space between its parts, and with what cannot be seen escaped. Numbers and the order of members
/// stay as they are, so it is not read and written anew.
fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for character in json.chars() {
        let is_space = matches!(character, ' ' | '\t' | '\n' | '\r');
        if !in_text && is_space {
            continue;
        }
        in_text ^= character == '"' && !escaped;
        escaped = in_text && character == '\\' && !escaped;
        // What cannot be seen stands in texts alone, where this is the same character.
        if character == '\u{7f}' || !character.is_ascii() && character.escape_debug().len() > 1 {
            // Writing to a text does not fail.
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(text, "\\u{unit:04x}"));
        } else {
            text.push(character);
        }
    }
    text
}

/// A name as one word; none, as the server's, is a hyphen.
pub(crate) fn word(name: &str) -> String {
    match name {
        "" => "-".to_owned(),
        name if name != "-" && name.chars().all(|c| c.is_alphanumeric() || "-_.@+:/|".contains(c)) => name.to_owned(),
        name => compact(&Value::from(name).to_string()),
    }
}

fn hex(MemberId(bytes): MemberId) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `2027-01-31T12:00:00.000Z` (RFC 3339), by Howard Hinnant's `civil_from_days`.
pub(crate) fn date(UnixMillis(millis): UnixMillis) -> String {
    // The year 9999 ends here, and with it four digits.
    let millis = millis.min(253_402_300_799_999);
    let (days, of_day) = (millis / 86_400_000 + 719_468, millis % 86_400_000);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (seconds, millis) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", year + 400 * era + next)
}

/// Now, as messages have it.
pub(crate) fn now() -> String {
    let since: Duration = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use moorline_client::protocol::channel::{LogEpoch, Mark, Offset, Tag};

    use super::*;

    const POSITION: Position = Position { epoch: LogEpoch([1; 8]), mark: Mark { offset: Offset(7), tag: Tag([2; 8]) } };

    fn message(subject: &str, payload: Payload) -> Said {
        let (at, member, subject) = (UnixMillis(1_801_396_800_123), MemberId([0xab; 8]), subject.to_owned());
        Said { position: Some(POSITION), aside: Aside { at, member, subject, payload }, before: true }
    }

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let nasty = "{ \"b\": 1.0e999,\r\n\"a\" : \" \\\"x  \u{9b}\u{202e}\u{e0001}\u{7f}\" }";
        let message = message("ann\nbob \u{1b}[2J", Payload::json(nasty));
        let pretty = pretty(&message);
        assert_eq!(
            pretty,
            "2027-01-31T12:00:00.123Z \"ann\\nbob \\u001b[2J\" \
             {\"b\":1.0e999,\"a\":\" \\\"x  \\u009b\\u202e\\udb40\\udc01\\u007f\"}"
        );
        let json = json(&message);
        assert!(!json.chars().any(char::is_control), "{json}");
        assert!(json.starts_with("{\"data\":{\"b\":1.0e999,\"a\":"), "the order and the numbers stay");
    }

    #[test]
    fn a_line_of_json_has_the_shape_that_pages_have() {
        let line = json(&message("ann", Payload::json("[1]")));
        let expected = serde_json::json!({
            "data": [1], "from": { "member": "abababababababab", "subject": "ann" },
            "position": position_text(POSITION),
            "at": 1_801_396_800_123_u64, "recovered": true,
        });
        assert_eq!(serde_json::from_str::<Value>(&line).ok(), Some(expected));
    }

    #[test]
    fn what_is_volatile_is_marked() {
        let volatile = Said::from(message("ann", Payload::json("[1]")).aside);
        assert_eq!(pretty(&volatile), "2027-01-31T12:00:00.123Z ann volatile [1]");
        let line = serde_json::from_str::<Value>(&json(&volatile)).unwrap_or_default();
        assert_eq!((&line["data"], &line["recovered"]), (&serde_json::json!([1]), &false.into()));
        assert!(line.as_object().is_some_and(|line| line["position"].is_null()), "{line}");
    }

    #[test]
    fn bytes_and_what_is_no_json_are_shown_in_base64() {
        for payload in [Payload::bytes(&b"{}\xff"[..]), Payload::json(&b"{}\xff"[..])] {
            let message = message("", payload);
            assert!(pretty(&message).ends_with("Z - bytes e33/"));
            assert!(json(&message).starts_with("{\"bytes\":\"e33/\",\"from\""));
        }
    }

    #[test]
    fn a_position_reads_back_and_nothing_else_is_one() {
        assert_eq!(position(&position_text(POSITION)), Some(POSITION));
        for text in ["", "x", &format!("{}A", position_text(POSITION)), &format!("{}=", position_text(POSITION))] {
            assert_eq!(position(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(date(UnixMillis(millis)), text);
        }
    }
}
