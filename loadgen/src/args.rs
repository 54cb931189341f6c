//! What the command line says.

use crate::client::put_auth;
use crate::container;
use crate::plan::{Choice, Mix, Plan, Size, Space};
use crate::process::Roots;
use crate::run::Settings;
use crate::scenario;
use crate::schedule::Pace;
use crate::server::Server;
use clap::{Args, Parser, Subcommand};
use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What was built, and of which commit.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RINGKEEPER_COMMIT"), ")");

/// Load for any server that speaks ZooKeeper's protocol.
///
/// Open loop by default: operations are due at fixed times, and their latency counts from then, whether or not the
/// server was ready for them. Exit codes: 0 done; 1 the server could not be reached, refused (or failed every
/// operation), or was gone at the end, or the run was stopped; 2 a wrong flag or scenario, or a file that is no result;
/// 3 the result is INVALID, because the load generator was the limit, or all znodes of a fill were there already; 4 the
/// rate was not reached; 5 a result could not be written: where that is known before, nothing is run. Storm and
/// fan-out are judged by how busy their thread was, disk is not. SIGINT, SIGTERM and SIGHUP stop a run, and
/// what was measured until then is kept; a second one ends it at once, unless it comes within a second.
#[derive(Parser, Debug)]
#[command(name = "ringkeeper-load", version = VERSION, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a workload for a time.
    Run(Box<RunArgs>),
    /// Climb a ladder of rates and find the knee.
    Ladder(Box<LadderArgs>),
    /// Watch one znode from many connections and set it.
    FanOut(FanOutArgs),
    /// Open many sessions as fast as the server takes them, and hold them.
    Storm(StormArgs),
    /// Open sessions at a rate; each asks once and closes.
    Churn(ChurnArgs),
    /// Create many znodes: what a create costs, what a znode weighs.
    Fill(FillArgs),
    /// Load while servers fail: the longest time without a success, recovery after a kill.
    Gap(Box<GapArgs>),
    /// Write to a disk as a durable server must, and nothing else: the floor of a set's latency.
    Disk(DiskArgs),
    /// Make the page of a result that was written before.
    Report(ReportArgs),
    /// Results side by side, as ratios to the first. Exit code 3 where one of them is INVALID.
    Compare(CompareArgs),
    /// Serve constants: the floor to compare servers with.
    Null(NullArgs),
}

impl Command {
    /// What a mode that measures writes.
    #[must_use]
    pub fn output(&self) -> Option<&OutputArgs> {
        match self {
            Command::Run(args) => Some(&args.output),
            Command::Ladder(args) => Some(&args.run.output),
            Command::FanOut(args) => Some(&args.output),
            Command::Storm(args) => Some(&args.output),
            Command::Churn(args) => Some(&args.output),
            Command::Fill(args) => Some(&args.output),
            Command::Gap(args) => Some(&args.run.output),
            Command::Disk(args) => Some(&args.output),
            Command::Report(_) | Command::Compare(_) | Command::Null(_) => None,
        }
    }
}

/// Where the load goes and what is read there.
#[derive(Args, Debug, Clone)]
pub struct TargetArgs {
    /// host:port of each server, separated by commas; connections are spread over them.
    #[arg(long, short = 's', default_value = "127.0.0.1:2181", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Process ids of the servers on this machine: CPU, memory, switches and disk writes are read of them.
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Containers of the servers on this machine, by name or id: all processes of one are read together.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub container: Vec<String>,
    /// The command of the engine that knows them, for example "sudo podman"; else podman, docker and nerdctl are asked, then
    /// the cgroups of all processes.
    #[arg(long, value_name = "COMMAND")]
    pub engine: Option<String>,
    /// Credentials that each connection gives: SCHEME:WORDS, for example digest:user:password; @FILE reads them from there.
    #[arg(long, value_name = "CREDENTIALS")]
    pub auth: Vec<String>,
    /// A name for this result, in tables and legends.
    #[arg(long, default_value = "")]
    pub name: String,
    /// Seconds until all connections must be up.
    #[arg(long, default_value_t = 20.0, value_parser = seconds)]
    pub connect_timeout: f64,
    /// Session timeout to ask for, in milliseconds.
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(100..=3_600_000))]
    pub session_timeout: u32,
}

