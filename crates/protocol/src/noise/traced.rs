//! The three records of a handshake in their shapes and lengths, without any of its cryptography: a simulation makes
//! hundreds of thousands of connections, and proves the handshake with others. Feature `testing` only.

use zeroize::Zeroizing;

use super::{DH, Finished, HandshakeFailed};
use crate::{
    cipher::SplitKeys,
    entropy::Entropy,
    key::StaticKey,
    limits::TAG,
    record::{CLIENT_HELLO_HEADER, kind},
};

pub(super) struct Handshake {
    /// The client's public key; on the server only once HS3 has come.
    client_key: [u8; DH],
    /// What both sides drew, mixed as far as it is known: the keys follow from it.
    mixed: [u8; DH],
}

fn mix(ours: &[u8; DH], theirs: &[u8; DH]) -> [u8; DH] {
    std::array::from_fn(|place| ours[place] ^ theirs[place].rotate_left(3))
}

fn message(header: &[u8], body: &[u8; DH]) -> Vec<u8> {
    [header, body, &[0; TAG]].concat()
}

fn drawn(message: &[u8]) -> Result<[u8; DH], HandshakeFailed> {
    match message.split_first_chunk::<DH>() {
        Some((drawn, tag)) if *tag == [0; TAG] => Ok(*drawn),
        _ => Err(HandshakeFailed),
    }
}

impl Handshake {
    /// HS1.
    pub(super) fn start(
        header: &[u8; CLIENT_HELLO_HEADER],
        client_key: &StaticKey,
        entropy: &mut Entropy,
    ) -> (Self, Vec<u8>) {
        let mixed = entropy.array();
        (Self { client_key: client_key.public().0, mixed }, message(header, &mixed))
    }

    /// From HS1 to HS2.
    pub(super) fn answer(hello: &[u8], entropy: &mut Entropy) -> Result<(Self, Vec<u8>), HandshakeFailed> {
        let (theirs, ours) = (drawn(hello)?, entropy.array());
        Ok((Self { client_key: [0; DH], mixed: mix(&theirs, &ours) }, message(&[kind::SERVER_HELLO], &ours)))
    }

    fn keys(&self) -> SplitKeys {
        SplitKeys::new((self.mixed, self.mixed.map(|byte| !byte)))
    }

    /// From HS2 to HS3, and the keys.
    pub(super) fn finish(mut self, hello: &[u8], auth: &[u8]) -> Result<(Vec<u8>, SplitKeys), HandshakeFailed> {
        self.mixed = mix(&self.mixed, &drawn(hello)?);
        let mut finish = message(&[kind::CLIENT_FINISH], &self.client_key);
        finish.extend_from_slice(auth);
        finish.extend_from_slice(&[0; TAG]);
        Ok((finish, self.keys()))
    }

    /// What HS3 says, and the keys.
    pub(super) fn finished(mut self, finish: &[u8]) -> Result<Finished, HandshakeFailed> {
        let (head, rest) = finish.split_first_chunk::<{ DH + TAG }>().ok_or(HandshakeFailed)?;
        let (auth, tag) = rest.split_last_chunk::<TAG>().ok_or(HandshakeFailed)?;
        if *tag != [0; TAG] {
            return Err(HandshakeFailed);
        }
        self.client_key = drawn(head)?;
        Ok(Finished { keys: self.keys(), client_key: self.client_key, auth: Zeroizing::new(auth.to_vec()) })
    }
}
