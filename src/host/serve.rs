//! `ringkeeper serve`: from a configuration to a running server, and down again.

use super::admin_thread::{AdminThread, REQUESTS_MAX};
use super::clock::Clock;
use super::disk::{install_sigbus_handler, DataDir, DirOptions, LogIo, LogOptions};
use super::limits::ConnectionLimits;
use super::link::Links;
use super::meet;
use super::peers::Transfer;
use super::preflight::{self, Driver, PinPlan, Preflight};
use super::recover::{load_state, Recovery};
use super::sequencer_thread::{LoopState, SequencerThread};
use super::shard_core::{Core, WordRequest};
use super::shard_epoll::{EpollShard, Listeners};
use super::shard_glommio;
use super::signals::{self, Signals};
use super::snapshot_thread::{SnapshotOptions, SnapshotThread};
use super::{logging, pages, Fatal};
use crate::apply::RULES;
use crate::auth::Schemes;
use crate::config::{self, Config};
use crate::ids::{Millis, Seat, ShardId};
use crate::log::{BLOCK, PAYLOAD_BYTES_MAX};
use crate::sequencer::{self, Input, Sequencer};
use crate::shard::{self, Shard};
use crate::tree::PathHasher;
use crate::watch;
use crossbeam::channel::{bounded, Receiver, Sender};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{error, info};

/// Groups of batches under way, at the most. With two each is half as large and waits as long: three
/// servers with 64 clients on 16 CPUs made 55,000 sets a second with two, 82,000 with one.
const IN_FLIGHT_GROUPS: usize = 1;
/// While a shard's connections leave so much unread no long read is answered: a frame of a kilobyte may be answered with 64
/// MiB, and two hundred connections that read nothing would hold 13 GB.
const UNSENT_LONG_BYTES: usize = 256 << 20;
/// A thread that has not said that it is ready after this long never will.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Runs a server until it is told to stop. Returns the exit code.
pub fn serve(args: &config::ServeArgs) -> i32 {
    start(args, false)
}

/// The same, and asks the ensemble to take this server in with the line that its configuration has for it.
pub fn serve_and_join(args: &config::ServeArgs) -> i32 {
    start(args, true)
}

fn start(args: &config::ServeArgs, joins: bool) -> i32 {
    let (config, warnings) = match config::load(args) {
        Ok(loaded) => loaded,
        Err(invalid) => {
            logging::complain(invalid);
            return preflight::EX_CONFIG;
        }
    };
    logging::start_logging(&config.logging);
    logging::say_warnings(&warnings);
    let exit = match run(config, joins) {
        Ok(()) => 0,
        Err(fatal) => {
            error!("{fatal}");
            fatal.exit
        }
    };
    logging::say_last_lines();
    exit
}

