//! What the machine says: of the servers' processes, of their containers, of itself. Linux's /proc and /sys, read.

use crate::result::{Cgroup, Host, ServerUse};
use std::fs;

/// One reading of a process.
#[derive(Clone, Debug, Default)]
pub struct Reading {
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
    pub cgroup: Cgroup,
}

/// Ticks of /proc/PID/stat; Linux's USER_HZ, the same on every architecture we run on.
const TICKS: f64 = 100.0;

fn field(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.trim_start_matches(':').split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

impl Reading {
    /// Reads a process; `None`: there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Reading> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything.
        let rest: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let ticks = |at: usize| rest.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / TICKS;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let mut reading = Reading {
            user_s: ticks(11),
            system_s: ticks(12),
            rss: field(&status, "VmRSS") * 1024,
            rss_max: field(&status, "VmHWM") * 1024,
            threads: field(&status, "Threads"),
            written: field(&io, "write_bytes"),
            cgroup: cgroup(&pid.to_string()),
            ..Reading::default()
        };
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            reading.voluntary += field(&status, "voluntary_ctxt_switches");
            reading.involuntary += field(&status, "nonvoluntary_ctxt_switches");
            let spent = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            reading.cpu_ns +=
                spent.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
        }
        Some(reading)
    }

    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// Seconds of processor time since an earlier reading: from the threads' own counters, unless one that had counted
    /// has ended since.
    #[must_use]
    pub fn cpu_since(&self, before: &Reading) -> f64 {
        let fine = (self.cpu_ns as f64 - before.cpu_ns as f64) / 1e9;
        let coarse = self.cpu_s() - before.cpu_s();
        if fine > 0.0 && fine > coarse - 0.05 {
            fine
        } else {
            coarse.max(0.0)
        }
    }
}

/// What a process used between two readings in which `ops` operations were answered.
#[must_use]
pub fn used(pid: u32, before: &Reading, after: &Reading, ops: u64) -> ServerUse {
    let cpu_s = after.cpu_since(before);
    let ticks_s = after.cpu_s() - before.cpu_s();
    let ops = ops.max(1) as f64;
    let written = after.written.saturating_sub(before.written);
    let mut limits = after.cgroup.clone();
    limits.periods = after.cgroup.periods.saturating_sub(before.cgroup.periods);
    limits.throttled_periods = after.cgroup.throttled_periods.saturating_sub(before.cgroup.throttled_periods);
    limits.throttled_us = after.cgroup.throttled_us.saturating_sub(before.cgroup.throttled_us);
    ServerUse {
        name: pid.to_string(),
        command: command(pid),
        cpu_s,
        cpu_us_per_op: cpu_s * 1e6 / ops,
        user_share: if ticks_s > 0.0 { (after.user_s - before.user_s) / ticks_s } else { 0.0 },
        voluntary_switches: after.voluntary.saturating_sub(before.voluntary),
        involuntary_switches: after.involuntary.saturating_sub(before.involuntary),
        rss_bytes: after.rss,
        rss_bytes_max: after.rss_max,
        threads: after.threads,
        disk_write_bytes: written,
        disk_write_bytes_per_op: written as f64 / ops,
        cgroup: limits,
    }
}

/// The program's name and its first words, for tables.
fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let name = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    let main = words.iter().find(|word| word.contains("zookeeper.server")).map_or("", |word| word.as_ref());
    format!("{name} {main}").trim().to_owned()
}

/// Limits and counters of a process's cgroup, version 2 or 1.
fn cgroup(pid: &str) -> Cgroup {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path_of = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            names.split(',').any(|name| name == controller).then(|| path.to_owned())
        })
    };
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let memlock = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let number = |text: &str| text.trim().parse::<f64>().unwrap_or(0.0);
    let mut found = Cgroup { memlock_bytes: memlock, ..Cgroup::default() };
    if let Some(path) = path_of("cpu") {
        let base = format!("/sys/fs/cgroup/cpu{path}");
        let (quota, period) = (
            number(&read(format!("{base}/cpu.cfs_quota_us"))),
            number(&read(format!("{base}/cpu.cfs_period_us"))),
        );
        if quota > 0.0 && period > 0.0 {
            found.cpu_limit = quota / period;
        }
        let stat = read(format!("{base}/cpu.stat"));
        found.periods = field(&stat, "nr_periods");
        found.throttled_periods = field(&stat, "nr_throttled");
        found.throttled_us = field(&stat, "throttled_time") / 1_000;
        found.path = path;
    } else if let Some(path) = path_of("") {
        let base = format!("/sys/fs/cgroup{path}");
        let limit = read(format!("{base}/cpu.max"));
        let mut parts = limit.split_whitespace().map(|part| part.parse::<f64>());
        if let (Some(Ok(quota)), Some(Ok(period))) = (parts.next(), parts.next()) {
            found.cpu_limit = quota / period;
        }
        let stat = read(format!("{base}/cpu.stat"));
        found.periods = field(&stat, "nr_periods");
        found.throttled_periods = field(&stat, "nr_throttled");
        found.throttled_us = field(&stat, "throttled_usec");
        found.memory_limit_bytes = number(&read(format!("{base}/memory.max"))) as u64;
        found.path = path;
    }
    if let Some(path) = path_of("memory") {
        let limit = number(&read(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")));
        // "No limit" is a number just below 2^63.
        found.memory_limit_bytes = if limit < 1e18 { limit as u64 } else { 0 };
    }
    let status = read(format!("/proc/{pid}/status"));
    found.cpuset = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .map_or(String::new(), |list| list.trim().to_owned());
    found
}

/// The machine that this runs on.
#[must_use]
pub fn host() -> Host {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu_model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or(String::new(), |rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
    Host {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu_model,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: field(&read("/proc/meminfo"), "MemTotal") * 1024,
        load_average: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        file_systems: Vec::new(),
        fsync: String::new(),
        cgroup: cgroup("self"),
    }
}

/// The file system below a path, as `device type options`.
#[must_use]
pub fn file_system(path: &str) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, mount, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
            path.starts_with(mount).then(|| (mount.len(), format!("{device} {kind} {options}")))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let before = Reading::of(std::process::id()).expect("we are a process");
        assert!(before.rss > 0 && before.threads >= 1);
        let use_ = used(std::process::id(), &before, &before, 10);
        assert_eq!((use_.cpu_s, use_.voluntary_switches), (0.0, 0));
        assert!(Reading::of(u32::MAX).is_none());
        assert!(file_system("/proc").is_some_and(|text| text.contains("proc")));
    }
}
