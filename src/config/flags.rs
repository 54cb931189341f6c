//! The command line. A flag that sets a key is kept as text and read by the same code as zoo.cfg, so that a wrong
//! value gives the same line and the same exit code wherever it stands.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::source::{Given, Source};

/// The version and the commit that `--version` prints.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RINGKEEPER_COMMIT"), ")");

/// What the process is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Serve until a signal comes. Also without any word.
    Serve(ServeArgs),
    /// Serve, and ask the ensemble to take this server in.
    Join(ServeArgs),
    /// Ask the server that runs on this configuration's data directory to leave its ensemble, and wait until it has ended.
    Leave {
        /// The configuration that the server was started with.
        args: ServeArgs,
        /// How long to wait, in seconds.
        timeout_s: u64,
    },
    /// Make a data directory for one server out of another one whose ensemble has lost its majority for ever.
    Recover {
        /// The data directory; it is left as it is.
        from: PathBuf,
        /// The log directory, if it is another one.
        log_dir: Option<PathBuf>,
        /// The new one.
        to: PathBuf,
    },
    /// Read the configuration, look at the machine, print both and end.
    Check(ServeArgs),
    /// Print what a file of ours holds.
    Inspect {
        /// Which kind of file.
        kind: InspectKind,
        /// The file.
        file: PathBuf,
    },
    /// Check a data directory and say what was found.
    Verify {
        /// The data directory.
        dir: PathBuf,
        /// The log directory, if it is another one.
        log_dir: Option<PathBuf>,
    },
}

/// What `inspect` can read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum InspectKind {
    /// A log segment.
    Log,
    /// A snapshot.
    Snapshot,
}

/// A file and the flags that overrule it.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub struct ServeArgs {
    /// A zoo.cfg. Without one, $ZOO_CONF_DIR/zoo.cfg if it exists, else the ZOO_* variables and the defaults
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Flags that set a key.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyFlags {
    /// Where snapshots and the log live [dataDir, default ./ringkeeper-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the log lives, if not in the data directory [dataLogDir, default dataDir]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<String>,
    /// The port for clients; 0 takes a free one [clientPort, default 2181]
    #[arg(long, value_name = "PORT")]
    pub client_port: Option<String>,
    /// The address for clients [clientPortAddress, default all]
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub listen: Option<String>,
    /// Threads that serve clients, 1 to 64 [ringkeeper.shards, default one less than CPUs, at most 4]
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// auto, uring or epoll [ringkeeper.io]
    #[arg(long, value_name = "DRIVER")]
    pub io: Option<String>,
    /// Bind threads to CPUs: auto, true or false [ringkeeper.pin]
    #[arg(long, value_name = "WHEN")]
    pub pin: Option<String>,
    /// The unit of time in milliseconds [tickTime, default 2000 without a file]
    #[arg(long, value_name = "MS")]
    pub tick_time: Option<String>,
    /// text or json [ringkeeper.logFormat]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// error, warn, info, debug or trace [ringkeeper.logLevel]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Any other key of zoo.cfg; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<String>,
}

/// A `--set` without `=` sets nothing: it is a slip, not a key.
fn key_and_value(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

impl KeyFlags {
    /// `(key, value)` in rising strength: `--set` first, then the flags with a name of their own.
    #[must_use]
    pub fn given(&self) -> Vec<(String, Given)> {
        let set = self.set.iter().map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.trim().to_owned(), Given { value: value.trim().to_owned(), source: Source::Flag("--set") })
        });
        let named = [
            ("--data-dir", "dataDir", &self.data_dir),
            ("--log-dir", "dataLogDir", &self.log_dir),
            ("--client-port", "clientPort", &self.client_port),
            ("--listen", "clientPortAddress", &self.listen),
            ("--shards", "ringkeeper.shards", &self.shards),
            ("--io", "ringkeeper.io", &self.io),
            ("--pin", "ringkeeper.pin", &self.pin),
            ("--tick-time", "tickTime", &self.tick_time),
            ("--log-format", "ringkeeper.logFormat", &self.log_format),
            ("--log-level", "ringkeeper.logLevel", &self.log_level),
        ];
        let named = named.into_iter().filter_map(|(flag, key, value)| {
            let value = value.as_ref()?.trim().to_owned();
            Some((key.to_owned(), Given { value, source: Source::Flag(flag) }))
        });
        set.chain(named).collect()
    }
}

/// Behind the help of commands that scripts call.
const EXIT_CODES: &str = "Exit codes: 0 done; 70 a fault of the server's own; 71 the system refuses something; 74 a disk fails or \
data is damaged; 75 not yet (leave: the server goes on trying); 78 the configuration or the command line can not be meant so";

/// A coordination server that takes Apache ZooKeeper's place. Without a command it serves.
#[derive(Parser, Debug)]
#[command(name = "ringkeeper", version = VERSION, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Word>,
    #[command(flatten)]
    keys: KeyFlags,
}

