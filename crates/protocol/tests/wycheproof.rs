//! C2SP's Wycheproof vectors against the very AEADs that seal records. X25519's are run
//! beside the handshake, in `src/noise/tests.rs`.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInPlace, KeyInit},
};
use chacha20poly1305::ChaCha20Poly1305;
use wycheproof::{TestResult, aead};

/// Runs every vector of a set that fits Noise: 256-bit key, 96-bit nonce, 128-bit tag. Gives how many there were.
fn check_aead<A: AeadInPlace + KeyInit>(name: aead::TestName) -> usize {
    let set = aead::TestSet::load(name).expect("a set of vectors");
    let groups =
        set.test_groups.iter().filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128));
    let mut count = 0;
    for vector in groups.flat_map(|group| &group.tests) {
        let aead = A::new_from_slice(&vector.key).expect("a key of 256 bits");
        let nonce = vector.nonce.as_slice().into();
        let opened = {
            let mut buffer = vector.ct.to_vec();
            let tag = vector.tag.as_slice().into();
            aead.decrypt_in_place_detached(nonce, &vector.aad, &mut buffer, tag).is_ok().then_some(buffer)
        };
        if vector.result == TestResult::Invalid {
            assert_eq!(opened, None, "{name:?} {}: {}", vector.tc_id, vector.comment);
        } else {
            assert_eq!(opened.as_ref(), Some(&vector.pt.to_vec()), "{name:?} {}: {}", vector.tc_id, vector.comment);
            let mut sealed = vector.pt.to_vec();
            let tag = aead.encrypt_in_place_detached(nonce, &vector.aad, &mut sealed).expect("a short plaintext");
            assert_eq!((&sealed[..], &tag[..]), (&vector.ct[..], &vector.tag[..]), "{name:?} {}", vector.tc_id);
        }
        count += 1;
    }
    count
}

#[test]
fn aes_256_gcm_passes_every_vector_of_its_sizes() {
    assert_eq!(check_aead::<Aes256Gcm>(aead::TestName::AesGcm), 66);
}

#[test]
fn chacha20_poly1305_passes_every_vector_of_its_sizes() {
    assert_eq!(check_aead::<ChaCha20Poly1305>(aead::TestName::ChaCha20Poly1305), 316);
}
