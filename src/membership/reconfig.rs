//! What a client's reconfig asks for (chapter 9.3 of the wire reference), read as ZooKeeper reads it.

use super::line::{parse_server, server_number, PeerAddress, ServerEntry};
use crate::error::Code;
use crate::ids::{plain_ip, ServerId};
use crate::wire::Reconfig;
use std::collections::{BTreeMap, BTreeSet};

/// All lines together. 255 servers with the longest names that DNS has take less.
const LINES_BYTES_MAX: usize = 256 << 10;

type Lines = BTreeMap<ServerId, ServerEntry>;

/// Why a reconfig is refused: the code for its client, the words for the log of the client's server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub code: Code,
    pub why: String,
}

impl Refusal {
    /// A refusal with these words.
    pub fn new(code: Code, why: impl Into<String>) -> Refusal {
        Refusal { code, why: why.into() }
    }
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadArguments, why)
}

fn no_number(what: &str) -> Refusal {
    Refusal::new(Code::MarshallingError, format!("{}: expected a number in its range", shown(what)))
}

/// As much as a line of a log shows of what a client sent.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

/// The lines that there shall be. BadArguments where they can not be an ensemble; where a number is none ZooKeeper ends in
/// an exception that becomes a MarshallingError.
pub fn parse(reconfig: &Reconfig<'_>, now: &Lines) -> Result<Lines, Refusal> {
    let mut joins = None;
    let target = if let Some(members) = reconfig.members.as_deref() {
        read(members.split([',', '\n']))?
    } else {
        let mut target = now.clone();
        for id in listed(reconfig.leaving.as_deref()) {
            let id: i64 = id.parse().map_err(|_| no_number(id))?;
            // One that is not there is gone already.
            if let Ok(id) = u8::try_from(id) {
                target.remove(&ServerId(id));
            }
        }
        let joining: Vec<String> =
            listed(reconfig.joining.as_deref()).map(server_line).collect::<Result<_, _>>()?;
        let joining = read(joining.iter().map(String::as_str))?;
        joins = Some(joining.keys().copied().collect());
        target.extend(joining);
        target
    };
    // A snapshot's header has room for so much, twice: what is, and what is wished for.
    let bytes: usize = target.values().map(|entry| entry.membership_line().len() + 1).sum();
    if bytes > LINES_BYTES_MAX {
        return Err(bad(format!(
            "its lines have {bytes} bytes together, at most {LINES_BYTES_MAX} are taken"
        )));
    }
    if target.values().all(|entry| entry.is_observer) {
        return Err(bad("it leaves no participant: nobody would vote"));
    }
    match shared_address(&target, joins.as_ref()) {
        Some((one, other, address)) => {
            Err(bad(format!("servers {} and {} have the same address {address}", one.0, other.0)))
        }
        None => Ok(target),
    }
}

/// Lines with a client's port each: clients find a new server by it. In a configuration file it may stand elsewhere.
fn read<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Result<Lines, Refusal> {
    if let Some(line) = lines.clone().find(|line| has_bad_number(line)) {
        return Err(no_number(line));
    }
    let lines = parse_lines(lines).map_err(bad)?;
    // They are kept as text: what is not read as it was written would part the servers that read it.
    let is_kept = |entry: &ServerEntry| parse_server(entry.id, &entry.to_string()).as_ref() == Ok(entry);
    for entry in lines.values() {
        let id = entry.id.0;
        if entry.client.is_none() {
            return Err(bad(format!("server.{id} names no client port: add ;clientPort")));
        }
        if !is_kept(entry) {
            return Err(bad(format!("server.{id} can not be written as it was read")));
        }
    }
    Ok(lines)
}