/// What is written where.
#[derive(Args, Debug, Clone, Default)]
pub struct OutputArgs {
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the intervals as an HdrHistogram log.
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Write one self-contained page with the plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No lines of progress.
    #[arg(long, short = 'q')]
    pub quiet: bool,
}

/// What is asked.
#[derive(Args, Debug, Clone)]
pub struct PlanArgs {
    /// Weighted operations: get, set, create, create-delete, ephemeral, sequential, exists, children, multi, sync-get,
    /// read-modify-write. [default: get=90,set=10; gap: set=1, for servers without a leader may answer reads]
    #[arg(long, short = 'm')]
    pub mix: Option<Mix>,
    /// A file that says what is asked, in place of all flags about operations, keys and values: parts of the tree
    /// ([[space]]) and weighted requests on them ([[request]]). loadgen/scenarios holds examples.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mix", "ycsb", "keys", "keys_per_parent", "choice", "value", "multi_size", "root", "seed"])]
    pub scenario: Option<PathBuf>,
    /// A YCSB-like mix instead: a (half get, half set), b (95/5), c (get), d (95 get of hot keys, 5 create),
    /// e (95 children, 5 create), f (half get, half read-modify-write); zipfian keys but for d.
    #[arg(long, conflicts_with = "mix")]
    pub ycsb: Option<char>,
    /// Znodes that are read and written.
    #[arg(long, short = 'k', default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub keys: u64,
    /// Keys below one parent.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub keys_per_parent: u64,
    /// Which key is taken: uniform, zipfian[:THETA], hot[:SHARE OF KEYS:SHARE OF OPERATIONS].
    #[arg(long, default_value = "uniform")]
    pub choice: Choice,
    /// Bytes in a value: 100, 10-1000, or 100=90,10000=10 with weights.
    #[arg(long, short = 'v', default_value = "100")]
    pub value: Size,
    /// setData in a multi.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub multi_size: u16,
    /// Everything is made below this znode.
    #[arg(long, default_value = "/ringkeeper-load")]
    pub root: String,
    /// Two runs with one seed ask the same; what they create bears other names.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Operations a second, for all connections together; FROM-TO moves evenly from one to the other.
    #[arg(long, short = 'r', default_value = "1000", value_parser = pace, conflicts_with = "closed")]
    pub rate: Pace,
    /// Closed loop: the next operation is sent when one is answered. Its latencies leave out what a stall would have
    /// delayed.
    #[arg(long)]
    pub closed: bool,
    /// Connections, each its own session.
    #[arg(long, short = 'c', default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub connections: u64,
    /// Operations under way on a connection at most.
    #[arg(long, short = 'd', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub depth: u32,
    /// Threads of load.
    #[arg(long, short = 't', default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub threads: u16,
    /// Seconds before the measured part.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub warmup: f64,
    /// Seconds of the measured part.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub duration: f64,
    /// Seconds of an interval in the series.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub interval: f64,
    /// Seconds that late answers are waited for.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub drain: f64,
    /// The tree is there already: make nothing.
    #[arg(long)]
    pub no_setup: bool,
}

#[derive(Args, Debug, Clone)]
pub struct LadderArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// The highest rate to try; --rate is the lowest.
    #[arg(long, default_value_t = 1e6, value_parser = rate)]
    pub to: f64,
    /// Each rate is the one before times this.
    #[arg(long, default_value_t = 1.5, value_parser = growth)]
    pub factor: f64,
    /// The server holds a rate when its p99 stays below so many milliseconds ...
    #[arg(long, default_value_t = 100.0, value_parser = milliseconds)]
    pub p99_max: f64,
    /// ... and below so many times the p99 of the lowest rate.
    #[arg(long, default_value_t = 10.0, value_parser = growth)]
    pub p99_growth: f64,
}

#[derive(Args, Debug, Clone)]
pub struct FanOutArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Connections that watch.
    #[arg(long, short = 'w', default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub watchers: u32,
    /// Writes that are counted.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rounds: u32,
    /// The znode.
    #[arg(long, default_value = "/ringkeeper-load-watched")]
    pub path: String,
    /// Seconds for a round to end.
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    pub patience: f64,
}

