//! `mntr`: one metric a line, by the names that ZooKeeper 3.9.5 gives them, so that dashboards and alerts go on.
//!
//! A name is there where its number is true of this server. What measures parts that only ZooKeeper has (its
//! processors' queues, its commit processor) is left out rather than shown as 0.

use super::summary::{node_count, proposal_sizes};
use super::text::mean;
use super::view::{Role, Summary, View};
use std::fmt::{Display, Write};

/// Counters of things that no server here ever does: truly 0.
const NEVER: [&str; 24] = [
    "connection_revalidate_count",
    "dead_watchers_cleared",
    "dead_watchers_queued",
    "ensemble_auth_fail",
    "ensemble_auth_skip",
    "ensemble_auth_success",
    "insecure_admin_count",
    "non_mtls_local_conn_count",
    "non_mtls_remote_conn_count",
    "outstanding_tls_handshake",
    "quit_leading_due_to_disloyal_voter",
    "response_packet_cache_hits",
    "response_packet_cache_misses",
    "response_packet_get_children_cache_hits",
    "response_packet_get_children_cache_misses",
    "restore_error_count",
    "restore_rate_limited_count",
    "revalidate_count",
    "snapshot_rate_limited_count",
    "stale_requests",
    "stale_requests_dropped",
    "throttled_ops",
    "tls_handshake_exceeded",
    "unrecoverable_error_count",
];

pub(super) fn mntr(view: &View) -> String {
    let mut out = String::with_capacity(4_096);
    let totals = &view.totals;
    let (stats, latency) = (&totals.stats, &totals.stats.latency);
    put(&mut out, "version", view.build);
    put(&mut out, "server_state", view.role.as_str());
    put(&mut out, "avg_latency", mean(latency.sum_ms, latency.count));
    put(&mut out, "max_latency", latency.max_ms);
    put(&mut out, "min_latency", latency.min_ms);
    put(&mut out, "packets_received", stats.packets_received);
    put(&mut out, "packets_sent", stats.packets_sent);
    put(&mut out, "num_alive_connections", stats.connections);
    put(&mut out, "outstanding_requests", totals.outstanding);
    put(&mut out, "znode_count", node_count(view));
    put(&mut out, "watch_count", totals.watches);
    put(&mut out, "ephemerals_count", totals.ephemerals);
    put(&mut out, "approximate_data_size", totals.data_bytes);
    put(&mut out, "open_file_descriptor_count", view.process.open_files);
    put(&mut out, "max_file_descriptor_count", view.process.open_files_max);
    let local = view.local_sessions;
    put(&mut out, "global_sessions", (totals.sessions as u64).saturating_sub(local));
    put(&mut out, "local_sessions", local);
    put(&mut out, "uptime", view.uptime.0);
    put(&mut out, "auth_failed_count", stats.auth_failed);
    put(&mut out, "connection_drop_probability", "0.0");
    put(&mut out, "connection_drop_count", stats.cut);
    put(&mut out, "bytes_received_count", stats.bytes_received);
    put(&mut out, "response_bytes", stats.bytes_sent);
    for (name, value) in &view.counters {
        put(&mut out, name, value);
    }
    for name in NEVER {
        put(&mut out, name, 0);
    }
    for summary in &view.summaries {
        put_summary(&mut out, summary);
    }
    if let Some(ensemble) = &view.config.ensemble {
        let voters = view.members.as_ref().map_or_else(|| ensemble.voters(), |members| members.voters);
        put(&mut out, "quorum_size", voters);
        if view.role == Role::Leader {
            put(&mut out, "learners", view.peers);
            let [followers, observers] = view.leading.synced;
            put(&mut out, "synced_followers", followers);
            put(&mut out, "synced_observers", observers);
            put(&mut out, "pending_syncs", view.leading.pending_syncs);
            put(&mut out, "leader_uptime", view.leading.uptime.0);
            let [last, least, largest] = proposal_sizes(view);
            put(&mut out, "last_proposal_size", last);
            put(&mut out, "min_proposal_size", least);
            put(&mut out, "max_proposal_size", largest);
        }
        if let Some(state) = peer_state(view.role) {
            put(&mut out, "peer_state", state);
        }
        put(&mut out, "ringkeeper_peers", view.peers);
    }
    // Ours alone.
    put(&mut out, "ringkeeper_shards", totals.shards);
    for (shard, connections) in view.connections_by_shard.iter().enumerate() {
        put(&mut out, &format!("ringkeeper_shard_{shard}_connections"), connections);
    }
    put(&mut out, "ringkeeper_reads", stats.reads);
    put(&mut out, "ringkeeper_writes", stats.writes);
    put(&mut out, "ringkeeper_watch_events", stats.events);
    put(&mut out, "ringkeeper_memory_used_bytes", view.process.memory_used);
    put(&mut out, "ringkeeper_force_sync", 1);
    put(&mut out, "ringkeeper_silent_shards", view.silent.len());
    out
}

fn put(out: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(out, "zk_{name}\t{value}");
}

/// As ZooKeeper names the state of a server among others and of its protocol.
fn peer_state(role: Role) -> Option<&'static str> {
    match role {
        Role::Leader => Some("leading - broadcast"),
        Role::Follower => Some("following - broadcast"),
        Role::Observer => Some("observing - broadcast"),
        Role::Looking | Role::ReadOnly => Some("looking - election"),
        Role::Standalone => None,
    }
}

fn put_summary(out: &mut String, summary: &Summary) {
    let Summary { name, count, sum, min, max } = summary;
    let _ = writeln!(out, "zk_avg_{name}\t{}", mean(*sum, *count));
    let _ = writeln!(out, "zk_min_{name}\t{min}");
    let _ = writeln!(out, "zk_max_{name}\t{max}");
    let _ = writeln!(out, "zk_cnt_{name}\t{count}");
    let _ = writeln!(out, "zk_sum_{name}\t{sum}");
}
