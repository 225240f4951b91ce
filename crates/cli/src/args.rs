//! What can be written on the command line.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use moorline_client::protocol::{channel::Position, payload::Name, subject::Tenant};
use moorline_server::{config, token};

use crate::message;

/// A realtime server for web pages: sealed connections, calls and notifications over WebSocket.
#[derive(Debug, Parser)]
#[command(name = "moorline", version, arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Arguments {
    /// The configuration file; without it $MOORLINE_CONFIG, ./moorline.toml, /etc/moorline/moorline.toml, none
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server until SIGTERM or Ctrl-C
    ///
    /// Flags come before the environment (MOORLINE__SERVER__LISTEN, lists with commas), that before the configuration
    /// file, that before the defaults.
    Serve(ServeFlags),

    /// Look after the keys that tell this server from another
    ///
    /// A running server is told over the socket control.sock in its data directory, and has the new keys at once.
    /// Where none runs, the key file is changed for the next start.
    #[command(subcommand)]
    Identity(IdentityCommand),

    /// Let the running server read its TLS certificate and its identity keys again
    Reload(Place),

    /// Print how the running server is, as one line of JSON
    Status(Place),

    /// Print what is published to a topic, a line for each message
    ///
    /// It goes on until Ctrl-C or SIGTERM, or until nobody reads its output any more, over every loss of the connection.
    /// Messages go to standard output; what happens to the connection, and what was missed, to standard error.
    ///
    /// It ends with 0 when it was asked to; with 1 when it does not get through within --timeout, or when the server does
    /// not tell of the topic, or no longer; with 2 when it is called wrongly.
    Watch(WatchFlags),

    /// Publish a message to a topic and print its position
    ///
    /// It ends with 0 when the server has taken the message; with 1 when it has not, does not say so within --timeout, or
    /// the message is no JSON; with 2 when it is called wrongly.
    Publish(PublishFlags),

    /// Look into what is kept of stores and topics, carry it elsewhere, make it smaller
    ///
    /// They go by the data directory, not by the server's port. `ls`, `stat`, `export`, `backup` and `verify` read what is
    /// there at one moment, also while a server runs on the directory; `import`, `restore`, `rm` and `compact` want it
    /// stopped.
    #[command(subcommand)]
    Store(StoreCommand),

    /// Make keys that clients and server share
    #[command(subcommand)]
    Key(KeyCommand),

    /// Make, read, judge and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Which server a remote command speaks to, and as whom.
#[derive(Args)]
pub(crate) struct Remote {
    /// The server's URL [default: $MOORLINE_URL, otherwise the configured server on this machine, with its key]
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(crate) url: Option<String>,

    /// The server's key (mlpub_…), or several with commas between [default: $MOORLINE_SERVER_KEY, otherwise the server is
    /// asked, where its answer can be trusted]
    #[arg(long, value_name = "KEY", help_heading = "Server")]
    pub(crate) server_key: Option<String>,

    /// A PEM file with the certificates of those who vouch for the server under wss://, or with its own [default:
    /// $MOORLINE_CA, otherwise whom the system trusts]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(crate) ca: Option<PathBuf>,

    /// The token to show [default: $MOORLINE_TOKEN, which other users of the machine do not see, as they do this]
    #[arg(long, value_name = "TOKEN", help_heading = "Server")]
    pub(crate) token: Option<String>,

    /// A key that the server has, too (mlkey_…) [default: $MOORLINE_SHARED_KEY, as for --token]
    #[arg(long, value_name = "KEY", help_heading = "Server")]
    pub(crate) shared_key: Option<String>,

    /// Speak without encryption, as the server must then, too [default: as configured; with --url, sealed]
    #[arg(long, help_heading = "Server")]
    pub(crate) plain: bool,

    /// How long to wait for the connection, and for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, help_heading = "Server")]
    pub(crate) timeout: Duration,
}

// By hand, without secrets.
impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Args, Debug)]
pub(crate) struct WatchFlags {
    /// The topic's name
    pub(crate) topic: String,

    /// Begin with so many of the newest messages, at most 256
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=256))]
    pub(crate) history: u64,

    /// Begin behind the message at this position, as `publish` and `watch --json` print it
    // Base64url may begin with a hyphen.
    #[arg(long, value_name = "POSITION", value_parser = position, allow_hyphen_values = true)]
    pub(crate) since: Option<Position>,

    /// Print each message as a line of JSON: { data, from: { member, subject }, position, at, recovered }; the position of
    /// a volatile one, which is kept nowhere, is null
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Args, Debug)]
pub(crate) struct PublishFlags {
    /// The topic's name
    pub(crate) topic: String,

