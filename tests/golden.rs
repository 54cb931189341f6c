//! Conversations with a whole server, one file each: commands, `----`, what the clients hear. `REWRITE=1` writes what
//! is heard now into the files; the diff is what a reviewer reads.
//!
//! A command is `NAME VERB ...` for a client or `VERB ...` for the world; `run` at the foot of this file is the list.

mod machines;

use machines::client::*;
use machines::{Conn, World};
use ringkeeper::wire::OpCode as Op;
use std::collections::BTreeMap;
use std::fmt::Write;

#[test]
fn conversations_are_as_written() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "the conversations are there");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let heard = converse(&text);
        if rewrite {
            std::fs::write(&file, &heard).unwrap();
        }
        let at = heard.lines().zip(text.lines()).take_while(|(now, then)| now == then).count();
        assert!(
            rewrite || heard == text,
            "{}:{}: heard {:?}, written {:?} (REWRITE=1 writes what is heard)",
            file.display(),
            at + 1,
            heard.lines().nth(at),
            text.lines().nth(at)
        );
    }
}

/// A conversation's text with what is heard now.
fn converse(text: &str) -> String {
    let mut talk = Talk { world: World::new(2), names: BTreeMap::new(), out: String::new() };
    let mut is_answer = false;
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            is_answer = false;
            talk.out.push_str(line);
            talk.out.push('\n');
        } else if line == "----" {
            talk.out.push_str("----\n");
            talk.tell();
            is_answer = true;
        } else if !is_answer {
            talk.out.push_str(line);
            talk.out.push('\n');
            let words: Vec<&str> = line.split_whitespace().collect();
            talk.run(&words);
        }
    }
    talk.out
}

struct Talk {
    world: World,
    /// Each client's connection, and whether its end was told.
    names: BTreeMap<String, (Conn, bool)>,
    out: String,
}

impl Talk {
    /// Writes down what everybody heard, client by client.
    fn tell(&mut self) {
        self.world.settle();
        for (name, (conn, was_closed)) in &mut self.names {
            for said in self.world.hear(*conn) {
                let line = match said {
                    Said::Event { zxid, kind, path, .. } => {
                        let kind = ["created", "deleted", "changed", "children changed"][kind as usize - 1];
                        format!("event {kind} {path} at {}", short(zxid))
                    }
                    Said::Reply(reply) => format!(
                        "reply {} {} at {}{}",
                        reply.xid,
                        if reply.err == 0 { "ok".to_owned() } else { reply.err.to_string() },
                        short(reply.zxid),
                        value(&reply)
                    ),
                };
                writeln!(self.out, "{name}: {line}").unwrap();
            }
            if self.world.is_closed(*conn) && !std::mem::replace(was_closed, true) {
                writeln!(self.out, "{name}: closed").unwrap();
            }
        }
        for note in self.world.notes.drain(..) {
            writeln!(self.out, "note: {}", format!("{note:?}").split(' ').next().unwrap()).unwrap();
        }
    }

    fn run(&mut self, words: &[&str]) {
        let word = |n: usize| words.get(n).copied().unwrap_or_default();
        let number = |name: &str, otherwise: i64| {
            let found = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.map_or(otherwise, |n| n.parse().expect("a number"))
        };
        let shard = number("shard", 0) as usize;
        let watch = words.contains(&"watch");
        let text = word(3).trim_matches('"').as_bytes();
        match (word(0), word(1)) {
            ("hold", "log") => self.world.log_held = true,
            ("release", "log") => self.world.release_log(),
            ("hold", _) => self.world.sides[shard].held = true,
            ("release", _) => self.world.sides[shard].held = false,
            ("pass", ms) => self.world.pass(ms.parse().expect("milliseconds")),
            ("sleep", ms) => self.world.jump(ms.parse().expect("milliseconds")),
            (name, "login") => {
                let conn = self.world.login_for(shard, number("timeout", 40_000) as i32);
                self.names.insert(name.to_owned(), (conn, false));
            }
            (name, "attach") => {
                let conn = self.world.attach(shard, self.names[word(2)].0);
                self.names.insert(name.to_owned(), (conn, false));
            }
            (name, "lose") => self.world.lose(self.names[name].0),
            (name, verb) => {
                let version = number("version", -1) as i32;
                let (op, body) = match verb {
                    "create" => (Op::Create, create(word(2), text, number("flags", 0) as i32)),
                    "set" => (Op::SetData, set(word(2), text, version)),
                    "get" => (Op::GetData, read(word(2), watch)),
                    "exists" => (Op::Exists, read(word(2), watch)),
                    "children" => (Op::GetChildren, read(word(2), watch)),
                    "delete" => (Op::Delete, path_and(word(2), version)),
                    "persistent" => (Op::AddWatch, path_and(word(2), 0)),
                    "recursive" => (Op::AddWatch, path_and(word(2), 1)),
                    "sync" => (Op::Sync, path(word(2))),
                    "ping" => (Op::Ping, Vec::new()),
                    "close" => (Op::CloseSession, Vec::new()),
                    other => panic!("no verb '{other}' in {words:?}"),
                };
                self.world.post(self.names[name].0, op, &body);
            }
        }
    }
}

/// A zxid of these tests' one epoch, without the epoch.
fn short(zxid: i64) -> String {
    if zxid < 0 {
        zxid.to_string()
    } else {
        (zxid & 0xffff_ffff).to_string()
    }
}

/// The string or the data at the head of a reply, where there is one; a Stat alone begins with the epoch.
fn value(reply: &Reply) -> String {
    let body = &reply.body;
    let len = body.first_chunk::<4>().map_or(0, |head| i32::from_be_bytes(*head));
    let is_text = reply.err == 0 && len > 0 && body.len() > 4 && body.len() != 68;
    match body.get(4..4 + usize::try_from(len).unwrap_or(0)) {
        Some(bytes) if is_text && (body.len() == bytes.len() + 4 || body.len() == bytes.len() + 72) => {
            format!(" {}", String::from_utf8_lossy(bytes))
        }
        _ if is_text => format!(" {}", reply.names().join(" ")),
        _ => String::new(),
    }
}
