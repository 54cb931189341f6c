//! What a random batch may ask for: mostly what can succeed, now and then what nobody should send.

use super::{AclEntry, Op, Rules};
use proptest::prelude::*;

/// One transaction; which connection sends it is found when its turn comes.
#[derive(Clone, Debug)]
pub enum Step {
    Op(Op),
    Multi(Vec<Op>),
    /// An operation that no shard sends up, or that nobody knows.
    Other(i32),
    /// A body that ends too early.
    Garbage(i32),
    Reconfig,
    CreateSession,
    Attach {
        right: bool,
    },
    ClientCloses,
    Expires,
    Reap(String),
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub session: i64,
    /// Sent by a connection that does not own the session.
    pub from_stranger: bool,
    pub who: u8,
    pub step: Step,
}

#[derive(Clone, Debug)]
pub struct Round {
    pub rules: Rules,
    pub asked: Vec<Asked>,
    pub repeat: bool,
}

pub const QUOTA_NODES: [&str; 7] = [
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/quota/a/b",
    "/zookeeper/quota/a/b/zookeeper_limits",
    "/zookeeper/quota/a/b/zookeeper_stats",
    "/zookeeper/quota/zookeeper_limits",
];

fn good_path() -> BoxedStrategy<String> {
    prop_oneof![
        4 => prop::sample::select(vec!["/a", "/b", "/a/b", "/a/c", "/a/b/c", "/b/s-", "/a/s-", "/e", "/e/x", "/t"]),
        1 => prop::sample::select(vec!["/", "/zookeeper", "/zookeeper/config", "/zookeeper/config/x", "/zookeeper/x"]),
    ]
    .prop_map(str::to_owned)
    .boxed()
}

fn any_path() -> BoxedStrategy<Option<String>> {
    let odd = vec!["", "a", "/a/", "//a", "/a//b", "/.", "/a/..", "/a\0", "/a/\u{1f600}", "/a/b/", "/\u{e4}"];
    prop_oneof![
        20 => good_path().prop_map(Some),
        3 => prop::sample::select(QUOTA_NODES.to_vec()).prop_map(|path| Some(path.to_owned())),
        2 => prop::sample::select(odd).prop_map(|path| Some(path.to_owned())),
        1 => Just(None),
    ]
    .boxed()
}

fn data() -> BoxedStrategy<Option<Vec<u8>>> {
    let texts = vec![
        "count=2,bytes=9=;byteHardLimit=12;countHardLimit=3",
        "count=4,bytes=4",
        "countHardLimit=2",
        "",
        "hello",
        "x",
    ];
    prop_oneof![
        1 => Just(None),
        6 => prop::sample::select(texts).prop_map(|text| Some(text.as_bytes().to_vec())),
        2 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Some),
    ]
    .boxed()
}

fn acl() -> BoxedStrategy<Option<Vec<AclEntry>>> {
    let text = |text: &str| Some(text.to_owned());
    let entries = vec![
        (text("world"), text("anyone"), 31),
        (text("digest"), text("bob:x"), 31),
        (text("digest"), text("eve:y"), 3),
        (text("ip"), text("10.0.0.0/8"), 31),
        (text("ip"), text("10.1.2.3"), 12),
        (text("ip"), text("010.001.2.-0/024"), 31),
        (text("auth"), text(""), 31),
        (text("auth"), None, 7),
    ];
    let bad = vec![
        (text("world"), text("x"), 31),
        (text("digest"), text("x"), 31),
        (text("digest"), None, 31),
        (text("ip"), text("1.2.3.4/33"), 31),
        (text("ip"), text("::ffff:10.1.2.3"), 31),
        (text("nobody"), text("x"), 31),
        (None, text("x"), 31),
    ];
    let one = |list| prop::sample::select(list).prop_map(|(scheme, id, perms)| (perms, scheme, id));
    let open = vec![(31, text("world"), text("anyone"))];
    prop_oneof![
        10 => Just(Some(open)),
        6 => prop::collection::vec(prop_oneof![12 => one(entries), 1 => one(bad)], 1..4).prop_map(Some),
        1 => Just(Some(vec![])),
        1 => Just(None),
    ]
    .boxed()
}

/// Steps that set a quota up, change it or take it away.
fn quota_op() -> BoxedStrategy<Op> {
    let open = Some(vec![(31, Some("world".to_owned()), Some("anyone".to_owned()))]);
    let path = || prop::sample::select(QUOTA_NODES.to_vec()).prop_map(|path| Some(path.to_owned()));
    prop_oneof![
        6 => (path(), data()).prop_map(move |(path, data)| {
            Op::Create { op: 1, path, data, acl: open.clone(), flags: 0, ttl: -1 }
        }),
        1 => (path(), data()).prop_map(|(path, data)| Op::SetData { path, data, version: -1 }),
        1 => path().prop_map(|path| Op::Delete { path, version: -1 }),
    ]
    .boxed()
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![3 => Just(-1), 2 => 0..3i32, 1 => Just(-2)]
}

