//! Jute's primitives, big endian: int, long, boolean, buffer, ustring, vector counts.
//!
//! A reader never panics and never allocates: strings come out borrowed unless they hold invalid UTF-8, which
//! ZooKeeper's decoder replaces with U+FFFD instead of refusing.

use std::borrow::Cow;

/// The record ends before its fields do, or a length in it is impossible: `MarshallingError` to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truncated;

/// A cursor over one record.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Truncated> {
        if n > self.rest.len() {
            return Err(Truncated);
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let bytes = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        Ok(self.array::<1>()?[0])
    }

    /// Jute's boolean: any byte but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, Truncated> {
        Ok(self.u8()? != 0)
    }

    /// Jute's int.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, Truncated> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Jute's long.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, Truncated> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Jute's buffer: `None` is the null of length -1, which is not the empty buffer.
    #[inline]
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, Truncated> {
        match self.i32()? {
            -1 => Ok(None),
            len => self.take(usize::try_from(len).map_err(|_| Truncated)?).map(Some),
        }
    }

    /// Jute's ustring; `None` is null. Invalid UTF-8 becomes U+FFFD, as in ZooKeeper.
    #[inline]
    pub fn string(&mut self) -> Result<Option<Cow<'a, str>>, Truncated> {
        let text = |bytes| match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        };
        Ok(self.buffer()?.map(text))
    }

    /// A vector's count; `None` is null. Any other count below 0 is refused: ZooKeeper takes it for an empty vector, but
    /// no client writes one, and what follows it can not be trusted. `item_bytes_min` is the least that one item takes on
    /// the wire, so that a count that the record can not hold is refused before anything is made of it.
    #[inline]
    pub fn count(&mut self, item_bytes_min: usize) -> Result<Option<usize>, Truncated> {
        match self.i32()? {
            -1 => Ok(None),
            n => {
                let n = usize::try_from(n).map_err(|_| Truncated)?;
                if n > self.rest.len() / item_bytes_min.max(1) {
                    return Err(Truncated);
                }
                Ok(Some(n))
            }
        }
    }
}

/// A string as Java's server echoes it: decoded with replacement, written with each character beyond the basic plane
/// as two surrogates of three bytes. Nearly always the bytes themselves.
#[must_use]
pub fn java_text(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.is_ascii() {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut units = [0u16; 2];
            let units = c.encode_utf16(&mut units);
            if units.len() == 1 {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                for unit in units {
                    let unit = *unit as u32;
                    out.extend_from_slice(&[
                        0xe0 | (unit >> 12) as u8,
                        0x80 | (unit >> 6 & 0x3f) as u8,
                        0x80 | (unit & 0x3f) as u8,
                    ]);
                }
            }
        }
        // A surrogate is three invalid bytes and one replacement in Java: the first byte stands for all.
        match chunk.invalid() {
            [] => {}
            [0x80..=0xbf] if out.ends_with(SURROGATE_REPLACED) => {}
            _ => out.extend_from_slice(SURROGATE_REPLACED),
        }
    }
    Cow::Owned(out)
}

/// U+FFFD.
const SURROGATE_REPLACED: &[u8] = b"\xef\xbf\xbd";

/// Appends an int.
#[inline]
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a long.
#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a buffer; `None` is the null of length -1.
#[inline]
pub fn put_buffer(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_i32(out, -1),
        Some(bytes) => {
            put_i32(
                out,
                i32::try_from(bytes.len()).expect("a buffer is bounded by the frame that brought it"),
            );
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a ustring.
#[inline]
pub fn put_string(out: &mut Vec<u8>, value: &str) {
    put_buffer(out, Some(value.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_kept_apart_tr27() {
        let mut out = Vec::new();
        put_buffer(&mut out, None);
        put_buffer(&mut out, Some(b""));
        let mut reader = Reader::new(&out);
        assert_eq!(reader.buffer(), Ok(None));
        assert_eq!(reader.buffer(), Ok(Some(&b""[..])));
    }

    #[test]
    fn impossible_lengths_are_refused_before_they_are_believed() {
        for length in [-2i32, i32::MIN, i32::MAX, 5] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend_from_slice(b"1234");
            assert_eq!(Reader::new(&bytes).buffer(), Err(Truncated), "length {length}");
            assert_eq!(Reader::new(&bytes).count(1), Err(Truncated), "count {length}");
        }
    }

    #[test]
    fn invalid_utf8_is_replaced_not_refused() {
        let mut out = Vec::new();
        put_buffer(&mut out, Some(b"/a\xff"));
        assert_eq!(Reader::new(&out).string().unwrap().unwrap(), "/a\u{fffd}");
    }
}
