//! A `server.N` line: who a member of the ensemble is, where its peers find it, and where its clients do.

use std::fmt;

use crate::ids::ServerId;

/// One member, as its `server.N=host:quorumPort:electionPort[:role][|more];[[address:]clientPort]` line says.
/// `Display` writes the line's value, in the form in which a zoo.cfg takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerEntry {
    /// The N of the line, 1 to 254 in an ensemble.
    pub id: ServerId,
    /// The role is `observer`: it learns what was decided and has no vote. Default participant.
    pub is_observer: bool,
    /// Where its peers reach it, in the order of the line, never empty. ZooKeeper takes more than one only with
    /// `multiAddress.enabled`; here they need no switch.
    pub addresses: Vec<PeerAddress>,
    /// The listener for clients: address if given, and port, 0 to 65535. None: the line does not say.
    pub client: Option<(Option<String>, u16)>,
}

/// One address of a member. The two ports are different, as ZooKeeper wants them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAddress {
    /// A name or an IP address, without the brackets of IPv6. A name is looked up when it is needed: a pod's name
    /// may appear after the pod's start.
    pub host: String,
    /// The first port, 1 to 65535: ZooKeeper's followers connect to it.
    pub quorum_port: u16,
    /// The second port, 1 to 65535: ZooKeeper elects on it.
    pub election_port: u16,
}

impl ServerEntry {
    /// The whole line as ZooKeeper shows a member in `conf` and in `/zookeeper/config`: the role always written, the
    /// client's address too.
    #[must_use]
    pub fn membership_line(&self) -> String {
        let mut shown = self.clone();
        if let Some((address, _)) = &mut shown.client {
            address.get_or_insert_with(|| "0.0.0.0".to_owned());
        }
        format!("server.{}={shown}", self.id.0)
    }
}

impl fmt::Display for ServerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.addresses.iter().enumerate() {
            let PeerAddress { host, quorum_port, election_port } = address;
            let between = if i > 0 { "|" } else { "" };
            write!(f, "{between}{}:{quorum_port}:{election_port}", bracketed(host))?;
        }
        f.write_str(if self.is_observer { ":observer" } else { ":participant" })?;
        match &self.client {
            Some((Some(address), port)) => write!(f, ";{}:{port}", bracketed(address)),
            Some((None, port)) => write!(f, ";{port}"),
            None => Ok(()),
        }
    }
}