#[derive(Args, Debug, Clone)]
pub struct StormArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Sessions to open.
    #[arg(long, short = 'n', default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: u32,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub at_once: u32,
    /// Seconds to hold them, with pings.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub hold: f64,
    /// Seconds for all to be open.
    #[arg(long, default_value_t = 120.0, value_parser = seconds)]
    pub patience: f64,
}

#[derive(Args, Debug, Clone)]
pub struct ChurnArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Sessions a second.
    #[arg(long, short = 'r', default_value_t = 100.0)]
    pub rate: f64,
    /// Seconds.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub duration: f64,
}

#[derive(Args, Debug, Clone)]
pub struct FillArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Debug, Clone)]
pub struct GapArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// A process to kill (SIGKILL).
    #[arg(long)]
    pub kill: Option<u32>,
    /// Seconds after the begin of the measured part (set-up and warm-up are over) at which it is killed: before its end, which
    /// --duration says.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub kill_after: f64,
    /// What to run once the killed process has ended, or 10 s later if it does not: as sh -c COMMAND, which is not waited
    /// for, so the command may be the server itself and needs no '&'. Its input is empty and its output goes where this
    /// program's goes. What still runs at the end is left to run; a command that has failed by then is said. Without
    /// --kill it runs at the time of --kill-after.
    #[arg(long, value_name = "COMMAND")]
    pub restart: Option<String>,
}

#[derive(Args, Debug, Clone)]
pub struct DiskArgs {
    #[command(flatten)]
    pub output: OutputArgs,
    /// Where: a directory of the file system to measure.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Records a second.
    #[arg(long, short = 'r', default_value_t = 1_000.0)]
    pub rate: f64,
    /// Bytes in a record.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub bytes: u32,
    /// Seconds.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub duration: f64,
    /// A name for this result.
    #[arg(long, default_value = "bare writer")]
    pub name: String,
}

#[derive(Args, Debug, Clone)]
pub struct ReportArgs {
    /// A result that --json wrote.
    pub result: PathBuf,
    /// Where the page goes.
    #[arg(long, value_name = "FILE")]
    pub html: PathBuf,
}

#[derive(Args, Debug, Clone)]
pub struct CompareArgs {
    /// Results that --json wrote; the others are compared with the first.
    #[arg(required = true, num_args = 2.., value_name = "RESULT")]
    pub results: Vec<PathBuf>,
    /// Write one self-contained page with the plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print the table as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// Compare results of different modes too.
    #[arg(long)]
    pub anyway: bool,
}

#[derive(Args, Debug, Clone)]
pub struct NullArgs {
    /// Where to listen; port 0 takes a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Bytes in the value that a getData answers.
    #[arg(long, short = 'v', default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub value: u32,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("seconds, 0 to 1000000".to_owned()),
    }
}

fn growth(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 1.0 && factor <= 1e6 => Ok(factor),
        _ => Err("a number above 1, up to 1000000".to_owned()),
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(milliseconds) if milliseconds > 0.0 && milliseconds <= 1e9 => Ok(milliseconds),
        _ => Err("milliseconds, above 0, up to 1000000000".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(rate),
        _ => Err(format!("'{text}' is no rate: operations a second, 0.001 to 100000000")),
    }
}

fn pace(text: &str) -> Result<Pace, String> {
    let rate = |text| rate(text).map_err(|why| format!("{why}, or FROM-TO"));
    match text.split_once('-') {
        Some((from, to)) => Ok(Pace::Open { from: rate(from)?, to: rate(to)? }),
        None => rate(text).map(|rate| Pace::Open { from: rate, to: rate }),
    }
}

/// The addresses of host:port names.
pub fn resolve(servers: &[String]) -> Result<Vec<SocketAddr>, String> {
    let mut all = Vec::new();
    for server in servers {
        let named = if server.contains(':') { server.clone() } else { format!("{server}:2181") };
        let mut found = named.to_socket_addrs().map_err(|error| format!("{server}: {error}"))?;
        all.push(found.next().ok_or_else(|| format!("{server}: the name has no address"))?);
    }
    Ok(all)
}

