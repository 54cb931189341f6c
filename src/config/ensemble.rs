//! The ensemble: who its members are, which of them this server is, and how long they wait for each other.
//!
//! ZooKeeper's rules hold: the list names everybody, `myid` says who reads it, an ensemble has a voter, and one
//! voter with observers is an ensemble only with `standaloneEnabled=false`. What ZooKeeper only logs although it can
//! not work (one number for two servers, one address for two) is refused, with both places in one line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::reader::{wide, Reader, MAX};
use super::servers::{parse_server, server_number, ServerEntry};
use super::source::{printable, BadValue, Given, Source};
use crate::ids::{Millis, ServerId};

/// The servers that agree with each other, and the terms on which they do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ensemble {
    /// All members, ascending by id, two at least, no id and no address twice, one voter at least.
    /// Invariant: the server whose [`Config::server_id`](super::Config::server_id) this is is among them.
    pub servers: Vec<ServerEntry>,
    /// `initLimit`, 1 to 2147483647 ticks, default 10 (ZooKeeper has none and refuses to start; its image sets 5):
    /// how long a server may take to connect to the leader and to catch up.
    pub init_limit: Millis,
    /// `syncLimit`, 1 to 2147483647 ticks, default 5 (ZooKeeper has none and refuses to start; its image sets 2):
    /// how long a server may stay silent.
    pub sync_limit: Millis,
    /// `quorumListenOnAllIPs`, default false: listen for peers on every address, and not only on those of the own
    /// line.
    pub listen_on_all: bool,
    /// `sslQuorum` and `ssl.quorum.*`.
    pub security: PeerSecurity,
}

/// What protects the connections between servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerSecurity {
    /// `sslQuorum=false`, the default: nothing.
    Plain,
    /// `sslQuorum=true`: TLS, and both sides show a certificate.
    Tls {
        /// `ssl.quorum.keyStore.location`: a PEM file with this server's private key, not encrypted, and its
        /// certificate chain.
        key_store: PathBuf,
        /// `ssl.quorum.trustStore.location`: a PEM file with the certificates that sign those of the peers.
        trust_store: PathBuf,
        /// `ssl.quorum.hostnameVerification`, default true: a peer's certificate must name the host of its line.
        verify_hostname: bool,
    },
}

impl Ensemble {
    /// The member with this id.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&ServerEntry> {
        self.servers.iter().find(|server| server.id == id)
    }
}

/// What the `server.N` lines and `myid` say together.
pub struct Members {
    /// Which server this is.
    pub own_id: ServerId,
    /// Where this server's own line lets clients in.
    pub own_client: Option<OwnClient>,
    /// None: it is alone.
    pub servers: Option<Vec<Member>>,
}

/// The client part of this server's own line.
pub struct OwnClient {
    pub key: String,
    pub given: Given,
    pub address: Option<String>,
    pub port: u16,
}

/// A member and the line that says so.
pub struct Member {
    entry: ServerEntry,
    key: String,
    given: Given,
}

pub fn read_members(r: &mut Reader, data_dir: &Path) -> Members {
    let lines: Vec<(String, Given)> = r
        .given
        .iter()
        .filter(|(key, _)| server_number(key).is_some())
        .map(|(key, given)| (key.clone(), given.clone()))
        .collect();
    if lines.len() < 2 {
        return read_alone(r, lines.into_iter().next());
    }
    let mut listed = BTreeSet::new();
    let mut members = Vec::new();
    for (key, given) in lines {
        match server_number(&key).and_then(|number| number.parse::<u8>().ok()) {
            // Raft takes 0 for nobody.
            None | Some(0) => r.refuse(&key, &given, "expected server.N with N of 1 to 255".to_owned()),
            Some(number) => {
                listed.insert(number);
                match parse_server(ServerId(number), &given.value) {
                    Ok(entry) => members.push(Member { entry, key, given }),
                    Err(expected) => r.refuse(&key, &given, expected),
                }
            }
        }
    }
    members.sort_by_key(|member| member.entry.id);
    refuse_shared_addresses(r, &members);
    let own_id = read_own_id(r, &listed, &data_dir.join("myid"));
    let own_client = members.iter().find(|member| member.entry.id == own_id).and_then(own_client);
    Members { own_id, own_client, servers: Some(members) }
}

/// No server line, or one: this server is alone.
fn read_alone(r: &mut Reader, line: Option<(String, Given)>) -> Members {
    let own_id = r.number("ringkeeper.myid", "a whole number", 0..=255).map_or(ServerId(1), byte_id);
    let alone = Members { own_id, own_client: None, servers: None };
    let Some((key, given)) = line else { return alone };
    let number = server_number(&key).and_then(|number| number.parse::<u8>().ok());
    if number.is_none() {
        r.refuse(&key, &given, "expected server.N with N of 0 to 255".to_owned());
    }
    let own_id = number.map_or(own_id, ServerId);
    match parse_server(own_id, &given.value) {
        Err(expected) => r.refuse(&key, &given, expected),
        Ok(entry) if entry.is_observer => {
            r.refuse(&key, &given, "expected a participant: an observer has nobody to observe".to_owned());
        }
        Ok(entry) => {
            let own_client = own_client(&Member { entry, key, given });
            return Members { own_id, own_client, servers: None };
        }
    }
    alone
}

