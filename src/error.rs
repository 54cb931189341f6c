//! ZooKeeper's error codes: all that a client is ever told.
//!
//! Names and numbers are `KeeperException.Code`'s, in the protocol's order.

/// A client's fault or a refusal, as the number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub enum Code {
    /// Success; the only code that is followed by a body.
    Ok = 0,
    SystemError = -1,
    /// In a failed multi: an operation after the one that failed.
    RuntimeInconsistency = -2,
    DataInconsistency = -3,
    ConnectionLoss = -4,
    /// The request could not be decoded.
    MarshallingError = -5,
    /// The operation is not known, or not enabled here.
    Unimplemented = -6,
    OperationTimeout = -7,
    BadArguments = -8,
    UnknownSession = -12,
    NewConfigNoQuorum = -13,
    ReconfigInProgress = -14,
    ApiError = -100,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidCallback = -113,
    InvalidAcl = -114,
    AuthFailed = -115,
    /// Never reaches a client: the connection is closed instead (ZooKeeper does the same).
    SessionMoved = -118,
    /// The server takes no writes: partitioned, or its disk is full.
    NotReadOnly = -119,
    EphemeralOnLocalSession = -120,
    NoWatcher = -121,
    RequestTimeout = -122,
    ReconfigDisabled = -123,
    SessionClosedRequireSaslAuth = -124,
    QuotaExceeded = -125,
    ThrottledOp = -127,
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub fn as_i32(self) -> i32 {
        self as i32
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?} ({})", self.as_i32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_zookeepers() {
        for (code, number) in [
            (Code::Ok, 0),
            (Code::MarshallingError, -5),
            (Code::Unimplemented, -6),
            (Code::BadArguments, -8),
            (Code::NoNode, -101),
            (Code::NoAuth, -102),
            (Code::BadVersion, -103),
            (Code::NoChildrenForEphemerals, -108),
            (Code::NodeExists, -110),
            (Code::NotEmpty, -111),
            (Code::SessionExpired, -112),
            (Code::InvalidAcl, -114),
            (Code::AuthFailed, -115),
            (Code::NotReadOnly, -119),
            (Code::NoWatcher, -121),
            (Code::ReconfigDisabled, -123),
            (Code::QuotaExceeded, -125),
            (Code::ThrottledOp, -127),
        ] {
            assert_eq!(code.as_i32(), number, "{code:?}");
        }
    }
}
