//! Random batches, applied by the server's State and by a naive model: same answers, same tree, nothing left behind.
//!
//! `PROPTEST_CASES=5000 cargo test --test apply_model` for a long run.

mod model;

use model::asked::{round, Asked, Round, Step, QUOTA_NODES};
use model::{Answer as Want, Call, Identity, Kind, Model, Op, Rules};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use ringkeeper::apply::{znode_digest, BatchHeader, BatchWriter, Options, SnapshotHead, State, Txn, TxnBody};
use ringkeeper::ids::{ConnId, ServerId, SessionId, ShardId, WallMillis, Xid, Zxid};
use ringkeeper::snapshot::{decode_bytes, encode_state, Meta};
use ringkeeper::tree::{Answer, Node, PathHasher, Table, CONTAINER_OWNER, TTL_OWNER_BASE};
use ringkeeper::wire::{
    put_string, AclRef, Create, Delete, IdRef, OpCode, Perms, Reconfig, SetAcl, SetData, Stat,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Few by default; the variable that proptest itself knows asks for more.
fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), failure_persistence: None, ..ProptestConfig::default() }
}

// ---- as bytes ----

fn text(text: &Option<String>) -> Option<Cow<'_, str>> {
    text.as_deref().map(Cow::Borrowed)
}

fn acl_ref(entry: &model::AclEntry) -> AclRef<'_> {
    let (perms, scheme, id) = entry;
    AclRef { perms: Perms(*perms), id: IdRef { scheme: text(scheme), id: text(id) } }
}

fn acl_refs(list: &Option<Vec<model::AclEntry>>) -> Option<Vec<AclRef<'_>>> {
    list.as_ref().map(|list| list.iter().map(acl_ref).collect())
}

fn encode(op: &Op, out: &mut Vec<u8>) -> i32 {
    match op {
        Op::Create { op, path, data, acl, flags, ttl } => {
            let code = OpCode::from_i32(*op).unwrap();
            let acl = acl_refs(acl);
            Create { path: text(path), data: data.as_deref(), acl, flags: *flags, ttl_ms: *ttl }
                .encode(code, out);
            *op
        }
        Op::Delete { path, version } => {
            Delete { path: text(path), version: *version }.encode(out);
            2
        }
        Op::SetData { path, data, version } => {
            SetData { path: text(path), data: data.as_deref(), version: *version }.encode(out);
            5
        }
        Op::SetAcl { path, acl, version } => {
            SetAcl { path: text(path), acl: acl_refs(acl), version: *version }.encode(out);
            7
        }
        Op::Check { path, version } => {
            Delete { path: text(path), version: *version }.encode(out);
            13
        }
    }
}

fn encode_multi(ops: &[Op]) -> Vec<u8> {
    let mut out = Vec::new();
    for op in ops {
        let mut body = Vec::new();
        let number = encode(op, &mut body);
        model::multi_header(&mut out, number, 0, -1);
        out.extend(body);
    }
    model::multi_header(&mut out, -1, 1, -1);
    out
}

fn identities(who: u8) -> Vec<Identity> {
    let pairs: &[(&str, &str)] = match who {
        0 => &[("ip", "10.1.2.3")],
        1 => &[("ip", "127.0.0.1"), ("digest", "bob:x")],
        2 => &[("ip", "10.9.9.9"), ("digest", "eve:y"), ("digest", "bob:x")],
        3 => &[("ip", "127.0.0.1"), ("super", ""), ("digest", "super:s")],
        _ => &[("ip", "127.0.0.1")],
    };
    pairs.iter().map(|(scheme, id)| ((*scheme).to_owned(), (*id).to_owned())).collect()
}

// ---- the two side by side ----

struct Pair {
    state: State,
    /// Fed the same bytes.
    twin: State,
    /// Fed the changes alone, as a shard's is.
    table: Table,
    model: Model,
    sequence: u64,
    wall: i64,
    conns: u64,
    /// How often each answer was seen, a multi's by its first failure.
    answers: BTreeMap<String, u32>,
}

const OPEN_RULES: Rules = Rules {
    enforce_quota: false,
    skip_acl: false,
    extended_types: true,
    reconfig_enabled: false,
    read_only: false,
    digest_disabled: false,
};

const PASSWORD: [u8; 16] = [9; 16];

/// A new state but for the number of its next list.
fn near_the_last_list(key: [u64; 4]) -> State {
    let hasher = PathHasher::new(key);
    let new = State::new(hasher.clone());
    let head = SnapshotHead { next_acl: u32::MAX - 2, ..new.snapshot_head() };
    let mut state = State::from_snapshot(hasher, head);
    new.table.nodes().iter().for_each(|node| state.load_node(node));
    state.loaded(new.table.clone());
    state
}

