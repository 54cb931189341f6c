//! What this machine allows, found out before any thread exists: a shard that dies at start must never be silent.
//!
//! [`examine`] looks at everything and says it in a [`Report`], one line a finding; `ringkeeper check` prints that and
//! ends. What it hands to the host is a [`Preflight`]: how many shards, which driver, where threads are bound, the
//! final client address, and the port, held meanwhile. It raises the soft limits of open files and locked memory to the
//! hard ones.

// Resource limits, the affinity mask and flock have no safe door in our dependencies; each block says why it holds.
#![allow(unsafe_code)]

mod cpus;
mod dirs;
mod port;
mod uring;

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;

pub use cpus::PinPlan;
pub(super) use port::explain as explain_port;
pub use port::HeldPort;
pub use uring::{LOG_RING_DEPTH, SHARD_IO_MEMORY, SHARD_RING_DEPTH};

use super::peers;
use crate::config::{Config, Ensemble, Io, PeerSecurity, Pin};

/// `EX_OSERR`: the machine refuses something that the server needs.
pub const EX_OSERR: i32 = 71;
/// `EX_CONFIG`: the configuration asks for what can not be.
pub const EX_CONFIG: i32 = 78;

/// Which calls carry sockets and the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// io_uring: glommio for the shards, a ring of its own for the log.
    Uring,
    /// epoll for the shards, `pwritev2` on a thread for the log.
    Epoll,
}

/// What the host starts with.
#[derive(Debug)]
pub struct Preflight {
    /// Shards to start, at least one.
    pub shards: u16,
    /// The driver for all of them and for the log.
    pub driver: Driver,
    /// Where threads are bound; None: they are not.
    pub pin: Option<PinPlan>,
    /// Where the shards listen, with `SO_REUSEPORT`: never port 0, and IPv4 where the host has no IPv6.
    pub client_address: SocketAddr,
    /// Whether the log's filesystem takes O_DIRECT; else buffered writes and fdatasync.
    pub direct_io: bool,
    /// Connections that the limit of open files and `maxCnxns` allow.
    pub connections_max: u32,
    /// The strict listener's, where there is one.
    pub strict_address: Option<SocketAddr>,
    /// The client ports, bound so that no other server can take them. Drop them when every shard listens.
    pub ports: Vec<HeldPort>,
}

/// Why the server can not start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The exit code, [`EX_OSERR`] or [`EX_CONFIG`].
    pub exit: i32,
    /// One line, with what to do.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// How a finding is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// Works, but worse than it could.
    Note,
    /// The server will not start.
    Refused,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// How it is meant.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
}

/// All findings, in the order in which they were made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// One line each.
    pub findings: Vec<Finding>,
    refusal: Option<Refusal>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let verdict = match finding.verdict {
                Verdict::Fine => "ok",
                Verdict::Note => "note",
                Verdict::Refused => "REFUSED",
            };
            writeln!(f, "{verdict:<8}{:<14}{}", finding.subject, finding.text)?;
        }
        Ok(())
    }
}

impl Report {
    fn fine(&mut self, subject: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { subject, verdict: Verdict::Fine, text: text.into() });
    }

    fn note(&mut self, subject: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { subject, verdict: Verdict::Note, text: text.into() });
    }

    /// The first refusal decides the exit code; the look round goes on, so that one run shows all.
    fn refuse(&mut self, subject: &'static str, exit: i32, text: impl Into<String>) {
        let text = text.into();
        self.findings.push(Finding { subject, verdict: Verdict::Refused, text: text.clone() });
        self.refusal.get_or_insert(Refusal { exit, text });
    }
}

