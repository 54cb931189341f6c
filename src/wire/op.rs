//! The operation codes, in the protocol's order and numbers (`ZooDefs.OpCode`), and the reserved xids.

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(i32)]
pub enum OpCode {
    Create = 1,
    Delete = 2,
    Exists = 3,
    GetData = 4,
    SetData = 5,
    GetAcl = 6,
    SetAcl = 7,
    GetChildren = 8,
    Sync = 9,
    Ping = 11,
    GetChildren2 = 12,
    Check = 13,
    Multi = 14,
    Create2 = 15,
    Reconfig = 16,
    CheckWatches = 17,
    RemoveWatches = 18,
    CreateContainer = 19,
    DeleteContainer = 20,
    CreateTtl = 21,
    MultiRead = 22,
    Auth = 100,
    SetWatches = 101,
    Sasl = 102,
    GetEphemerals = 103,
    GetAllChildrenNumber = 104,
    SetWatches2 = 105,
    AddWatch = 106,
    WhoAmI = 107,
    CreateSession = -10,
    CloseSession = -11,
}

impl OpCode {
    /// The code of a number on the wire; `None` is an operation that ZooKeeper does not have.
    #[must_use]
    pub fn from_i32(number: i32) -> Option<OpCode> {
        use OpCode::*;
        Some(match number {
            1 => Create,
            2 => Delete,
            3 => Exists,
            4 => GetData,
            5 => SetData,
            6 => GetAcl,
            7 => SetAcl,
            8 => GetChildren,
            9 => Sync,
            11 => Ping,
            12 => GetChildren2,
            13 => Check,
            14 => Multi,
            15 => Create2,
            16 => Reconfig,
            17 => CheckWatches,
            18 => RemoveWatches,
            19 => CreateContainer,
            20 => DeleteContainer,
            21 => CreateTtl,
            22 => MultiRead,
            100 => Auth,
            101 => SetWatches,
            102 => Sasl,
            103 => GetEphemerals,
            104 => GetAllChildrenNumber,
            105 => SetWatches2,
            106 => AddWatch,
            107 => WhoAmI,
            -10 => CreateSession,
            -11 => CloseSession,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[must_use]
    pub fn as_i32(self) -> i32 {
        self as i32
    }

    /// Whether it reads one znode, whose path its record begins with.
    #[must_use]
    pub fn is_lookup(self) -> bool {
        use OpCode::*;
        matches!(self, Exists | GetData | GetAcl | GetChildren | GetChildren2)
    }

    /// Whether it needs a leader: it changes something, or asks for all that was changed.
    #[must_use]
    pub fn needs_a_leader(self) -> bool {
        use OpCode::*;
        matches!(
            self,
            Create
                | Create2
                | CreateContainer
                | CreateTtl
                | Delete
                | DeleteContainer
                | SetData
                | SetAcl
                | Multi
                | Reconfig
                | Sync
        )
    }

    /// The short name that the word `cons` shows as `lop`.
    #[must_use]
    pub fn short_name(self) -> &'static str {
        use OpCode::*;
        match self {
            Create | Create2 | CreateContainer | CreateTtl => "CREA",
            Delete | DeleteContainer => "DELE",
            Exists => "EXIS",
            GetData => "GETD",
            SetData => "SETD",
            GetAcl => "GETA",
            SetAcl => "SETA",
            GetChildren | GetChildren2 => "GETC",
            Sync => "SYNC",
            Ping => "PING",
            Check => "CHEC",
            Multi => "MULT",
            Reconfig => "RECO",
            CheckWatches => "CHKW",
            RemoveWatches => "REMW",
            MultiRead => "MLTR",
            Auth | Sasl => "AUTH",
            SetWatches => "SETW",
            SetWatches2 => "STW2",
            GetEphemerals => "GETE",
            GetAllChildrenNumber => "GETACN",
            AddWatch => "ADDW",
            WhoAmI => "HOMI",
            CreateSession => "SESS",
            CloseSession => "CLOS",
        }
    }
}

/// The xids that the protocol reserves.
pub mod xid {
    use crate::ids::Xid;

    /// A watch event.
    pub const EVENT: Xid = Xid(-1);
    /// A ping and its answer, whatever xid the request carried.
    pub const PING: Xid = Xid(-2);
    /// What Java and the C client put on auth; echoed, never required.
    pub const AUTH: Xid = Xid(-4);
    /// What Java and the C client put on setWatches; echoed, never required.
    pub const SET_WATCHES: Xid = Xid(-8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_round_trip() {
        let mut known = 0;
        for number in -20..=200 {
            if let Some(op) = OpCode::from_i32(number) {
                assert_eq!(op.as_i32(), number);
                known += 1;
            }
        }
        assert_eq!(known, 31);
    }
}
