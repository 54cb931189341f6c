//! What a client's reconfig asks for (chapter 9.3 of the wire reference), read as ZooKeeper reads it.

use super::line::{parse_server, server_number, ServerEntry};
use crate::error::Code;
use crate::ids::ServerId;
use crate::wire::Reconfig;
use std::collections::BTreeMap;
use std::net::IpAddr;

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
        let joining = listed(reconfig.joining.as_deref());
        if let Some(line) = joining.clone().find(|line| is_another_key(line)) {
            let why = format!("{}: expected server.N=…", shown(line));
            return Err(Refusal::new(Code::MarshallingError, why));
        }
        target.extend(read(joining)?);
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
    match shared_address(&target) {
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

/// A key of a configuration file that names no server.
fn is_another_key(line: &str) -> bool {
    let key = line.split_once('=').map(|(key, _)| key.trim());
    key.is_some_and(|key| !["server.", "group.", "weight."].iter().any(|known| key.starts_with(known)))
}

fn has_bad_number(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
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

/// Two servers at one address are one of them. Loopback and wildcard addresses say nothing: ZooKeeper lets them pass.
fn shared_address(lines: &Lines) -> Option<(ServerId, ServerId, String)> {
    let mut seen = BTreeMap::new();
    for entry in lines.values() {
        for address in &entry.addresses {
            let is_own = address
                .host
                .parse()
                .map_or(address.host == "localhost", |ip: IpAddr| ip.is_loopback() || ip.is_unspecified());
            if is_own {
                continue;
            }
            for port in [address.quorum_port, address.election_port] {
                if let Some(other) = seen.insert((address.host.as_str(), port), entry.id) {
                    return Some((other, entry.id, format!("{}:{port}", shown(&address.host))));
                }
            }
        }
    }
    None
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
            ("server.4=d:1:2", "", "server.4 names no client port: add ;clientPort"),
            ("", "1,2,3", "it leaves no participant: nobody would vote"),
            ("", "x\ny", "x\\ny: expected a number in its range"),
            ("server.300=d:1:2;3", "", "server.300: expected server.N with an N of 1 to 254"),
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
