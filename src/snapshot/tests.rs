//! Round trips, and everything that must be refused.

use super::*;
use crate::apply::{BatchHeader, BatchWriter, Options, SnapshotHead, State, Txn, TxnBody};
use crate::ids::{ConnId, ServerId, SessionId, ShardId, Xid};
use crate::membership::Membership;
use crate::tree::{AclId, Node, Path, PathHasher, Znode, STRIPE_ENTRIES_MAX};
use crate::wire::{
    put_multi_end, put_multi_header, AclRef, Create, Delete, IdRef, OpCode, Perms, SetAcl, SetData,
};
use std::borrow::Cow;

/// A state and the batches that change it.
struct World {
    state: State,
    writer: BatchWriter,
    sequence: u64,
}

fn acl<'a>(scheme: &'a str, id: &'a str) -> Vec<AclRef<'a>> {
    let id = IdRef { scheme: Some(Cow::Borrowed(scheme)), id: Some(Cow::Borrowed(id)) };
    vec![AclRef { perms: Perms::ALL, id }]
}

fn open_acl() -> Vec<AclRef<'static>> {
    acl("world", "anyone")
}

fn create_body(op: OpCode, path: &str, data: Option<&[u8]>, acl: Vec<AclRef<'_>>, flags: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let ttl_ms = if op == OpCode::CreateTtl { 5_000 } else { -1 };
    Create { path: Some(Cow::Borrowed(path)), data, acl: Some(acl), flags, ttl_ms }.encode(op, &mut out);
    out
}

fn delete_body(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Delete { path: Some(Cow::Borrowed(path)), version: -1 }.encode(&mut out);
    out
}

fn set_body(path: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    SetData { path: Some(Cow::Borrowed(path)), data: Some(data), version: -1 }.encode(&mut out);
    out
}

impl World {
    fn new() -> World {
        let mut state = State::new(PathHasher::new([9, 8, 7, 6]));
        state.membership = membership();
        let mut world = World { state, writer: BatchWriter::new(0), sequence: 0 };
        for session in [7, 8] {
            world.push(session, TxnBody::CreateSession { timeout_ms: 4_000, password: [session as u8; 16] });
        }
        world.commit();
        world
    }

    fn push(&mut self, session: i64, body: TxnBody<'_>) {
        let (shard, conn) = (ShardId(1), ConnId(session as u64));
        self.writer.push(&Txn { session: SessionId(session), shard, conn, xid: Xid(1), body });
    }

    fn request(&mut self, op: OpCode, request: &[u8]) {
        self.push(7, TxnBody::Request { op: op.as_i32(), identities: b"", request });
    }

    fn create(&mut self, path: &str, data: &[u8]) {
        self.request(OpCode::Create, &create_body(OpCode::Create, path, Some(data), open_acl(), 0));
    }

    fn commit(&mut self) {
        self.sequence += 1;
        let header = BatchHeader {
            options: Options { extended_types: true, ..Options::default() },
            wall: WallMillis(1_000 + self.sequence as i64),
            first_zxid: self.state.last_zxid().next(),
            server: ServerId(1),
            incarnation: 77,
            sequence: self.sequence,
        };
        let bytes = std::mem::replace(&mut self.writer, BatchWriter::new(0)).finish(&header);
        assert!(self.state.apply_batch(&bytes, |_, _| {}).unwrap());
    }

