//! The two rules of the house that are worth a machine's eye: which room may import which, and which words only the
//! outer rooms may say. Comments and string literals are not read; test code at the foot of a file (`#[cfg(test)] mod`)
//! may say any word, but imports no more than its room may. Every complaint names file, line and rule.

use std::fmt;
use std::path::{Path, PathBuf};

/// The floors, lowest first. A room imports only from lines above its own in this list, never a neighbour.
const FLOORS: &[&[&str]] = &[
    &["ids", "error", "metrics", "mutant"],
    &["wire"],
    &["tree", "auth", "session", "log", "membership"],
    &["apply"],
    &["snapshot", "watch"],
    &["handoff", "peer"],
    &["sequencer", "shard"],
    &["config"],
    &["admin", "import"],
    &["host"],
    &["main", "lib"],
];

/// Acquaintances refused though the floors would allow them, each with its reason.
const REFUSED: &[(&str, &str, &str)] = &[
    ("shard", "apply", "a shard installs changes, it never decides them"),
    ("shard", "snapshot", "a shard is handed a finished table"),
    ("shard", "log", "a shard never touches history"),
    ("sequencer", "watch", "watches belong to shards, history never hears of them"),
];

/// Rooms that touch the machine they run on.
const OUTER: &[&str] = &["host", "admin", "main"];

/// A word, the rooms beside the outer ones that may say it, and why the others may not.
struct Word {
    text: &'static str,
    also: &'static [&'static str],
    why: &'static str,
}

const WORDS: &[Word] = &[
    word("std::fs", &["config", "import"], "files belong to host"),
    word("std::net::TcpStream", &[], "sockets belong to host"),
    word("std::net::TcpListener", &[], "sockets belong to host"),
    word("std::net::UdpSocket", &[], "sockets belong to host"),
    word("TcpStream::", &[], "sockets belong to host"),
    word("TcpListener::", &[], "sockets belong to host"),
    word("UdpSocket::", &[], "sockets belong to host"),
    word("std::os::unix::net", &[], "sockets belong to host"),
    word("std::thread", &[], "threads belong to host"),
    word("thread::", &[], "threads belong to host"),
    word("thread_local!", &[], "threads belong to host"),
    word("Instant::now", &[], "time comes in as an argument"),
    word("SystemTime::now", &[], "time comes in as an argument"),
    word("thread_rng", &[], "chance comes in as a seed"),
    word("getrandom", &[], "chance comes in as a seed"),
    word("RandomState::new", &[], "a hasher's key comes in at start"),
    word("AHashMap", &[], "its key is its own; give a hasher with a key that came in at start"),
    word("AHashSet", &[], "its key is its own; give a hasher with a key that came in at start"),
    word(
        "std::collections::HashMap",
        &["config"],
        "its order is random; take a BTreeMap or a keyed hashbrown map",
    ),
    word(
        "std::collections::HashSet",
        &["config"],
        "its order is random; take a BTreeSet or a keyed hashbrown set",
    ),
    word(
        "std::collections::hash_map",
        &["config"],
        "its order is random; take a BTreeMap or a keyed hashbrown map",
    ),
    word("async", &[], "machines are called, never awaited"),
    word(".await", &[], "machines are called, never awaited"),
    word("print!", &[], "what an operator should hear about is an effect"),
    word("println!", &[], "what an operator should hear about is an effect"),
    word("eprint!", &[], "what an operator should hear about is an effect"),
    word("eprintln!", &[], "what an operator should hear about is an effect"),
    word("dbg!", &[], "what an operator should hear about is an effect"),
];

const fn word(text: &'static str, also: &'static [&'static str], why: &'static str) -> Word {
    Word { text, also, why }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Complaint {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

#[test]
fn rooms_import_only_from_lower_floors_and_keep_to_their_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    assert!(files.iter().any(|f| f.ends_with("src/lib.rs")), "the walk did not even find src/lib.rs");
    let mut complaints = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file is readable UTF-8");
        let name = file.strip_prefix(root).expect("found below the root").to_string_lossy().into_owned();
        complaints.extend(check(&name, &text));
    }
    complaints.sort();
    let listed: Vec<String> = complaints.iter().map(Complaint::to_string).collect();
    assert!(listed.is_empty(), "{} breaches of the house rules:\n{}", listed.len(), listed.join("\n"));
}

/// The load generator measures any server, so it knows ringkeeper's `wire` and no more of it.
#[test]
fn the_load_generator_knows_the_wire_alone() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("loadgen/src"), &mut files);
    assert!(files.len() > 5, "the walk found no load generator");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file is readable UTF-8");
        assert_eq!(rooms_of_ours(&text), Vec::<String>::new(), "{}", file.display());
    }
    assert_eq!(rooms_of_ours("use ringkeeper::tree::Path;\nuse ringkeeper::wire::Stat;\n"), ["tree"]);
}

