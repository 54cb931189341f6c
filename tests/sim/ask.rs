//! What clients ask: the operations, their bytes, and the choice among them.

use crate::dice::Dice;
use crate::machines::client;
use ringkeeper::wire::OpCode;

/// What was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    Create {
        path: String,
        flags: i32,
    },
    Set {
        path: String,
        data: Vec<u8>,
    },
    Delete {
        path: String,
    },
    Multi {
        paths: Vec<String>,
        data: Vec<u8>,
    },
    Close,
    Sync,
    Get {
        path: String,
        watch: bool,
    },
    Exists {
        path: String,
        watch: bool,
    },
    Children {
        path: String,
        watch: bool,
    },
    AddWatch {
        path: String,
        mode: i32,
    },
    CheckWatches {
        path: String,
        kind: i32,
    },
    RemoveWatches {
        path: String,
        kind: i32,
    },
    /// A setData that does not decode.
    Garbled,
}

/// The flags of a create.
pub const SEQUENTIAL: i32 = 2;
pub const EPHEMERAL: i32 = 1;

/// Modes of addWatch.
pub const PERSISTENT: i32 = 0;
pub const RECURSIVE: i32 = 1;

/// A znode that nobody may read: its list grants all but READ.
pub fn is_hidden(path: &str) -> bool {
    path.starts_with("/h")
}

impl Ask {
    /// Whether it goes through the log and takes a zxid.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Ask::Create { .. } | Ask::Set { .. } | Ask::Delete { .. } | Ask::Multi { .. } | Ask::Close
        )
    }

    /// Whether it is answered with what the tree shows.
    pub fn is_read(&self) -> bool {
        matches!(self, Ask::Get { .. } | Ask::Exists { .. } | Ask::Children { .. })
    }

    /// Whether its answer proves that a majority was heard: what a server alone answers does not.
    pub fn asks_a_majority(&self) -> bool {
        self.is_write() || *self == Ask::Sync
    }

    /// As the wire has it.
    pub fn encode(&self) -> (OpCode, Vec<u8>) {
        match self {
            Ask::Create { path, .. } if is_hidden(path) => {
                (OpCode::Create, client::create_acl(path, Some(b"new"), &[(30, "world", "anyone")], 0))
            }
            Ask::Create { path, flags } => (OpCode::Create, client::create(path, b"new", *flags)),
            Ask::Set { path, data } => (OpCode::SetData, client::set(path, data, -1)),
            Ask::Delete { path } => (OpCode::Delete, client::path_and(path, -1)),
            Ask::Multi { paths, data } => {
                let item = |path: &String| (OpCode::SetData, client::set(path, data, -1));
                (OpCode::Multi, client::multi(&paths.iter().map(item).collect::<Vec<_>>()))
            }
            Ask::Close => (OpCode::CloseSession, Vec::new()),
            Ask::Garbled => (OpCode::SetData, vec![0; 3]),
            Ask::Sync => (OpCode::Sync, client::path("/")),
            Ask::Get { path, watch } => (OpCode::GetData, client::read(path, *watch)),
            Ask::Exists { path, watch } => (OpCode::Exists, client::read(path, *watch)),
            Ask::Children { path, watch } => (OpCode::GetChildren, client::read(path, *watch)),
            Ask::AddWatch { path, mode } => (OpCode::AddWatch, client::path_and(path, *mode)),
            Ask::CheckWatches { path, kind } => (OpCode::CheckWatches, client::path_and(path, *kind)),
            Ask::RemoveWatches { path, kind } => (OpCode::RemoveWatches, client::path_and(path, *kind)),
        }
    }
}

/// Few znodes, so that everybody meets everybody: `/k0` and its brothers, their children and grandchildren.
fn path(dice: &mut Dice, keys: u64) -> String {
    let key = dice.below(keys);
    match dice.below(10) {
        0..=5 => format!("/k{key}"),
        6..=8 => format!("/k{key}/c{}", dice.below(2)),
        _ => format!("/k{key}/c{}/g", dice.below(2)),
    }
}

/// Ephemerals and hidden ones too.
fn any_path(dice: &mut Dice, keys: u64) -> String {
    match dice.below(10) {
        0..=6 => path(dice, keys),
        7..=8 => format!("/e{}", dice.below(keys)),
        _ => format!("/h{}", dice.below(3)),
    }
}

fn data(dice: &mut Dice) -> Vec<u8> {
    dice.roll().to_be_bytes().to_vec()
}

/// The next thing to ask.
pub fn think(dice: &mut Dice, keys: u64) -> Ask {
    match dice.below(100) {
        0..=13 => Ask::Create { path: path(dice, keys), flags: 0 },
        14..=16 => Ask::Create { path: "/s-".to_owned(), flags: SEQUENTIAL },
        17..=22 => Ask::Create { path: format!("/e{}", dice.below(keys)), flags: EPHEMERAL },
        23 => Ask::Create { path: format!("/h{}", dice.below(3)), flags: 0 },
        24..=43 => Ask::Set { path: path(dice, keys), data: data(dice) },
        44..=49 => Ask::Delete { path: any_path(dice, keys) },
        50..=53 => Ask::Multi { paths: vec![path(dice, keys), path(dice, keys)], data: data(dice) },
        54 => Ask::Close,
        55..=61 => Ask::Sync,
        62..=77 => Ask::Get { path: any_path(dice, keys), watch: dice.permille(500) },
        78..=84 => Ask::Exists { path: any_path(dice, keys), watch: dice.permille(500) },
        85..=90 => Ask::Children { path: under(dice, keys), watch: dice.permille(600) },
        91..=94 => Ask::AddWatch { path: under(dice, keys), mode: dice.below(2) as i32 },
        95..=97 => Ask::RemoveWatches { path: any_path(dice, keys), kind: 1 + dice.below(5) as i32 },
        98 => Ask::Garbled,
        _ => Ask::CheckWatches { path: any_path(dice, keys), kind: 1 + dice.below(5) as i32 },
    }
}

/// What follows a sync: a read that may be no older.
pub fn after_sync(dice: &mut Dice, keys: u64) -> Ask {
    Ask::Get { path: path(dice, keys), watch: dice.permille(300) }
}

/// A znode that may have children; seldom the root, which hears of everybody's.
fn under(dice: &mut Dice, keys: u64) -> String {
    if dice.one_in(12) {
        "/".to_owned()
    } else {
        path(dice, keys)
    }
}