fn run(config: Config, joins: bool) -> Result<(), Fatal> {
    if joins && config.ensemble.is_none() {
        let why =
            "join: the configuration has no server lines: list the servers of the ensemble, and this one";
        return Err(Fatal::new(preflight::EX_CONFIG, why));
    }
    let started = Instant::now();
    pages::forbid_huge();
    let signals = Signals::block().map_err(|error| Fatal::os("blocking signals", &error))?;
    logging::start_thread().map_err(|error| Fatal::os("starting a thread", &error))?;
    let (report, examined) = preflight::examine(&config);
    let mut preflight = examined.map_err(|refusal| Fatal::new(refusal.exit, refusal))?;
    tracing::debug!("pre-flight:\n{report}");
    // What works, but worse than it could: which driver runs and why, no pinning, no O_DIRECT.
    for finding in report.findings.iter().filter(|finding| finding.verdict == preflight::Verdict::Note) {
        info!("{}: {}", finding.subject, finding.text);
    }
    install_sigbus_handler();

    say_bounds(&config);
    let mut dir = open_dir(&config)?;
    dir.forget_left()
        .map_err(|error| Fatal::os(&format!("writing to {}", config.data_dir.display()), &error))?;
    let seed = draw_seed()?;
    let hasher = PathHasher::new(hash_key(&seed));
    let clock = Clock::start();
    let config = Arc::new(config);
    let links = Arc::new(
        Links::new(usize::from(preflight.shards)).map_err(|error| Fatal::os("making the rings", &error))?,
    );

    let incarnation = incarnation(&seed);
    let (words, requests) = bounded(REQUESTS_MAX);
    let shards = start_shards(&config, &preflight, &links, clock, &hasher, &words, incarnation)?;
    preflight.ports.clear();
    start_admin(requests, &links, &config, preflight.client_address.port(), &dir, clock)?;

    meet::check_dir(&config, &dir)?;
    let met = match &config.ensemble {
        None => None,
        Some(ensemble) => match meet::meet_peers(&config, ensemble, &mut dir, incarnation, &links, &signals)?
        {
            Some(met) => Some(met),
            // Told to go down before there was an ensemble.
            None => return Ok(()),
        },
    };

    let log_options = log_options(&config, &preflight);
    let Recovery { state, log, recovered } = load_state(&mut dir, &log_options, &hasher)?;
    if !pages::suit(state.table.len(), state.table.data_bytes()) {
        pages::forbid_huge();
    }
    let driver = log.driver();
    let dir = Arc::new(dir);
    let peers = met.map(|met| met.into_peers(&links, Transfer::new(dir.clone(), hasher)));
    let peers = peers.transpose().map_err(|error| Fatal::os("making an epoll set", &error))?;
    let options = sequencer_options(&config, &preflight, &dir, seed);
    let mut sequencer = Sequencer::new(options, state, recovered, clock.now());
    if joins {
        sequencer.handle(clock.now(), Input::Join);
    }
    let snapshots = SnapshotThread::start(SnapshotOptions {
        dir: dir.clone(),
        keep: usize::try_from(config.log.snapshots_kept).unwrap_or(usize::MAX),
        purge: config.log.purge_interval.is_some(),
        leaves_bytes: config.log.segment_bytes,
    })
    .map_err(|error| Fatal::os("starting the snapshot thread", &error))?;
    let (shards_started, sockets) = (preflight.shards, driver_name(preflight.driver));
    let (address, places) = (preflight.client_address, config.places());
    let strict =
        preflight.strict_address.map(|at| format!(", each read linearizable on {at}")).unwrap_or_default();
    let on_serving: Box<dyn FnOnce() + Send> = Box::new(move || {
        info!(
            version = config::flags::VERSION,
            shards = shards_started,
            sockets,
            log = driver,
            started_in_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "ringkeeper serves on {address}{strict}; {places}"
        );
    });
    let thread = SequencerThread {
        sequencer,
        log,
        links: links.clone(),
        peers,
        clock,
        snapshots,
        dir: dir.clone(),
        places: meet::places_of(&config),
        sync_warning: config.log.sync_warning,
        snapshot_wanted: Arc::new(AtomicBool::new(false)),
        on_serving: Some(on_serving),
        state: LoopState::default(),
    };
    let pin = preflight.pin.as_ref().map(|pin| pin.sequencer);
    let sequencer = spawn("sequencer", pin, move || thread.run())?;

    let signal = loop {
        match signals.wait() {
            signals::LEAVE if config.ensemble.is_some() => {
                info!("asked to leave the ensemble");
                links.leave();
            }
            signals::LEAVE => info!("asked to leave an ensemble, and this server runs alone"),
            signal => break signal,
        }
    };
    info!("{signal}: going down; sessions are kept");
    links.stop();
    join(sequencer)?;
    for link in &links.shards {
        link.end();
    }
    for shard in shards {
        join(shard)?;
    }
    drop(dir);
    info!("stopped");
    Ok(())
}

fn open_dir(config: &Config) -> Result<DataDir, Fatal> {
    let log_path = (config.log_dir != config.data_dir).then(|| config.log_dir.clone());
    DataDir::open(&DirOptions { path: config.data_dir.clone(), log_path, server: config.server_id })
        .map_err(|error| Fatal::new(error.exit_code(), error))
}

pub(super) fn draw_seed() -> Result<[u8; 32], Fatal> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        Fatal::new(preflight::EX_OSERR, format_args!("the system gives no random bytes: {error}"))
    })?;
    Ok(seed)
}

pub(super) fn hash_key(seed: &[u8; 32]) -> [u64; 4] {
    let mut key = [0; 4];
    for (word, bytes) in key.iter_mut().zip(seed.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("a chunk of eight has eight bytes")) ^ 0x5bd1_e995;
    }
    key
}

fn incarnation(seed: &[u8; 32]) -> u64 {
    hash_key(seed).iter().fold(0, |all, word| all.rotate_left(17) ^ word)
}

fn driver_name(driver: Driver) -> &'static str {
    match driver {
        Driver::Uring => "io_uring (glommio)",
        Driver::Epoll => "epoll",
    }
}

