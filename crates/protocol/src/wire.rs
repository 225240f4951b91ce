//! Reading and writing the primitive shapes of the wire: integers, strings, tagged fields.
//!
//! Implements `docs/PROTOCOL.md` § Primitives. A [`Reader`] borrows, never allocates and never panics; every form has
//! exactly one encoding, so decoding and encoding again gives the same bytes.

use crate::error::Malformed;

/// Where a writer puts bytes: a buffer, or a counter that only learns how many there would be.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A sink that counts, so that a length can be written before what it measures.
#[derive(Default)]
pub(crate) struct Length(pub(crate) usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Writes `value` as a varint: seven bits a byte, least significant first, the top bit set on all but the last (LEB128).
pub(crate) fn put_varint(sink: &mut impl Sink, mut value: u64) {
    let mut bytes = [0; 10];
    let mut length = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes[length] = if value == 0 { low } else { low | 0x80 };
        length += 1;
        if value == 0 {
            return sink.put(&bytes[..length]);
        }
    }
}

/// Writes bytes behind their length.
pub(crate) fn put_bytes(sink: &mut impl Sink, bytes: &[u8]) {
    put_varint(sink, bytes.len() as u64);
    sink.put(bytes);
}

/// Writes one tagged field. Fields of one list must be written in ascending order of their tags.
pub(crate) fn put_field(sink: &mut impl Sink, tag: u64, bytes: &[u8]) {
    put_varint(sink, tag);
    put_bytes(sink, bytes);
}

/// Writes one tagged field that holds a varint.
pub(crate) fn put_varint_field(sink: &mut impl Sink, tag: u64, value: u64) {
    let mut bytes = Vec::with_capacity(10);
    put_varint(&mut bytes, value);
    put_field(sink, tag, &bytes);
}

/// Takes the primitive shapes off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::UnexpectedEnd)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::UnexpectedEnd)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::IntegerTooLarge);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // A last byte of zero adds nothing: the same number has a shorter form.
                return if byte == 0 && shift > 0 { Err(Malformed::OverlongInteger) } else { Ok(value) };
            }
        }
        Err(Malformed::IntegerTooLarge)
    }

    pub(crate) fn length(&mut self, most: usize) -> Result<usize, Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::TooLong)?;
        if length > most { Err(Malformed::TooLong) } else { Ok(length) }
    }

    pub(crate) fn bytes(&mut self, most: usize) -> Result<&'a [u8], Malformed> {
        let length = self.length(most)?;
        self.take(length)
    }

    pub(crate) fn str(&mut self, most: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(most)?).map_err(|_| Malformed::NotUtf8)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::TrailingBytes) }
    }

    /// The next field of a list, or `None` at its end. Tags ascend; `last` remembers the newest.
    pub(crate) fn field(&mut self, last: &mut Option<u64>) -> Result<Option<(u64, Self)>, Malformed> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        if last.is_some_and(|last| tag <= last) {
            return Err(Malformed::FieldOutOfOrder);
        }
        *last = Some(tag);
        let value = self.bytes(self.0.len())?;
        Ok(Some((tag, Self(value))))
    }

    /// The whole of a field as one varint.
    pub(crate) fn only_varint(mut self) -> Result<u64, Malformed> {
        let value = self.varint()?;
        self.finish().map(|()| value)
    }

    /// The whole of a field as one array.
    pub(crate) fn only_array<const N: usize>(mut self) -> Result<[u8; N], Malformed> {
        let value = self.array()?;
        self.finish().map(|()| value)
    }

    /// The whole of a field as text.
    pub(crate) fn only_str(self, most: usize) -> Result<&'a str, Malformed> {
        if self.0.len() > most {
            return Err(Malformed::TooLong);
        }
        std::str::from_utf8(self.0).map_err(|_| Malformed::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<u64, Malformed> {
        Reader::new(bytes).only_varint()
    }

    #[test]
    fn varints_have_one_form() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(varint(&bytes), Ok(value));
            let last = bytes.len() - 1;
            bytes[last] |= 0x80;
            bytes.push(0);
            assert!(varint(&bytes).is_err(), "an overlong {value} was taken");
        }
    }

    #[test]
    fn varints_beyond_64_bits_are_refused() {
        assert_eq!(varint(&[0xff; 11]), Err(Malformed::IntegerTooLarge));
        assert_eq!(
            varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]),
            Err(Malformed::IntegerTooLarge)
        );
        assert_eq!(varint(&[0x80]), Err(Malformed::UnexpectedEnd));
    }

    #[test]
    fn a_length_beyond_its_cap_or_the_input_is_refused_before_anything_is_taken() {
        assert_eq!(Reader::new(&[5, 1, 2]).bytes(4), Err(Malformed::TooLong));
        assert_eq!(Reader::new(&[5, 1, 2]).bytes(9), Err(Malformed::UnexpectedEnd));
    }

    #[test]
    fn fields_must_ascend() {
        let mut bytes = Vec::new();
        put_field(&mut bytes, 2, b"b");
        put_field(&mut bytes, 1, b"a");
        let (mut reader, mut last) = (Reader::new(&bytes), None);
        assert!(reader.field(&mut last).is_ok());
        assert!(matches!(reader.field(&mut last), Err(Malformed::FieldOutOfOrder)));
    }
}
