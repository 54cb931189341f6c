//! The environment: `ZOO_*` as the official image's entry point reads them, the synonyms of Bitnami's image and
//! charts, and `-D` system properties in `JVMFLAGS`.
//!
//! The image's entry point turns the variables into a zoo.cfg when there is none; so do we, without the file.

use super::source::{printable, BadValue, Given, Source, Warning};
use super::zoo_cfg::{parse_property, Property};

/// What the environment says: `(key, value)` in rising strength, what to warn about, and what is wrong.
#[derive(Default)]
pub struct Environment {
    /// In rising strength.
    pub given: Vec<(String, Given)>,
    /// Things to say at start.
    pub warnings: Vec<Warning>,
    /// Values that can not be used.
    pub problems: Vec<BadValue>,
}

/// System properties of `JVMFLAGS` and `SERVER_JVMFLAGS`, which the image passes to Java whether or not a zoo.cfg
/// is given.
#[must_use]
pub fn jvm_properties(variables: &[(String, String)]) -> Vec<(String, Given)> {
    let mut given = Vec::new();
    for variable in ["JVMFLAGS", "SERVER_JVMFLAGS"] {
        for flag in value_of(variables, variable).unwrap_or_default().split_whitespace() {
            let Some((name, value)) = flag.strip_prefix("-D").and_then(|flag| flag.split_once('=')) else {
                continue;
            };
            // Other names belong to Java or to log4j.
            if name.starts_with("zookeeper.") || BARE_PROPERTIES.iter().any(|bare| name.starts_with(bare)) {
                let source = Source::Environment(variable.to_owned());
                given.push((name.to_owned(), Given { value: value.to_owned(), source }));
            }
        }
    }
    given
}

/// The `ZOO_*` variables. To be called only when there is no zoo.cfg.
#[must_use]
pub fn zoo_variables(variables: &[(String, String)]) -> Environment {
    let mut found = Environment::default();
    // Weaker synonyms come first in the table.
    for &(variable, key) in VARIABLES {
        if let Some(value) = value_of(variables, variable).map(str::trim).filter(|value| !value.is_empty()) {
            let value = if YES_NO.contains(&variable) { yes_to_true(value) } else { value };
            let source = Source::Environment(variable.to_owned());
            found.given.push((key.to_owned(), Given { value: value.to_owned(), source }));
        }
    }
    if let Some(servers) = value_of(variables, "ZOO_SERVERS") {
        let own_id = found.given.iter().rev().find(|(key, _)| key == "ringkeeper.myid");
        let own_id = own_id.map(|(_, given)| given.value.clone());
        server_lines(servers, own_id, &mut found);
    }
    refuse_security(variables, &mut found);
    // Last, as in the image: an extra line wins over a variable.
    for entry in value_of(variables, "ZOO_CFG_EXTRA").unwrap_or_default().split_whitespace() {
        let source = Source::Environment("ZOO_CFG_EXTRA".to_owned());
        match parse_property(0, entry) {
            Ok(Property { key, value, .. }) => found.given.push((key, Given { value, source })),
            Err(_) => found.problems.push(BadValue {
                source,
                key: printable("key", entry),
                value: String::new(),
                expected: "expected \\u and four hexadecimal digits".to_owned(),
            }),
        }
    }
    warn_about_strangers(variables, &mut found);
    found
}