/// The port for the other servers, and what protects it.
fn examine_ensemble(report: &mut Report, config: &Config, ensemble: &Ensemble) {
    let own = ensemble.servers.iter().find(|entry| entry.id == config.server_id);
    let own = own.map_or(&[][..], |entry| &entry.addresses);
    let clients = [Some(config.client_address.port()), config.strict_client_port];
    let shared = own.iter().find(|address| clients.contains(&Some(address.quorum_port)));
    if let Some(address) = shared {
        let port = address.quorum_port;
        let text = format!(
            "{port} is the first port of this server's server.N line and one for clients: two are needed"
        );
        report.refuse("peer port", EX_CONFIG, text);
    } else {
        match peers::listen(own, ensemble.listen_on_all) {
            Ok((listeners, _)) => {
                let address =
                    |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
                let addresses: Vec<String> = listeners.iter().filter_map(|one| address(one).ok()).collect();
                report.fine("peer port", format!("{} is free", addresses.join(", ")));
            }
            Err(text) => report.refuse("peer port", EX_OSERR, text),
        }
    }
    match (&ensemble.security, peers::Protection::load(&ensemble.security)) {
        (PeerSecurity::Plain, _) => report.note("peers", "they speak in plain text (sslQuorum=false)"),
        (PeerSecurity::Tls { .. }, Ok(_)) => {
            report.fine("peers", "TLS: certificate, key and authorities are read")
        }
        (PeerSecurity::Tls { .. }, Err(why)) => report.refuse("peers", EX_CONFIG, why),
    }
}

/// Looks at the machine for this configuration and leaves nothing on it. The report is whole in any case.
pub fn examine(config: &Config) -> (Report, Result<Preflight, Refusal>) {
    let mut report = Report::default();
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "unknown".to_owned());
    report.fine("kernel", format!("Linux {}", release.trim()));

    let allowed = affinity();
    let quota = cpus::quota(Path::new("/"));
    let plan = cpus::plan(&allowed, quota, config.runtime.shards, config.runtime.pin);
    report.fine("cpus", cpus::describe(&allowed, quota));
    let pinned = if plan.pin.is_some() { "bound to CPUs" } else { "not bound to CPUs" };
    report.fine("shards", format!("{} and a sequencer, {pinned}", plan.shards));
    if config.runtime.pin == Pin::Always && plan.pin.is_none() {
        let threads = plan.shards + 1;
        let text = format!(
            "ringkeeper.pin=true needs {threads} CPUs for {threads} threads, and {} may be used",
            allowed.len()
        );
        report.refuse("shards", EX_CONFIG, text);
    }

    let driver = choose_driver(&mut report, config.runtime.io, plan.shards);
    let files = raise_to_hard(libc::RLIMIT_NOFILE).unwrap_or(1024);
    let connections_max = connections_max(&mut report, files, config.limits.connections_max, plan.shards);
    let direct_io = dirs::examine(&mut report, config);
    let port = port::hold(config.client_address, "clientPort or --client-port");
    match &port {
        Ok(held) => report.fine("client port", format!("{} is free", held.address)),
        Err(text) => report.refuse("client port", EX_OSERR, text.clone()),
    }
    let mut ports = Vec::new();
    if let (Some(strict), Ok(held)) = (config.strict_client_port, &port) {
        match port::hold(SocketAddr::new(held.address.ip(), strict), "ringkeeper.strictClientPort") {
            Ok(held) => {
                report.fine("strict port", format!("{} is free", held.address));
                ports.push(held);
            }
            Err(text) => report.refuse("strict port", EX_OSERR, text),
        }
    }
    if let Some(ensemble) = &config.ensemble {
        examine_ensemble(&mut report, config, ensemble);
    }
    let outcome = match (report.refusal.clone(), port) {
        (None, Ok(port)) => {
            let (client_address, strict_address) = (port.address, ports.first().map(|held| held.address));
            ports.push(port);
            Ok(Preflight {
                shards: plan.shards,
                driver,
                pin: plan.pin,
                client_address,
                strict_address,
                direct_io,
                connections_max,
                ports,
            })
        }
        (Some(refusal), _) => Err(refusal),
        (None, Err(text)) => Err(Refusal { exit: EX_OSERR, text }),
    };
    (report, outcome)
}

fn choose_driver(report: &mut Report, io: Io, shards: u16) -> Driver {
    // Measured (benches/RESULTS.md): around the same set of sockets glommio takes as much CPU as epoll under load, and twice
    // as much for a lone client. And what a ring writes durably the kernel ends in a worker of its own, on the CPU that took
    // the disk's interrupt: behind whatever runs there, up to a tick of the clock later.
    if io != Io::Uring {
        report.fine("io", "epoll for the shards, a thread for the log");
        return Driver::Epoll;
    }
    let memlock = raise_to_hard(libc::RLIMIT_MEMLOCK).unwrap_or(u64::MAX);
    match uring::usable(shards, memlock) {
        Ok(text) => report.fine("io", format!("io_uring: {text}")),
        Err(why) => {
            report.refuse("io", EX_OSERR, format!("ringkeeper.io=uring, but {why}; auto takes epoll"));
        }
    }
    Driver::Uring
}

