//! A naive model of ZooKeeper's rules of change: a map from paths to nodes, each rule written down once more from the
//! protocol notes, with no regard for speed and nothing of the server's own code but the numbers of errors.

pub mod asked;

use ringkeeper::error::Code;
use std::collections::BTreeMap;

pub type Acl = (i32, String, String);
/// An entry as a client may write it.
pub type AclEntry = (i32, Option<String>, Option<String>);
pub type Identity = (String, String);

const READ: i32 = 1;
const WRITE: i32 = 2;
const CREATE: i32 = 4;
const DELETE: i32 = 8;
const ADMIN: i32 = 16;

#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    Persistent,
    Ephemeral(i64),
    Container,
    Ttl(i64),
}

#[derive(Clone, PartialEq, Debug)]
pub struct ModelNode {
    pub data: Option<Vec<u8>>,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub creations: i32,
    pub aversion: i32,
    pub acl: Vec<Acl>,
    pub kind: Kind,
}

/// The 68 bytes of a Stat, written out by hand.
pub type StatBytes = Vec<u8>;

#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Code(i32),
    Path(String),
    PathAndStat(String, StatBytes),
    Stat(StatBytes),
    Multi(Vec<u8>),
    Session(i64, i32),
    SessionRefused,
    Moved,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub enforce_quota: bool,
    pub skip_acl: bool,
    pub extended_types: bool,
    pub reconfig_enabled: bool,
    pub read_only: bool,
    pub digest_disabled: bool,
}

/// What a client asks for; the same in and outside a multi.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        op: i32,
        path: Option<String>,
        data: Option<Vec<u8>>,
        acl: Option<Vec<AclEntry>>,
        flags: i32,
        ttl: i64,
    },
    Delete {
        path: Option<String>,
        version: i32,
    },
    SetData {
        path: Option<String>,
        data: Option<Vec<u8>>,
        version: i32,
    },
    SetAcl {
        path: Option<String>,
        acl: Option<Vec<AclEntry>>,
        version: i32,
    },
    Check {
        path: Option<String>,
        version: i32,
    },
}

pub struct Call<'a> {
    pub session: i64,
    pub identities: &'a [Identity],
    pub zxid: i64,
    pub time: i64,
    pub rules: Rules,
}

#[derive(Clone)]
pub struct Session {
    pub timeout: i32,
    pub password: [u8; 16],
    pub conn: u64,
}

#[derive(Clone)]
pub struct Model {
    pub nodes: BTreeMap<String, ModelNode>,
    pub sessions: BTreeMap<i64, Session>,
    /// Usage that a multi has yet to add: (stats node, count, bytes).
    pending: Vec<(String, i64, i64)>,
    /// The nodes as they were before the multi at hand: what its operations are held against.
    before: Option<BTreeMap<String, ModelNode>>,
}

fn world(perms: i32) -> Vec<Acl> {
    vec![(perms, "world".into(), "anyone".into())]
}

fn parent_of(path: &str) -> String {
    let at = path.rfind('/').unwrap();
    if at == 0 {
        "/".into()
    } else {
        path[..at].into()
    }
}

/// PathUtils.validatePath over UTF-16 units, rule for rule.
pub fn path_is_valid(path: &str) -> bool {
    let units: Vec<u16> = path.encode_utf16().collect();
    let unit = |c: char| c as u16;
    if units.is_empty() || units[0] != unit('/') {
        return false;
    }
    if units.len() == 1 {
        return true;
    }
    if *units.last().unwrap() == unit('/') {
        return false;
    }
    let mut last = units[0];
    for i in 1..units.len() {
        let c = units[i];
        let end_of_component = i + 1 == units.len() || units[i + 1] == unit('/');
        if c == 0 || (c == unit('/') && last == unit('/')) {
            return false;
        }
        if c == unit('.') && last == unit('.') && units[i - 2] == unit('/') && end_of_component {
            return false;
        }
        if c == unit('.') && last == unit('/') && end_of_component {
            return false;
        }
        if matches!(c, 0x01..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff) {
            return false;
        }
        last = c;
    }
    true
}

fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}

fn ipv4(text: &str) -> Option<u32> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 4 {
        return None;
    }
    let mut all = 0u32;
    for part in parts {
        let number: i32 = part.parse().ok()?;
        all = all << 8 | u32::from(u8::try_from(number).ok()?);
    }
    Some(all)
}

fn ip_rule(text: &str) -> Option<(u32, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, bits.parse().ok()?),
        None => (text, 32),
    };
    (bits <= 32).then_some((ipv4(address)?, bits))
}

fn allowed(acl: &[Acl], wanted: i32, identities: &[Identity]) -> bool {
    if identities.iter().any(|(scheme, _)| scheme == "super") {
        return true;
    }
    for (perms, scheme, id) in acl {
        if perms & wanted == 0 {
            continue;
        }
        if scheme == "world" && id == "anyone" {
            return true;
        }
        for (mine, me) in identities {
            if mine != scheme {
                continue;
            }
            let matches = if scheme == "ip" {
                let (network, bits) = ip_rule(id).unwrap();
                (0..bits).all(|bit| (network ^ ipv4(me).unwrap()) >> (31 - bit) & 1 == 0)
            } else {
                id == me
            };
            if matches {
                return true;
            }
        }
    }
    false
}

fn fixed_up(
    list: &Option<Vec<AclEntry>>,
    identities: &[Identity],
    digest_disabled: bool,
) -> Result<Vec<Acl>, Code> {
    let mut distinct: Vec<AclEntry> = Vec::new();
    for entry in list.iter().flatten() {
        if !distinct.contains(entry) {
            distinct.push(entry.clone());
        }
    }
    if distinct.is_empty() {
        return Err(Code::InvalidAcl);
    }
    let mut out = Vec::new();
    for (perms, scheme, id) in distinct {
        let scheme = scheme.ok_or(Code::InvalidAcl)?;
        if scheme == "auth" {
            let mine: Vec<_> =
                identities.iter().filter(|(scheme, _)| scheme == "digest" || scheme == "sasl").collect();
            if mine.is_empty() {
                return Err(Code::InvalidAcl);
            }
            out.extend(mine.into_iter().map(|(scheme, id)| (perms, scheme.clone(), id.clone())));
            continue;
        }
        if !["world", "ip", "digest"].contains(&scheme.as_str()) || (scheme == "digest" && digest_disabled) {
            return Err(Code::InvalidAcl);
        }
        let id = id.ok_or(Code::MarshallingError)?;
        let valid = match scheme.as_str() {
            "world" => id == "anyone",
            "ip" => ip_rule(&id).is_some(),
            _ => id.trim_end_matches(':').split(':').count() == 2,
        };
        if !valid {
            return Err(Code::InvalidAcl);
        }
        out.push((perms, scheme, id));
    }
    Ok(out)
}

/// (count, bytes, countHardLimit, byteHardLimit).
fn track(text: &Option<Vec<u8>>) -> Option<[i64; 4]> {
    let text = String::from_utf8(text.clone().unwrap_or_default()).ok()?;
    let mut out = [-1; 4];
    for piece in text.split([',', ';']) {
        if piece.is_empty() {
            continue;
        }
        let parts: Vec<&str> = piece.split('=').collect();
        let number = parts.get(1)?.parse().ok()?;
        if let Some(at) =
            ["count", "bytes", "countHardLimit", "byteHardLimit"].iter().position(|key| *key == parts[0])
        {
            out[at] = number;
        }
    }
    Some(out)
}

const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";

fn subject_of<'a>(path: &'a str, suffix: &str) -> Option<&'a str> {
    path.strip_prefix("/zookeeper/quota")?.strip_suffix(suffix)
}

