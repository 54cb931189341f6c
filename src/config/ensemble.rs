//! The ensemble: who its members are, which of them this server is, and how long they wait for each other.
//!
//! ZooKeeper's rules hold: the list names everybody, `myid` says who reads it, an ensemble has a voter, and one
//! voter with observers is an ensemble only with `standaloneEnabled=false`. What ZooKeeper only logs although it can
//! not work (one number for two servers, one address for two) is refused, with both places in one line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::reader::{wide, Reader, MAX};
use super::source::{printable, BadValue, Given, Source};
use crate::ids::{Millis, ServerId};
use crate::membership::{parse_server, server_number, ServerEntry};

/// The servers that agree with each other, and the terms on which they do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ensemble {
    /// All members, ascending by id, two at least, no id and no address twice, one voter at least.
    /// Invariant: the server whose [`Config::server_id`](super::Config::server_id) this is is among them.
    pub servers: Vec<ServerEntry>,
    /// `initLimit`, 1 to 2147483647 ticks, default 10 (ZooKeeper has none and refuses to start; its image sets 5):
    /// taken for ZooKeeper's sake and shown; a server here may take as long as it makes progress.
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
        key_store: StoreFile,
        /// `ssl.quorum.trustStore.location`: a PEM file with the certificates that sign those of the peers.
        trust_store: StoreFile,
        /// `ssl.quorum.hostnameVerification`, default true: a peer's certificate must name the host of its line.
        verify_hostname: bool,
    },
}

/// A file that is read later, and who named it: what is wrong with it is said with that line.
#[derive(Clone, Debug)]
pub struct StoreFile {
    /// As it was given.
    pub path: PathBuf,
    /// Who gave it.
    pub source: Source,
}

/// Named in another line it is the same configuration.
impl PartialEq for StoreFile {
    fn eq(&self, other: &StoreFile) -> bool {
        self.path == other.path
    }
}

impl Eq for StoreFile {}

impl Ensemble {
    /// How many have a vote.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.servers.iter().filter(|server| !server.is_observer).count()
    }

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
    refuse_unnumbered(r);
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
        let number = server_number(&key);
        match number.and_then(|number| number.parse::<u8>().ok()) {
            // Raft takes 0 for nobody, and ids above a byte do not fit into a session's id. It begins a session's id, and
            // 255 would make the owner of an ephemeral znode look like the mark of a TTL node: ZooKeeper takes it where
            // extendedTypesEnabled is false, and one that was ever true finds no session's znodes any more.
            None | Some(0 | 255) => {
                // ZooKeeper takes these: who comes from there has to renumber the server.
                let hint = if number == Some("") { "" } else { RENUMBER };
                r.refuse(&key, &given, format!("expected server.N with N of 1 to 254{hint}"));
            }
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

/// Beside the range, where the line has a number.
const RENUMBER: &str = ": give this server another number, in all server lines and in its myid";

/// A slip in the word or in the N must not make the ensemble smaller; with the latter ZooKeeper does not start either.
fn refuse_unnumbered(r: &mut Reader) {
    let is_slip = |key: &str, value: &str| {
        (key.starts_with("server.") || is_nearly_server(key))
            && server_number(key).is_none()
            && parse_server(ServerId(1), value).is_ok()
    };
    let lines: Vec<(String, Given)> = r
        .given
        .iter()
        .filter(|(key, given)| is_slip(key, &given.value))
        .map(|(key, given)| (key.clone(), given.clone()))
        .collect();
    for (key, given) in lines {
        r.refuse(&printable("key", &key), &given, "expected server.N with N of 1 to 254".to_owned());
    }
}

/// `sever.2`, `server2`, `Servers.2`: what a hand meant to be a server line. Other unknown keys are somebody's properties.
fn is_nearly_server(key: &str) -> bool {
    let word = key.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('.').to_ascii_lowercase();
    (4..=8).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphabetic())
        && word.starts_with('s')
        && word.contains('r')
}

