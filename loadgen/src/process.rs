//! Processes as Linux's /proc shows them: what each of them used, and which of them are one server.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel's files are; a test has its own.
#[derive(Clone, Debug)]
pub struct Roots {
    pub proc: PathBuf,
    pub cgroup: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { proc: PathBuf::from("/proc"), cgroup: PathBuf::from("/sys/fs/cgroup") }
    }
}

impl Roots {
    /// A file of a process; empty where it can not be read.
    #[must_use]
    pub fn text(&self, pid: &str, name: &str) -> String {
        let bytes = fs::read(self.proc.join(pid).join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// All processes, our own left out: the load generator is no part of a server.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let own = std::process::id();
        let names = fs::read_dir(&self.proc).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let pids = names.filter_map(|name| name.to_str()?.parse().ok()).filter(|pid| *pid != own);
        pids.collect()
    }

    /// A process's cgroups: (controllers, path), one a hierarchy.
    #[must_use]
    pub fn cgroups(&self, pid: &str) -> Vec<(String, String)> {
        let text = self.text(pid, "cgroup");
        let lines = text.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some((names.to_owned(), path.to_owned()))
        });
        lines.collect()
    }

    /// The words of its command line.
    #[must_use]
    pub fn words(&self, pid: u32) -> Vec<String> {
        self.text(&pid.to_string(), "cmdline")
            .split('\0')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// When it began, in ticks since the machine did: a process id is used again, the two together are not.
    #[must_use]
    pub fn started(&self, pid: u32) -> Option<u64> {
        stat_fields(&self.text(&pid.to_string(), "stat"))?.get(19)?.parse().ok()
    }

    /// Whether a process is there and still holds what it had: one that has ended and is not asked for by its parent does
    /// not. The first thread of one that is killed may end before the others: until the last has, its files are open
    /// and locked.
    #[must_use]
    pub fn lives(&self, pid: u32) -> bool {
        let name = pid.to_string();
        let runs = |stat: &str| {
            stat_fields(stat).is_some_and(|fields| !["Z", "X"].contains(fields.first().unwrap_or(&"X")))
        };
        let mut tasks = fs::read_dir(self.proc.join(&name).join("task")).into_iter().flatten().flatten();
        runs(&self.text(&name, "stat"))
            || tasks.any(|task| runs(&fs::read_to_string(task.path().join("stat")).unwrap_or_default()))
    }

    /// The processes that are one with `leader`: those of its pid namespace or of its cgroup, where these are not our own
    /// as well. A launcher and what it launched are one server.
    #[must_use]
    pub fn together_with(&self, leader: u32) -> Vec<u32> {
        let space = |pid: &str| fs::read_link(self.proc.join(pid).join("ns/pid")).ok();
        let name = leader.to_string();
        let its_space = space(&name).filter(|its| space("self").is_some_and(|own| own != *its));
        let own_groups = self.cgroups("self");
        let mut its_groups = self.cgroups(&name);
        its_groups.retain(|(names, path)| {
            path != "/"
                && !path.contains("..")
                && !own_groups.iter().any(|(other, own)| other == names && is_in(own, path))
        });
        let belongs = |pid: u32| {
            let name = pid.to_string();
            pid == leader
                || its_space.is_some() && space(&name) == its_space
                || !its_groups.is_empty()
                    && self.cgroups(&name).iter().any(|(names, path)| {
                        its_groups.iter().any(|(other, its)| other == names && is_in(path, its))
                    })
        };
        if its_space.is_none() && its_groups.is_empty() {
            return vec![leader];
        }
        self.pids().into_iter().filter(|pid| belongs(*pid)).collect()
    }
}

/// Whether a cgroup is another one or below it.
fn is_in(path: &str, outer: &str) -> bool {
    Path::new(path).starts_with(outer)
}

/// The fields of a stat file behind the name, which stands in brackets and may hold anything.
fn stat_fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat[stat.rfind(')')? + 1..].split_whitespace().collect())
}

/// The number behind a name at the begin of a line; 0: it is not there.
#[must_use]
pub fn field(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.trim_start_matches(':').split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// One reading of a process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    pub pid: u32,
    pub started: u64,
    pub user_s: f64,
    pub system_s: f64,
    /// Processor time of all threads that live, in nanoseconds: finer than the two above, which count in 10 ms.
    pub cpu_ns: u64,
    pub voluntary: u64,
    pub involuntary: u64,
    pub rss: u64,
    pub rss_max: u64,
    pub threads: u64,
    pub written: u64,
}

/// Ticks of /proc/PID/stat; Linux's USER_HZ, the same on every architecture we run on.
const TICKS: f64 = 100.0;

impl Process {
    /// Reads a process; `None`: there is none, or it has ended and its parent has not asked for it.
    #[must_use]
    pub fn of(roots: &Roots, pid: u32) -> Option<Process> {
        if !roots.lives(pid) {
            return None;
        }
        let name = pid.to_string();
        let stat = roots.text(&name, "stat");
        let rest = stat_fields(&stat)?;
        let ticks = |at: usize| rest.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / TICKS;
        let (status, io) = (roots.text(&name, "status"), roots.text(&name, "io"));
        let mut process = Process {
            pid,
            started: rest.get(19).and_then(|text| text.parse().ok()).unwrap_or(0),
            user_s: ticks(11),
            system_s: ticks(12),
            rss: field(&status, "VmRSS") * 1024,
            rss_max: field(&status, "VmHWM") * 1024,
            threads: field(&status, "Threads"),
            written: field(&io, "write_bytes"),
            ..Process::default()
        };
        for task in fs::read_dir(roots.proc.join(&name).join("task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            process.voluntary += field(&status, "voluntary_ctxt_switches");
            process.involuntary += field(&status, "nonvoluntary_ctxt_switches");
            let spent = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            process.cpu_ns +=
                spent.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
        }
        Some(process)
    }

    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// Seconds of processor time since an earlier reading: from the threads' own counters, unless one that had counted
    /// has ended since.
    #[must_use]
    pub fn cpu_since(&self, before: &Process) -> f64 {
        let fine = (self.cpu_ns as f64 - before.cpu_ns as f64) / 1e9;
        let coarse = self.cpu_s() - before.cpu_s();
        if fine > 0.0 && fine > coarse - 0.05 {
            fine
        } else {
            coarse.max(0.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server was started anew while the one that was killed still held its lock: its first thread had ended.
    #[test]
    fn a_process_lives_until_its_last_thread_has_ended() {
        let room = tempfile::tempdir().expect("a directory");
        let roots = Roots { proc: room.path().to_owned(), cgroup: room.path().to_owned() };
        let put = |name: &str, state: &str| {
            let path = room.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("it is made");
            fs::write(path, format!("7 (a) b) {state} 1 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 5 0 0"))
                .expect("it is written");
        };
        let is_there = || (roots.lives(7), Process::of(&roots, 7).is_some());
        assert_eq!(is_there(), (false, false));
        for (first, second, want) in
            [("S", "S", true), ("Z", "S", true), ("Z", "D", true), ("Z", "X", false), ("Z", "Z", false)]
        {
            put("7/stat", first);
            put("7/task/7/stat", first);
            put("7/task/8/stat", second);
            assert_eq!(is_there(), (want, want), "{first} {second}");
        }
    }
}