/// An IPv6 address needs brackets before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The N of a `server.N` key, not yet looked at as a number. Other keys that start so (`server.realm`) have none.
pub fn server_number(key: &str) -> Option<&str> {
    key.strip_prefix("server.").filter(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Reads the line's value, or says what it should look like.
pub fn parse_server(id: ServerId, value: &str) -> Result<ServerEntry, String> {
    let mut parts = value.split(';');
    let quorum = parts.next().unwrap_or_default();
    let client = parts.next().map(str::trim).filter(|client| !client.is_empty());
    let secure = parts.next().is_some();
    if parts.next().is_some() {
        return Err(EXPECTED.to_owned());
    }
    if secure {
        return Err("a secure client port needs TLS, which this release does not have".to_owned());
    }
    let mut addresses = Vec::new();
    let mut role = None;
    for text in quorum.split('|') {
        let (address, own_role) = parse_address(text.trim())?;
        // ZooKeeper writes the role once, behind the last address, and takes it behind each.
        if own_role.is_some() && role.is_some() && own_role != role {
            return Err("expected one role for all addresses of a server".to_owned());
        }
        role = own_role.or(role);
        addresses.push(address);
    }
    let client = client.map(parse_client).transpose()?;
    Ok(ServerEntry { id, is_observer: role == Some(Role::Observer), addresses, client })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Participant,
    Observer,
}

/// `host:quorumPort:electionPort[:role]`.
fn parse_address(text: &str) -> Result<(PeerAddress, Option<Role>), String> {
    let (host, rest) = split_host(text).ok_or(EXPECTED)?;
    if !is_host(host) {
        return Err(EXPECTED.to_owned());
    }
    let mut rest = rest.split(':');
    let mut port = || rest.next().and_then(parse_port).filter(|&port| port > 0).ok_or(EXPECTED);
    let (quorum_port, election_port) = (port()?, port()?);
    let role = match rest.next().map(|role| role.trim().to_ascii_lowercase()).as_deref() {
        None => None,
        Some("participant") => Some(Role::Participant),
        Some("observer") => Some(Role::Observer),
        Some(_) => return Err(EXPECTED.to_owned()),
    };
    if rest.next().is_some() {
        return Err(EXPECTED.to_owned());
    }
    if quorum_port == election_port {
        return Err(format!(
            "expected two different ports for peers and for elections, and both are {quorum_port}"
        ));
    }
    Ok((PeerAddress { host: host.to_owned(), quorum_port, election_port }, role))
}

/// What can be a name or an address; `%` stands before the zone of an IPv6 address.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_.:%".contains(c))
}

/// `port`, `address:port` or `[address]:port`.
pub fn parse_client(text: &str) -> Result<(Option<String>, u16), String> {
    if let Some(port) = parse_port(text) {
        return Ok((None, port));
    }
    let (host, port) = split_host(text).ok_or(CLIENT_EXPECTED)?;
    let port = parse_port(port).ok_or(CLIENT_EXPECTED)?;
    if !host.is_empty() && !is_host(host) {
        return Err(CLIENT_EXPECTED.to_owned());
    }
    Ok((Some(host.to_owned()).filter(|host| !host.is_empty()), port))
}

/// The host, without its brackets, and what follows the colon behind it.
fn split_host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').and_then(|(host, rest)| Some((host, rest.strip_prefix(':')?))),
        None => text.split_once(':'),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

const EXPECTED: &str =
    "expected host:quorumPort:electionPort[:participant|observer][|more addresses][;[address:]clientPort]";
const CLIENT_EXPECTED: &str = "expected [address:]port with a port of 0 to 65535";

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, quorum_port: u16, election_port: u16) -> PeerAddress {
        PeerAddress { host: host.to_owned(), quorum_port, election_port }
    }

    #[test]
    fn server_lines() {
        let zoo1 = || vec![address("zoo1", 2888, 3888)];
        let two = || vec![address("a", 1, 2), address("b", 1, 2)];
        for (text, is_observer, addresses, client) in [
            ("zoo1:2888:3888;2181", false, zoo1(), Some((None, 2181))),
            ("zoo1:2888:3888", false, zoo1(), None),
            ("zoo1:2888:3888;", false, zoo1(), None),
            ("zoo1:2888:3888:Participant;0.0.0.0:2181", false, zoo1(), Some((Some("0.0.0.0"), 2181))),
            (
                "[::1]:2888:3888:observer;[::]:2182",
                true,
                vec![address("::1", 2888, 3888)],
                Some((Some("::"), 2182)),
            ),
            ("a:1:2|b:1:2;2181", false, two(), Some((None, 2181))),
            ("a:1:2 | b:1:2:observer", true, two(), None),
        ] {
            let client = client.map(|(host, port)| (host.map(str::to_owned), port));
            let want = ServerEntry { id: ServerId(3), is_observer, addresses, client };
            assert_eq!(parse_server(ServerId(3), text), Ok(want.clone()), "{text}");
            assert_eq!(
                parse_server(ServerId(3), &want.to_string()),
                Ok(want),
                "{text} written and read again"
            );
        }
    }

    #[test]
    fn lines_that_no_server_is_behind() {
        for text in [
            "",
            ";",
            "|",
            "zoo1",
            "zoo1:2888",
            "zoo1:x:3888",
            ":2888:3888",
            "[]:2888:3888",
            "[::1:2888:3888",
            "a b:1:2",
            "a:1:2:boss",
            "a:1:2:observer:x",
            "a:1:2;x",
            "a:1:2;70000",
            "a:0:2",
            "a:1:65536",
            "a:1:1",
            "a:1:2|",
            "a:1:2:observer|b:1:2:participant",
            "a:1:2;1;2",
            "a:1:2;1;2;3",
            "a:1:2;b c:3",
            "a:1:2;[ x]:3",
            "a:1:2;[[x]:3",
            "a:1:2;b\nserver.1=c:3",
        ] {
            assert!(parse_server(ServerId(1), text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_member_is_shown_as_zookeeper_shows_it() {
        for (text, want) in [
            ("zoo1:2888:3888;2181", "server.7=zoo1:2888:3888:participant;0.0.0.0:2181"),
            ("[::1]:2888:3888:observer;[::]:9", "server.7=[::1]:2888:3888:observer;[::]:9"),
            ("a:1:2|b:1:2", "server.7=a:1:2|b:1:2:participant"),
        ] {
            assert_eq!(parse_server(ServerId(7), text).unwrap().membership_line(), want);
        }
    }
}