    /// Something of everything.
    fn rich() -> World {
        let mut world = World::new();
        world.request(OpCode::Create, &create_body(OpCode::Create, "/null", None, open_acl(), 0));
        world.create("/empty", b"");
        world.create("/a", b"hello");
        for n in 0..20 {
            world.create(&format!("/a/{n}"), format!("data {n}").as_bytes());
        }
        world.request(
            OpCode::CreateContainer,
            &create_body(OpCode::CreateContainer, "/box", None, open_acl(), 0),
        );
        world.request(OpCode::CreateTtl, &create_body(OpCode::CreateTtl, "/ttl", None, open_acl(), 5));
        world.request(OpCode::Create, &create_body(OpCode::Create, "/eph", Some(b"e"), open_acl(), 1));
        world.request(
            OpCode::Create2,
            &create_body(OpCode::Create2, "/a/s-", Some(b"e"), acl("ip", "10.0.0.0/8"), 3),
        );
        world.request(
            OpCode::Create,
            &create_body(OpCode::Create, "/mine", Some(b"m"), acl("digest", "bob:x"), 0),
        );
        let mut set_acl = Vec::new();
        SetAcl { path: Some(Cow::Borrowed("/a/1")), acl: Some(acl("digest", "eve:y")), version: -1 }
            .encode(&mut set_acl);
        world.request(OpCode::SetAcl, &set_acl);
        world.request(OpCode::SetData, &set_body("/a/2", b"again"));
        world.request(OpCode::Delete, &delete_body("/a/3"));
        for path in ["/zookeeper/quota/a", "/zookeeper/quota/a/zookeeper_limits"] {
            world.create(path, b"count=100,bytes=-1");
        }
        world.create("/zookeeper/quota/a/zookeeper_stats", b"");
        world.create("/\u{e4}\u{f6}/", b"refused");
        world.create("/\u{e4}\u{f6}", b"umlauts");
        world.commit();
        world
    }
}

fn membership() -> Membership {
    Membership::formed(&[(ServerId(1), 11), (ServerId(2), 22)])
}

fn meta() -> Meta {
    Meta { cluster: 0xabcd, index: LogIndex(42), term: Term(3) }
}

fn bytes_of(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    let written = encode_state(&mut out, &meta(), state).unwrap();
    assert_eq!(written.bytes, out.len() as u64);
    assert_eq!(written.nodes, state.table.len() as u64);
    out
}

/// Everything that a State holds and a client or a later transaction could see, in a comparable form.
fn contents(state: &State) -> (Vec<Node>, Vec<String>) {
    let mut nodes: Vec<Node> = state.table.nodes().iter().cloned().collect();
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    let head = state.snapshot_head();
    let rest = vec![
        format!("{head:?}"),
        format!("{:?}", state.reapable().collect::<Vec<_>>()),
        format!("{:?}", state.table.all_ephemerals().collect::<Vec<_>>()),
        format!("{} {}", state.table.ephemerals_count(), state.table.data_bytes()),
    ];
    (nodes, rest)
}

fn refused(bytes: &[u8]) -> SnapshotError {
    match decode_bytes(bytes) {
        Ok(_) => panic!("was not refused"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error
        }
    }
}

#[test]
fn a_state_survives_the_round_trip_and_goes_on_alike() {
    let mut world = World::rich();
    let loaded = decode_bytes(&bytes_of(&world.state)).unwrap();
    assert_eq!(loaded.meta, meta());
    assert_eq!(contents(&loaded.state), contents(&world.state));
    // The same transactions find the same answers: quotas, ephemerals and sessions are alive again.
    let mut twin = World { state: loaded.state, writer: BatchWriter::new(0), sequence: world.sequence };
    for world in [&mut world, &mut twin] {
        world.create("/a/more", b"counted");
        world.request(OpCode::Delete, &delete_body("/mine"));
        world.commit();
        world.push(7, TxnBody::CloseSession);
        world.push(8, TxnBody::Attach { timeout_ms: 9_000, password: &[8; 16] });
        world.commit();
    }
    assert_eq!(contents(&twin.state), contents(&world.state));
    assert!(world.state.table.get("/eph").is_none());
}