/// Sockets are what open files are for; the rest is rings, eventfds, segments, snapshots, listeners.
/// With too few even for that, the log would meet the limit at its next segment and end the server: refused here.
fn connections_max(report: &mut Report, files: u64, asked: Option<u32>, shards: u16) -> u32 {
    let needed = FILES_MIN + FILES_OF_SHARD * u64::from(shards);
    if files < needed {
        let text = format!(
            "RLIMIT_NOFILE is {files}, and the server needs {needed} open files: raise it (ulimit -n)"
        );
        report.refuse("open files", EX_OSERR, text);
        return 0;
    }
    let reserve = 192 + 32 * u64::from(shards);
    let possible = u32::try_from(files.saturating_sub(reserve)).unwrap_or(u32::MAX).max(CONNECTIONS_MIN);
    let allowed = asked.map_or(possible, |asked| asked.min(possible));
    let text = format!("{allowed} connections ({files} open files, {reserve} kept for the server)");
    if asked.is_some_and(|asked| asked > possible) || possible < 4096 {
        report.note("open files", format!("{text}: raise RLIMIT_NOFILE for more"));
    } else {
        report.fine("open files", text);
    }
    allowed
}

/// Connections that are taken however low the limit of open files is.
const CONNECTIONS_MIN: u32 = 16;
/// Those, and at most as many files of the log, of snapshots and of what every process has. Seen to serve: 40.
const FILES_MIN: u64 = 48;
/// A shard of glommio: 8 were counted (three rings, eventfds, a listener).
const FILES_OF_SHARD: u64 = 8;

