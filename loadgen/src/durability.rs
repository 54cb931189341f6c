//! Whether a server's acknowledged writes are on the disk, as far as that is seen from outside: how its log file is
//! opened, what it was told at its start, and what file system is below.

use crate::process::Roots;
use crate::server::Server;
use crate::words;
use rustix::fs::OFlags;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What is known of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    /// Begins with `on`, `off` or `unknown`.
    pub fsync: String,
    /// `directory: device type options`; empty: not known.
    pub file_system: String,
}

/// Files that a server has open, and configuration files, are not looked at beyond this.
const FILES_MAX: usize = 200_000;
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// A log file that a process has open.
struct LogFile {
    path: PathBuf,
    flags: u32,
    is_zookeeper: bool,
}

/// Looks at a server. `address`: where it answers four-letter words, if that is known.
#[must_use]
pub fn of(server: &Server, address: Option<SocketAddr>) -> Durability {
    let roots = server.roots();
    let pids = server.pids();
    let logs = pids.iter().find_map(|pid| Some((*pid, log_file(roots, *pid)?)));
    let zookeeper = pids.iter().find(|pid| is_zookeeper(&roots.words(**pid)));
    let Some(pid) = logs.as_ref().map(|(pid, _)| *pid).or(zookeeper.copied()).or(pids.first().copied())
    else {
        return Durability { fsync: "unknown: the process is gone".to_owned(), file_system: String::new() };
    };
    let log = logs.map(|(_, log)| log);
    let config = if zookeeper == Some(&pid) { config(roots, pid) } else { String::new() };
    let mut fsync = match &log {
        _ if zookeeper == Some(&pid) => force_sync(&roots.words(pid), &config),
        Some(log) if !log.is_zookeeper => {
            opened(log.flags, address.and_then(|address| words::ask(address, "mntr")).as_deref())
        }
        _ => "unknown: no log file of it is seen (another user's process, or not ringkeeper or ZooKeeper)"
            .to_owned(),
    };
    let dir = log.and_then(|log| log.path.parent().map(Path::to_owned));
    let dir = dir.or_else(|| said(&words::ask(address?, "conf")?, "dataLogDir").map(PathBuf::from));
    let dir =
        dir.or_else(|| said(&config, "dataLogDir").or_else(|| said(&config, "dataDir")).map(PathBuf::from));
    let mount = dir.as_deref().and_then(|dir| Some((dir, mount(roots, pid, dir)?)));
    if let Some((_, mount)) = &mount {
        if ["tmpfs", "ramfs"].contains(&mount.kind.as_str()) {
            fsync.push_str(&format!("{BUT}{} keeps nothing", mount.kind));
        } else if mount.options.split(',').any(|option| option == "volatile") {
            fsync.push_str(&format!("{BUT}the mount is volatile, which syncs nothing"));
        }
    }
    let file_system = mount.map_or(String::new(), |(dir, mount)| {
        format!("{}: {} {} {}", dir.display(), mount.device, mount.kind, mount.options)
    });
    Durability { fsync, file_system }
}

/// Whether acknowledged writes outlive a crash, by what is said of it; where nothing is known it is taken to be so.
#[must_use]
pub fn is_durable(fsync: &str) -> bool {
    // Results of servers that differ name each one first where an older program wrote them.
    !fsync.starts_with("off") && !fsync.contains(": off: ") && !fsync.contains(BUT)
}

/// Stands before what undoes a sync.
const BUT: &str = "; but ";

/// Of all servers: how they sync, in a line that begins with `on`, `off` or `unknown` too, and their file systems. The worst
/// is named first: what one server loses is not kept.
#[must_use]
pub fn of_all(servers: &[Server], addresses: &[SocketAddr]) -> (String, Vec<String>) {
    let address = |at: usize| addresses.get(at).filter(|_| addresses.len() == servers.len()).copied();
    let known: Vec<_> = servers.iter().enumerate().map(|(at, server)| of(server, address(at))).collect();
    let is_one = known.windows(2).all(|pair| pair[0].fsync == pair[1].fsync);
    let fsync = match known.first() {
        None => String::new(),
        Some(first) if is_one => first.fsync.clone(),
        Some(_) => {
            let named =
                servers.iter().zip(&known).map(|(server, one)| format!("{}: {}", server.name, one.fsync));
            let worst = match () {
                () if known.iter().any(|one| !is_durable(&one.fsync)) => "off for some",
                () if known.iter().any(|one| one.fsync.starts_with("unknown")) => "unknown for some",
                () => "on",
            };
            format!("{worst}: {}", named.collect::<Vec<_>>().join("; "))
        }
    };
    let systems = known.into_iter().map(|one| one.file_system).filter(|text| !text.is_empty());
    (fsync, systems.collect())
}