/// The numbers of lists go round, before the snapshot or behind it: who begins with it gives the same ones.
#[test]
fn a_state_whose_list_numbers_go_round_survives_and_goes_on_alike() {
    for below_the_end in [0, 1, 2, 3, 9] {
        let mut world = World::rich();
        let old: Vec<AclId> = world.state.snapshot_head().acls.iter().map(|(id, _)| *id).collect();
        assert_eq!(old, [2, 3, 4].map(AclId));
        world.state.set_next_acl(AclId(u32::MAX - below_the_end));
        let open = |world: &mut World, range: std::ops::Range<usize>| {
            for n in range {
                let who = format!("{n}:x");
                let body = create_body(OpCode::Create, &format!("/l{n}"), Some(b""), acl("digest", &who), 0);
                world.request(OpCode::Create, &body);
            }
            world.commit();
        };
        open(&mut world, 0..3);
        let loaded = decode_bytes(&bytes_of(&world.state)).unwrap();
        assert_eq!(contents(&loaded.state), contents(&world.state));
        let mut twin = World { state: loaded.state, writer: BatchWriter::new(0), sequence: world.sequence };
        for world in [&mut world, &mut twin] {
            world.request(OpCode::Delete, &delete_body("/mine"));
            world.request(OpCode::Delete, &delete_body("/l1"));
            open(world, 3..20);
        }
        assert_eq!(contents(&twin.state), contents(&world.state));
        let head = twin.state.snapshot_head();
        assert_eq!(head.acls.len(), 3 - 1 + 20 - 1);
        assert!(head.next_acl < 32, "gone round: {}", head.next_acl);
        assert_eq!(contents(&decode_bytes(&bytes_of(&twin.state)).unwrap().state), contents(&world.state));
    }
}