/// A joiner's line with `server.N` for its key: ZooKeeper reads what stands behind the key's last dot and nothing before it.
fn server_line(line: &str) -> Result<String, Refusal> {
    let Some((key, value)) = line.split_once('=') else { return Ok(line.to_owned()) };
    match key.trim().rsplit('.').next().filter(|number| is_number(number)) {
        Some(number) => Ok(format!("server.{number}={value}")),
        None => {
            let why = format!("{}: expected server.N=…", shown(line));
            Err(Refusal::new(Code::MarshallingError, why))
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

fn has_bad_number(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else { return false };
    let id = key.trim().strip_prefix("server.");
    let is_too_large = |text: &str| is_number(text) && text.parse::<u16>().is_err();
    id.is_some_and(|id| !is_number(id)) || value.split([':', ';', '|']).any(is_too_large)
}

fn listed(text: Option<&str>) -> impl Iterator<Item = &str> + Clone {
    text.unwrap_or_default().split(',').map(str::trim).filter(|one| !one.is_empty())
}

/// Reads lines `server.N=…`; one of a server that an earlier one names takes its place.
pub fn parse_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Lines, String> {
    let mut servers = BTreeMap::new();
    for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("version=") {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or("expected server.N=host:quorumPort:electionPort")?;
        let number = server_number(key.trim()).and_then(|number| number.parse().ok()).unwrap_or(0);
        if matches!(number, 0 | u8::MAX) {
            return Err(format!("{}: expected server.N with an N of 1 to 254", shown(key)));
        }
        let id = ServerId(number);
        let entry = parse_server(id, value).map_err(|why| format!("server.{number}: {why}"))?;
        servers.insert(id, entry);
    }
    Ok(servers)
}

/// Two servers at one address are one of them. As in ZooKeeper who joins is held against all others, and clients' addresses
/// count as those for peers do. Of a whole list (`joins` is none) ZooKeeper compares nothing; here what peers connect to.
fn shared_address(lines: &Lines, joins: Option<&BTreeSet<ServerId>>) -> Option<(ServerId, ServerId, String)> {
    let is_new = |entry: &ServerEntry| joins.is_none_or(|joins| joins.contains(&entry.id));
    let mut entries: Vec<&ServerEntry> = lines.values().collect();
    entries.sort_by_key(|entry| is_new(entry));
    let mut seen = BTreeMap::new();
    for entry in entries {
        let ports = |peer: &PeerAddress| [peer.quorum_port, peer.election_port];
        let peers = entry.addresses.iter().flat_map(|peer| ports(peer).map(|port| (&peer.host, port)));
        let client = entry.client.as_ref().filter(|_| joins.is_some());
        let client = client.and_then(|(host, port)| Some((host.as_ref()?, *port)));
        for (host, port) in peers.chain(client) {
            let Some(compared) = compared_host(host) else { continue };
            let first = *seen.entry((compared, port)).or_insert(entry.id);
            if first != entry.id && is_new(entry) {
                return Some((first, entry.id, format!("{}:{port}", shown(host))));
            }
        }
    }
    None
}

/// Loopback and wildcard addresses say nothing: ZooKeeper lets them pass.
fn compared_host(host: &str) -> Option<String> {
    match host.parse().map(plain_ip) {
        Ok(ip) if ip.is_loopback() || ip.is_unspecified() => None,
        Ok(ip) => Some(ip.to_string()),
        Err(_) => Some(host.to_ascii_lowercase()).filter(|host| host != "localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Lines {
        parse_lines("server.1=a:1:2;5\nserver.2=b:1:2;5\nserver.3=c:1:2;5".lines()).unwrap()
    }

    fn refused(joining: &str, leaving: &str) -> String {
        let (joining, leaving) = (Some(joining.into()), Some(leaving.into()));
        let reconfig = Reconfig { joining, leaving, members: None, config_id: -1 };
        parse(&reconfig, &three()).unwrap_err().why
    }

    #[test]
    fn a_refusal_says_in_a_line_what_is_wrong() {
        for (joining, leaving, why) in [
            ("server.4=a:1:9;3", "", "servers 1 and 4 have the same address a:1"),
            ("server.4=d:1:2;a:2", "", "servers 1 and 4 have the same address a:2"),
            ("server.4=d:1:2", "", "server.4 names no client port: add ;clientPort"),
            ("", "1,2,3", "it leaves no participant: nobody would vote"),
            ("", "x\ny", "x\\ny: expected a number in its range"),
            ("server.300=d:1:2;3", "", "server.300: expected server.N with an N of 1 to 254"),
            ("server.x=d:1:2;3", "", "server.x=d:1:2;3: expected server.N=…"),
        ] {
            assert_eq!(refused(joining, leaving), why);
        }
        assert!(refused("server.4=d:1", "").starts_with("server.4: expected host:quorumPort:electionPort"));
        assert!(refused(&format!("server.4={}:1:2;3", "a".repeat(300_000)), "").len() < 200);
    }

    fn asked(joining: &str, leaving: &str, members: Option<&str>) -> Result<Vec<String>, Code> {
        let reconfig = Reconfig {
            joining: Some(joining.into()),
            leaving: Some(leaving.into()),
            members: members.map(Into::into),
            config_id: -1,
        };
        let target = parse(&reconfig, &three()).map_err(|refusal| refusal.code)?;
        Ok(target.values().map(|entry| format!("{}={entry}", entry.id.0)).collect())
    }

    #[test]
    fn who_joins_has_no_address_of_another_server() {
        let now = "server.1=a:1:2;10.0.0.1:5\nserver.2=b:1:2;[fd00::2]:5\nserver.3=c:1:2;shared:5\nserver.4=d:1:2;shared:5";
        let now = parse_lines(now.lines()).unwrap();
        for (name, joining, ok) in [
            ("its clients' is another's", "server.5=e:1:2;10.0.0.1:5", false),
            ("at another port", "server.5=e:1:2;10.0.0.1:6", true),
            ("its clients' is the peers' of another", "server.5=e:1:2;a:1", false),
            ("its peers' is the clients' of another", "server.5=10.0.0.1:5:2;5", false),
            ("its second one", "server.5=e:1:2|a:3:2;5", false),
            ("in capitals", "server.5=A:1:9;5", false),
            ("written at length", "server.5=e:1:2;[fd00:0::2]:5", false),
            ("each other's", "server.5=e:1:2;f:1,server.6=f:1:2;5", false),
            ("its own", "server.5=e:1:2|e:3:1;e:1", true),
            ("its own from before", "server.1=a:2:1;10.0.0.1:5", true),
            ("wildcards", "server.5=e:1:2;0.0.0.0:5,server.6=f:1:2;[::]:5,server.7=g:1:2;5", true),
            ("loopback", "server.5=e:1:2;LOCALHOST:5,server.6=f:1:2;localhost:5", true),
            ("two that were there before share one", "server.5=e:1:2;e:5", true),
            ("and nobody else may", "server.5=e:1:2;shared:5", false),
        ] {
            let reconfig =
                Reconfig { joining: Some(joining.into()), leaving: None, members: None, config_id: -1 };
            let want = if ok { None } else { Some(Code::BadArguments) };
            assert_eq!(parse(&reconfig, &now).err().map(|refusal| refusal.code), want, "{name}");
        }
        let members = Some("server.1=a:1:2;shared:5,server.2=b:1:2;shared:5".into());
        let reconfig = Reconfig { joining: None, leaving: None, members, config_id: -1 };
        assert!(parse(&reconfig, &now).is_ok(), "nothing joins a whole list");
    }

    #[test]
    fn names_without_end_are_refused() {
        let line = |name: usize| format!("server.4={}:1:2;3", "a".repeat(name));
        assert!(asked(&line(1_000), "", None).is_ok());
        assert_eq!(asked(&line(300_000), "", None), Err(Code::BadArguments));
    }

    #[test]
    fn it_is_read_as_zookeeper_reads_it() {
        let a = "1=a:1:2:participant;5";
        let c = "3=c:1:2:participant;5";
        for (joining, leaving, members, want) in [
            ("server.4=d:1:2:observer;9", "2", None, vec![a, c, "4=d:1:2:observer;9"]),
            ("4=d:1:2;9", "", None, vec![a, "2=b:1:2:participant;5", c, "4=d:1:2:participant;9"]),
            ("x.1.4 = d:1:2;9", "2", None, vec![a, c, "4=d:1:2:participant;9"]),
            ("server.2=x:7:8;9", "", None, vec![a, "2=x:7:8:participant;9", c]),
            ("", "9,300,-1", None, vec![a, "2=b:1:2:participant;5", c]),
            ("", "1,2", None, vec![c]),
            ("", "", Some("server.1=a:1:2;5,server.3=c:1:2;5"), vec![a, c]),
            ("", "", Some("server.3=c:1:2;5\nserver.1=a:1:2;5\nversion=7"), vec![a, c]),
            // Loopback says nothing.
            (
                "server.4=127.0.0.1:1:2;3,server.5=127.0.0.1:1:2;3",
                "1,2,3",
                None,
                vec!["4=127.0.0.1:1:2:participant;3", "5=127.0.0.1:1:2:participant;3"],
            ),
        ] {
            let want: Vec<String> = want.into_iter().map(str::to_owned).collect();
            assert_eq!(asked(joining, leaving, members), Ok(want), "{joining} {leaving} {members:?}");
        }
        for (joining, leaving, members, code) in [
            ("server.4=d:1", "", None, Code::BadArguments),
            ("server.4=d:1:2", "", None, Code::BadArguments),
            ("server.0=d:1:2;3", "", None, Code::BadArguments),
            ("server.255=d:1:2;3", "", None, Code::BadArguments),
            ("server.300=d:1:2;3", "", None, Code::BadArguments),
            ("d:1:2", "", None, Code::BadArguments),
            ("server.4=a:1:9;3", "", None, Code::BadArguments),
            ("server.x=d:1:2;3", "", None, Code::MarshallingError),
            ("server.4=d:70000:2;3", "", None, Code::MarshallingError),
            ("server.4=d:1:2;a\nserver.1=evil:3", "", None, Code::BadArguments),
            ("server.4=d:1:2:observer;[[x]:3", "", None, Code::BadArguments),
            ("foo=bar", "", None, Code::MarshallingError),
            ("4.=d:1:2;3", "", None, Code::MarshallingError),
            ("=d:1:2;3", "", None, Code::MarshallingError),
            ("", "", Some("4=d:1:2;3"), Code::BadArguments),
            ("weight.1=3", "", None, Code::BadArguments),
            ("server.4=d:1:2;3\nserver.5=e:1:2;3", "", None, Code::BadArguments),
            ("", "x", None, Code::MarshallingError),
            ("", "1,2,3", None, Code::BadArguments),
            ("", "", Some(""), Code::BadArguments),
            ("", "", Some("server.1=a:1:2:observer;3"), Code::BadArguments),
        ] {
            assert_eq!(asked(joining, leaving, members), Err(code), "{joining} {leaving} {members:?}");
        }
    }
}
