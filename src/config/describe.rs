//! The effective configuration in words: one line at start that says where everything is, and all of it for
//! `ringkeeper check`, in the syntax of zoo.cfg so that it can be pasted into one.

use std::fmt::{self, Write};
use std::path::Path;

use super::{Config, Ensemble, Io, LogFormat, PeerSecurity, Pin};
use crate::auth::DigestAlgorithm;
use crate::ids::Millis;

impl Config {
    /// One line: which file holds, where the data is. The client address comes from the pre-flight, which knows the
    /// port that was taken for 0.
    #[must_use]
    pub fn places(&self) -> String {
        let file = self.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string());
        let mut line = format!("configuration file {file}, data in {}", absolute(&self.data_dir));
        if self.log_dir != self.data_dir {
            let _ = write!(line, ", log in {}", absolute(&self.log_dir));
        }
        line
    }
}

/// The whole path: a line that says where things are must mean the same in another directory.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn put_ensemble(f: &mut fmt::Formatter<'_>, config: &Config, ensemble: &Ensemble) -> fmt::Result {
    let ticks = |span: Millis| span.0 / config.sessions.tick.0.max(1);
    for server in &ensemble.servers {
        writeln!(f, "server.{}={server}", server.id.0)?;
    }
    if let Some(own) = ensemble.server(config.server_id) {
        writeln!(f, "peerType={}", if own.is_observer { "observer" } else { "participant" })?;
        for address in &own.addresses {
            writeln!(f, "# electionPort={}, quorumPort={}", address.election_port, address.quorum_port)?;
        }
    }
    // One voter with observers is an ensemble only with this.
    writeln!(f, "standaloneEnabled={}", ensemble.voters() > 1)?;
    writeln!(f, "initLimit={}", ticks(ensemble.init_limit))?;
    writeln!(f, "syncLimit={}", ticks(ensemble.sync_limit))?;
    writeln!(f, "quorumListenOnAllIPs={}", ensemble.listen_on_all)?;
    let PeerSecurity::Tls { key_store, trust_store, verify_hostname } = &ensemble.security else {
        return writeln!(f, "sslQuorum=false");
    };
    writeln!(f, "sslQuorum=true")?;
    for (name, store) in [("keyStore", key_store), ("trustStore", trust_store)] {
        writeln!(f, "ssl.quorum.{name}.location={}", store.path.display())?;
        writeln!(f, "ssl.quorum.{name}.type=PEM")?;
    }
    writeln!(f, "ssl.quorum.hostnameVerification={verify_hostname}")
}

