//! What several benches begin with: a shard with one session, a state with a tree.
#![allow(dead_code)] // Each bench takes its part.

pub mod shard {
    //! A shard that serves a tree of 100,000 znodes of 100 bytes to one session.

    use ringkeeper::auth::Schemes;
    use ringkeeper::handoff::{Addressee, AnswerKind, Committed, Concerns, Publication};
    use ringkeeper::ids::{ConnId, Millis, ServerId, SessionId, ShardId, WallMillis, Xid, Zxid};
    use ringkeeper::shard::{Options, Shard};
    use ringkeeper::tree::{path, Answer, Granted, Node, PathHasher, Table, Znode};
    use ringkeeper::watch::Limits;
    use ringkeeper::wire::{ConnectRequest, OpCode, PathAndWatch, RequestHeader};
    use std::borrow::Cow;

    pub const NOW: Millis = Millis(1_000);
    pub const NODES: usize = 100_000;

    fn options() -> Options {
        Options {
            server: ServerId(1),
            incarnation: 1,
            shard: ShardId(0),
            frame_bytes_max: 0xf_ffff,
            session_timeout_min_ms: 4_000,
            session_timeout_max_ms: 40_000,
            handshake_timeout_ms: 10_000,
            outstanding_per_connection_max: 1_000,
            outstanding_max: 65_536,
            unsent_pause_bytes: 1 << 30,
            unsent_cut_bytes: 1 << 30,
            unsent_cut_ms: 1 << 30,
            unsent_long_bytes: 256 << 20,
            sessions_max: 1_000,
            acl_entries_max: 1_000,
            multi_ops_max: 1_000,
            identities_max: 64,
            watch_limits: Limits { count_max: 1_000, bytes_max: 1 << 20 },
            schemes: Schemes::default(),
            skip_acl: false,
            required_schemes: None,
            report_ms: 500,
            slices: Default::default(),
        }
    }

    fn node(path: &str) -> Node {
        Node::new(Znode::created(path, Zxid(1), WallMillis(1)), Some(&[7; 100]))
    }

    fn insert(table: &mut Table, path: &str) {
        let mut node = node(path);
        node.set_place(table.free_place(path::parent(path).unwrap_or("/")));
        table.insert(node);
    }

    pub fn path(n: usize) -> String {
        format!("/svc{:03}/node{n:010}", n % 1000)
    }

    pub fn framed(op: OpCode, body: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        RequestHeader { xid: Xid(1), op: op.as_i32() }.encode(out);
        body(out);
        let length = i32::try_from(out.len() - start - 4).unwrap();
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// A shard and its connection.
    pub fn serving() -> (Shard, ConnId) {
        let hasher = PathHasher::new([1, 2, 3, 4]);
        let mut table = Table::new(hasher.clone());
        insert(&mut table, "/");
        for n in 0..NODES {
            insert(&mut table, &path(n));
        }
        insert(&mut table, "/ten");
        for n in 0..10 {
            insert(&mut table, &format!("/ten/child{n}"));
        }
        let now = NOW;
        let mut shard = Shard::new(options(), hasher, now);
        let _ = shard.serve(table, Zxid(1), 0);
        let conn = shard.accept(now, "127.0.0.1:1".parse().unwrap());
        let mut hello = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 10_000,
            session_id: 0,
            password: None,
            read_only: Some(false),
        }
        .encode(&mut hello);
        shard.received(now, conn, &hello);
        shard.take_upward().expect("a session is asked for");
        let to = Addressee { shard: ShardId(0), conn, xid: Xid(0), kind: AnswerKind::Handshake };
        let answer = Answer::Session(Box::new(Granted {
            id: SessionId(5),
            timeout_ms: 10_000,
            password: [0; 16],
            is_local: false,
        }));
        let committed = vec![Committed { zxid: Zxid(2), changes: Default::default(), to: Some(to), answer }];
        shard.install(
            now,
            &Publication {
                number: 1,
                committed,
                sessions: 1,
                last_zxid: Zxid(2),
                concerns: Concerns::ALL,
                bytes: 0,
            },
        );
        while let Some(resumed) = shard.next_resumed() {
            shard.resume(now, resumed);
        }
        flush(&mut shard, now);
        (shard, conn)
    }

