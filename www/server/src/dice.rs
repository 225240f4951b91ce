//! Dice that nobody can load: the randomness is the server's.

/// Rolls one: 1 to 6, each as likely.
pub(crate) fn roll() -> Result<u8, getrandom::Error> {
    loop {
        let mut byte = [0];
        getrandom::fill(&mut byte)?;
        if let Some(face) = face(byte[0]) {
            return Ok(face);
        }
    }
}

/// 252 is the largest multiple of six in a byte; what lies above would favour the low faces.
fn face(byte: u8) -> Option<u8> {
    (byte < 252).then_some(byte % 6 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_face_is_as_likely() {
        let mut counts = [0; 6];
        (0..=u8::MAX).filter_map(face).for_each(|face| counts[usize::from(face - 1)] += 1);
        assert_eq!(counts, [42; 6]);
    }
}