impl Pair {
    /// `furnished`: some znodes are there, and a quota on /a. So many lists were there before that their numbers go round.
    fn new(furnished: bool) -> Pair {
        let state = |key| match furnished {
            true => near_the_last_list(key),
            false => State::new(PathHasher::new(key)),
        };
        let (state, twin) = (state([1, 2, 3, 4]), state([5, 6, 7, 8]));
        let mut pair = Pair {
            table: state.table.clone(),
            state,
            twin,
            model: Model::new(),
            sequence: 0,
            wall: 1_000,
            conns: 100,
            answers: BTreeMap::new(),
        };
        let asked = |session| Asked { session, from_stranger: false, who: 0, step: Step::CreateSession };
        let rules = OPEN_RULES;
        let asked = (1..4).map(asked).collect();
        pair.play(&Round { rules, asked, repeat: false });
        if furnished {
            let limits = "count=2,bytes=9=;byteHardLimit=40;countHardLimit=4";
            let nodes = [("/a", ""), ("/b", "b"), ("/a/b", "ab"), (QUOTA_NODES[0], "")];
            let quota = [(QUOTA_NODES[1], limits), (QUOTA_NODES[2], "")];
            let create = |(path, data): (&str, &str)| {
                let acl = Some(vec![(31, Some("world".to_owned()), Some("anyone".to_owned()))]);
                let (path, data) = (Some(path.to_owned()), Some(data.as_bytes().to_vec()));
                let step = Step::Op(Op::Create { op: 1, path, data, acl, flags: 0, ttl: -1 });
                Asked { session: 1, from_stranger: false, who: 0, step }
            };
            let asked = nodes.into_iter().chain(quota).map(create).collect();
            pair.play(&Round { rules, asked, repeat: false });
        }
        pair
    }

    /// One batch, through all of them.
    fn play(&mut self, round: &Round) {
        self.sequence += 1;
        self.wall += 7;
        let mut zxid = self.state.last_zxid().0;
        let first_zxid = Zxid(zxid + 1);
        let mut writer = BatchWriter::new(0);
        let mut wanted = Vec::new();
        for asked in &round.asked {
            let takes_zxid = !matches!(asked.step, Step::Attach { .. });
            zxid += i64::from(takes_zxid);
            let want = self.ask(asked, round, zxid, &mut writer);
            wanted.push((zxid, want));
        }
        let rules = round.rules;
        let header = BatchHeader {
            options: Options {
                enforce_quota: rules.enforce_quota,
                skip_acl: rules.skip_acl,
                extended_types: rules.extended_types,
                reconfig_enabled: rules.reconfig_enabled,
                read_only: rules.read_only,
                digest_disabled: rules.digest_disabled,
            },
            wall: WallMillis(self.wall),
            first_zxid,
            server: ServerId(1),
            incarnation: 5,
            sequence: self.sequence,
        };
        let bytes = writer.finish(&header);
        let mut wanted = wanted.into_iter().zip(&round.asked);
        let (table, answers) = (&mut self.table, &mut self.answers);
        let applied = self.state.apply_batch(&bytes, |_, outcome| {
            let ((zxid, want), asked) = wanted.next().expect("an outcome a transaction");
            assert_eq!(outcome.zxid.0, zxid, "{asked:?}");
            assert_eq!(seen(&outcome.answer), want, "{asked:?}");
            *answers.entry(name_of(&outcome.answer)).or_default() += 1;
            for change in &outcome.changes {
                table.install(change);
            }
        });
        assert_eq!(applied, Ok(true));
        assert!(wanted.next().is_none());
        assert_eq!(self.twin.apply_batch(&bytes, |_, _| {}), Ok(true));
        if round.repeat {
            let nothing = self.state.apply_batch(&bytes, |_, _| panic!("a batch applied twice"));
            assert_eq!(nothing, Ok(false));
        }
    }