impl Model {
    pub fn new() -> Model {
        let mut nodes = BTreeMap::new();
        for (path, acl, aversion) in
            [("/", 31, 0), ("/zookeeper", 31, 0), ("/zookeeper/quota", 31, 0), ("/zookeeper/config", 1, -1)]
        {
            nodes.insert(
                path.to_owned(),
                ModelNode {
                    data: Some(vec![]),
                    czxid: 0,
                    mzxid: 0,
                    pzxid: 0,
                    ctime: 0,
                    mtime: 0,
                    version: 0,
                    creations: 0,
                    aversion,
                    acl: world(acl),
                    kind: Kind::Persistent,
                },
            );
        }
        Model { nodes, sessions: BTreeMap::new(), pending: Vec::new(), before: None }
    }

    pub fn children(&self, path: &str) -> Vec<&String> {
        self.nodes.keys().filter(|child| *child != "/" && parent_of(child) == path).collect()
    }

    pub fn stat(&self, path: &str) -> StatBytes {
        let node = &self.nodes[path];
        let children = self.children(path).len() as i32;
        let owner = if let Kind::Ephemeral(session) = node.kind { session } else { 0 };
        let mut out = Vec::new();
        for long in [node.czxid, node.mzxid, node.ctime, node.mtime] {
            out.extend(long.to_be_bytes());
        }
        for int in [node.version, 2 * node.creations - children, node.aversion] {
            out.extend(int.to_be_bytes());
        }
        out.extend(owner.to_be_bytes());
        out.extend((node.data.as_ref().map_or(0, Vec::len) as i32).to_be_bytes());
        out.extend(children.to_be_bytes());
        out.extend(node.pzxid.to_be_bytes());
        out
    }

    fn permit(&self, path: &str, wanted: i32, call: &Call<'_>) -> Result<(), Code> {
        if call.rules.skip_acl || allowed(&self.nodes[path].acl, wanted, call.identities) {
            Ok(())
        } else {
            Err(Code::NoAuth)
        }
    }

    /// One operation by itself.
    pub fn single(&mut self, op: &Op, call: &Call<'_>) -> Answer {
        // check stands in a multi only.
        if matches!(op, Op::Check { .. }) {
            return Answer::Code(Code::Unimplemented.as_i32());
        }
        let answer = match self.op(op, call) {
            Err(code) => Answer::Code(code.as_i32()),
            Ok(done) => match done {
                Done::Created(1, path, _) => Answer::Path(path),
                Done::Created(_, path, stat) => Answer::PathAndStat(path, stat),
                Done::Set(stat) => Answer::Stat(stat),
                Done::Nothing(_) => Answer::Code(0),
            },
        };
        self.flush();
        answer
    }

    /// All or nothing.
    pub fn multi(&mut self, ops: &[Op], call: &Call<'_>) -> Answer {
        for op in ops {
            let (path, refused) = match op {
                Op::SetAcl { path, .. } => (path, true),
                Op::Create { op, path, acl, flags, .. } => {
                    (path, *op != 21 && (acl.is_none() || !(0..=4).contains(flags)))
                }
                Op::Delete { path, .. } | Op::SetData { path, .. } | Op::Check { path, .. } => (path, false),
            };
            if path.is_none() || refused {
                return Answer::Code(Code::MarshallingError.as_i32());
            }
        }
        let before = self.clone();
        self.before = Some(self.nodes.clone());
        let mut out = Vec::new();
        for (at, op) in ops.iter().enumerate() {
            match self.op(&meant(op), call) {
                Ok(done) => done.encode(&mut out),
                // Seen on 3.9.5 with an ACL entry whose id is null: the whole request does not decode.
                Err(Code::MarshallingError) => {
                    *self = before;
                    return Answer::Code(Code::MarshallingError.as_i32());
                }
                Err(code) => {
                    *self = before;
                    let mut out = Vec::new();
                    for n in 0..ops.len() {
                        let code = match n.cmp(&at) {
                            std::cmp::Ordering::Less => 0,
                            std::cmp::Ordering::Equal => code.as_i32(),
                            std::cmp::Ordering::Greater => -2,
                        };
                        multi_header(&mut out, -1, 0, code);
                        out.extend(code.to_be_bytes());
                    }
                    multi_header(&mut out, -1, 1, -1);
                    return Answer::Multi(out);
                }
            }
        }
        self.before = None;
        self.flush();
        multi_header(&mut out, -1, 1, -1);
        Answer::Multi(out)
    }