fn log_options(config: &Config, preflight: &Preflight) -> LogOptions {
    LogOptions {
        segment_bytes: segment_bytes(config),
        io: match preflight.driver {
            Driver::Uring => LogIo::Uring,
            Driver::Epoll => LogIo::Thread,
        },
        space_low_bytes: config.log.disk_reserve_bytes,
        others_serve: config.ensemble.is_some(),
        apply_version: RULES,
        ..LogOptions::default()
    }
}

/// The longest frame whose write one log record takes, whatever identities its connection has.
const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - WRITE_OVERHEAD_MAX;
/// What a write takes in a batch beside its frame.
const WRITE_OVERHEAD_MAX: usize = shard::IDENTITY_BYTES_MAX + 4096;

fn frame_bytes_max(config: &Config) -> usize {
    (config.limits.frame_bytes_max as usize).min(FRAME_BYTES_MAX)
}

/// A segment takes the largest batch, whatever was configured: the sequencer could not go on behind one that it has
/// no place for.
fn segment_bytes(config: &Config) -> u64 {
    let mut batch = sequencer::BATCH_BYTES.max(frame_bytes_max(config) + WRITE_OVERHEAD_MAX);
    if config.ensemble.is_some() {
        // Others may have a larger jute.maxbuffer, and their batches come here, too.
        batch = PAYLOAD_BYTES_MAX;
    }
    // The segment's header and the record's, and what rounds it up.
    let least = (batch + 4 * BLOCK).next_multiple_of(BLOCK) as u64;
    config.log.segment_bytes.max(least)
}

/// Where a limit of ours is tighter than the configuration.
fn say_bounds(config: &Config) {
    if config.limits.frame_bytes_max as usize > FRAME_BYTES_MAX {
        tracing::warn!(
            "jute.maxbuffer: frames are taken up to {FRAME_BYTES_MAX} bytes, what one log record holds"
        );
    }
    let segment_bytes = segment_bytes(config);
    if segment_bytes > config.log.segment_bytes {
        tracing::warn!(
            "ringkeeper.segmentSizeKb: segments are {} KiB long, so that one write of jute.maxbuffer (in an ensemble: of \
             any server's) fits",
            segment_bytes / 1024
        );
    }
}

fn sequencer_options(
    config: &Config,
    preflight: &Preflight,
    dir: &DataDir,
    seed: [u8; 32],
) -> sequencer::Options {
    sequencer::Options {
        server: config.server_id,
        // Raft knows nobody by 0.
        seat: Seat(dir.seat().0.max(1)),
        birth: dir.birth(),
        rules: RULES,
        lines: config.ensemble.iter().flat_map(|e| &e.servers).map(|line| (line.id, line.clone())).collect(),
        leaderless_ms: config.ensemble.as_ref().map_or(u64::MAX, |ensemble| ensemble.sync_limit.0),
        local_sessions: config.local_sessions,
        local_sessions_upgrade: config.local_sessions_upgrade,
        read_only_mode: config.read_only_mode,
        incarnation: incarnation(&seed),
        seed,
        txn: crate::apply::Options {
            enforce_quota: config.rules.enforce_quota,
            skip_acl: config.rules.skip_acl,
            extended_types: config.rules.extended_types,
            reconfig_enabled: config.reconfig_enabled,
            read_only: false,
            digest_disabled: !config.auth.digest_enabled,
        },
        tick_ms: config.sessions.tick.0,
        shards: usize::from(preflight.shards),
        snapshot_txns: config.log.snapshot_after_txns,
        snapshot_grows: config.log.snapshot_grows,
        snapshot_bytes: config.log.snapshot_after_bytes.unwrap_or(u64::MAX),
        reap_interval_ms: config.containers.check_interval.0,
        reap_per_minute: u64::from(config.containers.deletions_per_minute_max),
        reap_never_used_ms: config.containers.never_used_interval.map_or(0, |interval| interval.0),
        in_flight_max: IN_FLIGHT_GROUPS,
    }
}