/// cargo reads the manifest of every member, so an image is built only where all of them are in its context.
#[test]
fn every_member_of_the_workspace_comes_into_the_image() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a file at the top level");
    let (manifest, let_through) = (read("Cargo.toml"), read(".dockerignore"));
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("a workspace");
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).filter(|member| *member != ".").collect();
    assert!(members.contains(&"loadgen"), "{members:?}");
    for member in members {
        assert!(
            let_through.lines().any(|line| line == format!("!{member}")),
            ".dockerignore shuts out {member}"
        );
    }
}

/// Rooms other than `wire` that a source outside the server names.
fn rooms_of_ours(source: &str) -> Vec<String> {
    let code = blank_comments_and_literals(source);
    occurrences(&code, "ringkeeper::")
        .map(|at| code[at + "ringkeeper::".len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .map(|room| room.unwrap_or_default().to_owned())
        .filter(|room| room != "wire")
        .collect()
}

/// The map at the head of `src/lib.rs` is what people read; it may leave a room out until that room is built, but it
/// must not put one on another floor.
#[test]
fn the_map_in_lib_rs_shows_these_floors() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("src/lib.rs");
    let map: Vec<&str> = text
        .lines()
        .skip_while(|l| !l.starts_with("//! ```text"))
        .skip(1)
        .take_while(|l| !l.starts_with("//! ```"))
        .map(|l| l.trim_start_matches("//! "))
        .collect();
    assert!(map.len() >= 9, "src/lib.rs begins with the map of the floors");
    let mut floor = 0;
    for line in map {
        // Rooms stand left of the first gap of three spaces, the floor's description right of it.
        let rooms: Vec<&str> = line.split("   ").next().unwrap_or("").split_whitespace().collect();
        let first = rooms.first().expect("no empty line in the map");
        let here = floor_of(first).unwrap_or_else(|| panic!("src/lib.rs: no floor has a room '{first}'"));
        assert!(here >= floor, "src/lib.rs: '{first}' stands above a floor that is higher than its own");
        for room in rooms {
            assert_eq!(
                floor_of(room),
                Some(here),
                "src/lib.rs: '{room}' stands on another floor than in tests/tidy.rs"
            );
        }
        floor = here;
    }
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a source directory is readable") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Everything wrong with one source file, named by its path below the package (`src/tree/path.rs`).
fn check(file: &str, source: &str) -> Vec<Complaint> {
    let inside = file.strip_prefix("src/").expect("only src/ has rooms");
    let depth =
        inside.matches('/').count() + usize::from(!inside.ends_with("mod.rs") && inside.contains('/'));
    let room = inside.split('/').next().expect("split yields one").trim_end_matches(".rs");
    let mut out = Vec::new();
    let mut say = |at: usize, text: &str, rule: String| {
        let line = 1 + text[..at].bytes().filter(|b| *b == b'\n').count();
        let complaint = Complaint { file: file.to_owned(), line, rule };
        if !out.contains(&complaint) {
            out.push(complaint);
        }
    };
    let code = blank_comments_and_literals(source);
    let Some(floor) = floor_of(room) else {
        say(
            0,
            &code,
            format!(
                "no floor has a room '{room}': give it a line in the map of src/lib.rs and in tests/tidy.rs"
            ),
        );
        return out;
    };
    let shipped = blank_test_modules(&code);

    for (at, target) in
        crate_imports(&code).into_iter().chain(super_imports(&shipped, depth.saturating_sub(1)))
    {
        if target == room || room == "lib" || room == "main" {
            continue;
        }
        match floor_of(&target) {
            None => say(at, &code, format!("'{room}' imports crate::{target}, which is no room")),
            Some(theirs) if theirs == floor => {
                say(at, &code, format!("'{room}' imports its neighbour '{target}'"))
            }
            Some(theirs) if theirs > floor => {
                say(at, &code, format!("'{room}' imports '{target}' from a higher floor"));
            }
            Some(_) => {}
        }
        if let Some((_, _, why)) = REFUSED.iter().find(|(a, b, _)| *a == room && *b == target) {
            say(at, &code, format!("'{room}' does not know '{target}': {why}"));
        }
    }

    // A file of tests beside the code (`shard/tests.rs`) is test code as a whole.
    if OUTER.contains(&room) || inside.ends_with("/tests.rs") {
        return out;
    }
    let mut said: Vec<(usize, &Word)> = Vec::new();
    for word in WORDS.iter().filter(|w| !w.also.contains(&room)) {
        said.extend(occurrences(&shipped, word.text).map(|at| (at, word)));
        if word.text.starts_with("std::") {
            said.extend(
                used_paths(&shipped).filter(|(_, p)| is_or_under(p, word.text)).map(|(at, _)| (at, word)),
            );
        }
    }
    said.sort_by_key(|(at, w)| (*at, std::cmp::Reverse(w.text.len())));
    let mut lines = Vec::new();
    for (at, word) in said {
        let line = shipped[..at].bytes().filter(|b| *b == b'\n').count();
        if !lines.contains(&(line, word.why)) {
            lines.push((line, word.why));
            say(at, &shipped, format!("'{room}' says '{}': {}", word.text, word.why));
        }
    }
    out
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// Rooms reached by `crate::room` and `crate::{room, ...}`, with the offset of each.
fn crate_imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in occurrences(code, "crate::") {
        for (offset, path) in expand(code, at + "crate::".len()) {
            let first = path.split("::").next().expect("split yields one");
            found.push((offset, first.to_owned()));
        }
    }
    found.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    found
}

/// Rooms reached by climbing: `super::super::apply` names the room `apply` when two steps lead to the crate's root.
fn super_imports(code: &str, steps_to_room: usize) -> Vec<(usize, String)> {
    let climb = "super::".repeat(steps_to_room + 1);
    let mut found = Vec::new();
    for at in occurrences(code, &climb) {
        let rest = &code[at + climb.len()..];
        if rest.starts_with("super::") || code[..at].ends_with("super::") {
            continue;
        }
        for (offset, path) in expand(code, at + climb.len()) {
            let first = path.split("::").next().expect("split yields one");
            if floor_of(first).is_some() {
                found.push((offset, first.to_owned()));
            }
        }
    }
    found
}

/// Every full path of every `use` item, so that `use std::{fs, io}` is seen to say `std::fs`.
fn used_paths(code: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    occurrences(code, "use ").flat_map(move |at| expand(code, at + "use ".len()))
}

/// Reads the use-tree or the path that begins at `at`: groups are multiplied out, each leaf with its own offset.
fn expand(code: &str, at: usize) -> Vec<(usize, String)> {
    let bytes = code.as_bytes();
    let mut out = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut path = String::new();
    let mut start = at;
    let mut i = at;
    let mut renamed = false;
    loop {
        let c = bytes.get(i).copied().unwrap_or(b';');
        match c {
            b'{' if path.is_empty() || path.ends_with("::") => {
                prefixes.push(std::mem::take(&mut path));
                start = i + 1;
            }
            b',' | b'}' if !prefixes.is_empty() => {
                if !path.is_empty() {
                    out.push((start, prefixes.concat() + &path));
                }
                path.clear();
                renamed = false;
                start = i + 1;
                if c == b'}' {
                    prefixes.pop();
                    if prefixes.is_empty() {
                        return out;
                    }
                }
            }
            _ if c.is_ascii_whitespace() => {
                if path.is_empty() {
                    start = i + 1;
                } else if !path.ends_with("::") {
                    // `as name` follows, or the path is over.
                    renamed = true;
                    if prefixes.is_empty() {
                        out.push((start, path));
                        return out;
                    }
                }
            }
            b'*' | b':' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                if !renamed {
                    path.push(char::from(c));
                }
            }
            _ => {
                if !path.is_empty() {
                    out.push((start, prefixes.concat() + &path));
                }
                return out;
            }
        }
        i += 1;
    }
}

fn is_or_under(path: &str, word: &str) -> bool {
    path == word || path.strip_prefix(word).is_some_and(|rest| rest.starts_with("::"))
}

/// Offsets of `text` in `code` where it is not the part of a longer name.
fn occurrences<'a>(code: &'a str, text: &'a str) -> impl Iterator<Item = usize> + 'a {
    let in_name = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    code.match_indices(text).map(|(at, _)| at).filter(move |at| {
        let bytes = code.as_bytes();
        let first = text.as_bytes()[0];
        let last = text.as_bytes()[text.len() - 1];
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        let open = first != b'.' && in_name(before);
        let longer = (last.is_ascii_alphanumeric() || last == b'_') && in_name(bytes.get(at + text.len()));
        !open && !longer
    })
}

/// The source with every comment and every string or character literal turned into spaces; offsets and lines stay.
fn blank_comments_and_literals(source: &str) -> String {
    let s = source.as_bytes();
    let mut out = s.to_vec();
    let mut i = 0;
    while i < s.len() {
        let end = match s[i] {
            b'/' if s.get(i + 1) == Some(&b'/') => line_end(s, i),
            b'/' if s.get(i + 1) == Some(&b'*') => block_comment_end(s, i),
            b'"' => string_end(s, i + 1),
            b'r' if !after_name(s, i) => raw_string_end(s, i + 1).unwrap_or(i),
            b'b' if s.get(i + 1) == Some(&b'r') && !after_name(s, i) => raw_string_end(s, i + 2).unwrap_or(i),
            b'\'' => char_end(s, i),
            _ => i,
        };
        if end == i {
            i += 1;
            continue;
        }
        for byte in &mut out[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn after_name(s: &[u8], i: usize) -> bool {
    i > 0 && (s[i - 1].is_ascii_alphanumeric() || s[i - 1] == b'_')
}

fn line_end(s: &[u8], from: usize) -> usize {
    s[from..].iter().position(|b| *b == b'\n').map_or(s.len(), |n| from + n)
}

fn block_comment_end(s: &[u8], from: usize) -> usize {
    let mut depth = 0;
    let mut i = from;
    while i < s.len() {
        match (s[i], s.get(i + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                i += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    s.len()
}

fn string_end(s: &[u8], mut i: usize) -> usize {
    while i < s.len() {
        match s[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    s.len()
}

/// The end of a raw string whose hashes or quote begin at `i`, or nothing when this is no raw string.
fn raw_string_end(s: &[u8], i: usize) -> Option<usize> {
    let hashes = s[i..].iter().take_while(|b| **b == b'#').count();
    if s.get(i + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = i + hashes + 1;
    let found = s[body..].windows(close.len()).position(|w| w == close);
    Some(found.map_or(s.len(), |n| body + n + close.len()))
}

/// The end of a character literal; a lifetime is none and ends where it begins.
fn char_end(s: &[u8], i: usize) -> usize {
    if s.get(i + 1) == Some(&b'\\') {
        let close = s[i + 3..].iter().position(|b| *b == b'\'');
        return close.map_or(s.len(), |n| i + 3 + n + 1);
    }
    let text = std::str::from_utf8(&s[i + 1..s.len().min(i + 5)]);
    let length = match text {
        Ok(t) => t.chars().next().map_or(0, char::len_utf8),
        Err(e) if e.valid_up_to() > 0 => {
            let t = std::str::from_utf8(&s[i + 1..i + 1 + e.valid_up_to()]).expect("checked just above");
            t.chars().next().map_or(0, char::len_utf8)
        }
        Err(_) => 0,
    };
    if length > 0 && s.get(i + 1 + length) == Some(&b'\'') {
        i + length + 2
    } else {
        i
    }
}

/// `code` (comments and literals blank already) without its `#[cfg(test)] mod name { ... }` blocks.
fn blank_test_modules(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (at, _) in code.match_indices("#[cfg(") {
        let Some(close) = code[at..].find(")]").map(|n| at + n) else { continue };
        let condition = &code[at + "#[cfg(".len()..close];
        if occurrences(condition, "test").next().is_none() || condition.contains("not(test)") {
            continue;
        }
        let mut rest = close + 2;
        // Other attributes may stand between: `#[allow(...)]`.
        loop {
            let skipped = code[rest..].len() - code[rest..].trim_start().len();
            rest += skipped;
            if !code[rest..].starts_with("#[") {
                break;
            }
            rest += code[rest..].find(']').map_or(code.len() - rest, |n| n + 1);
        }
        let item = &code[rest..];
        if !item.starts_with("mod ") && !item.starts_with("pub mod ") && !item.starts_with("pub(crate) mod ")
        {
            continue;
        }
        let Some(open) = item.find(['{', ';']).filter(|n| item.as_bytes()[*n] == b'{') else { continue };
        let mut depth = 0usize;
        for (n, byte) in item.bytes().enumerate().skip(open) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                for b in &mut out[at..=rest + n] {
                    if *b != b'\n' {
                        *b = b' ';
                    }
                }
                break;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The rules can fail: each planted breach must give exactly the complaint that stands beside it.
#[test]
fn planted_breaches_are_found() {
    let rows: &[(&str, &str, &str, &[&str])] = &[
        ("a higher floor", "src/tree/table.rs", "use crate::apply::Txn;\n", &[
            "src/tree/table.rs:1: 'tree' imports 'apply' from a higher floor",
        ]),
        ("a neighbour", "src/tree/table.rs", "\nuse crate::session::Table;\n", &[
            "src/tree/table.rs:2: 'tree' imports its neighbour 'session'",
        ]),
        ("a group", "src/wire/op.rs", "use crate::{\n    ids::Xid,\n    tree::{Path, Znode},\n};\n", &[
            "src/wire/op.rs:3: 'wire' imports 'tree' from a higher floor",
        ]),
        ("a path in a body", "src/ids.rs", "fn f() {\n    crate::error::boom();\n}\n", &[
            "src/ids.rs:2: 'ids' imports its neighbour 'error'",
        ]),
        ("climbing out of a room", "src/tree/mod.rs", "use super::host::Clock;\n", &[
            "src/tree/mod.rs:1: 'tree' imports 'host' from a higher floor",
        ]),
        ("climbing further", "src/tree/table.rs", "use super::super::{log::Record};\n", &[
            "src/tree/table.rs:1: 'tree' imports its neighbour 'log'",
        ]),
        ("an import in a test", "src/wire/op.rs", "#[cfg(test)]\nmod tests {\n    use crate::tree::Path;\n}\n", &[
            "src/wire/op.rs:3: 'wire' imports 'tree' from a higher floor",
        ]),
        ("shard and apply", "src/shard/read.rs", "use crate::apply::State;\n", &[
            "src/shard/read.rs:1: 'shard' does not know 'apply': a shard installs changes, it never decides them",
        ]),
        ("shard and snapshot", "src/shard/read.rs", "use crate::snapshot::Chunk;\n", &[
            "src/shard/read.rs:1: 'shard' does not know 'snapshot': a shard is handed a finished table",
        ]),
        ("shard and log", "src/shard/read.rs", "use crate::log::Record;\n", &[
            "src/shard/read.rs:1: 'shard' does not know 'log': a shard never touches history",
        ]),
        ("sequencer and watch", "src/sequencer/publish.rs", "use crate::watch::Table;\n", &[
            "src/sequencer/publish.rs:1: 'sequencer' does not know 'watch': watches belong to shards, history never hears \
             of them",
        ]),
        ("strangers", "src/shard/mod.rs", "use crate::sequencer::Options;\n", &[
            "src/shard/mod.rs:1: 'shard' imports its neighbour 'sequencer'",
        ]),
        ("no room", "src/shard/mod.rs", "use crate::util::Helper;\n", &[
            "src/shard/mod.rs:1: 'shard' imports crate::util, which is no room",
        ]),
        ("a room without a floor", "src/util/mod.rs", "", &[
            "src/util/mod.rs:1: no floor has a room 'util': give it a line in the map of src/lib.rs and in tests/tidy.rs",
        ]),
        ("files", "src/log/record.rs", "use std::{fs, io};\n", &["src/log/record.rs:1: 'log' says 'std::fs': files \
             belong to host"]),
        ("files in a body", "src/log/record.rs", "fn f() { std::fs::read(p) }\n", &["src/log/record.rs:1: 'log' says \
             'std::fs': files belong to host"]),
        ("sockets", "src/shard/mod.rs", "use std::net::{IpAddr, TcpStream};\n", &[
            "src/shard/mod.rs:1: 'shard' says 'std::net::TcpStream': sockets belong to host",
        ]),
        ("the clock", "src/session/expiry.rs", "fn f() {\n    let t = std::time::Instant::now();\n}\n", &[
            "src/session/expiry.rs:2: 'session' says 'Instant::now': time comes in as an argument",
        ]),
        ("the calendar", "src/config.rs", "let t = SystemTime::now();\n", &[
            "src/config.rs:1: 'config' says 'SystemTime::now': time comes in as an argument",
        ]),
        ("threads", "src/snapshot/mod.rs", "use std::thread;\n", &[
            "src/snapshot/mod.rs:1: 'snapshot' says 'std::thread': threads belong to host",
        ]),
        ("dice", "src/sequencer/mod.rs", "let d = rand::thread_rng();\n", &[
            "src/sequencer/mod.rs:1: 'sequencer' says 'thread_rng': chance comes in as a seed",
        ]),
        ("async", "src/auth/mod.rs", "pub async fn f() {}\nfn g() { h().await; }\n", &[
            "src/auth/mod.rs:1: 'auth' says 'async': machines are called, never awaited",
            "src/auth/mod.rs:2: 'auth' says '.await': machines are called, never awaited",
        ]),
        ("random order", "src/watch/table.rs", "use std::collections::{BTreeMap, HashMap};\n", &[
            "src/watch/table.rs:1: 'watch' says 'std::collections::HashMap': its order is random; take a BTreeMap or a \
             keyed hashbrown map",
        ]),
        ("printing", "src/apply/create.rs", "fn f() { println!(\"x\"); }\n", &[
            "src/apply/create.rs:1: 'apply' says 'println!': what an operator should hear about is an effect",
        ]),
        ("after a test module", "src/log/record.rs", "#[cfg(test)]\nmod tests {\n fn a() {}\n}\nuse std::fs;\n", &[
            "src/log/record.rs:5: 'log' says 'std::fs': files belong to host",
        ]),
        ("after literals", "src/log/record.rs", "const A: char = '\"'; const B: &[u8] = b\"'\"; use std::fs;\n", &[
            "src/log/record.rs:1: 'log' says 'std::fs': files belong to host",
        ]),
    ];
    for (name, file, source, want) in rows {
        let got: Vec<String> = check(file, source).iter().map(Complaint::to_string).collect();
        assert_eq!(got, *want, "row '{name}'");
    }
}

/// And they leave honest code alone.
#[test]
fn what_is_allowed_passes() {
    let rows: &[(&str, &str, &str)] = &[
        ("downhill", "src/apply/create.rs", "use crate::ids::Zxid;\nuse crate::tree::Path;\n"),
        ("its own room", "src/apply/create.rs", "use crate::apply::State;\nuse super::State;\n"),
        ("a sibling file with a room's name", "src/apply/create.rs", "use super::session::close;\n"),
        ("a doc link", "src/tree/mod.rs", "//! See [`crate::apply`], std::fs and Instant::now.\n"),
        ("a block comment", "src/tree/mod.rs", "/* std::fs /* nested */ println! */ fn f() {}\n"),
        ("a string", "src/tree/mod.rs", "const A: &str = \"std::fs \\\" println!\"; const B: &str = r#\"std::fs\"#;\n"),
        ("a lifetime", "src/tree/mod.rs", "fn f<'a>(x: &'a str) -> &'a str { x }\n"),
        ("addresses", "src/auth/mod.rs", "use std::net::{IpAddr, SocketAddr};\n"),
        ("tests at the foot", "src/log/record.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n"),
        (
            "tests with more conditions",
            "src/log/record.rs",
            "#[cfg(all(test, not(miri)))]\n#[allow(clippy::all)]\nmod tests {\n    fn f() { println!(); }\n}\n",
        ),
        ("a file of tests", "src/shard/tests.rs", "use std::thread;\n"),
        ("host", "src/host/disk.rs", "use std::fs;\nuse std::thread;\nuse crate::log::Record;\nasync fn f() {}\n"),
        ("config reads its file", "src/config.rs", "fn f() { std::fs::read_to_string(p) }\n"),
        ("import reads a foreign directory", "src/import/mod.rs", "use std::fs::File;\n"),
        ("names that only contain a word", "src/tree/mod.rs", "fn f() { mythread_rng(); asynchronous(); pprintln!(); }\n"),
        ("a keyed map", "src/watch/table.rs", "use hashbrown::HashMap;\n"),
        ("main", "src/main.rs", "use ringkeeper::host;\nfn main() { println!(); }\n"),
    ];
    for (name, file, source) in rows {
        let got: Vec<String> = check(file, source).iter().map(Complaint::to_string).collect();
        assert!(got.is_empty(), "row '{name}': {got:?}");
    }
}