    fn op(&mut self, op: &Op, call: &Call<'_>) -> Result<Done, Code> {
        match op {
            Op::Create { op, path, data, acl, flags, ttl } => {
                self.create(*op, path, data, acl, *flags, *ttl, call)
            }
            Op::Delete { path, version } => self.delete(path, *version, call),
            Op::SetData { path, data, version } => self.set_data(path, data, *version, call),
            Op::SetAcl { path, acl, version } => self.set_acl(path, acl, *version, call),
            Op::Check { path, version } => {
                let path = self.found(path)?;
                self.permit(&path, READ, call)?;
                same(*version, self.nodes[&path].version)?;
                Ok(Done::Nothing(13))
            }
        }
    }

    /// A valid path of a node that is there.
    fn found(&self, path: &Option<String>) -> Result<String, Code> {
        let path = path.clone().ok_or(Code::BadArguments)?;
        if !path_is_valid(&path) {
            return Err(Code::BadArguments);
        }
        if !self.nodes.contains_key(&path) {
            return Err(Code::NoNode);
        }
        Ok(path)
    }

    #[allow(clippy::too_many_arguments)]
    fn create(
        &mut self,
        op: i32,
        path: &Option<String>,
        data: &Option<Vec<u8>>,
        acl: &Option<Vec<AclEntry>>,
        flags: i32,
        ttl: i64,
        call: &Call<'_>,
    ) -> Result<Done, Code> {
        let ttl = if op == 21 { ttl } else { -1 };
        if !(0..=6).contains(&flags) {
            return Err(Code::BadArguments);
        }
        if flags >= 5 {
            if !call.rules.extended_types {
                return Err(Code::Unimplemented);
            }
            if !(1..1 << 40).contains(&ttl) {
                return Err(Code::BadArguments);
            }
        } else if ttl >= 0 || op == 21 {
            return Err(Code::BadArguments);
        }
        let path = path.as_ref().ok_or(Code::MarshallingError)?;
        if !path.contains('/') || path.contains('\0') {
            return Err(Code::BadArguments);
        }
        let acl = fixed_up(acl, call.identities, call.rules.digest_disabled)?;
        let parent = parent_of(path);
        if !self.nodes.contains_key(&parent) {
            return Err(Code::NoNode);
        }
        self.permit(&parent, CREATE, call)?;
        let mut path = path.clone();
        if [2, 3, 6].contains(&flags) {
            path.push_str(&format!("{:010}", self.nodes[&parent].creations));
        }
        if !path_is_valid(&path) {
            return Err(Code::BadArguments);
        }
        if self.nodes.contains_key(&path) {
            return Err(Code::NodeExists);
        }
        match self.nodes[&parent].kind {
            Kind::Ephemeral(_) => return Err(Code::NoChildrenForEphemerals),
            Kind::Ttl(_) if !call.rules.extended_types => return Err(Code::NoChildrenForEphemerals),
            _ => {}
        }
        if path == "/zookeeper/quota/zookeeper_limits" {
            return Err(Code::BadArguments);
        }
        let bytes = data.as_ref().map_or(0, Vec::len) as i64;
        self.check_quota(&path, 1, bytes, call)?;
        if call.rules.read_only {
            return Err(Code::NotReadOnly);
        }
        let kind = match (op, flags) {
            (19, _) => Kind::Container,
            (21, _) => Kind::Ttl(ttl),
            (_, 1 | 3) => Kind::Ephemeral(call.session),
            _ => Kind::Persistent,
        };
        self.nodes.insert(
            path.clone(),
            ModelNode {
                data: data.clone(),
                czxid: call.zxid,
                mzxid: call.zxid,
                pzxid: call.zxid,
                ctime: call.time,
                mtime: call.time,
                version: 0,
                creations: 0,
                aversion: 0,
                acl,
                kind,
            },
        );
        let above = self.nodes.get_mut(&parent).unwrap();
        above.creations += 1;
        above.pzxid = call.zxid;
        let stat = self.stat(&path);
        if let Some(subject) = subject_of(&path, STATS) {
            // Counted anew, over whatever this transaction was about to add.
            self.pending.retain(|(stats, ..)| *stats != path);
            let inside =
                |at: &&String| subject.is_empty() || *at == subject || at.starts_with(&format!("{subject}/"));
            let all: Vec<&String> = self.nodes.keys().filter(inside).collect();
            let bytes: usize = all.iter().map(|at| self.nodes[*at].data.as_ref().map_or(0, Vec::len)).sum();
            let text = format!("count={},bytes={bytes}", all.len());
            self.nodes.get_mut(&path).unwrap().data = Some(text.into_bytes());
        }
        self.note(&path, 1, bytes);
        Ok(Done::Created(op, path, stat))
    }