#[test]
fn a_new_state_survives_too() {
    let state = State::new(PathHasher::new([1, 1, 1, 1]));
    let loaded = decode_bytes(&bytes_of(&state)).unwrap();
    assert_eq!(contents(&loaded.state), contents(&state));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = bytes_of(&World::rich().state);
    for cut in 0..bytes.len() {
        let error = refused(&bytes[..cut]);
        let SnapshotError::Short { offset, .. } = error else { panic!("cut at {cut}: {error}") };
        assert!(offset <= cut as u64, "cut at {cut}: {error}");
        let error = summary(&mut &bytes[..cut]).unwrap_err();
        assert!(matches!(error, SnapshotError::Short { .. }), "cut at {cut}: {error}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(refused(&longer), SnapshotError::Malformed { what: "bytes behind the trailer", .. }));
}

fn random(mut seed: u64) -> impl FnMut() -> usize {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    }
}

#[test]
fn two_thousand_flips_are_refused() {
    let bytes = bytes_of(&World::rich().state);
    let mut next = random(1);
    for _ in 0..2_000 {
        let mut flipped = bytes.clone();
        let at = next() % bytes.len();
        flipped[at] ^= (next() % 255 + 1) as u8;
        refused(&flipped);
    }
}

/// The same inside the blocks, under checksums that are right: nothing panics, and only what no digest covers passes.
#[test]
fn flips_below_the_checksums_are_refused_or_harmless() {
    let state = World::rich().state;
    let bytes = bytes_of(&state);
    let mut parts = Vec::new();
    let mut input = &bytes[..];
    let mut blocks = Blocks::open(&mut input).unwrap();
    let mut unpacker = Unpacker::new().unwrap();
    while let Some(block) = blocks.next_block().unwrap() {
        parts.push((block.kind, unpacker.raw(&block).unwrap().to_vec()));
    }
    let header = &bytes[..HEADER_BYTES + membership().encode().len() + 4];
    let mut random = random(2);
    let mut passed = 0;
    for _ in 0..3_000 {
        let mut parts = parts.clone();
        let part = random() % parts.len();
        let raw = &mut parts[part].1;
        for _ in 0..=random() % 2 {
            let at = random() % raw.len();
            raw[at] =
                if random().is_multiple_of(2) { random() as u8 } else { [0, 0xff, 0x7f, 0x80][random() % 4] };
        }
        if random().is_multiple_of(8) {
            raw.truncate(random() % raw.len() + 1);
        }
        if let Ok(loaded) = decode_bytes(&file_of(header, &parts)) {
            // Sessions and batches stand outside the digest; ids and order were right.
            passed += 1;
            assert_eq!(loaded.state.digest(), state.digest());
            assert_eq!(loaded.state.table.len(), state.table.len());
        }
    }
    assert!(passed < 2_000, "{passed}");
}

/// A file of these parts, each a block of its kind, with right checksums.
fn file_of(header: &[u8], parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = header.to_vec();
    for (kind, raw) in parts {
        let packed = zstd::bulk::compress(raw, 1).unwrap();
        let mut head = vec![*kind];
        head.extend((raw.len() as u32).to_be_bytes());
        head.extend((packed.len() as u32).to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &packed);
        out.extend(head);
        out.extend(crc.to_be_bytes());
        out.extend(packed);
    }
    let mut trailer = vec![kind::TRAILER];
    let at = HEADER_BYTES - 4 - 8;
    trailer.extend_from_slice(&header[at..at + 8]);
    let digest = 8 + 4 + 4 + 16 + 8 + 8 + 8 + 8;
    trailer.extend_from_slice(&header[digest..digest + 8]);
    trailer.extend(crc32c::crc32c(&out).to_be_bytes());
    let crc = crc32c::crc32c(&trailer);
    out.extend(trailer);
    out.extend(crc.to_be_bytes());
    out
}

#[test]
fn lengths_are_checked_before_they_are_believed() {
    let bytes = bytes_of(&World::rich().state);
    let block = HEADER_BYTES + membership().encode().len() + 4;
    for (at, what) in [(HEADER_BYTES - 4, "membership"), (block + 1, "raw"), (block + 5, "packed")] {
        let mut long = bytes.clone();
        long[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(refused(&long), SnapshotError::TooLong { .. }), "{what}");
    }
}

/// Znodes that no encoder of ours would write, under right checksums.
#[test]
fn trees_that_can_not_be_are_refused() {
    let world = World::rich();
    let nodes: Vec<Node> = world.state.table.nodes().iter().cloned().collect();
    let change = |path: &str, change: &dyn Fn(&mut Znode)| -> Vec<Node> {
        let mut nodes = nodes.clone();
        let node = nodes.iter_mut().find(|node| node.path.as_bytes() == path.as_bytes()).unwrap();
        let mut new = (**node).clone();
        change(&mut new);
        *node = node.followed_by(new);
        nodes
    };
    let without =
        |path: &str| nodes.iter().filter(|n| n.path.as_bytes() != path.as_bytes()).cloned().collect();
    let mut twice = nodes.clone();
    twice.push(twice[0].clone());
    let mut stranger = nodes.clone();
    let null = nodes.iter().find(|n| n.path.as_bytes() == b"/null").unwrap();
    stranger.push(null.followed_by(Znode { path: Path::new("/nowhere/lost"), ..(**null).clone() }));
    let head = world.state.snapshot_head();
    let with_head = |change: &dyn Fn(&mut SnapshotHead)| {
        let mut head = head.clone();
        change(&mut head);
        head
    };
    for (name, head, nodes, want) in [
        ("no root", head.clone(), without("/"), "is missing"),
        ("an orphan", head.clone(), stranger, "has no parent"),
        ("a child less", head.clone(), without("/a/4"), "another number of children"),
        ("a path twice", head.clone(), twice, "stands twice"),
        ("a bad path", head.clone(), change("/null", &|n| n.path = Path::new("/x/../y")), "not a legal path"),
        ("an unknown list", head.clone(), change("/null", &|n| n.acl = AclId(99)), "not in the file"),
        ("a late zxid", head.clone(), change("/null", &|n| n.mzxid = Zxid(1 << 40)), "beyond the snapshot's"),
        ("a negative count", head.clone(), change("/null", &|n| n.num_children = -1), "negative number"),
        ("a wrong count", head.clone(), change("/null", &|n| n.num_children = 1), "another number"),
        ("a dead session", head.clone(), change("/eph", &|n| n.owner = 99), "without its session"),
        ("a fertile ephemeral", head.clone(), change("/a", &|n| n.owner = 7), "with children"),
        ("an unused list", head.clone(), without("/mine"), "without a znode"),
        ("a list twice", with_head(&|h| h.acls[1].1 = h.acls[0].1.clone()), nodes.clone(), "stands twice"),
        ("a list's number", with_head(&|h| h.acls[0].0 = AclId(1)), nodes.clone(), "impossible number"),
        ("the next number", with_head(&|h| h.next_acl = 1), nodes.clone(), "impossible number"),
        ("lists in disorder", with_head(&|h| h.acls.swap(0, 1)), nodes.clone(), "out of order"),
        ("a session twice", with_head(&|h| h.sessions[1].0 = SessionId(7)), nodes.clone(), "out of order"),
    ] {
        // What the encoder refuses is not under test here: it is told the sums of what it will get.
        let digest = nodes.iter().fold(0u64, |sum, n| sum.wrapping_add(crate::apply::znode_digest(n)));
        let head = SnapshotHead { nodes: nodes.len() as u64, digest, ..head };
        let mut out = Vec::new();
        let mut encoder = Encoder::begin(&mut out, &meta(), &head).unwrap();
        encoder.nodes(&nodes).unwrap();
        encoder.finish().unwrap();
        let error = refused(&out).to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
}

#[test]
fn a_copy_that_is_not_the_state_gets_no_trailer() {
    let state = World::rich().state;
    let mut nodes: Vec<Node> = state.table.nodes().iter().cloned().collect();
    let mut changed = (*nodes[0]).clone();
    changed.version += 1;
    nodes[0] = nodes[0].followed_by(changed);
    let mut out = Vec::new();
    let mut encoder = Encoder::begin(&mut out, &meta(), &state.snapshot_head()).unwrap();
    encoder.nodes(&nodes).unwrap();
    assert!(encoder.finish().unwrap_err().to_string().contains("is not the state"));
    assert!(matches!(refused(&out), SnapshotError::Short { .. }));
}

/// Writes go on while stripes are copied one by one: the file is the state of the moment at which it began.
#[test]
fn a_snapshot_under_writes_is_the_state_at_its_zxid() {
    let mut world = World::new();
    let mut grown = 0;
    for round in 0..4 {
        // Until a stripe is about to split, so that it does under the snapshot.
        let fullest = |world: &World| {
            let nodes = world.state.table.nodes();
            (0..nodes.stripes()).map(|at| nodes.stripe(at).count()).max().unwrap()
        };
        while grown < 12_000 || fullest(&world) < STRIPE_ENTRIES_MAX - 6 {
            for _ in 0..50 {
                world.create(&format!("/n{grown}"), format!("first {grown}").as_bytes());
                grown += 1;
            }
            world.commit();
        }
        let want = contents(&decode_bytes(&bytes_of(&world.state)).unwrap().state);
        let head = world.state.snapshot_head();
        world.state.start_snapshot();
        let stripes = world.state.table.nodes().stripes();
        assert!(stripes >= 16, "{stripes} stripes");
        let mut out = Vec::new();
        let mut encoder = Encoder::begin(&mut out, &meta(), &head).unwrap();
        let mut step = 0;
        while let Some(batch) = world.state.copy_stripes(1) {
            for nodes in &batch {
                encoder.nodes(nodes).unwrap();
            }
            step += 1;
            disturb(&mut world, round, step);
        }
        assert!(!world.state.is_copying());
        assert!(step > 4, "{step} steps");
        let after = world.state.table.nodes().stripes();
        assert!(after > stripes, "no stripe split in {step} steps");
        encoder.finish().unwrap();
        let loaded = decode_bytes(&out).unwrap();
        assert_eq!(contents(&loaded.state), want, "round {round}");
        // And the writes were not disturbed either.
        let now = contents(&world.state);
        assert_eq!(contents(&decode_bytes(&bytes_of(&world.state)).unwrap().state), now);
    }
}

/// Creations that split stripes, changes, deletions, and multis that fail half way. Few of each a step, so that
/// most stripes are copied in their turn and some before it.
fn disturb(world: &mut World, round: usize, step: usize) {
    if step.is_multiple_of(5) {
        for n in 0..200 {
            world.create(&format!("/r{round}-{step}-{n}"), b"new");
        }
    }
    let at = step * 41 + round;
    world.request(OpCode::SetData, &set_body(&format!("/n{at}"), b"changed"));
    world.request(OpCode::Delete, &delete_body(&format!("/n{}", at + 1)));
    let mut multi = Vec::new();
    put_multi_header(&mut multi, OpCode::Create.as_i32(), false, -1);
    let path = format!("/m{round}-{step}");
    multi.extend(create_body(OpCode::Create, &path, Some(b"m"), acl("digest", "a:b"), 0));
    put_multi_header(&mut multi, OpCode::Delete.as_i32(), false, -1);
    multi.extend(delete_body(&format!("/n{}", at + 2)));
    let mut failing = multi.clone();
    put_multi_header(&mut failing, OpCode::Delete.as_i32(), false, -1);
    failing.extend(delete_body("/absent"));
    for body in [&mut failing, &mut multi] {
        put_multi_end(body);
        world.request(OpCode::Multi, body);
    }
    world.commit();
}

#[test]
fn a_copy_of_a_small_tree_ends_in_one_step_and_can_begin_again() {
    let mut world = World::rich();
    for _ in 0..2 {
        world.state.start_snapshot();
        let first = world.state.copy_stripes(usize::MAX).unwrap();
        assert_eq!(first.iter().map(Vec::len).sum::<usize>(), world.state.table.len());
        assert!(world.state.copy_stripes(usize::MAX).is_none());
        assert!(!world.state.is_copying());
        world.create("/between", b"");
        world.commit();
    }
}

#[test]
fn inspect_tells_what_is_inside() {
    let world = World::rich();
    let bytes = bytes_of(&world.state);
    let summary = summary(&mut &bytes[..]).unwrap();
    assert_eq!(summary.all.nodes, world.state.table.len() as u64);
    assert_eq!((summary.ephemerals, summary.containers, summary.ttl_nodes), (2, 1, 1));
    assert_eq!(summary.sessions.len(), 2);
    assert_eq!(summary.top["/a"].nodes, 21);
    assert_eq!(summary.top.len(), 9, "{:?}", summary.top);
    let text = summary.to_string();
    assert!(text.contains("log index      42 (term 3)"), "{text}");
    let lines: Vec<String> = Dump::open(&mut &bytes[..]).unwrap().map(Result::unwrap).collect();
    assert_eq!(lines.len(), world.state.table.len());
    assert!(lines.iter().any(|line| line.starts_with("\"/ttl\" null") && line.ends_with("ttl 5000 ms")));
    let mut short = &bytes[..bytes.len() - 1];
    let mut cut = Dump::open(&mut short).unwrap();
    assert!(cut.by_ref().any(|line| line.is_err()), "the error is told");
    assert!(cut.next().is_none());
}

/// Whoever made it knew the checksums: the command ended in the middle of a character.
#[test]
fn inspect_bears_a_path_that_is_none() {
    let world = World::rich();
    for path in ["\u{e9}", "", "a/b"] {
        let mut out = Vec::new();
        let mut record = (**world.state.table.get("/a").unwrap()).clone();
        record.path = Path::new(path);
        let mut encoder = Encoder::begin(&mut out, &meta(), &world.state.snapshot_head()).unwrap();
        encoder.nodes(&[Node::new(record, None)]).unwrap();
        assert!(encoder.finish().is_err(), "it is not the state");
        assert!(summary(&mut &out[..]).is_err(), "it has no end");
    }
}