#[derive(Subcommand, Debug)]
enum Word {
    /// Start the server: a zoo.cfg is optional
    Serve(ServeArgs),
    /// Start the server and ask the ensemble to take it in; its own server line is among those of the configuration
    Join(ServeArgs),
    /// Ask the running server to leave its ensemble, and wait until its process has ended. The configuration, or --data-dir,
    /// says which server; the other flags are there so that those of its start can stay
    #[command(after_help = EXIT_CODES)]
    Leave {
        #[command(flatten)]
        args: ServeArgs,
        /// How many seconds to wait
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        timeout: u64,
    },
    /// When most voters are lost for ever: make a new data directory in which the given one's server votes alone. What the lost
    /// ones had and this one had not is gone
    Recover {
        /// The data directory of the server that is left, of several the one with the highest term and then entry; nothing in
        /// it is changed
        from: PathBuf,
        /// The new data directory, missing or empty
        to: PathBuf,
        /// Where the log lives, if not in the data directory [dataLogDir]
        #[arg(long, value_name = "DIR")]
        log_dir: Option<PathBuf>,
    },
    /// Say what the configuration means and what this machine allows, without starting
    Check(ServeArgs),
    /// Print what is inside a file of a data directory
    Inspect {
        /// What kind of file it is
        kind: InspectKind,
        /// The file
        file: PathBuf,
    },
    /// Check a data directory and say what was found
    Verify {
        /// The data directory
        dir: PathBuf,
        /// Where the log lives, if not in the data directory [dataLogDir]
        #[arg(long, value_name = "DIR")]
        log_dir: Option<PathBuf>,
    },
}

/// Reads the process's arguments. Prints help and version itself and ends with 0; ends with 78 (`EX_CONFIG`) on
/// arguments that make no sense.
#[must_use]
pub fn parse_args() -> Command {
    match parse_from(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Nothing is left to say it to when stderr is closed.
            let _ = error.print();
            std::process::exit(if error.use_stderr() { EX_CONFIG } else { 0 });
        }
    }
}

fn parse_from<I>(arguments: I) -> Result<Command, clap::Error>
where
    I: IntoIterator<Item: Into<std::ffi::OsString> + Clone>,
{
    let cli = Cli::try_parse_from(arguments).map_err(|mut error| {
        if error.kind() == ErrorKind::InvalidSubcommand {
            let tip = "a configuration file stands behind a command: ringkeeper serve zoo.cfg";
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
        error
    })?;
    Ok(match cli.command {
        None => Command::Serve(ServeArgs { file: None, keys: cli.keys }),
        Some(Word::Serve(args)) => Command::Serve(args),
        Some(Word::Join(args)) => Command::Join(args),
        Some(Word::Leave { args, timeout }) => Command::Leave { args, timeout_s: timeout },
        Some(Word::Recover { from, to, log_dir }) => Command::Recover { from, log_dir, to },
        Some(Word::Check(args)) => Command::Check(args),
        Some(Word::Inspect { kind, file }) => Command::Inspect { kind, file },
        Some(Word::Verify { dir, log_dir }) => Command::Verify { dir, log_dir },
    })
}

/// The exit code of a configuration that can not be used.
const EX_CONFIG: i32 = 78;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Command {
        parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_words() {
        assert_eq!(parse("ringkeeper"), Command::Serve(ServeArgs::default()));
        // As zkServer.sh takes it.
        let refused = parse_from(["ringkeeper", "zoo.cfg"]).unwrap_err().to_string();
        assert!(refused.contains("'zoo.cfg'") && refused.contains("ringkeeper serve zoo.cfg"), "{refused}");
        assert_eq!(parse("ringkeeper serve"), Command::Serve(ServeArgs::default()));
        let file = ServeArgs { file: Some("zoo.cfg".into()), ..ServeArgs::default() };
        assert_eq!(parse("ringkeeper serve zoo.cfg"), Command::Serve(file.clone()));
        assert_eq!(parse("ringkeeper join zoo.cfg"), Command::Join(file.clone()));
        let leave = Command::Leave { args: file.clone(), timeout_s: 9 };
        assert_eq!(parse("ringkeeper leave zoo.cfg --timeout 9"), leave);
        let recover = Command::Recover { from: "d".into(), log_dir: None, to: "n".into() };
        assert_eq!(parse("ringkeeper recover d n"), recover);
        assert_eq!(parse("ringkeeper check zoo.cfg"), Command::Check(file));
        let inspect = Command::Inspect { kind: InspectKind::Log, file: "f".into() };
        assert_eq!(parse("ringkeeper inspect log f"), inspect);
        assert_eq!(parse("ringkeeper verify d"), Command::Verify { dir: "d".into(), log_dir: None });
        let apart = Command::Verify { dir: "d".into(), log_dir: Some("l".into()) };
        assert_eq!(parse("ringkeeper verify d --log-dir l"), apart);
    }

    #[test]
    fn flags_stand_with_and_without_serve_and_become_keys() {
        for line in ["ringkeeper --data-dir d --shards 2", "ringkeeper serve --data-dir d --shards 2"] {
            let Command::Serve(args) = parse(line) else { panic!("{line}") };
            let given: Vec<_> =
                args.keys.given().into_iter().map(|(key, given)| (key, given.value)).collect();
            let want = [("dataDir", "d"), ("ringkeeper.shards", "2")];
            assert_eq!(given, want.map(|(k, v)| (k.to_owned(), v.to_owned())), "{line}");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_the_version_names_a_commit() {
        for line in [
            "ringkeeper --nonsense",
            "ringkeeper serve a b",
            "ringkeeper inspect tree f",
            "ringkeeper zoo.cfg",
        ] {
            assert!(parse_from(line.split(' ')).unwrap_err().use_stderr(), "{line}");
        }
        let version = parse_from(["ringkeeper", "--version"]).unwrap_err();
        assert!(!version.use_stderr());
        assert_eq!(version.to_string(), format!("ringkeeper {VERSION}\n"));
    }
}