    fn delete(&mut self, path: &Option<String>, version: i32, call: &Call<'_>) -> Result<Done, Code> {
        let path = path.as_ref().ok_or(Code::MarshallingError)?;
        if !path.contains('/') || path.contains('\0') {
            return Err(Code::BadArguments);
        }
        if ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path.as_str()) {
            return Err(Code::BadArguments);
        }
        let parent = parent_of(path);
        if !self.nodes.contains_key(&parent) {
            return Err(Code::NoNode);
        }
        self.permit(&parent, DELETE, call)?;
        let node = self.nodes.get(path).ok_or(Code::NoNode)?;
        same(version, node.version)?;
        if !self.children(path).is_empty() {
            return Err(Code::NotEmpty);
        }
        self.take_out(path, call.zxid);
        Ok(Done::Nothing(2))
    }

    fn take_out(&mut self, path: &str, zxid: i64) {
        let node = self.nodes.remove(path).unwrap();
        self.nodes.get_mut(&parent_of(path)).unwrap().pzxid = zxid;
        self.note(path, -1, -(node.data.map_or(0, |data| data.len()) as i64));
    }

    fn set_data(
        &mut self,
        path: &Option<String>,
        data: &Option<Vec<u8>>,
        version: i32,
        call: &Call<'_>,
    ) -> Result<Done, Code> {
        let path = self.found(path)?;
        self.permit(&path, WRITE, call)?;
        let len = |data: &Option<Vec<u8>>| data.as_ref().map_or(0, Vec::len) as i64;
        let growth = len(data) - len(&self.nodes[&path].data);
        self.check_quota(&path, 0, growth, call)?;
        same(version, self.nodes[&path].version)?;
        if call.rules.read_only && growth > 0 {
            return Err(Code::NotReadOnly);
        }
        let node = self.nodes.get_mut(&path).unwrap();
        node.data = data.clone();
        node.version = next_version(node.version);
        node.mzxid = call.zxid;
        node.mtime = call.time;
        // A usage that a client writes counts from here on.
        self.pending.retain(|(stats, ..)| *stats != path);
        self.note(&path, 0, growth);
        Ok(Done::Set(self.stat(&path)))
    }

    fn set_acl(
        &mut self,
        path: &Option<String>,
        acl: &Option<Vec<AclEntry>>,
        version: i32,
        call: &Call<'_>,
    ) -> Result<Done, Code> {
        match path {
            Some(path) if path_is_valid(path) => {}
            _ => return Err(Code::BadArguments),
        }
        let acl = fixed_up(acl, call.identities, call.rules.digest_disabled)?;
        let path = self.found(path)?;
        self.permit(&path, ADMIN, call)?;
        let node = self.nodes.get_mut(&path).unwrap();
        same(version, node.aversion)?;
        node.acl = acl;
        node.aversion = next_version(node.aversion);
        Ok(Done::Set(self.stat(&path)))
    }

    /// The reaper's wish.
    pub fn reap(&mut self, path: &str, zxid: i64) -> Answer {
        let code = match self.nodes.get(path).map(|node| &node.kind) {
            None => Code::NoNode,
            Some(_) if !self.children(path).is_empty() => Code::NotEmpty,
            Some(Kind::Persistent | Kind::Ephemeral(_)) => Code::BadVersion,
            Some(Kind::Container | Kind::Ttl(_)) => {
                self.take_out(path, zxid);
                Code::Ok
            }
        };
        self.flush();
        Answer::Code(code.as_i32())
    }

    pub fn close(&mut self, session: i64, zxid: i64) -> Answer {
        if self.sessions.remove(&session).is_none() {
            return Answer::Code(Code::SessionExpired.as_i32());
        }
        for path in self.ephemerals(session) {
            self.take_out(&path, zxid);
        }
        self.flush();
        Answer::Code(0)
    }

    pub fn ephemerals(&self, session: i64) -> Vec<String> {
        let mine = self.nodes.iter().filter(|(_, node)| node.kind == Kind::Ephemeral(session));
        mine.map(|(path, _)| path.clone()).collect()
    }

    /// The deepest path at or above `path` that has a limits node among these.
    fn quota_on(nodes: &BTreeMap<String, ModelNode>, path: &str) -> Option<String> {
        let mut at = path.to_owned();
        while at != "/" {
            if nodes.contains_key(&format!("/zookeeper/quota{at}{LIMITS}")) {
                return Some(format!("/zookeeper/quota{at}"));
            }
            at = parent_of(&at);
        }
        None
    }

    fn check_quota(&self, path: &str, count: i64, bytes: i64, call: &Call<'_>) -> Result<(), Code> {
        if !call.rules.enforce_quota {
            return Ok(());
        }
        let nodes = self.before.as_ref().unwrap_or(&self.nodes);
        let Some(quota) = Model::quota_on(nodes, path) else { return Ok(()) };
        let text = |name| nodes.get(&format!("{quota}{name}")).and_then(|node| track(&node.data));
        let (Some(limits), Some(used)) = (text(LIMITS), text(STATS)) else { return Ok(()) };
        let over = |more: i64, used: i64, limit: i64| more != 0 && limit > -1 && used + more > limit;
        if over(count, used[0], limits[2]) || over(bytes, used[1], limits[3]) {
            return Err(Code::QuotaExceeded);
        }
        Ok(())
    }

    fn note(&mut self, path: &str, count: i64, bytes: i64) {
        if let Some(quota) = Model::quota_on(&self.nodes, path) {
            self.pending.push((format!("{quota}{STATS}"), count, bytes));
        }
    }

    fn flush(&mut self) {
        for (stats, count, bytes) in std::mem::take(&mut self.pending) {
            let Some(node) = self.nodes.get_mut(&stats) else { continue };
            let Some(used) = track(&node.data) else { continue };
            let text = format!("count={},bytes={}", used[0] + count, used[1] + bytes);
            node.data = Some(text.into_bytes());
        }
    }
}