/// The newest log file that a process has open: ZooKeeper's `version-2/log.ZXID` or ringkeeper's `*.seg`.
fn log_file(roots: &Roots, pid: u32) -> Option<LogFile> {
    let dir = roots.proc.join(pid.to_string());
    let mut newest: Option<(PathBuf, std::ffi::OsString, bool)> = None;
    for entry in fs::read_dir(dir.join("fd")).ok()?.flatten().take(FILES_MAX) {
        let Ok(path) = fs::read_link(entry.path()) else { continue };
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_hex = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
        let is_zookeeper = name.strip_prefix("log.").is_some_and(is_hex);
        let is_ours = path.is_absolute() && name.ends_with(".seg");
        if (is_zookeeper || is_ours) && newest.as_ref().is_none_or(|(known, ..)| *known < path) {
            newest = Some((path, entry.file_name(), is_zookeeper));
        }
    }
    let (path, number, is_zookeeper) = newest?;
    let info = fs::read_to_string(dir.join("fdinfo").join(number)).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok())?;
    Some(LogFile { path, flags, is_zookeeper })
}

/// ringkeeper's own ways: past the page cache each write is durable by itself (RWF_DSYNC, no flag of the file); where the
/// file system can not do that it calls fdatasync. Neither is seen from outside: the server says it in `mntr`.
fn opened(flags: u32, mntr: Option<&str>) -> String {
    let has = |flag: OFlags| flags & flag.bits() == flag.bits();
    let way = match (has(OFlags::DIRECT), has(OFlags::DSYNC)) {
        (true, true) => return "on: the log is opened with O_DIRECT and O_DSYNC".to_owned(),
        (false, true) => return "on: the log is opened with O_DSYNC".to_owned(),
        (true, false) => "opened with O_DIRECT, each write durable by itself (RWF_DSYNC)",
        (false, false) => "buffered, with fdatasync",
    };
    let mut lines = mntr.unwrap_or_default().lines().filter_map(|line| line.split_once('\t'));
    match lines.find(|(name, _)| *name == "zk_ringkeeper_force_sync").map(|(_, value)| value.trim()) {
        Some("1") => format!("on: the log is {way}"),
        Some(_) => "off: forceSync=no".to_owned(),
        None => format!("unknown: the log is {way}, or not synced at all: the server did not say so in mntr"),
    }
}

fn is_zookeeper(words: &[String]) -> bool {
    words.iter().any(|word| word.starts_with("org.apache.zookeeper.server."))
}

