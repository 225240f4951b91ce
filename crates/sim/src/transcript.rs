//! Everything that happened, as one number.

/// Two runs with the same transcript have done the same to the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transcript(u64);

impl Default for Transcript {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Transcript {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// Something happened.
    pub(crate) fn note(&mut self, now: u64, words: &[u64]) {
        self.mix(now);
        words.iter().for_each(|word| self.mix(*word));
    }

    /// A record arrived.
    pub(crate) fn record(&mut self, now: u64, to: u64, record: &[u8]) {
        self.note(now, &[to, record.len() as u64]);
        for chunk in record.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// The number.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}
