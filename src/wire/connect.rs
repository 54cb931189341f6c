//! The handshake's two records, which stand in a frame without a header.

use super::jute::{put_buffer, put_i32, put_i64, Reader, Truncated};

/// The length of every password that a server gives.
pub const PASSWORD_BYTES: usize = 16;

/// A client's first frame. The trailing boolean is absent in clients older than 3.4 and in go-zookeeper; the answer
/// then leaves it out as well (TR13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectRequest<'a> {
    pub protocol_version: i32,
    pub last_zxid_seen: i64,
    pub timeout_ms: i32,
    pub session_id: i64,
    /// May be null or of any length when `session_id` is 0.
    pub password: Option<&'a [u8]>,
    /// `None`: the byte is not there.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// Reads the record; bytes after it are ignored, as in ZooKeeper.
    pub fn decode(body: &'a [u8]) -> Result<ConnectRequest<'a>, Truncated> {
        let mut reader = Reader::new(body);
        Ok(ConnectRequest {
            protocol_version: reader.i32()?,
            last_zxid_seen: reader.i64()?,
            timeout_ms: reader.i32()?,
            session_id: reader.i64()?,
            password: reader.buffer()?,
            read_only: reader.bool().ok(),
        })
    }

    /// Appends the record with its frame length: for clients and tests.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = super::reply::begin_frame(out);
        put_i32(out, self.protocol_version);
        put_i64(out, self.last_zxid_seen);
        put_i32(out, self.timeout_ms);
        put_i64(out, self.session_id);
        put_buffer(out, self.password);
        if let Some(read_only) = self.read_only {
            out.push(u8::from(read_only));
        }
        super::reply::end_frame(out, start);
    }
}

/// The server's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectResponse {
    pub timeout_ms: i32,
    pub session_id: i64,
    pub password: [u8; PASSWORD_BYTES],
    /// `None` leaves the byte out, for a client that did not send it.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// What tells a client that its session is gone (TR01): all zero, then the server closes.
    #[must_use]
    pub fn expired(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse { timeout_ms: 0, session_id: 0, password: [0; PASSWORD_BYTES], read_only }
    }

    /// Appends the record with its frame length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = super::reply::begin_frame(out);
        put_i32(out, 0);
        put_i32(out, self.timeout_ms);
        put_i64(out, self.session_id);
        put_buffer(out, Some(&self.password));
        if let Some(read_only) = self.read_only {
            out.push(u8::from(read_only));
        }
        super::reply::end_frame(out, start);
    }

    /// Reads the record: for clients and tests.
    pub fn decode(body: &[u8]) -> Result<ConnectResponse, Truncated> {
        let mut reader = Reader::new(body);
        reader.i32()?;
        let timeout_ms = reader.i32()?;
        let session_id = reader.i64()?;
        let password = reader.buffer()?.and_then(|p| p.try_into().ok()).ok_or(Truncated)?;
        Ok(ConnectResponse { timeout_ms, session_id, password, read_only: reader.bool().ok() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_only_byte_is_mirrored_tr13() {
        for (read_only, request_len, response_len) in [(Some(false), 4 + 45, 4 + 37), (None, 4 + 44, 4 + 36)]
        {
            let request = ConnectRequest {
                protocol_version: 0,
                last_zxid_seen: 0,
                timeout_ms: 10_000,
                session_id: 0,
                password: Some(&[0; 16]),
                read_only,
            };
            let mut out = Vec::new();
            request.encode(&mut out);
            assert_eq!(out.len(), request_len);
            assert_eq!(ConnectRequest::decode(&out[4..]), Ok(request.clone()));
            out.clear();
            ConnectResponse::expired(request.read_only).encode(&mut out);
            assert_eq!(out.len(), response_len);
        }
    }

    #[test]
    fn a_short_handshake_is_refused() {
        assert_eq!(ConnectRequest::decode(&[0; 20]), Err(Truncated));
    }
}