pub(super) fn shard_options(config: &Config, id: ShardId, shards: u16, incarnation: u64) -> shard::Options {
    let limits = &config.limits;
    let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let timeout = |ms: Millis| i32::try_from(ms.0).unwrap_or(i32::MAX);
    let enforced = &config.auth.enforced_schemes;
    shard::Options {
        server: config.server_id,
        incarnation,
        shard: id,
        frame_bytes_max: frame_bytes_max(config),
        session_timeout_min_ms: timeout(config.sessions.timeout_min),
        session_timeout_max_ms: timeout(config.sessions.timeout_max),
        handshake_timeout_ms: config.sessions.handshake_timeout.0,
        outstanding_per_connection_max: limits.outstanding_per_connection_max as usize,
        outstanding_max: (limits.outstanding_max / u32::from(shards)).max(1) as usize,
        unsent_pause_bytes: bytes(limits.slow_reader_pause_bytes),
        unsent_cut_bytes: bytes(limits.slow_reader_close_bytes),
        unsent_cut_ms: limits.slow_reader_timeout.0,
        unsent_long_bytes: UNSENT_LONG_BYTES,
        sessions_max: limits.sessions_max as usize,
        acl_entries_max: limits.acl_entries_max as usize,
        multi_ops_max: limits.multi_ops_max as usize,
        identities_max: limits.identities_per_connection_max as usize,
        watch_limits: watch::Limits {
            count_max: limits.watches_per_connection_max as usize,
            bytes_max: bytes(limits.watch_bytes_per_connection_max),
        },
        schemes: Schemes {
            super_digest: config.auth.super_digest.as_deref().map(Into::into),
            digest_disabled: !config.auth.digest_enabled,
            digest_algorithm: config.auth.digest_algorithm,
        },
        skip_acl: config.rules.skip_acl,
        required_schemes: (!enforced.is_empty())
            .then(|| enforced.iter().map(|scheme| scheme.as_str().into()).collect()),
        // Four reports in the shortest tick that anybody configures, and no more than four a second.
        report_ms: (config.sessions.tick.0 / 4).clamp(50, 250),
        slices: shard::Slices::default(),
    }
}

/// Starts every shard and waits until each listens. A dead shard is never silent.
fn start_shards(
    config: &Arc<Config>,
    preflight: &Preflight,
    links: &Arc<Links>,
    clock: Clock,
    hasher: &PathHasher,
    words: &Sender<WordRequest>,
    incarnation: u64,
) -> Result<Vec<JoinHandle<()>>, Fatal> {
    let limits =
        Arc::new(ConnectionLimits::new(config.limits.connections_per_address_max, preflight.connections_max));
    let (ready, is_ready) = bounded::<(ShardId, Result<(), String>)>(usize::from(preflight.shards));
    let mut threads = Vec::new();
    for n in 0..preflight.shards {
        let id = ShardId(n);
        let listen = |address: SocketAddr| {
            listen(address, config.listen_backlog, config.tcp_keep_alive)
                .map_err(|error| Fatal::os(&format!("listening on {address}"), &error))
        };
        let listeners = Listeners {
            plain: listen(preflight.client_address)?,
            strict: preflight.strict_address.map(listen).transpose()?,
        };
        let options = shard_options(config, id, preflight.shards, incarnation);
        let (links, limits, hasher, words) = (links.clone(), limits.clone(), hasher.clone(), words.clone());
        let pin = preflight.pin.as_ref().map(|pin: &PinPlan| pin.shards[usize::from(n)]);
        let (driver, tell) = (preflight.driver, ready.clone());
        threads.push(spawn(&format!("shard-{n}"), pin, move || {
            let shard = Shard::new(options, hasher, clock.mono());
            let core = Core::new(id, shard, links, clock, limits, words);
            // Who waits hears the reason and ends the process with it, and so does this thread.
            let started = |error: Option<&io::Error>| {
                let _ = tell.send((id, error.map_or(Ok(()), |error| Err(error.to_string()))));
            };
            let failed = |error: io::Error| {
                started(Some(&error));
                Fatal::os("starting a shard", &error)
            };
            let shard = EpollShard::new(core, listeners).map_err(failed)?;
            match driver {
                Driver::Uring => {
                    let executor = shard_glommio::executor().map_err(failed)?;
                    started(None);
                    shard_glommio::run(&executor, shard)
                }
                Driver::Epoll => {
                    started(None);
                    shard.run()
                }
            }
        })?);
    }
    for _ in 0..preflight.shards {
        match is_ready.recv_timeout(READY_WITHIN) {
            Ok((_, Ok(()))) => {}
            Ok((id, Err(why))) => {
                return Err(Fatal::new(
                    preflight::EX_OSERR,
                    format_args!("shard {} did not start: {why}", id.0),
                ))
            }
            Err(_) => {
                return Err(Fatal::new(
                    preflight::EX_OSERR,
                    format_args!("a shard was not ready within {} s", READY_WITHIN.as_secs()),
                ))
            }
        }
    }
    Ok(threads)
}

fn start_admin(
    requests: Receiver<WordRequest>,
    links: &Arc<Links>,
    config: &Arc<Config>,
    client_port: u16,
    dir: &DataDir,
    clock: Clock,
) -> Result<(), Fatal> {
    let admin = AdminThread {
        requests,
        links: links.clone(),
        config: config.clone(),
        client_port,
        snapshot_dir: dir.snapshot_path(),
        log_dir: dir.log_path(),
        clock,
    };
    spawn("admin", None, move || {
        admin.run();
        Ok(())
    })?;
    Ok(())
}