    /// Writes one transaction and finds what the model makes of it.
    fn ask(&mut self, asked: &Asked, round: &Round, zxid: i64, writer: &mut BatchWriter) -> Want {
        let session = asked.session;
        let owner = self.model.sessions.get(&session).map(|session| session.conn);
        self.conns += 1;
        let conn = match owner {
            Some(conn) if !asked.from_stranger => conn,
            _ => self.conns,
        };
        let who = identities(asked.who);
        let mut packed = Vec::new();
        for (scheme, id) in &who {
            put_string(&mut packed, scheme);
            put_string(&mut packed, id);
        }
        let call = Call { session, identities: &who, zxid, time: self.wall, rules: round.rules };
        let mut push = |conn: u64, body: TxnBody<'_>| {
            writer.push(&Txn {
                session: SessionId(session),
                shard: ShardId(2),
                conn: ConnId(conn),
                xid: Xid(1),
                body,
            });
        };
        let mut request = Vec::new();
        let op = match &asked.step {
            Step::CreateSession => {
                push(self.conns, TxnBody::CreateSession { timeout_ms: 4_000, password: PASSWORD });
                return self.create_session(session);
            }
            Step::Attach { right } => {
                let password = if *right { &PASSWORD[..] } else { b"wrong" };
                push(self.conns, TxnBody::Attach { timeout_ms: 6_000, password });
                return self.attach(session, *right);
            }
            Step::Expires => {
                push(0, TxnBody::CloseSession);
                return self.model.close(session, zxid);
            }
            Step::Reap(path) => {
                push(0, TxnBody::Reap { path });
                return self.model.reap(path, zxid);
            }
            Step::Op(op) => encode(op, &mut request),
            Step::Multi(ops) => {
                request = encode_multi(ops);
                14
            }
            Step::Reconfig => {
                Reconfig { joining: None, leaving: None, members: None, config_id: -1 }.encode(&mut request);
                16
            }
            Step::ClientCloses => -11,
            Step::Other(op) | Step::Garbage(op) => *op,
        };
        push(conn, TxnBody::Request { op, identities: &packed, request: &request });
        match owner {
            None => return Want::Code(-112),
            Some(owner) if owner != conn => return Want::Moved,
            Some(_) => {}
        }
        match &asked.step {
            Step::Op(op) => self.model.single(op, &call),
            Step::Multi(ops) => self.model.multi(ops, &call),
            Step::ClientCloses => self.model.close(session, zxid),
            Step::Reconfig if !round.rules.reconfig_enabled => Want::Code(-123),
            Step::Garbage(_) => Want::Code(-5),
            _ => Want::Code(-6),
        }
    }

    fn create_session(&mut self, id: i64) -> Want {
        if self.model.sessions.contains_key(&id) {
            return Want::SessionRefused;
        }
        let session = model::Session { timeout: 4_000, password: PASSWORD, conn: self.conns };
        self.model.sessions.insert(id, session);
        Want::Session(id, 4_000)
    }

    fn attach(&mut self, id: i64, right: bool) -> Want {
        match self.model.sessions.get_mut(&id) {
            Some(session) if right => {
                session.conn = self.conns;
                session.timeout = 6_000;
                Want::Session(id, 6_000)
            }
            _ => Want::SessionRefused,
        }
    }

    /// All of them hold the same.
    fn compare(&self) {
        let state = &self.state;
        let all: u64 = state.table.nodes().iter().fold(0, |sum, node| sum.wrapping_add(znode_digest(node)));
        assert_eq!(state.digest(), all, "the running digest is the sum over the tree");
        assert_eq!(state.digest(), self.twin.digest());
        assert_eq!(format!("{:?}", state.snapshot_head()), format!("{:?}", self.twin.snapshot_head()));
        same_tree(&state.table, &self.twin.table);
        same_tree(&state.table, &self.table);
        assert_eq!(state.table.len(), self.model.nodes.len());
        let mut bytes = 0;
        let mut lists = BTreeSet::new();
        for (path, want) in &self.model.nodes {
            let node = state.table.get(path).unwrap_or_else(|| panic!("{path} is missing"));
            self.compare_node(path, node, want);
            bytes += path.len() + node.data_len();
            if node.acl.0 >= 2 {
                lists.insert(node.acl);
            }
        }
        assert_eq!(state.table.data_bytes(), bytes as u64);
        let kept: BTreeSet<_> = state.table.acls.iter().map(|(id, _)| id).filter(|id| id.0 >= 2).collect();
        assert_eq!(kept, lists, "a list lives as long as a znode has it");
        self.compare_sessions();
        let reapable: Vec<String> = state.reapable().map(|path| path.as_str().to_owned()).collect();
        let want = self.model.nodes.iter();
        let want = want.filter(|(_, node)| matches!(node.kind, Kind::Container | Kind::Ttl(_)));
        assert_eq!(reapable, want.map(|(path, _)| path.clone()).collect::<Vec<_>>());
    }

    /// A snapshot's reader accepts every state that can come to be, and gives the same back.
    fn compare_with_its_snapshot(&self) {
        let mut bytes = Vec::new();
        encode_state(&mut bytes, &Meta::default(), &self.state).expect("a vector takes all");
        let back = decode_bytes(&bytes).unwrap_or_else(|error| panic!("{error}")).state;
        same_tree(&self.state.table, &back.table);
        assert_eq!(format!("{:?}", self.state.snapshot_head()), format!("{:?}", back.snapshot_head()));
        assert!(self.state.reapable().eq(back.reapable()));
    }

    fn compare_node(&self, path: &str, node: &Node, want: &model::ModelNode) {
        let mut stat = Vec::new();
        node.stat().encode(&mut stat);
        assert_eq!(stat, self.model.stat(path), "{path}: {:?}", node.stat());
        let data = node.data().map(<[u8]>::to_vec);
        assert_eq!(data, want.data, "{path}");
        let list = self.state.table.acls.list(node.acl);
        let list: Vec<model::Acl> =
            list.iter().map(|acl| (acl.perms.0, acl.id.scheme.to_string(), acl.id.id.to_string())).collect();
        assert_eq!(list, want.acl, "{path}");
        let owner = match want.kind {
            Kind::Persistent => 0,
            Kind::Ephemeral(session) => session,
            Kind::Container => CONTAINER_OWNER,
            Kind::Ttl(ttl) => TTL_OWNER_BASE | ttl,
        };
        assert_eq!(node.owner, owner, "{path}");
        let mut children: Vec<&str> = self
            .state
            .table
            .children(path)
            .map_or(vec![], |children| children.iter().map(|path| path.as_str()).collect());
        children.sort_unstable();
        assert_eq!(children, self.model.children(path), "{path}");
    }

    fn compare_sessions(&self) {
        let state = &self.state;
        assert_eq!(state.sessions.len(), self.model.sessions.len());
        for (id, want) in &self.model.sessions {
            let session = state.sessions.get(SessionId(*id)).expect("a living session");
            assert_eq!(
                (session.timeout_ms, session.password, session.owner.conn.0),
                (want.timeout, want.password, want.conn)
            );
        }
        let mut count = 0;
        for id in 1..4 {
            let paths: Vec<String> = state
                .table
                .ephemerals(SessionId(id))
                .map_or(vec![], |paths| paths.iter().map(|path| path.as_str().to_owned()).collect());
            assert_eq!(paths, self.model.ephemerals(id), "ephemerals of {id}");
            count += paths.len();
        }
        assert_eq!(state.table.ephemerals_count(), count);
    }
}