    /// One read's bytes: `depth` requests of random paths.
    pub fn reads(op: OpCode, depth: u64, at: &mut usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            *at = (*at + 7_919) % NODES;
            let path = path(*at);
            let body = PathAndWatch { path: Some(Cow::Borrowed(&path)), watch: false };
            framed(
                op,
                |out| {
                    if op != OpCode::Ping {
                        body.encode(out)
                    }
                },
                &mut bytes,
            );
        }
        bytes
    }

    /// getChildren of a znode that has ten.
    pub fn children_of_ten() -> Vec<u8> {
        let mut bytes = Vec::new();
        let body = PathAndWatch { path: Some(Cow::Borrowed("/ten")), watch: false };
        framed(OpCode::GetChildren, |out| body.encode(out), &mut bytes);
        bytes
    }

    pub fn flush(shard: &mut Shard, now: Millis) {
        while let Some(conn) = shard.next_dirty() {
            let n = shard.output(conn).len();
            shard.wrote(now, conn, n);
        }
    }
}

pub mod apply {
    //! A state with a tree of 100,000 znodes of 100 bytes, and batches for it.

    use ringkeeper::apply::{BatchHeader, BatchWriter, Options, State, Txn, TxnBody};
    use ringkeeper::ids::{ConnId, ServerId, SessionId, ShardId, WallMillis, Xid, Zxid};
    use ringkeeper::tree::PathHasher;
    use ringkeeper::wire::{Acl, Create, Delete, Id, OpCode, Perms, SetData};
    use std::borrow::Cow;

    const SESSION: SessionId = SessionId(1 << 56);
    pub const NODES: usize = 100_000;
    pub const BATCH: usize = 64;

    pub struct Writer {
        sequence: u64,
        zxid: i64,
    }

    impl Writer {
        pub fn batch(&mut self, bodies: impl Iterator<Item = (i32, Vec<u8>)>) -> Vec<u8> {
            let identities = identities();
            let mut writer = BatchWriter::new(1 << 14);
            for (op, request) in bodies {
                let body = if op == 0 {
                    TxnBody::CreateSession { timeout_ms: 10_000, password: [0; 16] }
                } else {
                    TxnBody::Request { op, identities: &identities, request: &request }
                };
                writer.push(&Txn { session: SESSION, shard: ShardId(0), conn: ConnId(1), xid: Xid(1), body });
            }
            self.sequence += 1;
            let first_zxid = Zxid(self.zxid + 1);
            self.zxid += writer.zxids();
            writer.finish(&BatchHeader {
                options: Options::default(),
                wall: WallMillis(1),
                first_zxid,
                server: ServerId(1),
                incarnation: 1,
                sequence: self.sequence,
            })
        }
    }

    fn identities() -> Vec<u8> {
        let mut out = Vec::new();
        ringkeeper::wire::put_string(&mut out, "ip");
        ringkeeper::wire::put_string(&mut out, "127.0.0.1");
        out
    }

    pub fn path(n: usize) -> String {
        if n < 1000 {
            format!("/svc{n:03}")
        } else {
            format!("/svc{:03}/node{n:010}", n % 1000)
        }
    }

    pub fn create(path: &str) -> (i32, Vec<u8>) {
        let mut out = Vec::new();
        Create { path: Some(Cow::Borrowed(path)), data: Some(&[7; 100]), acl: None, flags: 0, ttl_ms: -1 }
            .encode(OpCode::Create, &mut out);
        // The open list in place of the null one.
        out.truncate(out.len() - 8);
        Acl::encode_list(&[Acl { perms: Perms::ALL, id: Id::new("world", "anyone") }], &mut out);
        out.extend_from_slice(&0i32.to_be_bytes());
        (OpCode::Create.as_i32(), out)
    }

    pub fn set(path: &str) -> (i32, Vec<u8>) {
        let mut out = Vec::new();
        SetData { path: Some(Cow::Borrowed(path)), data: Some(&[8; 100]), version: -1 }.encode(&mut out);
        (OpCode::SetData.as_i32(), out)
    }

    pub fn delete(path: &str) -> (i32, Vec<u8>) {
        let mut out = Vec::new();
        Delete { path: Some(Cow::Borrowed(path)), version: -1 }.encode(&mut out);
        (OpCode::Delete.as_i32(), out)
    }

    /// The state, and who writes its batches.
    pub fn filled() -> (State, Writer) {
        let mut state = State::new(PathHasher::new([1, 2, 3, 4]));
        let mut writer = Writer { sequence: 0, zxid: 0 };
        let first = writer.batch(std::iter::once((0, Vec::new())));
        state.apply_batch(&first, |_, _| {}).unwrap();
        for from in (0..NODES).step_by(BATCH) {
            let bytes = writer.batch((from..from + BATCH).map(|n| create(&path(n))));
            state.apply_batch(&bytes, |_, outcome| assert!(!outcome.changes.is_empty())).unwrap();
        }
        (state, writer)
    }
}