/// The configuration file on ZooKeeper's command line, as the process sees it.
fn config(roots: &Roots, pid: u32) -> String {
    let words = roots.words(pid);
    let Some(file) = words.iter().rev().find(|word| word.ends_with(".cfg") && !word.starts_with('-')) else {
        return String::new();
    };
    let dir = roots.proc.join(pid.to_string());
    let path = match file.strip_prefix('/') {
        Some(absolute) => dir.join("root").join(absolute),
        None => dir.join("cwd").join(file),
    };
    let mut bytes = Vec::new();
    let is_file = fs::metadata(&path).is_ok_and(|known| known.is_file());
    let _ = fs::File::open(path)
        .ok()
        .filter(|_| is_file)
        .map(|f| f.take(CONFIG_BYTES_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last value of a key in `key=value` lines.
fn said<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = text.lines().rev().filter_map(|line| line.split_once('='));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

/// ZooKeeper's: a line of the configuration file becomes the system property, and only `no` is no.
fn force_sync(words: &[String], config: &str) -> String {
    let told = said(config, "forceSync").or_else(|| said(config, "zookeeper.forceSync"));
    let told =
        told.or_else(|| words.iter().rev().find_map(|word| word.strip_prefix("-Dzookeeper.forceSync=")));
    match told {
        None => "on: forceSync=yes, ZooKeeper's default".to_owned(),
        Some("no") => "off: forceSync=no".to_owned(),
        Some(value) => format!("on: forceSync={value}"),
    }
}

struct Mount {
    device: String,
    kind: String,
    options: String,
}

/// The mount below a directory, in the process's own view.
fn mount(roots: &Roots, pid: u32, dir: &Path) -> Option<Mount> {
    let text = roots.text(&pid.to_string(), "mountinfo");
    let lines = text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let (point, own) = (left.get(4)?, left.get(5)?);
        let mut right = right.split(' ');
        let (kind, device, options) = (right.next()?, right.next()?, right.next().unwrap_or(""));
        // Spaces and the like are written in octal.
        let point = point.replace("\\040", " ");
        dir.starts_with(&point).then(|| {
            let mut all: Vec<&str> = Vec::new();
            // Where an overlay's layers lie is long and says nothing.
            let words = own.split(',').chain(options.split(','));
            for option in words.filter(|option| !option.contains("dir=") && !option.contains("dir+=")) {
                if !all.contains(&option) {
                    all.push(option);
                }
            }
            let mount = Mount { device: device.to_owned(), kind: kind.to_owned(), options: all.join(",") };
            (point.len(), mount)
        })
    });
    // Of two on one point the later hides the earlier.
    lines.max_by_key(|(depth, _)| *depth).map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Machine {
        room: tempfile::TempDir,
        roots: Roots,
    }

    impl Machine {
        fn new() -> Machine {
            let room = tempfile::tempdir().expect("a directory");
            let roots = Roots { proc: room.path().join("proc"), cgroup: room.path().join("cgroup") };
            let machine = Machine { room, roots };
            machine.put("stat", "7 (java) S 1 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 5 0 0");
            machine
        }

        fn put(&self, name: &str, text: &str) {
            let path = self.roots.proc.join("7").join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("it is made");
            fs::write(path, text).expect("it is written");
        }

        fn open(&self, number: &str, path: &str, flags: OFlags) {
            self.put(&format!("fdinfo/{number}"), &format!("pos:\t0\nflags:\t0{:o}\n", flags.bits()));
            fs::create_dir_all(self.roots.proc.join("7/fd")).expect("it is made");
            symlink(path, self.roots.proc.join("7/fd").join(number)).expect("a link");
        }

        fn look(&self) -> Durability {
            assert!(self.room.path().is_dir());
            of(&Server::process(7, self.roots.clone()).expect("it is there"), None)
        }
    }

    #[test]
    fn zookeeper_says_it_on_its_command_line_or_in_its_file() {
        let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
        for (flag, line, want) in [
            ("", "", "on: forceSync=yes, ZooKeeper's default"),
            ("-Dzookeeper.forceSync=no\0", "", "off: forceSync=no"),
            ("-Dzookeeper.forceSync=no\0", "forceSync=yes\n", "on: forceSync=yes"),
            ("", "forceSync=no\n", "off: forceSync=no"),
        ] {
            let machine = Machine::new();
            machine.put("cmdline", &format!("/bin/java\0{flag}{main}\0/conf/zoo.cfg\0"));
            machine.put("root/conf/zoo.cfg", &format!("dataDir=/data\n{line}"));
            machine.put("mountinfo", "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /data rw,noatime shared:1 - ext4 /dev/b rw,nobarrier\n");
            let seen = machine.look();
            assert_eq!(seen.fsync, want, "{flag} {line}");
            assert_eq!(seen.file_system, "/data: /dev/b ext4 rw,noatime,nobarrier");
        }
    }

    #[test]
    fn of_a_log_file_it_is_seen_how_it_is_opened_and_where_it_lies() {
        let layers = "3 0 0:5 / / rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d,volatile\n";
        for (flags, begin, want) in [
            (OFlags::RDWR | OFlags::DIRECT, "unknown: ", "RWF_DSYNC"),
            (OFlags::RDWR | OFlags::DIRECT | OFlags::DSYNC, "on: ", "O_DIRECT and O_DSYNC"),
            (OFlags::RDWR, "unknown: ", "buffered, with fdatasync"),
        ] {
            let machine = Machine::new();
            machine.put("cmdline", "ringkeeper\0");
            machine.put("mountinfo", layers);
            machine.open("3", "/data/log/0001.seg", OFlags::RDWR);
            machine.open("4", "/data/log/0002.seg", flags);
            machine.open("5", "socket:[1]", OFlags::RDWR);
            let seen = machine.look();
            assert!(seen.fsync.starts_with(begin) && seen.fsync.contains(want), "{}", seen.fsync);
            assert!(
                seen.fsync.ends_with("; but the mount is volatile, which syncs nothing"),
                "{}",
                seen.fsync
            );
            assert_eq!(seen.file_system, "/data/log: overlay overlay rw,volatile");
        }
    }

    /// A server that was told not to sync has its log open in the same way as one that does.
    #[test]
    fn whether_ringkeeper_syncs_it_says_itself() {
        let flags = (OFlags::RDWR | OFlags::DIRECT).bits();
        for (said, begin) in [("1", "on: the log is opened"), ("0", "off: forceSync=no")] {
            let mntr = format!("zk_version\t3.9.5\nzk_ringkeeper_force_sync\t{said}\n");
            let seen = opened(flags, Some(&mntr));
            assert!(seen.starts_with(begin), "{seen}");
        }
        assert!(opened(flags, Some("zk_version\t3.9.5\n")).starts_with("unknown: "));
    }

    /// Two results were compared without a word where one of three servers did not sync, or where all wrote to memory.
    #[test]
    fn of_several_servers_the_worst_is_said_first() {
        let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
        let server = |flag: &str, kind: &str| {
            let machine = Machine::new();
            machine.put("cmdline", &format!("/bin/java\0{flag}{main}\0/conf/zoo.cfg\0"));
            machine.put("root/conf/zoo.cfg", "dataDir=/data\n");
            machine.put("mountinfo", &format!("1 0 8:1 / / rw - {kind} /dev/a rw\n"));
            (Server::process(7, machine.roots.clone()).expect("it is there"), machine)
        };
        let no = "-Dzookeeper.forceSync=no\0";
        let unknown = || {
            let machine = Machine::new();
            machine.put("cmdline", "other\0");
            (Server::process(7, machine.roots.clone()).expect("it is there"), machine)
        };
        for (machines, begin, want) in [
            (vec![server("", "ext4"), server("", "ext4")], "on: forceSync", true),
            (vec![server("", "ext4"), server("-Dzookeeper.forceSync=1\0", "ext4")], "on: 7: on: ", true),
            (vec![server("", "ext4"), unknown()], "unknown for some: 7: on: ", true),
            (vec![server("", "ext4"), unknown(), server(no, "ext4")], "off for some: 7: on: ", false),
            (vec![server("", "ext4"), server("", "tmpfs")], "off for some: 7: on: ", false),
            (vec![server("", "tmpfs"), server("", "tmpfs")], "on: forceSync", false),
            (vec![server(no, "ext4")], "off: ", false),
        ] {
            let servers: Vec<_> = machines.iter().map(|(server, _)| server.clone()).collect();
            let (said, _) = of_all(&servers, &[]);
            assert!(said.starts_with(begin) && is_durable(&said) == want, "{said}");
        }
        assert!(is_durable(""));
    }

    #[test]
    fn memory_keeps_nothing_and_what_is_not_seen_is_unknown() {
        let machine = Machine::new();
        machine.open("3", "/tmp/d/0001.seg", OFlags::RDWR);
        machine.put("mountinfo", "1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /tmp rw - tmpfs none rw\n");
        assert!(machine.look().fsync.ends_with("; but tmpfs keeps nothing"));
        let machine = Machine::new();
        let seen = machine.look();
        assert!(seen.fsync.starts_with("unknown: ") && seen.file_system.is_empty(), "{seen:?}");
    }
}
