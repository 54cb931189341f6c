//! Words that list: connections, sessions, watches, digests. As long as what they list; made on no serving core.

use super::text::{java_date, peer, say_who_is_silent};
use super::view::View;
use crate::ids::{Millis, SessionId, WallMillis};
use crate::shard::ConnectionRow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

pub(super) fn cons(view: &View) -> String {
    let mut out = String::new();
    connection_lines(&mut out, view, true);
    say_who_is_silent(&mut out, view);
    out.push('\n');
    out
}

/// One line a connection, short for `stat`, long for `cons`.
pub(super) fn connection_lines(out: &mut String, view: &View, long: bool) {
    for row in &view.connections {
        let _ = write!(
            out,
            " {}[{:x}](queued={},recved={},sent={}",
            peer(row.peer),
            interest(row),
            row.queued,
            row.received,
            row.sent
        );
        if long && row.session != SessionId::NONE {
            put_session(out, view, row);
        }
        out.push_str(")\n");
    }
}

/// Java's selection keys: 1 reads, 4 would write.
fn interest(row: &ConnectionRow) -> u8 {
    if row.is_blocked {
        5
    } else {
        1
    }
}

fn put_session(out: &mut String, view: &View, row: &ConnectionRow) {
    let established = view.wall.0 - clamp(row.established_ms);
    let _ = write!(out, ",sid={},lop={},est={established},to={}", row.session, row.last_op, row.timeout_ms);
    if row.last_xid.0 >= 0 {
        let _ = write!(out, ",lcxid=0x{:x}", row.last_xid.0);
    }
    let latency = &row.latency;
    let average = latency.sum_ms.checked_div(latency.count).unwrap_or(0);
    let _ = write!(
        out,
        ",lzxid={},lresp={},llat={},minlat={},avglat={average},maxlat={}",
        row.last_zxid, row.last_response.0, latency.last_ms, latency.min_ms, latency.max_ms
    );
}

pub(super) fn dump(view: &View) -> String {
    let sessions = &view.sessions;
    let mut out = String::from("SessionTracker dump:\n");
    if let Some(local) = &sessions.local_buckets {
        put_sets(&mut out, "Local Session", local);
    }
    match &sessions.timeouts {
        Some(all) => {
            let _ = writeln!(out, "Global Sessions({}):", all.len());
            for (id, timeout_ms) in all {
                let _ = writeln!(out, "{id}\t{timeout_ms}ms");
            }
        }
        None => {
            let name = if sessions.local_buckets.is_some() { "Global Session" } else { "Session" };
            put_sets(&mut out, name, &sessions.buckets);
        }
    }
    out.push_str("ephemeral nodes dump:\n");
    let _ = writeln!(out, "Sessions with Ephemerals ({}):", sessions.ephemerals.len());
    for (id, paths) in &sessions.ephemerals {
        let _ = writeln!(out, "{id}:");
        for path in paths {
            let _ = writeln!(out, "\t{}", path.as_str());
        }
    }
    put_connections(&mut out, view);
    say_who_is_silent(&mut out, view);
    out
}

fn put_sets(out: &mut String, name: &str, buckets: &[(WallMillis, Vec<SessionId>)]) {
    let total: usize = buckets.iter().map(|(_, ids)| ids.len()).sum();
    let _ = writeln!(out, "{name} Sets ({})/({total}):", buckets.len());
    for (at, ids) in buckets {
        let _ = writeln!(out, "{} expire at {}:", ids.len(), java_date(*at));
        for id in ids {
            let _ = writeln!(out, "\t{id}");
        }
    }
}

/// ZooKeeper keeps expiry buckets of connections too. Ours end with their session, or with the handshake's time.
fn put_connections(out: &mut String, view: &View) {
    let mut ends = BTreeMap::new();
    for (at, ids) in view.sessions.buckets.iter().chain(view.sessions.local_buckets.iter().flatten()) {
        ends.extend(ids.iter().map(|id| (*id, *at)));
    }
    let mut buckets: BTreeMap<WallMillis, Vec<&ConnectionRow>> = BTreeMap::new();
    for row in &view.connections {
        let end = ends.get(&row.session).copied().unwrap_or_else(|| handshake_end(view, row));
        // Shown to the second: what looks the same is one bucket.
        buckets.entry(WallMillis(end.0 / 1_000 * 1_000)).or_default().push(row);
    }
    out.push_str("Connections dump:\n");
    let _ = writeln!(out, "Connections Sets ({})/({}):", buckets.len(), view.connections.len());
    for (at, rows) in buckets {
        let _ = writeln!(out, "{} expire at {}:", rows.len(), java_date(at));
        for row in rows {
            let _ = writeln!(out, "\tip: {} sessionId: {}", peer(row.peer), row.session);
        }
    }
}

fn handshake_end(view: &View, row: &ConnectionRow) -> WallMillis {
    let left = clamp(view.config.sessions.handshake_timeout) - clamp(row.established_ms);
    WallMillis(view.wall.0 + left)
}

fn clamp(span: Millis) -> i64 {
    i64::try_from(span.0).unwrap_or(i64::MAX / 4)
}

pub(super) fn wchp(view: &View) -> String {
    let mut out = String::new();
    for (path, sessions) in &view.watches {
        let _ = writeln!(out, "{}", path.as_str());
        for session in sessions {
            let _ = writeln!(out, "\t{session}");
        }
    }
    say_who_is_silent(&mut out, view);
    out.push('\n');
    out
}

pub(super) fn wchc(view: &View) -> String {
    let mut by_session: BTreeMap<SessionId, BTreeSet<&str>> = BTreeMap::new();
    for (path, sessions) in &view.watches {
        for session in sessions {
            by_session.entry(*session).or_default().insert(path.as_str());
        }
    }
    let mut out = String::new();
    for (session, paths) in by_session {
        let _ = writeln!(out, "{session}");
        for path in paths {
            let _ = writeln!(out, "\t{path}");
        }
    }
    say_who_is_silent(&mut out, view);
    out.push('\n');
    out
}

pub(super) fn hash(view: &View) -> String {
    let mut out = String::new();
    for (zxid, digest) in &view.digests {
        let _ = writeln!(out, "{:x}: {digest}", zxid.0);
    }
    say_who_is_silent(&mut out, view);
    out
}