fn own_client(member: &Member) -> Option<OwnClient> {
    let (address, port) = member.entry.client.clone()?;
    Some(OwnClient { key: member.key.clone(), given: member.given.clone(), address, port })
}

/// Two servers at one address are one server, or a slip of the hand: neither makes a quorum.
fn refuse_shared_addresses(r: &mut Reader, members: &[Member]) {
    let mut taken: BTreeMap<(String, u16), &Member> = BTreeMap::new();
    for member in members {
        let mut shared = None;
        for address in &member.entry.addresses {
            for port in [address.quorum_port, address.election_port] {
                let other = taken.insert((address.host.to_ascii_lowercase(), port), member);
                shared = shared.or(other.map(|other| (other, &address.host, port)));
            }
        }
        if let Some((other, host, port)) = shared {
            let place = if other.entry.id == member.entry.id {
                "twice in this line".to_owned()
            } else {
                format!("{}'s too ({})", other.key, other.given.source)
            };
            let expected =
                format!("expected an address of its own: {}:{port} is {place}", printable("host", host));
            r.refuse(&member.key, &member.given, expected);
        }
    }
}

/// `myid` and every other place that says who this is. They must agree: two servers that vote as one can decide two
/// different things.
fn read_own_id(r: &mut Reader, listed: &BTreeSet<u8>, path: &Path) -> ServerId {
    const KEY: &str = "ringkeeper.myid";
    r.asked.insert(KEY);
    let file = r.id_file.take().map(|file| {
        let value = String::from_utf8_lossy(&file.bytes).trim().to_owned();
        ("myid", Given { value, source: Source::File { path: file.path, line: 0 } })
    });
    let said: Vec<(&str, Given)> = file.into_iter().chain(r.ids.iter().map(|id| (KEY, id.clone()))).collect();
    let list = listed.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut own: Option<(u8, Source)> = None;
    for (key, given) in &said {
        match (given.value.parse::<u8>().ok(), &own) {
            (None, _) => {
                r.refuse(key, given, format!("expected the number of a server that is listed: {list}"));
            }
            (Some(id), Some((first, source))) => {
                if id != *first {
                    r.refuse(
                        key,
                        given,
                        format!("expected the same number everywhere: {source} says {first}"),
                    );
                }
            }
            (Some(id), None) => {
                if !listed.contains(&id) {
                    r.refuse(key, given, format!("expected the number of a server that is listed: {list}"));
                }
                own = Some((id, given.source.clone()));
            }
        }
    }
    if said.is_empty() {
        r.problems.push(BadValue {
            source: Source::File { path: path.to_owned(), line: 0 },
            key: "myid".to_owned(),
            value: "(none)".to_owned(),
            expected: format!(
                "expected this file, ZOO_MY_ID or ringkeeper.myid to say which server this is: {list}"
            ),
        });
    }
    ServerId(own.map_or(1, |(id, _)| id))
}

/// Keys that only an ensemble uses but that ZooKeeper checks in any case: every zoo.cfg has some of them, so they
/// are checked and, for a server that is alone, not warned about.
pub fn read_ensemble(
    r: &mut Reader,
    own_id: ServerId,
    members: Option<Vec<Member>>,
    tick: Millis,
) -> Option<Ensemble> {
    let low = i64::from(members.is_some());
    let mut limit = |key, default| {
        let ticks = r.number(key, "a whole number of ticks", low..=MAX).unwrap_or(default);
        Millis(wide(ticks).saturating_mul(tick.0))
    };
    let (init_limit, sync_limit) = (limit("initLimit", 10), limit("syncLimit", 5));
    r.number("electionAlg", "the only algorithm", 3..=3);
    r.word("peerType", &[("participant", false), ("observer", true)]);
    r.boolean("standaloneEnabled");
    r.asked.insert("version");
    r.asked.insert("dynamicConfigFile");
    let members = members?;
    let listen_on_all = r.boolean("quorumListenOnAllIPs").unwrap_or(false);
    let _ = own_id;
    Some(Ensemble {
        servers: members.into_iter().map(|member| member.entry).collect(),
        init_limit,
        sync_limit,
        listen_on_all,
        security: PeerSecurity::Plain,
    })
}

fn byte_id(number: i64) -> ServerId {
    ServerId(u8::try_from(number).expect("the key's range fits"))
}
