//! A real server, what it says in its log, and how much memory it has.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Nothing here takes longer, on the slowest host.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port that nobody has, and that was not given before: the kernel may give one twice.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// The lines of a configuration that name three servers on these ports.
pub fn three(ports: [u16; 3]) -> String {
    (1..=3).zip(ports).map(|(id, port)| line(id, "127.0.0.1", port)).collect()
}

/// One server line. Nobody listens on the second port.
pub fn line(id: u8, host: &str, port: u16) -> String {
    format!("server.{id}={host}:{port}:{}\n", free_port())
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    has_ended: bool,
}

/// A process, ended when dropped.
pub struct Server {
    child: Child,
    pub client_port: u16,
    log: Arc<(Mutex<Log>, Condvar)>,
}

impl Server {
    /// Starts one in `dir`: its data lies in `data`, its configuration beside it.
    pub fn start(dir: &Path, id: u8, lines: &str) -> Server {
        let client_port = free_port();
        let cfg = dir.join("zoo.cfg");
        let id = if id > 0 { format!("ringkeeper.myid={id}\n") } else { String::new() };
        let text = format!(
            "dataDir={}\nclientPort={client_port}\nclientPortAddress=127.0.0.1\ntickTime=2000\ninitLimit=5\n\
             syncLimit=5\nringkeeper.shards=1\nringkeeper.segmentSizeKb=1024\nringkeeper.diskReserveMb=1\n{id}{lines}",
            data(dir).display()
        );
        fs::write(&cfg, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringkeeper"))
            .arg("serve")
            .arg(&cfg)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log: Arc<(Mutex<Log>, Condvar)> = Arc::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { break };
                writer.0.lock().unwrap().lines.push(line);
                writer.1.notify_all();
            }
            writer.0.lock().unwrap().has_ended = true;
            writer.1.notify_all();
        });
        Server { child, client_port, log }
    }

    /// All lines in which each of these words stands.
    pub fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let log = self.log.0.lock().unwrap();
        log.lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).cloned().collect()
    }

    pub fn all_lines(&self) -> usize {
        self.log.0.lock().unwrap().lines.len()
    }

    /// Waits for such a line.
    pub fn wait_line(&self, words: &[&str]) -> String {
        let log = self.log.0.lock().unwrap();
        let find =
            |log: &Log| log.lines.iter().find(|line| words.iter().all(|word| line.contains(word))).cloned();
        let is_missing = |log: &mut Log| find(log).is_none() && !log.has_ended;
        let (log, _) = self.log.1.wait_timeout_while(log, PATIENCE, is_missing).unwrap();
        let (found, all) = (find(&log), log.lines.join("\n"));
        // A test that fails here still says what the others' logs have.
        drop(log);
        found.unwrap_or_else(|| panic!("no line with {words:?} in\n{all}"))
    }

    pub fn assert_lives(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the server ended with {status}:\n{}", self.lines_with(&[]).join("\n"));
        }
    }

    /// Waits for its end: the exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let log = self.log.0.lock().unwrap();
        // It closes standard error when it ends.
        let (log, late) = self.log.1.wait_timeout_while(log, PATIENCE, |log| !log.has_ended).unwrap();
        drop(log);
        assert!(!late.timed_out(), "it goes on");
        self.child.wait().unwrap().code()
    }

    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- log of a server\n{}", self.lines_with(&[]).join("\n"));
        }
    }
}

/// Where the data of a server in `dir` lies.
pub fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// Asks again and again until it is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::yield_now();
    }
}