fn stat_bytes(stat: Stat) -> Vec<u8> {
    let mut out = Vec::new();
    stat.encode(&mut out);
    out
}

fn seen(answer: &Answer) -> Want {
    match answer {
        Answer::Code(code) => Want::Code(code.as_i32()),
        Answer::Path(path) => Want::Path(path.as_str().to_owned()),
        Answer::PathAndStat(node) => {
            Want::PathAndStat(node.path.as_str().to_owned(), stat_bytes(node.stat()))
        }
        Answer::Stat(node) => Want::Stat(stat_bytes(node.stat())),
        Answer::Multi(bytes) => Want::Multi(bytes.to_vec()),
        Answer::Session(granted) => {
            assert_eq!(granted.password, PASSWORD);
            Want::Session(granted.id.0, granted.timeout_ms)
        }
        Answer::SessionRefused => Want::SessionRefused,
        Answer::Moved => Want::Moved,
        Answer::Data(_) | Answer::Later => unreachable!("a server alone takes no reconfig"),
    }
}

fn name_of(answer: &Answer) -> String {
    match answer {
        Answer::Code(code) => format!("{code:?}"),
        Answer::Multi(bytes) => {
            let first_error = bytes.chunks_exact(13).find(|one| one[..4] == [255; 4] && one[5..9] != [0; 4]);
            format!(
                "Multi {}",
                first_error.map_or(0, |one| i32::from_be_bytes(one[5..9].try_into().unwrap()))
            )
        }
        other => format!("{other:?}").split([' ', '(', '{']).next().unwrap().to_owned(),
    }
}

