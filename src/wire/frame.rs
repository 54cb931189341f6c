//! Cutting a byte stream into frames: a four-byte length, then that many bytes.

/// ZooKeeper's default `jute.maxbuffer`: the longest request frame, in bytes, without its length field.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 0xf_ffff;

/// What stands at the head of the bytes received so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// A whole frame's body; it takes four bytes more from the stream.
    Whole(&'a [u8]),
    /// The frame goes on beyond the bytes: this many are needed in all (four until the length is there).
    Partial { bytes_needed: usize },
    /// A length below zero or above the cap. Nothing was allocated for it; the connection closes.
    BadLength(i32),
}

/// Looks at the head of `bytes`.
#[inline]
#[must_use]
pub fn next_frame(bytes: &[u8], bytes_max: usize) -> Frame<'_> {
    let Some((head, body)) = bytes.split_first_chunk::<4>() else {
        return Frame::Partial { bytes_needed: 4 };
    };
    let length = i32::from_be_bytes(*head);
    match usize::try_from(length) {
        Ok(n) if n <= bytes_max => match body.get(..n) {
            Some(frame) => Frame::Whole(frame),
            None => Frame::Partial { bytes_needed: 4 + n },
        },
        _ => Frame::BadLength(length),
    }
}

/// The string that a record begins with: the path of nearly every request. For what looks ahead; nothing is judged.
#[inline]
#[must_use]
pub fn first_string(record: &[u8]) -> Option<&[u8]> {
    let (length, rest) = record.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(i32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_judged_before_the_body_is_there() {
        let max = FRAME_BYTES_MAX_DEFAULT;
        for (bytes, want) in [
            (&b""[..], Frame::Partial { bytes_needed: 4 }),
            (&[0, 0, 0][..], Frame::Partial { bytes_needed: 4 }),
            (&[0, 0, 0, 2, 7][..], Frame::Partial { bytes_needed: 6 }),
            (&[0, 0, 0, 2, 7, 8, 9][..], Frame::Whole(&[7, 8])),
            (&[0, 0x10, 0, 0][..], Frame::BadLength(0x10_0000)),
            (&[0, 0x0f, 0xff, 0xff][..], Frame::Partial { bytes_needed: 4 + max }),
            (&[0xff, 0xff, 0xff, 0xff][..], Frame::BadLength(-1)),
            (&[0, 0, 0, 0][..], Frame::Whole(&[])),
        ] {
            assert_eq!(next_frame(bytes, max), want, "{bytes:?}");
        }
    }
}
