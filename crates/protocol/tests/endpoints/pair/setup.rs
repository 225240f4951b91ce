//! What a pair is made of.

use moorline_protocol::{
    client::ClientConfig,
    frame::Epoch,
    key::{Identity, ServerKey, StaticKey},
    payload::Name,
    record::Suite,
    server::{Encryption, ServerConfig},
    url::DialUrl,
};

use super::Pair;

/// Both sides' configuration, and the seed of all randomness.
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) client: ClientConfig,
    pub(crate) server: ServerConfig,
}

/// Which run of the server it is, in all these tests.
pub(crate) const EPOCH: Epoch = Epoch([0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7]);

/// The server's static key in all these tests.
pub(crate) const SERVER_PRIVATE: [u8; 32] = [7; 32];

pub(crate) fn server_key() -> ServerKey {
    StaticKey::from_private(SERVER_PRIVATE).public()
}

pub(crate) fn url(text: &str) -> DialUrl {
    DialUrl::parse(text).expect("the URL of a test")
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("the name of a test")
}

/// The seed of one side: the client, or the server's `n`-th endpoint.
pub(crate) fn seed_of(seed: u64, side: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&side.to_le_bytes());
    bytes
}

impl Default for Setup {
    /// A client that has the server's key, and the defaults.
    fn default() -> Self {
        let identity = Identity::new(StaticKey::from_private(SERVER_PRIVATE));
        let mut client = ClientConfig::new(url("ws://localhost:2667/moorline"));
        client.server_keys = identity.public_keys().collect();
        let server =
            ServerConfig::new(Encryption::On { identity: identity.into(), suites: Suite::ALL.to_vec() }, EPOCH);
        Self { seed: 1, client, server }
    }
}

impl Setup {
    /// Without inner encryption.
    pub(crate) fn plain() -> Self {
        let mut setup = Self::default();
        setup.client.suite = None;
        setup.client.server_keys.clear();
        setup.server.encryption = Encryption::Off;
        setup
    }

    pub(crate) fn suite(suite: Suite) -> Self {
        let mut setup = Self::default();
        setup.client.suite = Some(suite);
        setup
    }

    pub(crate) fn start(self) -> Pair {
        let mut pair = Pair::new(self);
        pair.client.start(pair.now);
        pair.run();
        pair
    }

    /// Starts, and fails unless both sides are connected.
    pub(crate) fn connect(self) -> Pair {
        let pair = self.start();
        assert!(pair.is_connected(), "the pair did not connect: {:?}", pair.client_heard);
        pair
    }
}
