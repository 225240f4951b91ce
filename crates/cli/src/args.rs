//! What can be written on the command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

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