/// The limit after its soft part was raised as far as the hard one lets it.
fn raise_to_hard(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit, which is what `limit` is, and keeps no pointer.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: the kernel reads one rlimit and keeps no pointer.
        if unsafe { libc::setrlimit(resource, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}

/// The CPUs on which this thread may run, in rising order; never empty.
pub(super) fn affinity() -> Vec<usize> {
    affinity_of(0).unwrap_or_else(|| vec![0])
}

/// Those of another thread of this process, by its number; 0 is the calling one.
pub(super) fn affinity_of(thread: libc::pid_t) -> Option<Vec<usize>> {
    // The kernel's mask may be wider than libc's 1024 CPUs: it says EINVAL until the buffer is large enough.
    for words in [16, 64, 256, 1024] {
        let mut mask = vec![0_u64; words];
        // SAFETY: the buffer is as long as we say and aligned for the kernel's unsigned longs; the kernel fills at
        // most that much and keeps no pointer. libc's cpu_set_t is only the type of the pointer.
        let done = unsafe {
            libc::sched_getaffinity(thread, size_of_val(mask.as_slice()), mask.as_mut_ptr().cast())
        };
        if done == 0 {
            let cpus: Vec<usize> =
                (0..words * 64).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect();
            if !cpus.is_empty() {
                return Some(cpus);
            }
        }
    }
    None
}

/// Whether another opener holds the exclusive lock of a file. Our own try is given back at once.
fn is_locked(file: &File) -> bool {
    // SAFETY: flock takes two integers; the descriptor is open while `file` lives.
    let taken = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    if taken {
        // SAFETY: as above.
        unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
    }
    !taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, TextFile};

    fn config(keys: &[String]) -> Config {
        let flags = crate::config::flags::KeyFlags { set: keys.to_vec(), ..Default::default() };
        Sources { flags, ..Sources::default() }.check().unwrap().0
    }

    fn keys(dir: &Path, more: &[&str]) -> Vec<String> {
        let mut keys = vec![format!("dataDir={}", dir.display()), "clientPort=0".to_owned()];
        keys.extend(more.iter().map(|key| (*key).to_owned()));
        keys
    }

    #[test]
    fn an_empty_directory_and_a_free_port_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let (report, outcome) = examine(&config(&keys(&data, &[])));
        let preflight = outcome.unwrap_or_else(|_| panic!("{report}"));
        assert!((1..=8).contains(&preflight.shards));
        assert_ne!(preflight.client_address.port(), 0);
        assert!(!preflight.ports.is_empty() && !data.exists());
        assert!(
            report.to_string().lines().all(|line| line.starts_with("ok ") || line.starts_with("note ")),
            "{report}"
        );
    }

    /// Neither the file nor the line was named.
    #[test]
    fn a_store_that_can_not_be_read_is_said_of_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.pem").display().to_string();
        let text = format!(
            "dataDir={}\nclientPort=0\nserver.1=127.0.0.1:28881:28882\nserver.2=127.0.0.1:28883:28884\n\
             sslQuorum=true\nssl.quorum.keyStore.location={missing}\nssl.quorum.trustStore.location={missing}\n",
            dir.path().display()
        );
        let file = |path: &str, bytes: Vec<u8>| Some(TextFile { path: path.into(), bytes });
        let (file, id_file) = (file("zoo.cfg", text.into()), file("myid", b"1".to_vec()));
        let config = Sources { file, id_file, ..Sources::default() }.check().unwrap().0;
        let report = examine(&config).0.to_string();
        for key in ["zoo.cfg:6: ssl.quorum.keyStore", "zoo.cfg:7: ssl.quorum.trustStore"] {
            assert!(report.contains(&format!("{key}.location={missing}: ")), "{report}");
        }
    }

    #[test]
    fn a_second_server_is_refused_by_the_lock_and_by_the_port() {
        let dir = tempfile::tempdir().unwrap();
        let first = examine(&config(&keys(dir.path(), &[]))).1.unwrap();
        let lock = File::create(dir.path().join("ringkeeper.lock")).unwrap();
        let port = format!("clientPort={}", first.client_address.port());
        let again = config(&keys(dir.path(), &[&port]));
        assert!(!is_locked(&lock));
        // SAFETY: flock takes two integers; the descriptor is open while `lock` lives.
        assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0);
        let (report, second) = examine(&again);
        let refusal = second.unwrap_err();
        assert_eq!(refusal.exit, EX_OSERR);
        assert!(refusal.text.contains("another ringkeeper"), "{refusal}");
        let refused: Vec<_> = report.findings.iter().filter(|f| f.verdict == Verdict::Refused).collect();
        assert_eq!(refused.len(), 2, "{report}");
        drop((first, lock));
        examine(&again).1.expect("both are free again");
    }

    #[test]
    fn it_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("new");
        for data in [dir.path(), &missing] {
            examine(&config(&keys(data, &[]))).1.unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn pinning_more_threads_than_cpus_is_a_configuration_error() {
        let dir = tempfile::tempdir().unwrap();
        if affinity().len() > 64 {
            return;
        }
        let more = ["ringkeeper.shards=64", "ringkeeper.pin=true", "ringkeeper.io=epoll"];
        let (_, outcome) = examine(&config(&keys(dir.path(), &more)));
        assert_eq!(outcome.unwrap_err().exit, EX_CONFIG);
    }

    #[test]
    fn too_few_open_files_for_the_server_itself_are_refused() {
        for (files, shards, want) in [(10, 1, None), (55, 1, None), (56, 1, Some(16)), (559, 64, None)] {
            let mut report = Report::default();
            let allowed = connections_max(&mut report, files, None, shards);
            let refused = report.refusal.map(|refusal| refusal.exit);
            assert_eq!(refused, want.is_none().then_some(EX_OSERR), "{files} files, {shards} shards");
            assert_eq!(allowed, want.unwrap_or(0), "{files} files, {shards} shards");
        }
        assert_eq!(connections_max(&mut Report::default(), 20_000, Some(100), 1), 100);
        assert_eq!(connections_max(&mut Report::default(), 20_000, None, 1), 20_000 - 224);
    }

    #[test]
    fn epoll_is_taken_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let outcome = examine(&config(&keys(dir.path(), &["ringkeeper.io=epoll"]))).1;
        assert_eq!(outcome.unwrap().driver, Driver::Epoll);
    }

    #[test]
    fn the_machine_answers() {
        assert!(!affinity().is_empty());
        assert!(raise_to_hard(libc::RLIMIT_NOFILE).unwrap() > 0);
    }
}
