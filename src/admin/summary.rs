//! Words that say a few lines about the whole server.

use super::lists::connection_lines;
use super::text::{mean, say_who_is_silent};
use super::view::{Role, View};
use crate::config::{Ensemble, PeerAddress};
use crate::ids::Millis;
use std::fmt::Write;

/// A fresh ZooKeeper counts five nodes where there are four: its root is in the table as "" and as "/".
pub(super) fn node_count(view: &View) -> usize {
    view.totals.nodes + 1
}

pub(super) fn srvr(view: &View) -> String {
    let mut out = version_line(view);
    put_totals(&mut out, view);
    say_who_is_silent(&mut out, view);
    out
}

pub(super) fn stat(view: &View) -> String {
    let mut out = version_line(view);
    out.push_str("Clients:\n");
    connection_lines(&mut out, view, false);
    out.push('\n');
    put_totals(&mut out, view);
    say_who_is_silent(&mut out, view);
    out
}

fn version_line(view: &View) -> String {
    let read_only = match view.role {
        Role::ReadOnly => "READ-ONLY mode; serving only read-only clients\n",
        _ => "",
    };
    format!("Zookeeper version: {}\n{read_only}", view.build)
}

fn put_totals(out: &mut String, view: &View) {
    let totals = &view.totals;
    let (stats, latency) = (&totals.stats, &totals.stats.latency);
    let average = mean(latency.sum_ms, latency.count);
    let _ = writeln!(out, "Latency min/avg/max: {}/{average}/{}", latency.min_ms, latency.max_ms);
    let _ = writeln!(out, "Received: {}", stats.packets_received);
    let _ = writeln!(out, "Sent: {}", stats.packets_sent);
    let _ = writeln!(out, "Connections: {}", stats.connections);
    let _ = writeln!(out, "Outstanding: {}", totals.outstanding);
    let _ = writeln!(out, "Zxid: {}", totals.last_zxid);
    let _ = writeln!(out, "Mode: {}", view.role.as_str());
    let _ = writeln!(out, "Node count: {}", node_count(view));
    if view.role == Role::Leader {
        let [last, least, largest] = proposal_sizes(view);
        let _ = writeln!(out, "Proposal sizes last/min/max: {last}/{least}/{largest}");
    }
}

/// The last, the least and the largest proposal: -1 before the first.
pub(super) fn proposal_sizes(view: &View) -> [i64; 3] {
    let sizes = view.leading.proposal_sizes;
    sizes.map_or([-1; 3], |sizes| sizes.map(|size| i64::try_from(size).unwrap_or(i64::MAX)))
}

pub(super) fn conf(view: &View) -> String {
    let (config, files) = (&view.config, &view.files);
    let mut out = String::new();
    let _ = writeln!(out, "clientPort={}", view.client_port);
    // No TLS port yet.
    let _ = writeln!(out, "secureClientPort=-1");
    let _ = writeln!(out, "dataDir={}", files.data_dir);
    let _ = writeln!(out, "dataDirSize={}", files.data_bytes);
    let _ = writeln!(out, "dataLogDir={}", files.log_dir);
    let _ = writeln!(out, "dataLogSize={}", files.log_bytes);
    let _ = writeln!(out, "tickTime={}", config.sessions.tick.0);
    let _ = writeln!(out, "maxClientCnxns={}", config.limits.connections_per_address_max);
    let _ = writeln!(out, "minSessionTimeout={}", config.sessions.timeout_min.0);
    let _ = writeln!(out, "maxSessionTimeout={}", config.sessions.timeout_max.0);
    let _ = writeln!(out, "clientPortListenBacklog={}", config.listen_backlog);
    let Some(ensemble) = &config.ensemble else {
        // A standalone ZooKeeper has no myid and says 0, whatever ours is.
        let _ = writeln!(out, "serverId=0");
        return out;
    };
    let _ = writeln!(out, "serverId={}", config.server_id.0);
    put_ensemble(&mut out, view, ensemble);
    out
}

fn put_ensemble(out: &mut String, view: &View, ensemble: &Ensemble) {
    let config = &view.config;
    // Before the first leader has said who the members are the configuration is all there is.
    let (servers, version) = match &view.members {
        Some(members) => (&members.servers, members.version.0),
        None => (&ensemble.servers, 0),
    };
    let ticks = |span: Millis| span.0 / config.sessions.tick.0.max(1);
    let _ = writeln!(out, "initLimit={}", ticks(ensemble.init_limit));
    let _ = writeln!(out, "syncLimit={}", ticks(ensemble.sync_limit));
    let _ = writeln!(out, "electionAlg=3");
    let own = servers.iter().find(|server| server.id == config.server_id);
    if let Some(own) = own.or_else(|| ensemble.server(config.server_id)) {
        let ports = |port: fn(&PeerAddress) -> u16| {
            let mut all: Vec<u16> = own.addresses.iter().map(port).collect();
            all.sort_unstable();
            all.dedup();
            all.iter().map(u16::to_string).collect::<Vec<_>>().join("|")
        };
        let _ = writeln!(out, "electionPort={}", ports(|address| address.election_port));
        let _ = writeln!(out, "quorumPort={}", ports(|address| address.quorum_port));
        let _ = writeln!(out, "peerType={}", u8::from(own.is_observer));
    }
    out.push_str("membership: \n");
    for server in servers {
        let _ = writeln!(out, "{}", server.membership_line());
    }
    // No line break behind it, as in ZooKeeper.
    let _ = write!(out, "version={version:x}");
}

pub(super) fn envi(view: &View) -> String {
    let process = &view.process;
    let no_java = format!("n/a (ringkeeper {}, Rust)", view.build.version);
    let mega_bytes = |bytes: u64| format!("{}MB", bytes >> 20);
    let version = view.build.to_string();
    // Kazoo reads the first key; the order is ZooKeeper's.
    let rows: [(&str, &str); 18] = [
        ("zookeeper.version", &version),
        ("host.name", &process.host_name),
        ("java.version", &no_java),
        ("java.vendor", "n/a"),
        ("java.home", "n/a"),
        ("java.class.path", "n/a"),
        ("java.library.path", "n/a"),
        ("java.io.tmpdir", "n/a"),
        ("java.compiler", "<NA>"),
        ("os.name", "Linux"),
        ("os.arch", java_arch(std::env::consts::ARCH)),
        ("os.version", &process.os_version),
        ("user.name", &process.user_name),
        ("user.home", &process.user_home),
        ("user.dir", &process.user_dir),
        ("os.memory.free", &mega_bytes(process.memory_free)),
        ("os.memory.max", &mega_bytes(process.memory_max)),
        ("os.memory.total", &mega_bytes(process.memory_used)),
    ];
    let mut out = String::from("Environment:\n");
    for (key, value) in rows {
        let _ = writeln!(out, "{key}={value}");
    }
    out
}

/// Java's name of a processor.
fn java_arch(arch: &'static str) -> &'static str {
    match arch {
        "x86_64" => "amd64",
        other => other,
    }
}

pub(super) fn dirs(view: &View) -> String {
    format!("datadir_size: {}\nlogdir_size: {}\n", view.files.data_bytes, view.files.log_bytes)
}

pub(super) fn wchs(view: &View) -> String {
    let (connections, paths, registrations) = view.totals.watch_summary;
    let mut out =
        format!("{connections} connections watching {paths} paths\nTotal watches:{registrations}\n");
    say_who_is_silent(&mut out, view);
    out
}
