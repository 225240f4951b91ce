//! Random bytes out of the one seed that the driver hands in.

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};
use zeroize::Zeroizing;

/// A random generator with fast key erasure (D. J. Bernstein, "Fast-key-erasure random-number generators", 2017), over
/// ChaCha20: every draw replaces the key first, so what was drawn cannot be told from what is in memory later.
///
/// It has no source of its own: it is as good as its seed, and the same seed draws the same bytes.
pub struct Entropy(Zeroizing<[u8; 32]>);

impl Entropy {
    /// A generator over 32 secret random bytes. Never use one seed for two generators that must differ.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        let mut stream = ChaCha20::new((&*self.0).into(), &[0; 12].into());
        self.0.fill(0);
        stream.apply_keystream(&mut *self.0);
        out.fill(0);
        stream.apply_keystream(out);
    }

    /// `N` random bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A random number from 0 to `most`, both included.
    pub fn up_to(&mut self, most: u64) -> u64 {
        // The high half of a product spreads 64 random bits over the range; the bias is below most / 2^64.
        let wide = u128::from(u64::from_le_bytes(self.array())) * (u128::from(most) + 1);
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_bytes_and_no_draw_repeats() {
        let (mut one, mut two) = (Entropy::new([7; 32]), Entropy::new([7; 32]));
        let (first, second) = (one.array::<48>(), one.array::<48>());
        assert_eq!((first, second), (two.array::<48>(), two.array::<48>()));
        assert_ne!(first, second);
        assert_ne!(Entropy::new([8; 32]).array::<48>(), first);
    }

    #[test]
    fn a_draw_stays_in_its_range() {
        let mut entropy = Entropy::new([1; 32]);
        assert!((0..1_000).all(|_| entropy.up_to(6) <= 6));
        assert_eq!(entropy.up_to(0), 0);
        entropy.up_to(u64::MAX);
    }
}
