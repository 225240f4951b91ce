//! Numbers and bytes as text.
//!
//! By hand, because the standard library's formatting is kilobytes in a page. `Display` of our types goes through here.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

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
/// Keys go through it: what it does and where it looks does not depend on the bytes.
pub(crate) fn push_base64url(text: &mut String, bytes: &[u8]) {
    for group in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(character((bits >> shift & 63) as i16)));
        }
    }
}

/// All bits where `number` is above `most`, else none. Both are small.
fn above(number: i16, most: i16) -> i16 {
    (most - number) >> 15
}

/// `A` to `Z`, `a` to `z`, `0` to `9`, `-`, `_`: from range to range the distance of a number to its character changes.
fn character(six: i16) -> u8 {
    let distance = 65 + (above(six, 25) & 6) - (above(six, 51) & 75) - (above(six, 61) & 13) + (above(six, 62) & 49);
    (six + distance) as u8
}

/// The number of a character; below zero for one of no number.
fn number(character: u8) -> i16 {
    let character = i16::from(character);
    let within = |least: u8, most: u8, first: i16| {
        let (least, most) = (i16::from(least), i16::from(most));
        above(character, least - 1) & !above(character, most) & (character - least + first + 1)
    };
    within(b'A', b'Z', 0)
        + within(b'a', b'z', 26)
        + within(b'0', b'9', 52)
        + within(b'-', b'-', 62)
        + within(b'_', b'_', 63)
        - 1
}

/// Reads what [`push_base64url`] writes, of exactly `out`'s length, which is a multiple of three; in a time that depends
/// on nothing but the length.
pub(crate) fn base64url(text: &str, out: &mut [u8]) -> Option<()> {
    if text.len() * 3 != out.len() * 4 {
        return None;
    }
    let mut wrong = 0;
    for (four, group) in text.as_bytes().chunks_exact(4).zip(out.chunks_exact_mut(3)) {
        let mut bits = 0;
        for number in four.iter().map(|character| number(*character)) {
            wrong |= number;
            bits = bits << 6 | (number & 63) as u32;
        }
        group.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    (wrong >= 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

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
        for character in 0..128 {
            let known = BASE64URL.iter().position(|known| *known == character).map_or(-1, |place| place as i16);
            assert_eq!(number(character), known, "{}", char::from(character));
        }
        assert!((128..=255).all(|byte| number(byte) < 0));
        for bad in ["", "Zm9", "Zm9vY", "Zm9v====", "Zm 9", "Zm+9", "Zm/9", "Zm9\u{e9}"] {
            assert_eq!(base64url(bad, &mut [0; 3]), None, "{bad}");
        }
    }
}