impl TargetArgs {
    /// The frames that give the credentials.
    pub fn auth(&self) -> Result<Arc<[u8]>, String> {
        let mut frames = Vec::new();
        for given in &self.auth {
            let text = match given.strip_prefix('@') {
                None => given.clone(),
                Some(path) => {
                    let mut text = String::new();
                    std::fs::File::open(path)
                        .and_then(|file| file.take(CREDENTIALS_BYTES_MAX).read_to_string(&mut text))
                        .map_err(|error| format!("--auth: {path}: {error}"))?;
                    text.trim_end().to_owned()
                }
            };
            // The words are not shown: they are a secret.
            let (scheme, words) =
                text.split_once(':').ok_or("--auth: SCHEME:WORDS, for example digest:user:password")?;
            if scheme == "digest" && !words.contains(':') {
                return Err("--auth: digest takes a user and a password: digest:user:password".to_owned());
            }
            put_auth(&mut frames, scheme, words.as_bytes());
        }
        Ok(frames.into())
    }

    /// The servers whose processes are read.
    pub fn watched(&self) -> Result<Vec<Server>, String> {
        let pids = self.pid.iter().map(|pid| Server::process(*pid, Roots::default()));
        let containers = self.container.iter().map(|name| {
            let roots = Roots::default();
            let (name, pid) = container::find(name, self.engine.as_deref(), &roots)?;
            Ok(Server::container(name, pid, roots))
        });
        pids.chain(containers).collect()
    }
}

impl PlanArgs {
    pub fn plan(&self) -> Result<Plan, String> {
        if let Some(path) = &self.scenario {
            return scenario::read(path);
        }
        let (mut mix, mut choice) =
            (self.mix.clone().map_or_else(|| "get=90,set=10".parse(), Ok)?, self.choice);
        if let Some(letter) = self.ycsb {
            let text = match letter.to_ascii_lowercase() {
                'a' => "get=50,set=50",
                'b' => "get=95,set=5",
                'c' => "get=100",
                'd' => "get=95,create=5",
                'e' => "children=95,create=5",
                'f' => "get=50,read-modify-write=50",
                other => return Err(format!("--ycsb: there is no '{other}'; a to f")),
            };
            mix = text.parse()?;
            choice = if letter.eq_ignore_ascii_case(&'d') {
                Choice::Hot(0.01, 0.9)
            } else {
                Choice::Zipfian(0.99)
            };
        }
        let space = Space {
            root: self.root.trim_end_matches('/').to_owned(),
            keys: self.keys,
            keys_per_parent: self.keys_per_parent,
            choice,
            value: self.value.clone(),
        };
        Plan::simple(space, &mix, self.multi_size.into(), self.seed)
    }
}

const CREDENTIALS_BYTES_MAX: u64 = 64 << 10;
/// A result holds all of them.
const INTERVALS_MAX: f64 = 100_000.0;

impl RunArgs {
    pub fn settings(&self) -> Result<Settings, String> {
        let time = Duration::from_secs_f64;
        if self.duration <= 0.0 || self.interval <= 0.0 {
            return Err("--duration and --interval must be above 0".to_owned());
        }
        if self.interval < 0.001 || self.duration / self.interval > INTERVALS_MAX {
            return Err(format!(
                "--interval is at least 0.001, and a run has at most {INTERVALS_MAX} intervals"
            ));
        }
        Ok(Settings {
            name: self.target.name.clone(),
            servers: resolve(&self.target.servers)?,
            watched: self.target.watched()?,
            auth: self.target.auth()?,
            pace: if self.closed { Pace::Closed } else { self.rate },
            connections: self.connections,
            depth: self.depth as usize,
            threads: self.threads.into(),
            warmup: time(self.warmup),
            duration: time(self.duration),
            interval: time(self.interval),
            drain: time(self.drain),
            connect: time(self.target.connect_timeout),
            session_timeout: Duration::from_millis(self.target.session_timeout.into()),
            plan: self.plan.plan()?,
            no_setup: self.no_setup,
        })
    }
}