fn same_tree(a: &Table, b: &Table) {
    assert_eq!((a.len(), a.data_bytes()), (b.len(), b.data_bytes()));
    assert_eq!(a.acls.iter().collect::<Vec<_>>(), b.acls.iter().collect::<Vec<_>>());
    assert_eq!(a.all_ephemerals().collect::<Vec<_>>(), b.all_ephemerals().collect::<Vec<_>>());
    for node in a.nodes().iter() {
        let path = node.path.as_str();
        assert_eq!(b.get(path), Some(node));
        let children = |table: &Table| -> BTreeSet<String> {
            let children = table.children(path);
            children.map_or(BTreeSet::new(), |all| all.iter().map(|p| p.as_str().to_owned()).collect())
        };
        assert_eq!(children(a), children(b));
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn state_and_model_agree(furnished: bool, rounds in prop::collection::vec(round(), 1..12)) {
        let mut pair = Pair::new(furnished);
        for round in &rounds {
            pair.play(round);
            pair.compare();
        }
        pair.compare_with_its_snapshot();
    }
}

/// ZooKeeper applies a multi's operations one after the other: usage that is counted or written inside one is not
/// added to again by what came before it.
#[test]
fn usage_follows_the_order_of_a_multi() {
    let open = Some(vec![(31, Some("world".to_owned()), Some("anyone".to_owned()))]);
    let create = |path: &str, data: &str| {
        let (path, data) = (Some(path.to_owned()), Some(data.as_bytes().to_vec()));
        Op::Create { op: 1, path, data, acl: open.clone(), flags: 0, ttl: -1 }
    };
    let set = |path: &str, data: &str| {
        let (path, data) = (Some(path.to_owned()), Some(data.as_bytes().to_vec()));
        Op::SetData { path, data, version: -1 }
    };
    let delete = |path: &str| Op::Delete { path: Some(path.to_owned()), version: -1 };
    let stats = QUOTA_NODES[2];
    for (name, ops, want) in [
        ("added", vec![create("/a/x", "123")], "count=3,bytes=5"),
        ("written after", vec![create("/a/x", "123"), set(stats, "count=9,bytes=9")], "count=9,bytes=9"),
        ("written before", vec![set(stats, "count=9,bytes=9"), create("/a/x", "123")], "count=10,bytes=12"),
        ("counted after", vec![delete(stats), create("/a/x", "123"), create(stats, "")], "count=3,bytes=5"),
        ("counted before", vec![delete(stats), create(stats, ""), create("/a/x", "123")], "count=3,bytes=5"),
    ] {
        let mut pair = Pair::new(true);
        let mut rules = OPEN_RULES;
        rules.enforce_quota = false;
        let asked = vec![Asked { session: 1, from_stranger: false, who: 0, step: Step::Multi(ops) }];
        pair.play(&Round { rules, asked, repeat: false });
        pair.compare();
        let data = pair.state.table.get(stats).unwrap().data().unwrap();
        assert_eq!(std::str::from_utf8(data), Ok(want), "{name}");
    }
}

/// A model that only ever hears "no" proves nothing.
#[test]
fn the_random_batches_reach_every_answer() {
    let mut runner = TestRunner::deterministic();
    let mut answers: BTreeMap<String, u32> = BTreeMap::new();
    for case in 0..300 {
        let rounds = prop::collection::vec(round(), 12).new_tree(&mut runner).unwrap().current();
        let mut pair = Pair::new(case % 2 == 0);
        for round in &rounds {
            pair.play(round);
        }
        for (name, count) in pair.answers {
            *answers.entry(name).or_default() += count;
        }
    }
    for name in [
        "Ok",
        "Path",
        "PathAndStat",
        "Stat",
        "Session",
        "SessionRefused",
        "Moved",
        "MarshallingError",
        "Unimplemented",
        "BadArguments",
        "NoNode",
        "NoAuth",
        "BadVersion",
        "NoChildrenForEphemerals",
        "NodeExists",
        "NotEmpty",
        "SessionExpired",
        "InvalidAcl",
        "NotReadOnly",
        "QuotaExceeded",
        "ReconfigDisabled",
        "Multi 0",
        "Multi -8",
        "Multi -101",
        "Multi -102",
        "Multi -103",
        "Multi -108",
        "Multi -110",
        "Multi -111",
        "Multi -114",
        "Multi -119",
        "Multi -125",
    ] {
        assert!(answers.get(name).is_some_and(|count| *count >= 5), "{name}: {answers:#?}");
    }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn path_rules_are_those_of_utf16(
        path in prop_oneof![
            prop::collection::vec(
                prop::sample::select(
                    "/././/a\0\u{1}\u{1f} \u{7e}\u{7f}\u{9f}\u{a0}\u{e4}\u{d7ff}\u{e000}\u{f8ff}\u{f900}\u{ffef}\u{fff0}\u{ffff}\u{10000}\u{1f600}"
                        .chars().collect::<Vec<_>>(),
                ),
                0..7,
            ).prop_map(|chars| format!("/{}", chars.into_iter().collect::<String>())),
            any::<String>(),
            any::<String>().prop_map(|path| format!("/{path}")),
        ]
    ) {
        prop_assert_eq!(ringkeeper::tree::path::validate(&path).is_ok(), model::path_is_valid(&path));
    }
}