fn op() -> BoxedStrategy<Op> {
    let flags = prop_oneof![6 => Just(0), 8 => 0..=6i32, 1 => Just(7), 1 => Just(-1)];
    let ttl = prop_oneof![4 => Just(5_000i64), 1 => Just(0i64), 1 => Just(1i64 << 40), 1 => Just(-1i64)];
    let kind = prop_oneof![4 => Just(1), 3 => Just(15), 2 => Just(19), 2 => Just(21)];
    let open = Some(vec![(31, Some("world".to_owned()), Some("anyone".to_owned()))]);
    prop_oneof![
        4 => (good_path(), data(), 0..2i32).prop_map(move |(path, data, flags)| {
            Op::Create { op: 15, path: Some(path), data, acl: open.clone(), flags, ttl: -1 }
        }),
        8 => (kind, any_path(), data(), acl(), flags, ttl).prop_map(|(op, path, data, acl, flags, ttl)| {
            Op::Create { op, path, data, acl, flags, ttl }
        }),
        // A createTTL that can succeed.
        1 => (any_path(), 5..=6i32).prop_map(|(path, flags)| {
            let acl = Some(vec![(31, Some("world".to_owned()), Some("anyone".to_owned()))]);
            Op::Create { op: 21, path, data: None, acl, flags, ttl: 9 }
        }),
        4 => (any_path(), version()).prop_map(|(path, version)| Op::Delete { path, version }),
        5 => (any_path(), data(), version()).prop_map(|(path, data, version)| Op::SetData { path, data, version }),
        2 => (any_path(), acl(), version()).prop_map(|(path, acl, version)| Op::SetAcl { path, acl, version }),
    ]
    .boxed()
}

fn multi_op() -> BoxedStrategy<Op> {
    prop_oneof![
        12 => op().prop_filter("setACL refuses the whole", |op| !matches!(op, Op::SetAcl { .. })),
        2 => (any_path(), version()).prop_map(|(path, version)| Op::Check { path, version }),
    ]
    .boxed()
}

/// Operations that succeed more often than not: a multi of them has a chance.
fn likely_op() -> BoxedStrategy<Op> {
    let open = Some(vec![(31, Some("world".to_owned()), Some("anyone".to_owned()))]);
    prop_oneof![
        3 => (good_path(), data(), 2..=3i32).prop_map(move |(path, data, flags)| {
            Op::Create { op: 15, path: Some(path), data, acl: open.clone(), flags, ttl: -1 }
        }),
        1 => (good_path(), data()).prop_map(|(path, data)| Op::SetData { path: Some(path), data, version: -1 }),
        1 => good_path().prop_map(|path| Op::Check { path: Some(path), version: -1 }),
        2 => quota_op(),
        1 => multi_op(),
    ]
    .boxed()
}

fn step() -> BoxedStrategy<Step> {
    let multi = prop_oneof![
        1 => prop::collection::vec(multi_op(), 0..5),
        2 => prop::collection::vec(likely_op(), 1..5),
        // Rare: the whole is refused.
        1 => prop::collection::vec(op(), 1..3),
    ];
    prop_oneof![
        25 => op().prop_map(Step::Op),
        5 => quota_op().prop_map(Step::Op),
        5 => likely_op().prop_map(Step::Op),
        12 => multi.prop_map(Step::Multi),
        1 => prop::sample::select(vec![3, 9, 13, 20, 22, 99, -10]).prop_map(Step::Other),
        1 => prop::sample::select(vec![1, 2, 5, 7, 14, 15, 16, 19, 21]).prop_map(Step::Garbage),
        1 => Just(Step::Reconfig),
        2 => Just(Step::CreateSession),
        2 => any::<bool>().prop_map(|right| Step::Attach { right }),
        1 => Just(Step::ClientCloses),
        1 => Just(Step::Expires),
        3 => good_path().prop_map(Step::Reap),
    ]
    .boxed()
}

pub fn round() -> BoxedStrategy<Round> {
    let asked = (1..4i64, prop::bool::weighted(0.05), 0..5u8, step())
        .prop_map(|(session, from_stranger, who, step)| Asked { session, from_stranger, who, step });
    let rules = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.8),
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(enforce_quota, skip_acl, extended_types, reconfig_enabled, read_only, digest_disabled)| Rules {
                enforce_quota,
                skip_acl,
                extended_types,
                reconfig_enabled,
                read_only,
                digest_disabled,
            },
        );
    (rules, prop::collection::vec(asked, 0..12), prop::bool::weighted(0.1))
        .prop_map(|(rules, asked, repeat)| Round { rules, asked, repeat })
        .boxed()
}