/// The names of all set `ZOO_*` variables that a given zoo.cfg overrules.
#[must_use]
pub fn overruled(variables: &[(String, String)]) -> Vec<String> {
    let mut names: Vec<String> = variables
        .iter()
        .map(|(name, _)| name.clone())
        .filter(|name| {
            VARIABLES.iter().any(|(known, _)| known == name)
                || name == "ZOO_SERVERS"
                || name == "ZOO_CFG_EXTRA"
        })
        // The image writes it to myid beside any zoo.cfg, and sets these itself.
        .filter(|name| !["ZOO_MY_ID", "ZOO_DATA_DIR", "ZOO_DATA_LOG_DIR"].contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

/// A variable's value, also when it is empty.
#[must_use]
pub fn value_of<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The image's form is `server.1=host:2888:3888;2181 server.2=...`; Bitnami's is a plain list, numbered in order or
/// by `::N`, separated by comma, semicolon or space. Neither has quotes; a compose file that writes
/// `- ZOO_SERVERS="..."` puts them into the value, and then they are meant for the shell. A number of its own in a
/// plain list is the client port of the server before it.
fn server_lines(servers: &str, own_id: Option<String>, found: &mut Environment) {
    let source = Source::Environment("ZOO_SERVERS".to_owned());
    let entries: Vec<&str> = servers
        .split(|c: char| c == ',' || c.is_whitespace())
        .map(|entry| entry.trim_matches(QUOTES))
        .filter(|entry| !entry.is_empty())
        .collect();
    if servers.contains('=') {
        for entry in entries {
            match entry.split_once('=') {
                Some((key, value)) => {
                    let value = value.trim_matches(QUOTES).to_owned();
                    found.given.push((key.to_owned(), Given { value, source: source.clone() }));
                }
                None => found.problems.push(BadValue {
                    source: source.clone(),
                    key: "ZOO_SERVERS".to_owned(),
                    value: printable("ZOO_SERVERS", entry),
                    expected: "expected server.N=host:quorumPort:electionPort;clientPort for each server"
                        .to_owned(),
                }),
            }
        }
        return;
    }
    let mut servers: Vec<(&str, Option<&str>)> = Vec::new();
    for entry in entries.iter().flat_map(|entry| entry.split(';')).filter(|entry| !entry.is_empty()) {
        match servers.last_mut() {
            Some((_, client @ None)) if entry.bytes().all(|digit| digit.is_ascii_digit()) => {
                *client = Some(entry);
            }
            _ => servers.push((entry, None)),
        }
    }
    for (i, (entry, client)) in servers.iter().enumerate() {
        let (address, id) = match entry.rsplit_once("::") {
            Some((address, id)) if !id.contains([']', ':']) => (address, id.to_owned()),
            _ if servers.len() == 1 => (*entry, own_id.clone().unwrap_or_else(|| "1".to_owned())),
            _ => (*entry, (i + 1).to_string()),
        };
        let value = client.map_or_else(|| address.to_owned(), |client| format!("{address};{client}"));
        found.given.push((format!("server.{id}"), Given { value, source: source.clone() }));
    }
}

const QUOTES: [char; 2] = ['"', '\''];

/// Bitnami's switches for what this release does not have: ignoring them would leave open what was meant to be shut.
fn refuse_security(variables: &[(String, String)], found: &mut Environment) {
    for (name, expected) in [
        ("ZOO_ENABLE_AUTH", "expected no: this release has no SASL"),
        ("ZOO_ENABLE_QUORUM_AUTH", "expected no: this release has no SASL"),
        ("ZOO_TLS_CLIENT_ENABLE", "expected no: this release has no TLS for clients"),
        (
            "ZOO_TLS_QUORUM_ENABLE",
            "expected no: give sslQuorum=true and ssl.quorum.* in ZOO_CFG_EXTRA or a zoo.cfg",
        ),
    ] {
        let on = value_of(variables, name)
            .is_some_and(|value| ["yes", "true"].iter().any(|y| y.eq_ignore_ascii_case(value)));
        if on {
            found.problems.push(BadValue {
                source: Source::Environment(name.to_owned()),
                key: name.to_owned(),
                value: value_of(variables, name).map(|value| printable(name, value)).unwrap_or_default(),
                expected: expected.to_owned(),
            });
        }
    }
}

/// One line for all: an orchestrator injects variables of its own for a service that is called `zoo`.
fn warn_about_strangers(variables: &[(String, String)], found: &mut Environment) {
    let mut strangers: Vec<&str> = variables
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("ZOO_"))
        .filter(|name| !VARIABLES.iter().any(|(known, _)| known == name) && !QUIET.contains(name))
        .filter(|name| {
            !name.contains("_SERVICE_") && !name.starts_with("ZOO_PORT") && !name.starts_with("ZOO_TLS_")
        })
        .collect();
    strangers.sort_unstable();
    if !strangers.is_empty() {
        let text = format!("environment variables without effect in ringkeeper: {}", strangers.join(", "));
        found.warnings.push(Warning { source: Source::Default, text });
    }
}

fn yes_to_true(value: &str) -> &str {
    match value {
        "yes" => "true",
        "no" => "false",
        other => other,
    }
}

/// `(variable, key)`; where two set one key, the later wins: the official image's name over Bitnami's.
const VARIABLES: &[(&str, &str)] = &[
    ("ZOO_SERVER_ID", "ringkeeper.myid"),
    ("ZOO_MY_ID", "ringkeeper.myid"),
    ("ZOO_DATA_DIR", "dataDir"),
    ("ZOO_DATA_LOG_DIR", "dataLogDir"),
    ("ZOO_TICK_TIME", "tickTime"),
    ("ZOO_INIT_LIMIT", "initLimit"),
    ("ZOO_SYNC_LIMIT", "syncLimit"),
    ("ZOO_AUTOPURGE_INTERVAL", "autopurge.purgeInterval"),
    ("ZOO_AUTOPURGE_PURGEINTERVAL", "autopurge.purgeInterval"),
    ("ZOO_AUTOPURGE_RETAIN_COUNT", "autopurge.snapRetainCount"),
    ("ZOO_AUTOPURGE_SNAPRETAINCOUNT", "autopurge.snapRetainCount"),
    ("ZOO_MAX_CLIENT_CNXNS", "maxClientCnxns"),
    ("ZOO_MAX_CNXNS", "maxCnxns"),
    ("ZOO_STANDALONE_ENABLED", "standaloneEnabled"),
    ("ZOO_RECONFIG_ENABLED", "reconfigEnabled"),
    ("ZOO_ENABLE_ADMIN_SERVER", "admin.enableServer"),
    ("ZOO_ADMINSERVER_ENABLED", "admin.enableServer"),
    ("ZOO_ADMIN_SERVER_PORT_NUMBER", "admin.serverPort"),
    ("ZOO_4LW_COMMANDS_WHITELIST", "4lw.commands.whitelist"),
    ("ZOO_PORT_NUMBER", "clientPort"),
    ("ZOO_PEER_TYPE", "peerType"),
    ("ZOO_MIN_SESSION_TIMEOUT", "minSessionTimeout"),
    ("ZOO_MAX_SESSION_TIMEOUT", "maxSessionTimeout"),
    ("ZOO_PRE_ALLOC_SIZE", "preAllocSize"),
    ("ZOO_SNAPCOUNT", "snapCount"),
    ("ZOO_LISTEN_ALLIPS_ENABLED", "quorumListenOnAllIPs"),
    ("ZOO_LOG_LEVEL", "ringkeeper.logLevel"),
];

/// Bitnami's, which say yes and no.
const YES_NO: &[&str] = &["ZOO_LISTEN_ALLIPS_ENABLED", "ZOO_RECONFIG_ENABLED", "ZOO_ENABLE_ADMIN_SERVER"];

/// Read elsewhere, or known to mean nothing to anybody but a script or a JVM.
const QUIET: &[&str] = &[
    "ZOO_SERVERS",
    "ZOO_CFG_EXTRA",
    "ZOO_CONF_DIR",
    "ZOO_LOG_DIR",
    "ZOO_LOG4J_PROP",
    "ZOO_HEAP_SIZE",
    "ZOO_HC_TIMEOUT",
    "ZOO_DATADIR_AUTOCREATE_DISABLE",
    "ZOO_ENABLE_AUTH",
    "ZOO_ENABLE_QUORUM_AUTH",
    "ZOO_BASE_DIR",
    "ZOO_VOLUME_DIR",
    "ZOO_BIN_DIR",
    "ZOO_CONF_FILE",
    "ZOO_DAEMON_USER",
    "ZOO_DAEMON_GROUP",
];

/// ZooKeeper reads these without its prefix.
const BARE_PROPERTIES: &[&str] = &["jute.", "fsync.", "readonlymode.", "znode.container."];