/// Every key with its effective value, one a line. Secrets are masked.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |span: Option<Millis>| span.map_or(0, |span| span.0);
        let yes = |yes| if yes { "yes" } else { "no" };
        writeln!(f, "ringkeeper.myid={}", self.server_id.0)?;
        if let Some(ensemble) = &self.ensemble {
            put_ensemble(f, self, ensemble)?;
        }
        writeln!(f, "dataDir={}", self.data_dir.display())?;
        writeln!(f, "dataLogDir={}", self.log_dir.display())?;
        writeln!(f, "datadir.autocreate={}", self.create_missing_dirs)?;
        writeln!(f, "clientPort={}", self.client_address.port())?;
        writeln!(f, "clientPortAddress={}", self.client_address.ip())?;
        if let Some(port) = self.strict_client_port {
            writeln!(f, "ringkeeper.strictClientPort={port}")?;
        }
        writeln!(f, "clientPortListenBacklog={}", self.listen_backlog)?;
        writeln!(f, "clientTcpKeepAlive={}", self.tcp_keep_alive)?;
        let sessions = &self.sessions;
        writeln!(f, "tickTime={}", sessions.tick.0)?;
        writeln!(f, "minSessionTimeout={}", sessions.timeout_min.0)?;
        writeln!(f, "maxSessionTimeout={}", sessions.timeout_max.0)?;
        writeln!(f, "nio.sessionlessCnxnTimeout={}", sessions.handshake_timeout.0)?;
        let limits = &self.limits;
        writeln!(f, "jute.maxbuffer={}", limits.frame_bytes_max)?;
        writeln!(f, "maxClientCnxns={}", limits.connections_per_address_max)?;
        writeln!(f, "maxCnxns={}", limits.connections_max.unwrap_or(0))?;
        writeln!(f, "globalOutstandingLimit={}", limits.outstanding_max)?;
        writeln!(f, "ringkeeper.outstandingPerConnection={}", limits.outstanding_per_connection_max)?;
        writeln!(f, "ringkeeper.maxSessions={}", limits.sessions_max)?;
        writeln!(f, "ringkeeper.maxWatchesPerConnection={}", limits.watches_per_connection_max)?;
        writeln!(f, "ringkeeper.maxWatchBytesPerConnection={}", limits.watch_bytes_per_connection_max)?;
        writeln!(f, "ringkeeper.maxAclEntries={}", limits.acl_entries_max)?;
        writeln!(f, "ringkeeper.maxMultiOps={}", limits.multi_ops_max)?;
        writeln!(f, "ringkeeper.maxIdentitiesPerConnection={}", limits.identities_per_connection_max)?;
        writeln!(f, "ringkeeper.slowReaderBufferBytes={}", limits.slow_reader_pause_bytes)?;
        writeln!(f, "ringkeeper.slowReaderMaxBytes={}", limits.slow_reader_close_bytes)?;
        writeln!(f, "ringkeeper.slowReaderTimeoutMs={}", limits.slow_reader_timeout.0)?;
        let log = &self.log;
        writeln!(f, "ringkeeper.segmentSizeKb={}", log.segment_bytes >> 10)?;
        writeln!(f, "ringkeeper.diskReserveMb={}", log.disk_reserve_bytes >> 20)?;
        writeln!(f, "fsync.warningthresholdms={}", log.sync_warning.0)?;
        writeln!(f, "forceSync=yes")?;
        writeln!(f, "snapCount={}", log.snapshot_after_txns)?;
        writeln!(
            f,
            "snapSizeLimitInKb={}",
            log.snapshot_after_bytes.map_or(-1, |bytes| (bytes >> 10).cast_signed())
        )?;
        writeln!(f, "autopurge.snapRetainCount={}", log.snapshots_kept)?;
        match log.purge_interval {
            Some(interval) => writeln!(f, "autopurge.purgeInterval={}ms", interval.0)?,
            None => writeln!(f, "autopurge.purgeInterval=0")?,
        }
        writeln!(f, "skipACL={}", yes(self.rules.skip_acl))?;
        writeln!(f, "enforceQuota={}", self.rules.enforce_quota)?;
        writeln!(f, "extendedTypesEnabled={}", self.rules.extended_types)?;
        writeln!(f, "znode.container.checkIntervalMs={}", self.containers.check_interval.0)?;
        writeln!(f, "znode.container.maxPerMinute={}", self.containers.deletions_per_minute_max)?;
        writeln!(f, "znode.container.maxNeverUsedIntervalMs={}", ms(self.containers.never_used_interval))?;
        writeln!(f, "DigestAuthenticationProvider.enabled={}", self.auth.digest_enabled)?;
        let algorithm = match self.auth.digest_algorithm {
            DigestAlgorithm::Sha1 => "SHA1",
            DigestAlgorithm::Sha224 => "SHA-224",
            DigestAlgorithm::Sha256 => "SHA-256",
            DigestAlgorithm::Sha384 => "SHA-384",
            DigestAlgorithm::Sha512 => "SHA-512",
        };
        writeln!(f, "DigestAuthenticationProvider.digestAlg={algorithm}")?;
        if self.auth.super_digest.is_some() {
            writeln!(f, "# DigestAuthenticationProvider.superDigest is set")?;
        }
        if !self.auth.enforced_schemes.is_empty() {
            writeln!(f, "enforce.auth.enabled=true")?;
            writeln!(f, "enforce.auth.schemes={}", self.auth.enforced_schemes.join(","))?;
        }
        let words: Vec<&str> = self.four_letter_words.allowed.iter().copied().collect();
        let words = if self.four_letter_words.all { "*".to_owned() } else { words.join(",") };
        writeln!(f, "4lw.commands.whitelist={words}")?;
        writeln!(f, "readonlymode.enabled={}", self.read_only_mode)?;
        writeln!(f, "localSessionsEnabled={}", self.local_sessions)?;
        writeln!(f, "localSessionsUpgradingEnabled={}", self.local_sessions_upgrade)?;
        writeln!(f, "reconfigEnabled={}", self.reconfig_enabled)?;
        match self.runtime.shards {
            Some(shards) => writeln!(f, "ringkeeper.shards={shards}")?,
            None => writeln!(f, "# ringkeeper.shards is found out at start")?,
        }
        let io = match self.runtime.io {
            Io::Auto => "auto",
            Io::Uring => "uring",
            Io::Epoll => "epoll",
        };
        writeln!(f, "ringkeeper.io={io}")?;
        let pin = match self.runtime.pin {
            Pin::Auto => "auto",
            Pin::Always => "true",
            Pin::Never => "false",
        };
        writeln!(f, "ringkeeper.pin={pin}")?;
        let format = match self.logging.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        writeln!(f, "ringkeeper.logFormat={format}")?;
        writeln!(f, "ringkeeper.logLevel={}", self.logging.level.as_str())
    }
}
