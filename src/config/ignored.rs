//! Keys that ZooKeeper knows and that mean nothing here, each with its reason: accepted, so that a zoo.cfg that
//! works there works here, and named once at start, so that nobody believes in a knob that turns nothing.

/// Why the key has no effect; None when the key is not one of ZooKeeper's that we know to be idle.
pub fn why_ignored(key: &str) -> Option<&'static str> {
    IGNORED
        .iter()
        .find(|(keys, _)| {
            keys.iter().any(|known| match known.strip_suffix('*') {
                Some(prefix) => key.starts_with(prefix),
                None => key == *known,
            })
        })
        .map(|&(_, why)| why)
}

const ALONE: &str = "a server that is alone has no peers";
const RAFT: &str = "servers agree by Raft, which elects, copies and catches up in its own way";
const THREADS: &str = "threads are shards here: see ringkeeper.shards";
const TLS: &str = "this release has no TLS";
const SASL: &str = "this release has no SASL";
const HTTP: &str = "this release has no HTTP server";
const BATCHES: &str = "group commit sizes itself";
const COPIES: &str = "replies are encoded straight from shared znodes, there is no cache";
const THROTTLE: &str = "back-pressure stops reading sockets instead: see ringkeeper.outstandingPerConnection";
const WATCHES: &str = "there is one watch table: see ringkeeper.maxWatchesPerConnection";
const JVM: &str = "there is no JVM";

/// A `*` at the end stands for any rest.
const IGNORED: &[(&[&str], &str)] = &[
    (&["group.*", "weight.*", "quorumListenOnAllIPs", "sslQuorum", "portUnification"], ALONE),
    (
        &[
            "connectToLearnerMasterLimit",
            "leader.*",
            "follower.*",
            "learner.*",
            "fastleader.*",
            "commitLogCount",
            "snapshotSizeFactor",
            "leaderConnectDelayDuringRetryMs",
            "forward_learner_requests_to_commit_processor_disabled",
            "enableEagerACLCheck",
            "forceSnapshotSync",
            "messageTracker.*",
            "maxTimeToWaitForEpoch",
            "maxConcurrentSnapSyncs",
            "maxConcurrentDiffSyncs",
            "maxConcurrentSnapshots",
            "maxConcurrentDiffs",
            "oraclePath",
        ],
        RAFT,
    ),
    (&["observerMasterPort", "observerMaster.*", "observer.*"], "observers learn from the leader"),
    (&["syncEnabled"], "observers always keep a log and snapshots"),
    (&["leaderServes"], "the leader serves clients too"),
    (
        &["cnxTimeout", "quorumCnxnTimeoutMs", "tcpKeepAlive", "electionPortBindRetry"],
        "peers are tried again until they answer",
    ),
    (&["multiAddress.*"], "a server may always have several addresses"),
    (&["quorum.*"], "peers do not authenticate by SASL in this release"),
    (
        &["sslQuorumReloadCertFiles", "ssl.quorum.*"],
        "an ensemble with sslQuorum=true takes the key store, the trust store, hostnameVerification and clientAuth",
    ),
    (
        &[
            "nio.*",
            "commitProcessor.*",
            "intBufferStartingSizeBytes",
            "serverCnxnFactory",
            "netty.*",
            "request_throttler.shutdownTimeout",
        ],
        THREADS,
    ),
    (
        &[
            "ssl.*",
            "client.certReload",
            "client.portUnification",
            "X509AuthenticationProvider.*",
            "fips-mode",
        ],
        TLS,
    ),
    (
        &[
            "sasl.*",
            "SASLAuthenticationProvider.*",
            "superUser",
            "superUser.*",
            "letAnySaslUserDoX",
            "allowSaslFailedClients",
            "kerberos.*",
            "security.auth_to_local",
            "requireKerberosConfig",
            "server.realm",
            "kinit",
            "jaasLoginRenew",
        ],
        SASL,
    ),
    (
        &["authProvider.*"],
        "the providers of world, ip, digest and auth are built in, and there are no others",
    ),
    (
        &[
            "IPAuthenticationProvider.*",
            "metricsProvider.*",
            "prometheusMetricsSummaryRotateIntervalSeconds",
            "admin.*",
        ],
        HTTP,
    ),
    (&["ensembleAuthName"], "the ensemble scheme is not in this release"),
    (&["flushDelay", "maxWriteQueuePollTime", "maxBatchSize"], BATCHES),
    (&["maxResponseCacheSize", "maxGetChildrenResponseCacheSize"], COPIES),
    (
        &[
            "connection_throttle_*",
            "connectionMaxTokens",
            "connectionToken*",
            "connectionFreezeTime",
            "connectionDrop*",
            "connectionDecreaseRatio",
            "request_throttle_*",
            "requestThrottle*",
            "request_stale_*",
            "requestStale*",
            "throttled_op_wait_time",
            "throttledOpWaitTime",
            "largeRequestMaxBytes",
            "largeRequestThreshold",
        ],
        THROTTLE,
    ),
    (&["watchManagerName", "watcherClean*", "maxInProcessingDeadWatchers", "bitHashCacheSize"], WATCHES),
    (&["jvm.pause.*"], JVM),
    (
        &["log.*", "root.logger", "console.threshold", "tracelog.*", "auditlog.*"],
        "see ringkeeper.logFormat and ringkeeper.logLevel",
    ),
    (&["audit.enable", "audit.impl.class"], "there is no audit log in this release"),
    (&["digest.enabled"], "the digest of the tree is always kept"),
    (&["closeSessionTxn.enabled"], "ephemerals always go in the transaction that closes their session"),
    (&["snapshot.compression.method"], "snapshots are always zstd"),
    (&["serializeLastProcessedZxid.enabled"], "a snapshot is always of exactly one zxid"),
    (&["emulate353TTLNodes"], "TTL nodes of 3.5.3 are not made here"),
    (
        &["db.autocreate"],
        "an empty directory is always a new server; datadir.autocreate=false guards a lost mount",
    ),
    (&["jute.maxbuffer.extrasize"], "only requests are limited, by jute.maxbuffer"),
    (&["pathStats.*"], "not in this release"),
    (&["DigestAuthenticationProvider.*"], "unknown to ZooKeeper 3.9 too"),
    (&["controllerPort", "test.*", "testingonly.*"], "for ZooKeeper's own tests"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_have_a_reason_and_strangers_have_none() {
        for key in
            ["nio.numWorkerThreads", "ssl.keyStore.location", "flushDelay", "weight.3", "leader.nodelay"]
        {
            assert!(why_ignored(key).is_some(), "{key}");
        }
        for key in ["tickTme", "sslx", "flushDelays"] {
            assert_eq!(why_ignored(key), None, "{key}");
        }
    }
}