/// No server line, or one: this server is alone.
fn read_alone(r: &mut Reader, line: Option<(String, Given)>) -> Members {
    let own_id = r.number("ringkeeper.myid", "a whole number", 0..=254).map_or(ServerId(1), byte_id);
    let alone = Members { own_id, own_client: None, servers: None };
    let Some((key, given)) = line else { return alone };
    let number =
        server_number(&key).and_then(|number| number.parse::<u8>().ok()).filter(|number| *number < 255);
    if number.is_none() {
        r.refuse(&key, &given, "expected server.N with N of 0 to 254".to_owned());
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
    // ZooKeeper takes 0 for "not set", and an ensemble can not do without.
    let low = i64::from(members.is_some());
    let mut limit = |key, default| {
        let ticks = r.number(key, "a whole number of ticks", low..=MAX).unwrap_or(default);
        Millis(wide(ticks).saturating_mul(tick.0))
    };
    let (init_limit, sync_limit) = (limit("initLimit", 10), limit("syncLimit", 5));
    r.number("electionAlg", "the only algorithm", 3..=3);
    let observes = r.word("peerType", &[("participant", false), ("observer", true)]);
    let may_be_alone = r.boolean("standaloneEnabled").unwrap_or(true);
    r.asked.insert("dynamicConfigFile");
    // It belongs to the dynamic file; the state of the servers counts its own.
    if let Some(given) = r.take("version") {
        if i64::from_str_radix(&given.value, 16).is_err() {
            r.refuse("version", &given, "expected a hexadecimal number".to_owned());
        }
    }
    let Some(members) = members else {
        if observes == Some(true) {
            let text =
                "peerType=observer has no effect: there is nobody to observe, and this server runs alone";
            r.warn_key("peerType", text.to_owned());
        }
        if !may_be_alone {
            let text =
                "standaloneEnabled=false: there are no other servers, and this one runs alone all the same";
            r.warn_key("standaloneEnabled", text.to_owned());
        }
        return None;
    };
    check_roles(r, own_id, &members, observes, may_be_alone);
    refuse_unequal_votes(r);
    let listen_on_all = r.boolean("quorumListenOnAllIPs").unwrap_or(false);
    let security = read_security(r);
    let servers = members.into_iter().map(|member| member.entry).collect();
    Some(Ensemble { servers, init_limit, sync_limit, listen_on_all, security })
}

fn check_roles(
    r: &mut Reader,
    own_id: ServerId,
    members: &[Member],
    observes: Option<bool>,
    may_be_alone: bool,
) {
    // With a line that nobody understands, nobody knows who votes.
    if r.given.keys().filter(|key| server_number(key).is_some()).count() > members.len() {
        return;
    }
    if let Some(own) = members.iter().find(|member| member.entry.id == own_id) {
        // The list wins, as in ZooKeeper (QuorumPeerConfig.setupPeerType).
        if let Some(observes) = observes.filter(|observes| *observes != own.entry.is_observer) {
            let (given, role) =
                if observes { ("observer", "participant") } else { ("participant", "observer") };
            let text = format!(
                "peerType={given} has no effect: {} says {role} ({}), and that holds",
                own.key, own.given.source
            );
            r.warn_key("peerType", text);
        }
    }
    let mut observers = members.iter().filter(|member| member.entry.is_observer);
    let Some(observer) = observers.next() else {
        warn_about_failures(r, members.len());
        return;
    };
    let voters: Vec<&Member> = members.iter().filter(|member| !member.entry.is_observer).collect();
    match voters[..] {
        [] => {
            let others = observers.map(|member| member.key.as_str()).collect::<Vec<_>>().join(", ");
            let expected =
                format!("expected a participant among the servers: {others} observe too, and nobody votes");
            r.refuse(&observer.key, &observer.given, expected);
        }
        [voter] if may_be_alone => {
            let expected = format!(
                "expected two participants, or standaloneEnabled=false: {} ({}) is the only one, and with \
                 standaloneEnabled=true it runs alone",
                voter.key, voter.given.source
            );
            r.refuse(&observer.key, &observer.given, expected);
        }
        _ => warn_about_failures(r, voters.len()),
    }
}

/// A majority of an even number is no smaller than that of the next odd one.
fn warn_about_failures(r: &mut Reader, voters: usize) {
    let text = match voters {
        1 => "1 voting server: no failure is tolerated, an ensemble needs at least 3".to_owned(),
        2 => "2 voting servers: no failure is tolerated, an ensemble needs at least 3".to_owned(),
        even if even % 2 == 0 => {
            let (failures, fewer) = (even / 2 - 1, even - 1);
            let noun = if failures == 1 { "failure is" } else { "failures are" };
            format!("{even} voting servers: {failures} {noun} tolerated, as with {fewer}: an odd number is better")
        }
        _ => return,
    };
    r.warn(&Source::Default, text);
}

fn refuse_unequal_votes(r: &mut Reader) {
    let lines: Vec<(String, Given)> = r
        .given
        .iter()
        .filter(|(key, _)| key.starts_with("group.") || key.starts_with("weight."))
        .map(|(key, given)| (key.clone(), given.clone()))
        .collect();
    for (key, given) in lines {
        let expected = "expected no groups and no weights: every participant has one vote in ringkeeper";
        r.refuse(&printable("key", &key), &given, expected.to_owned());
    }
}

/// What was meant to protect the ensemble and is not here is refused: without it, it would stand open.
fn read_security(r: &mut Reader) -> PeerSecurity {
    for key in ["quorum.auth.enableSasl", "quorum.auth.serverRequireSasl", "quorum.auth.learnerRequireSasl"] {
        if r.boolean(key) == Some(true) {
            let expected =
                "expected false: this release has no SASL. sslQuorum=true asks peers for certificates";
            r.refuse_key(key, expected.to_owned());
        }
    }
    let is_on = r.boolean("sslQuorum").unwrap_or(false);
    if r.boolean("portUnification") == Some(true) {
        let only = if is_on { "with TLS" } else { "without TLS" };
        r.warn_key(
            "portUnification",
            format!("portUnification=true has no effect in ringkeeper: peers connect {only} only"),
        );
    }
    if !is_on {
        return PeerSecurity::Plain;
    }
    let key_store = read_pem_store(r, &KEY_STORE);
    let trust_store = read_pem_store(r, &TRUST_STORE);
    let verify_hostname = r.boolean("ssl.quorum.hostnameVerification").unwrap_or(true);
    for key in ["ssl.quorum.crl", "ssl.quorum.ocsp"] {
        if r.boolean(key) == Some(true) {
            r.refuse_key(
                key,
                "expected false: revoked certificates are not looked up in this release".to_owned(),
            );
        }
    }
    let strict = [("need", true), ("want", false), ("none", false)];
    if r.word("ssl.quorum.clientAuth", &strict) == Some(false) {
        let text = "ssl.quorum.clientAuth: a peer without a certificate is never let in, as with need";
        r.warn_key("ssl.quorum.clientAuth", text.to_owned());
    }
    match (key_store, trust_store) {
        (Some(key_store), Some(trust_store)) => PeerSecurity::Tls { key_store, trust_store, verify_hostname },
        // Refused above; nobody will see this value.
        _ => PeerSecurity::Plain,
    }
}

/// The keys of a store, and how what Java makes becomes what we read.
struct Store {
    location: &'static str,
    kind: &'static str,
    /// With whether they are refused: a PEM trust store has no password, and ZooKeeper does not look at one.
    passwords: ([&'static str; 2], bool),
    content: &'static str,
    from_jks: &'static str,
    from_pkcs12: &'static str,
}

const KEY_STORE: Store = Store {
    location: "ssl.quorum.keyStore.location",
    kind: "ssl.quorum.keyStore.type",
    passwords: (["ssl.quorum.keyStore.password", "ssl.quorum.keyStore.passwordPath"], true),
    content: "this server's private key and its certificates",
    from_jks:
        "keytool -importkeystore -srckeystore FILE -destkeystore FILE.p12 -deststoretype PKCS12 && openssl \
               pkcs12 -in FILE.p12 -nodes -out FILE.pem",
    from_pkcs12: "openssl pkcs12 -in FILE -nodes -out FILE.pem",
};

const TRUST_STORE: Store = Store {
    location: "ssl.quorum.trustStore.location",
    kind: "ssl.quorum.trustStore.type",
    passwords: (["ssl.quorum.trustStore.password", "ssl.quorum.trustStore.passwordPath"], false),
    content: "the certificates that sign those of the peers",
    from_jks: "keytool -list -rfc -keystore FILE > FILE.pem",
    from_pkcs12: "keytool -list -rfc -keystore FILE > FILE.pem",
};

fn read_pem_store(r: &mut Reader, store: &Store) -> Option<StoreFile> {
    let (passwords, are_refused) = store.passwords;
    for key in passwords {
        let set = r.take(key).is_some_and(|given| !given.value.is_empty());
        if set && are_refused {
            let expected =
                "expected none, and a key that is not encrypted: openssl pkey -in FILE.pem -out KEY.pem";
            r.refuse_key(key, expected.to_owned());
        }
    }
    let kind = r.take(store.kind).filter(|given| !given.value.is_empty());
    let given = r.take(store.location).filter(|given| !given.value.is_empty());
    let Some(given) = given else {
        let expected = format!("expected a PEM file with {}, because sslQuorum is true", store.content);
        r.refuse_key(store.location, expected);
        return None;
    };
    // As in ZooKeeper the type wins, and without one the file's name tells.
    let (key, judged) = match kind {
        Some(kind) => (store.kind, kind),
        None => (store.location, given.clone()),
    };
    let name = judged.value.to_ascii_lowercase();
    let is = |kind: &str| if key == store.kind { name == kind } else { name.ends_with(&format!(".{kind}")) };
    if is("pem") && !given.value.contains('\0') {
        return Some(StoreFile { path: PathBuf::from(given.value), source: given.source });
    }
    let content = store.content;
    let expected = if is("jks") || is("bcfks") {
        format!("expected PEM with {content}: {}", store.from_jks)
    } else if is("p12") || is("pkcs12") || is("pfx") {
        format!("expected PEM with {content}: {}", store.from_pkcs12)
    } else if key == store.kind {
        format!("expected PEM, for a file with {content}")
    } else {
        format!("expected {}=PEM, or the name of a file that ends in .pem, with {content}", store.kind)
    };
    r.refuse(key, &judged, expected);
    None
}

fn byte_id(number: i64) -> ServerId {
    ServerId(u8::try_from(number).expect("the key's range fits"))
}