/// In a multi the flags say what a create is: 4 a container whatever brought it, 0 to 3 no TTL node.
fn meant(op: &Op) -> Op {
    let mut meant = op.clone();
    if let Op::Create { op, flags, .. } = &mut meant {
        match (*op, *flags) {
            (1 | 15 | 21, 4) => *op = 19,
            (21, 0..=3) => *op = 1,
            _ => {}
        }
    }
    meant
}

fn same(expected: i32, version: i32) -> Result<(), Code> {
    if expected == -1 || expected == version {
        Ok(())
    } else {
        Err(Code::BadVersion)
    }
}

enum Done {
    Created(i32, String, StatBytes),
    Set(StatBytes),
    /// An operation without a result, by its number.
    Nothing(i32),
}

impl Done {
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Done::Created(op, path, stat) => {
                multi_header(out, if op == 1 { 1 } else { 15 }, 0, 0);
                out.extend((path.len() as i32).to_be_bytes());
                out.extend(path.as_bytes());
                if op != 1 {
                    out.extend(stat);
                }
            }
            Done::Set(stat) => {
                multi_header(out, 5, 0, 0);
                out.extend(stat);
            }
            Done::Nothing(op) => multi_header(out, op, 0, 0),
        }
    }
}

pub fn multi_header(out: &mut Vec<u8>, op: i32, done: u8, err: i32) {
    out.extend(op.to_be_bytes());
    out.push(done);
    out.extend(err.to_be_bytes());
}
