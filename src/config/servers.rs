//! The value of a `server.N` line: enough of it to run the single server that this release is.

/// What matters of `host:quorum:election[:role][|more][;[address:]client[;...]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerLine {
    /// The role is `observer`.
    pub observer: bool,
    /// The listener for clients: address if given, and port.
    pub client: Option<(Option<String>, u16)>,
}

/// Reads the line, or says what it should look like.
pub fn parse_server(value: &str) -> Result<ServerLine, String> {
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
    let mut observer = false;
    for address in quorum.split('|') {
        let (_, rest) = split_host(address.trim()).ok_or(EXPECTED)?;
        let mut rest = rest.split(':');
        let ports = [rest.next(), rest.next()];
        if !ports.iter().all(|port| port.is_some_and(|port| parse_port(port).is_some_and(|port| port > 0))) {
            return Err(EXPECTED.to_owned());
        }
        match rest.next().map(str::to_ascii_lowercase).as_deref() {
            None | Some("participant") => {}
            Some("observer") => observer = true,
            Some(_) => return Err(EXPECTED.to_owned()),
        }
        if rest.next().is_some() {
            return Err(EXPECTED.to_owned());
        }
    }
    Ok(ServerLine { observer, client: client.map(parse_client).transpose()? })
}

/// `port`, `address:port` or `[address]:port`.
pub fn parse_client(text: &str) -> Result<(Option<String>, u16), String> {
    if let Some(port) = parse_port(text) {
        return Ok((None, port));
    }
    let (host, port) = split_host(text).ok_or(CLIENT_EXPECTED)?;
    let port = parse_port(port).ok_or(CLIENT_EXPECTED)?;
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

const EXPECTED: &str = "expected host:quorumPort:electionPort[:participant|observer][;[address:]clientPort]";
const CLIENT_EXPECTED: &str = "expected [address:]port with a port of 0 to 65535";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_lines() {
        for (text, observer, client) in [
            ("localhost:2888:3888;2181", false, Some((None, 2181))),
            ("zoo1:2888:3888", false, None),
            ("zoo1:2888:3888:participant;0.0.0.0:2181", false, Some((Some("0.0.0.0"), 2181))),
            ("[::1]:2888:3888:observer;[::]:2182", true, Some((Some("::"), 2182))),
            ("a:1:2|b:1:2;2181", false, Some((None, 2181))),
        ] {
            let want = ServerLine { observer, client: client.map(|(h, p)| (h.map(str::to_owned), p)) };
            assert_eq!(parse_server(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "zoo1",
            "zoo1:2888",
            "zoo1:x:3888",
            "a:1:2:boss",
            "a:1:2;x",
            "a:1:2;70000",
            "a:0:2",
            "a:1:2;1;2",
        ] {
            assert!(parse_server(text).is_err(), "{text}");
        }
    }
}
