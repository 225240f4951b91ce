//! Numbers and bytes as text.
//!
//! By hand, because the standard library's formatting is kilobytes in a page. `Display` of our types goes through here.

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends the number in decimal.
pub(crate) fn push_decimal(text: &mut String, number: u16) {
    if number >= 10 {
        push_decimal(text, number / 10);
    }
    text.push(char::from(DIGITS[usize::from(number % 10)]));
}

/// A decimal number up to `most`: digits and nothing else, at least one.
pub(crate) fn decimal(digits: &[u8], most: u16) -> Option<u16> {
    let number = digits.iter().try_fold(0, |number: u32, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u32::from(digit - b'0')).filter(|number| *number <= u32::from(most)),
        _ => None,
    })?;
    u16::try_from(number).ok().filter(|_| !digits.is_empty())
}

/// Two lower-case digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Appends base64url (RFC 4648 § 5) of whole groups of three bytes, which need no padding.
///
/// It does not run in constant time: only what everybody may know goes through it.
pub(crate) fn push_base64url(text: &mut String, bytes: &[u8]) {
    for group in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(BASE64URL[(bits >> shift & 63) as usize]));
        }
    }
}

/// Reads what [`push_base64url`] writes, of exactly `out`'s length, which is a multiple of three.
pub(crate) fn base64url(text: &str, out: &mut [u8]) -> Option<()> {
    if text.len() * 3 != out.len() * 4 {
        return None;
    }
    for (four, group) in text.as_bytes().chunks_exact(4).zip(out.chunks_exact_mut(3)) {
        let mut bits = 0;
        for character in four {
            bits = bits << 6 | BASE64URL.iter().position(|known| known == character)? as u32;
        }
        group.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        for number in [0, 9, 10, 1006, u16::MAX] {
            let mut text = String::new();
            push_decimal(&mut text, number);
            assert_eq!(text, number.to_string());
            assert_eq!(decimal(text.as_bytes(), u16::MAX), Some(number));
        }
        assert_eq!(decimal(b"0000000000080", 80), Some(80));
        for bad in ["", "+1", "-1", " 1", "1 ", "a", "81", "99999999999999999999"] {
            assert_eq!(decimal(bad.as_bytes(), 80), None, "{bad}");
        }
    }

    #[test]
    fn bytes_are_two_digits_each() {
        assert_eq!(hex(&[0x00, 0x9a, 0xff]), "009aff");
    }

    #[test]
    fn base64url_is_that_of_rfc_4648() {
        // The vectors of § 10 that need no padding, and one that has the last two characters of the alphabet.
        for (bytes, expected) in
            [(&b""[..], ""), (b"foo", "Zm9v"), (b"foobar", "Zm9vYmFy"), (&[0xfb, 0xef, 0xff], "--__")]
        {
            let mut text = String::new();
            push_base64url(&mut text, bytes);
            assert_eq!(text, expected);
            let mut read = vec![0; bytes.len()];
            assert_eq!((base64url(&text, &mut read), &*read), (Some(()), bytes));
        }
        let mut every = [0; 48];
        let alphabet = str::from_utf8(BASE64URL).unwrap();
        assert_eq!(base64url(alphabet, &mut every), Some(()));
        let mut text = String::new();
        push_base64url(&mut text, &every);
        assert_eq!(text, alphabet);
        for bad in ["", "Zm9", "Zm9vY", "Zm9v====", "Zm 9", "Zm+9", "Zm/9", "Zm9\u{e9}"] {
            assert_eq!(base64url(bad, &mut [0; 3]), None, "{bad}");
        }
    }
}