/// A listener of one shard: all of them share the address, the kernel spreads the connections.
fn listen(address: SocketAddr, backlog: u32, keep_alive: bool) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Connections inherit it: those that we closed first stay in TIME_WAIT and must not keep the next run out.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_keepalive(keep_alive)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// Starts a thread whose failure ends the process with its exit code.
fn spawn(
    name: &str,
    pin: Option<usize>,
    work: impl FnOnce() -> Result<(), Fatal> + Send + 'static,
) -> Result<JoinHandle<()>, Fatal> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Some(cpu) = pin {
                super::pin::pin_to(cpu);
            }
            if let Err(fatal) = work() {
                error!("{fatal}");
                logging::say_last_lines();
                std::process::exit(fatal.exit);
            }
        })
        .map_err(|error| Fatal::os(&format!("starting thread {name}"), &error))
}

fn join(thread: JoinHandle<()>) -> Result<(), Fatal> {
    // A panic has ended the process in its hook already.
    thread.join().map_err(|_| Fatal::new(super::EX_SOFTWARE, "a thread of ours has panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{flags::KeyFlags, Sources};
    use crate::host::disk::{AlignedBuf, Backend, Completion, DiskFault, FaultKind, Log, LogFile, LogPlace};
    use crate::host::recover::{continue_from, load_base};
    use crate::ids::LogIndex;
    use std::os::fd::BorrowedFd;

    /// A disk that takes no record.
    struct Failing;

    impl Backend for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }

        fn start(
            &mut self,
            _ticket: u64,
            file: &Arc<LogFile>,
            offset: u64,
            _buffer: AlignedBuf,
        ) -> Result<(), DiskFault> {
            Err(DiskFault { file: file.path.clone(), offset, kind: FaultKind::Errno(libc::EIO) })
        }

        fn wait(
            &mut self,
            _timeout: Duration,
            _wake: Option<BorrowedFd<'_>>,
            _done: &mut Vec<Completion>,
        ) -> io::Result<bool> {
            Ok(false)
        }
    }

    /// Shards went on serving while the tree was freed and the disk's threads were waited for: minutes, where it hung.
    #[test]
    fn a_fault_ends_the_process_before_anything_is_dropped() {
        let home = tempfile::tempdir().unwrap();
        let keys = vec![format!("dataDir={}", home.path().display()), "clientPort=0".to_owned()];
        let flags = KeyFlags { set: keys, ..KeyFlags::default() };
        let config = Sources { flags, ..Sources::default() }.check().unwrap().0;
        let preflight = preflight::examine(&config).1.unwrap();
        let dir = open_dir(&config).unwrap();
        let hasher = PathHasher::new([1, 2, 3, 4]);
        let base = load_base(&dir.disk(), &dir.snapshot_path(), dir.cluster_id(), &hasher).unwrap();
        let options = LogOptions { segment_bytes: 256 << 10, ..log_options(&config, &preflight) };
        let opened =
            Log::open_with(LogPlace::of(&dir), &options, Box::new(Failing), true, LogIndex(0)).unwrap();
        let Recovery { state, log, recovered } = continue_from(base, opened);
        let clock = Clock::start();
        let options = sequencer_options(&config, &preflight, &dir, [7; 32]);
        let sequencer = Sequencer::new(options, state, recovered, clock.now());
        let dir = Arc::new(dir);
        let snapshots = SnapshotOptions { dir: dir.clone(), keep: 3, purge: false, leaves_bytes: 0 };
        // Dropped with the thread's own things.
        let (held, is_dropped) = bounded::<()>(1);
        let thread = SequencerThread {
            sequencer,
            log,
            links: Arc::new(Links::new(usize::from(preflight.shards)).unwrap()),
            peers: None,
            clock,
            snapshots: SnapshotThread::start(snapshots).unwrap(),
            dir,
            places: Vec::new(),
            sync_warning: Millis(1_000),
            snapshot_wanted: Arc::default(),
            on_serving: Some(Box::new(move || drop(held))),
            state: LoopState::default(),
        };
        let fatal = thread.run().unwrap_err();
        assert_eq!(fatal.exit, crate::host::EX_IOERR, "{fatal}");
        assert!(is_dropped.try_recv().unwrap_err().is_empty(), "it is held still");
    }
}
