//! The one registry of codes: what went wrong, who says so, whether trying again helps, and what a person can do.
//!
//! Implements `docs/PROTOCOL.md` § Codes. `npm/src/codes.gen.ts` is generated from here.

use std::fmt;

use crate::text;

/// A number of the registry. Numbers are never reused.
///
/// 1100–1999 fail one request; 2000–2999 are for channels; 3000–3999 are found by a client on its own; 4000–4499 close
/// a connection and are tried again; 4500–4999 close it for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

/// What the registry says of one code.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The number on the wire.
    pub code: Code,
    /// The stable name that programs compare.
    pub name: &'static str,
    /// Whether the same request may succeed later without a change.
    pub retryable: bool,
    /// What happened, in a sentence.
    pub summary: &'static str,
    /// What a person can do about it.
    pub remedy: &'static str,
}

macro_rules! registry {
    ($($number:literal $constant:ident $name:literal $retry:ident $summary:literal $remedy:literal)*) => {
        impl Code {
            $(#[doc = concat!("`", $name, "`: ", $summary)] pub const $constant: Self = Self($number);)*

        }

        /// Every number with its name. Apart from [`ALL`], so that the browser's build carries the names and not the
        /// texts.
        const NAMES: &[(u16, &str)] = &[$(($number, $name),)*];

        /// Every code there is, ascending.
        pub const ALL: &[Entry] = &[$(Entry {
            code: Code($number),
            name: $name,
            retryable: registry!(@$retry),
            summary: $summary,
            remedy: $remedy,
        },)*];
    };
    (@retry) => { true };
    (@final) => { false };
}

registry! {
    1100 APPLICATION "application" final
        "The handler answered with an error of its own."
        "See the error's own code and message; they come from the application."
    1101 NOT_FOUND "not_found" final
        "There is no handler of this name."
        "Check the name, and that the other side registers it before it is called."
    1102 INVALID_PARAMS "invalid_params" final
        "The argument does not have the shape that the handler takes."
        "Compare what is sent with the handler's parameter; the message names the place."
    1103 INTERNAL "internal" final
        "The handler failed. Its log has the cause."
        "Look into the log of the side that ran the handler."
    1104 TIMEOUT "timeout" retry
        "No answer came in time. The handler may have run all the same."
        "Give a larger timeoutMs, or find out why the handler takes long."
    1105 CANCELLED "cancelled" final
        "The call was cancelled."
        "Nothing to do: somebody asked for it."
    1106 UNKNOWN "unknown" final
        "The connection ended before the answer came, so the outcome is not known."
        "Ask for the state before calling again, or make the call safe to repeat."
    1107 TOO_LARGE "too_large" final
        "The message is larger than the limit."
        "Send less at once; session.limits.maxMessage tells the limit in bytes."
    1108 BACKPRESSURE "backpressure" retry
        "Too much is waiting to be sent."
        "Wait for earlier calls to settle before sending more."
    1109 TOO_MANY_CALLS "too_many_calls" retry
        "Too many calls are open at once."
        "Wait for earlier calls to settle; session.limits.maxCallsInFlight tells the limit."
    1110 CLOSED "closed" final
        "The client is closed."
        "Call connect() for a new client."
    1111 INVALID_NAME "invalid_name" final
        "The name is empty, longer than 200 bytes, or has a control character."
        "Use a short plain name."
    1112 UNREADABLE "unreadable" final
        "The value cannot be written as JSON, or what came cannot be read."
        "Send plain data (or a Uint8Array); functions, cycles and bigint have no JSON form."
    1113 FORBIDDEN "forbidden" final
        "The identity may not do this."
        "Sign in as somebody who may, or let the identity have the scope or role that the declaration asks for."
    1114 TOO_MANY_REQUESTS "too_many_requests" retry
        "This was asked for too often in too short a time."
        "Wait for as long as the error's data says, then ask again."

    2000 TOO_MANY_CHANNELS "too_many_channels" final
        "As many channels are open on this connection as may be."
        "Close channels that nobody looks at any more."
    2001 NO_SUCH_CHANNEL "no_such_channel" final
        "There is no channel of this name."
        "Check the name, and that the server declares channels like it."

    2002 NO_SUCH_MEMBER "no_such_member" final
        "Nobody of this name is in the channel."
        "Send to somebody who is among its members at this moment."
    2003 TOO_MANY_MEMBERS "too_many_members" final
        "As many members are in this channel as may be."
        "Open it without presence, or spread people over several channels."
    2004 NO_SUCH_VALUE "no_such_value" final
        "The store has no value of this name."
        "Ask for names that putValue gave for this very store."
    2005 STORE_FULL "store_full" final
        "The store has as many bytes as it may have."
        "Keep a snapshot, which makes room, or raise the store's max_bytes."
    2006 SUPERSEDED_SNAPSHOT "superseded_snapshot" final
        "There is a snapshot that covers as much or more."
        "Nothing is to be done: the newer one is kept."
    2007 UNKNOWN_POSITION "unknown_position" final
        "The channel does not have this position, or not any more."
        "Use positions that this very channel has told, and open it again after a gap."

    2008 STORAGE_FULL "storage_full" retry
        "The server has no room left to keep this."
        "Try again later; the server's operator has to make room."

    2009 TOO_MANY_NAMES "too_many_names" final
        "As many channels of this kind are kept as may be, and this would be one more."
        "Write to one that is there. The server's operator can remove some, or raise [limits] channels_per_tenant."

    3000 SERVER_UNREACHABLE "server_unreachable" retry
        "Nothing answers at the server's address."
        "Check that the server runs and that the URL's host and port are right."
    3001 NOT_MOORLINE "not_moorline" retry
        "Something answers at this URL, but it is not a Moorline server."
        "Check the URL's path (by default /moorline), and that a proxy passes it on to the server."
    3002 SERVER_KEY_REQUIRED "server_key_required" final
        "Over an insecure connection the server's key cannot be trusted when it is merely asked for."
        "Use wss://, or set serverKey to what `moorline identity show` prints."
    3003 SERVER_KEY_CHANGED "server_key_changed" retry
        "The server has another key than the pinned one."
        "If the server's identity was replaced, update serverKey to what `moorline identity show` prints. If not, somebody may be in between."
    3004 ORIGIN_REFUSED "origin_refused" retry
        "The server does not allow pages of this origin."
        "Add the page's origin to [server] allowed_origins, or the public address to public_urls."
    3005 HOST_REFUSED "host_refused" retry
        "The server does not answer to this host name."
        "Set [server] public_urls to the address that clients use."
    3006 UPGRADE_REFUSED "upgrade_refused" retry
        "The server answers, but the WebSocket did not open."
        "Check that every proxy in between passes on the headers Upgrade and Connection."
    3007 CONNECTION_LOST "connection_lost" retry
        "The connection was lost."
        "Nothing to do: the client connects again by itself."
    3008 ENCRYPTION_MISMATCH "encryption_mismatch" retry
        "Client and server do not encrypt alike: one of them not at all, or with a suite that the server does not take."
        "Set the same on both sides: the client's option encryption, and the server's [server] encryption and suites."
    3009 CONNECT_TIMEOUT "connect_timeout" retry
        "The server did not answer in time."
        "Check the network; connectTimeoutMs sets how long one try may take."
    3010 CREDENTIALS_UNAVAILABLE "credentials_unavailable" retry
        "The application's token provider failed, or gave nothing in time."
        "See the error's cause, and the service that the token comes from."
    3011 CERTIFICATE_REFUSED "certificate_refused" retry
        "Nobody who is trusted here vouches for the server's certificate, or it is for another name or another time."
        "Name the authority that signed it (--ca, ClientBuilder::authorities), or dial the name that it is for."
    3100 INVALID_OPTION "invalid_option" final
        "An option is unknown or has a wrong value."
        "Compare the option with the documentation; the message names it."
    3101 INVALID_URL "invalid_url" final
        "The URL cannot be connected to."
        "Use an absolute ws:// or wss:// URL, or a path in a page."
    3102 INVALID_SERVER_KEY "invalid_server_key" final
        "The server key is not one."
        "Copy the whole line that `moorline identity show` prints; it begins with mlpub_."
    3103 NO_WEBSOCKET "no_websocket" final
        "There is no WebSocket here."
        "In Node 20 run `npm install ws` and import from moorline, or pass the option webSocket."
    3104 NO_WEBASSEMBLY "no_webassembly" final
        "There is no WebAssembly here."
        "Use a browser or runtime with WebAssembly; lockdown modes switch it off."
    3105 WASM_NOT_FOUND "wasm_not_found" final
        "The file core.wasm is not where the page looks for it."
        "Import from moorline/inline, or let the bundler ship the file (Vite before 8, in development: optimizeDeps.exclude = [\"moorline\"])."
    3106 WASM_BLOCKED "wasm_blocked" final
        "The page's Content-Security-Policy does not allow WebAssembly."
        "Add 'wasm-unsafe-eval' to script-src."
    3107 WASM_INVALID "wasm_invalid" final
        "The file core.wasm is damaged or of another version."
        "Install the package anew, and clear what a proxy or service worker may have cached."
    3108 INVALID_SHARED_KEY "invalid_shared_key" final
        "The shared key is not one."
        "Copy the whole line that `moorline key new` prints; it begins with mlkey_."
    3109 CREDENTIALS_TOO_LARGE "credentials_too_large" final
        "The token and the data for the auth handler are together more than a handshake takes."
        "Use a shorter token, or send less data; together they have about 5,800 bytes."

    4000 HANDSHAKE_FAILED "handshake_failed" retry
        "The handshake failed."
        "If it goes on: check serverKey and sharedKey, and the server's log."
    4001 PROTOCOL_VIOLATION "protocol_violation" retry
        "One side broke the protocol."
        "Check the versions of both sides; if they match, this is a bug worth reporting."
    4002 RECORD_REFUSED "record_refused" retry
        "A sealed record did not open: it was changed on its way."
        "If it goes on, something between client and server alters the traffic."
    4003 REJECTED "rejected" retry
        "The server refused the connection; its sealed answer says why."
        "See the error that came with it."
    4004 LIVENESS_TIMEOUT "liveness_timeout" retry
        "The other side has been silent for too long."
        "Nothing to do: the client connects again by itself."
    4005 SLOW_CONSUMER "slow_consumer" retry
        "Messages were not read as fast as they came."
        "Send less, or read faster: large handlers belong into a worker."
    4006 SERVER_FULL "server_full" retry
        "The server has as many connections as it may have."
        "Wait, or raise [limits] connections."
    4007 RATE_LIMITED "rate_limited" retry
        "Too much came in too short a time."
        "Send less in the same time; the client tries again by itself."
    4008 DRAINING "draining" retry
        "The server is about to stop and takes no new connections."
        "Nothing to do: the client tries again."
    4009 TOKEN_EXPIRED "token_expired" retry
        "The token has expired."
        "Get a fresh token."
    4010 GOING_AWAY "going_away" retry
        "The server ends this connection because it stops or restarts."
        "Nothing to do: the client connects again by itself."
    4500 UNAUTHORIZED "unauthorized" final
        "The server does not let this client in."
        "See the message; the server's log has the reason under the error's ref."
    4501 VERSION_UNSUPPORTED "version_unsupported" final
        "Client and server have no protocol version in common."
        "Update the older of the two."
    4502 WRONG_ENDPOINT "wrong_endpoint" final
        "The client dialled an address that the server does not know as its own."
        "Add the dialled URL to [server] public_urls, or connect to one that is there."
    4503 TOKEN_MISSING "token_missing" final
        "The server asks for a token, and none was sent."
        "Pass the option token to connect(), or auth where the server has an auth handler."
    4504 SUPERSEDED "superseded" final
        "A newer connection of the same session took over."
        "Nothing to do here: the newer one goes on."
    4505 REFUSED "refused" final
        "The application refused the connection."
        "See the message; it comes from the application."
    4506 CLOSED_BY_SERVER "closed_by_server" final
        "The application on the server closed the connection."
        "Ask the application why."
}

impl Code {
    /// WebSocket's own code for a close on purpose (RFC 6455 § 7.4.1).
    pub const NORMAL: Self = Self(1000);

    /// WebSocket's own code for a server that restarts (IANA WebSocket Close Code Number Registry).
    pub const SERVICE_RESTART: Self = Self(1012);

    /// The stable name, if the number is known.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }

    /// The code of a stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(number, _)| Self(*number))
    }

    /// The stable name, or the number where it has none.
    pub fn text(self) -> String {
        match self.name() {
            Some(name) => name.to_owned(),
            None => {
                let mut text = "code_".to_owned();
                text::push_decimal(&mut text, self.0);
                text
            }
        }
    }

    /// What the registry says of it.
    pub fn entry(self) -> Option<&'static Entry> {
        ALL.iter().find(|entry| entry.code == self)
    }

    /// Whether a client must not come back after a sealed Reject or Goaway with this code.
    ///
    /// The same number in a bare WebSocket close means nothing: anybody on the way can write it.
    pub fn stops(self) -> bool {
        (4500..5000).contains(&self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.0, self.name().unwrap_or("?"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_names_are_their_own() {
        for pair in ALL.windows(2) {
            assert!(pair[0].code < pair[1].code, "{:?}", pair[1].code);
        }
        for entry in ALL {
            assert_eq!(Code::from_name(entry.name), Some(entry.code));
            assert_eq!(entry.code.name(), Some(entry.name));
        }
        assert_eq!((Code(999).name(), Code::from_name("code_999")), (None, None));
        assert_eq!((Code(999).to_string(), Code::TIMEOUT.to_string()), ("code_999".into(), "timeout".into()));
    }

    #[test]
    fn close_codes_say_by_their_number_whether_to_retry() {
        for entry in ALL.iter().filter(|entry| entry.code.0 >= 4000) {
            assert_eq!(entry.retryable, !entry.code.stops(), "{:?}", entry.code);
        }
    }
}