    /// The message, as JSON; without it, or for -, standard input
    #[arg(allow_negative_numbers = true)]
    pub(crate) data: Option<String>,

    /// Take the message for a text, whatever it looks like, and publish it as JSON
    #[arg(long)]
    pub(crate) text: bool,

    /// Publish the message's bytes as they are
    #[arg(long, conflicts_with = "text")]
    pub(crate) bytes: bool,

    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Print which there are, a line for each: kind, entries, bytes, snapshots, values, position, name
    Ls {
        /// Only those of this tenant [default: of all]
        #[arg(long, value_name = "NAME", value_parser = tenant)]
        tenant: Option<Tenant>,

        /// Only those of this kind [default: both]
        #[arg(long)]
        kind: Option<StoredKind>,

        /// Print each as a line of JSON
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        place: Place,
    },

    /// Print everything about one
    Stat {
        /// Its name
        #[arg(value_parser = name)]
        name: Name,

        /// Print it as a line of JSON
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        of: Of,
    },

    /// Write everything of one to a file, as it is at this moment
    Export {
        /// Its name
        #[arg(value_parser = name)]
        name: Name,

        /// The file, which only its owner can read; - for standard output
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,

        /// Replace the file if it is there
        #[arg(long)]
        force: bool,

        #[command(flatten)]
        of: Of,
    },

    /// Put one in from an export, all of it or nothing
    ///
    /// The server must be stopped. Clients that have followed it are told a gap (recreated) and begin anew, as its positions
    /// are those of another log.
    Import {
        /// The export
        file: PathBuf,

        /// Under this name [default: that of the export]
        #[arg(long, value_name = "NAME", value_parser = name)]
        name: Option<Name>,

        /// For this tenant [default: that of the export]
        #[arg(long, value_name = "NAME", value_parser = tenant)]
        tenant: Option<Tenant>,

        /// Replace one of this name, whose content is then gone
        #[arg(long)]
        replace: bool,

        #[command(flatten)]
        place: Place,
    },

    /// Copy everything that is kept to a file, as it is at this moment: all stores and topics, and what handlers keep
    ///
    /// The server may go on meanwhile.
    Backup {
        /// The file, which only its owner can read
        file: PathBuf,

        /// Replace the file if it is there
        #[arg(long)]
        force: bool,

        #[command(flatten)]
        place: Place,
    },

    /// Put a backup in the place of everything that is kept, all of it or nothing
    ///
    /// The server must be stopped. The backup is looked through first, as `verify` does. Clients that have seen more than it
    /// has are told a gap (diverged) and begin anew.
    Restore {
        /// The backup
        file: PathBuf,

        /// Replace what is kept now, which is then gone
        #[arg(long)]
        replace: bool,

        #[command(flatten)]
        place: Place,
    },

    /// Remove some, with everything in them
    ///
    /// The server must be stopped. What is removed is gone: export it first. The file gets smaller by `compact`.
    Rm {
        /// Their names
        #[arg(value_parser = name, required = true)]
        names: Vec<Name>,

        #[command(flatten)]
        of: Of,
    },

    /// Drop what is of no use any more, and give the room back to the system
    ///
    /// The server must be stopped. What the newest snapshot of a store covers goes, and the snapshot before it: if it may be
    /// wrong, export the store first. So does what is older than it is kept.
    Compact {
        /// Of this one [default: of all]
        #[arg(value_parser = name)]
        name: Option<Name>,

        #[command(flatten)]
        of: Of,
    },

    /// Read everything and print what is wrong, a line for each
    ///
    /// It ends with 0 when nothing is, with 1 when something is or it cannot be read.
    Verify {
        /// Only this one, and the structure of the file [default: all]
        #[arg(value_parser = name)]
        name: Option<Name>,

        #[command(flatten)]
        of: Of,
    },
}

/// Which of those of a name is meant, and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct Of {
    /// Of which kind it is
    #[arg(long, default_value = "store")]
    pub(crate) kind: StoredKind,

    /// Whose it is
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = tenant)]
    pub(crate) tenant: Tenant,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// The kinds of which something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoredKind {
    Store,
    Topic,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Print a new key (mlkey_…): put it into [auth.shared_key] keys, and into the clients
    New,

    /// Print the key of a passphrase, which is read from standard input
    ///
    /// The key is made by scrypt of the passphrase and a salt in the data directory, so that the same passphrase gives the
    /// same key here and another one elsewhere. A passphrase never leaves this machine; clients are given the key.
    FromPassphrase(Place),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it
    ///
    /// It is signed with [auth.issue] private_key_file, otherwise with [auth.jwt] secret. Whoever can read that key may
    /// have any token.
    Issue(GrantFlags),

    /// Print what a token says, without looking whether it is to be believed
    Inspect {
        /// The token; without it, or for -, standard input
        token: Option<String>,
    },

    /// Judge a token as the server would, and say why it is refused
    Verify {
        /// The token; without it, or for -, standard input
        token: Option<String>,

        /// The public key of the client that shows it, in base64url
        #[arg(long, value_name = "KEY", value_parser = client_key, allow_hyphen_values = true)]
        client_key: Option<[u8; 32]>,
    },

    /// Have a token, or all that somebody has up to now, believed no more
    Revoke(RevokeFlags),
}

#[derive(Args, Debug)]
pub(crate) struct GrantFlags {
    /// Whom it speaks of
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: String,

    /// What it allows, with spaces between; without, everything that no declaration restricts
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Option<String>,

    /// The tenant, where [auth.jwt] tenant_claim is set
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,

    /// How long it is valid, at most [auth.issue] max_ttl
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) exp: Duration,

    /// The role
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Option<String>,

    /// What else the application is to know, as JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) meta: Option<String>,

    /// The public key of the one client that may show it, in base64url
    #[arg(long, value_name = "KEY", value_parser = client_key, allow_hyphen_values = true)]
    pub(crate) client_key: Option<[u8; 32]>,

    /// For whom it is meant [default: the first of [auth.jwt] audience]
    #[arg(long, value_name = "NAME")]
    pub(crate) audience: Option<String>,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["jti", "subject"]))]
pub(crate) struct RevokeFlags {
    /// The token of this jti
    // Base64url may begin with a hyphen, here and in keys.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) jti: Option<String>,

    /// Every token that this subject has up to now
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,

    /// The tenant of the subject [default: default]
    #[arg(long, value_name = "NAME", conflicts_with = "jti")]
    pub(crate) tenant: Option<String>,

    /// The server's data directory [default: as configured]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Where the running server is found.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The server's data directory [default: as configured]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ServeFlags {
    /// Address and port to listen on [default: 127.0.0.1:2667]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Where the server keeps its identity [default: $STATE_DIRECTORY, otherwise ./moorline-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Speak TLS with a certificate that nobody has signed, made once and kept in the data directory. For a real one see
    /// the section tls of the configuration
    #[arg(long, value_name = "WAY")]
    pub(crate) tls: Option<Tls>,

    /// Directory of static files to serve beside the WebSocket
    #[arg(long, value_name = "DIR")]
    pub(crate) public: Option<PathBuf>,

    /// Make topics that are not declared, while this machine alone is let in, and say what to add to the configuration
    #[arg(long)]
    pub(crate) dev: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Print the public keys (mlpub_…) that are accepted, the current one first
    Show {
        #[command(flatten)]
        place: Place,

        /// Read this key file instead of the configured key
        #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
        file: Option<PathBuf>,

        /// Print behind each key what it is: current, next or previous
        #[arg(long)]
        label: bool,
    },

    /// Make a next key, published and accepted beside the current one
    Next(Place),

    /// Make the next key the current one; the current one stays accepted as the previous
    Promote(Place),

    /// Accept the previous key no longer
    Retire(Place),

    /// Print a new private key, for a secret that is kept elsewhere; nothing is changed
    Generate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tls {
    SelfSigned,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an address and a port, as 127.0.0.1:2667 or [::]:2667")
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text).map_err(|problem| problem.to_string())
}

fn name(text: &str) -> Result<Name, &'static str> {
    Name::new(text).map_err(|_| "a name has 1 to 200 bytes and no control characters")
}

fn tenant(text: &str) -> Result<Tenant, &'static str> {
    Tenant::new(text).map_err(|_| "no tenant can have this name")
}

fn position(text: &str) -> Result<Position, &'static str> {
    message::position(text).ok_or("this is no position: copy one as `publish` or `watch --json` prints it")
}

fn client_key(text: &str) -> Result<[u8; 32], &'static str> {
    token::client_key(text).ok_or("write the 32 bytes of the key in base64url, 43 characters")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_configuration_may_stand_before_and_behind_the_command() -> Result<(), clap::Error> {
        for line in [["moorline", "-c", "a.toml", "serve"], ["moorline", "serve", "--config", "a.toml"]] {
            assert_eq!(Arguments::try_parse_from(line)?.config, Some("a.toml".into()));
        }
        Ok(())
    }
}
