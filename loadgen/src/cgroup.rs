//! What a process's cgroup allows it and how often it was held up: version 2 or 1, and every level above its own, because
//! a parent's limit binds as well.

use crate::process::{field, Roots};
use crate::result::Cgroup;
use std::fs;
use std::path::{Path, PathBuf};

/// A level with a quota of processor time, and its counters since it was made.
#[derive(Clone, Debug, PartialEq)]
struct Level {
    dir: PathBuf,
    cores: f64,
    periods: u64,
    throttled_periods: u64,
    throttled_us: u64,
}

/// One reading of a process's limits.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    found: Cgroup,
    /// Of the levels with a quota, its own first.
    levels: Vec<Level>,
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// The directories of a cgroup and of all above it, its own first, as far as they are mounted here. A path outside our
/// own namespace begins with `..`: of it nothing can be read.
fn up(base: &Path, path: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.contains(&"..") {
        return Vec::new();
    }
    let dirs = (0..=parts.len()).rev().map(|depth| base.join(parts[..depth].join("/")));
    dirs.filter(|dir| dir.is_dir()).collect()
}

/// The least of what each level says. A limit that is none is a word, or a number just below 2^63.
fn least(dirs: &[PathBuf], name: &str) -> u64 {
    let known = dirs.iter().filter_map(|dir| number(&read(dir.join(name)))).filter(|limit| *limit < 1e18);
    known.reduce(f64::min).map_or(0, |limit| limit as u64)
}

/// What the first level says that says anything.
fn nearest(dirs: &[PathBuf], name: &str) -> String {
    let said = dirs.iter().map(|dir| read(dir.join(name)).trim().to_owned());
    said.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

impl Limits {
    /// Reads the limits of a process, a number or `self`.
    #[must_use]
    pub fn of(roots: &Roots, pid: &str) -> Limits {
        let groups = roots.cgroups(pid);
        let path_of = |controller: &str| {
            groups.iter().find(|(names, _)| names.split(',').any(|n| n == controller)).map(|(_, path)| path)
        };
        let mount = |names: &[&str]| {
            let dirs = names.iter().map(|name| roots.cgroup.join(name));
            dirs.into_iter().find(|dir| dir.is_dir()).unwrap_or_else(|| roots.cgroup.clone())
        };
        let unified = mount(&["unified"]);
        let dirs = |controller: &str, names: &[&str]| match path_of(controller) {
            Some(path) => (false, up(&mount(names), path)),
            None => (true, path_of("").map_or(Vec::new(), |path| up(&unified, path))),
        };
        let mut limits = Limits::default();
        let found = &mut limits.found;
        found.path = path_of("cpu").or(path_of("")).cloned().unwrap_or_default();
        let (is_new, cpu) = dirs("cpu", &["cpu", "cpu,cpuacct"]);
        for dir in cpu {
            let (quota, period) = if is_new {
                let text = read(dir.join("cpu.max"));
                let mut parts = text.split_whitespace().map(number);
                (parts.next().flatten(), parts.next().flatten())
            } else {
                (number(&read(dir.join("cpu.cfs_quota_us"))), number(&read(dir.join("cpu.cfs_period_us"))))
            };
            let (Some(quota), Some(period)) = (quota, period) else { continue };
            if quota > 0.0 && period > 0.0 {
                let stat = read(dir.join("cpu.stat"));
                limits.levels.push(Level {
                    cores: quota / period,
                    periods: field(&stat, "nr_periods"),
                    throttled_periods: field(&stat, "nr_throttled"),
                    throttled_us: field(&stat, "throttled_usec") + field(&stat, "throttled_time") / 1_000,
                    dir,
                });
            }
        }
        found.cpu_limit = limits.levels.iter().map(|level| level.cores).reduce(f64::min).unwrap_or(0.0);
        let (is_new, memory) = dirs("memory", &["memory"]);
        let names = if is_new {
            ["memory.max", "memory.current", "memory.peak"]
        } else {
            ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes"]
        };
        found.memory_limit_bytes = least(&memory, names[0]);
        // Of the whole machine's group nothing is said: it is no container.
        let own = if memory.len() > 1 { &memory[..1] } else { &[] };
        found.memory_bytes = number(&nearest(own, names[1])).unwrap_or(0.0) as u64;
        found.memory_bytes_max = number(&nearest(own, names[2])).unwrap_or(0.0) as u64;
        let (is_new, sets) = dirs("cpuset", &["cpuset"]);
        let name = if is_new { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" };
        let whole = sets.last().map_or(String::new(), |root| read(root.join(name)).trim().to_owned());
        found.cpuset = nearest(&sets, name);
        let status = roots.text(pid, "status");
        if let Some(allowed) = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")) {
            // Where no cgroup narrows it, the process itself may have been told where to run (taskset).
            if found.cpuset.is_empty() || found.cpuset == whole {
                found.cpuset = allowed.trim().to_owned();
            }
        }
        let text = roots.text(pid, "limits");
        let locked = text.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        let locked = locked.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok());
        found.memlock_bytes = locked.unwrap_or(0);
        limits
    }

    /// The limits alone, nothing counted.
    #[must_use]
    pub fn now(&self) -> Cgroup {
        self.found.clone()
    }

    /// Microseconds for which all levels held it up, since they were made.
    #[must_use]
    pub fn throttled_us(&self) -> u64 {
        self.levels.iter().map(|level| level.throttled_us).sum()
    }

    /// The limits, and what was counted since an earlier reading: the time of all levels, the periods of the one that held
    /// it up longest, or else of the tightest.
    #[must_use]
    pub fn since(&self, before: &Limits) -> Cgroup {
        let mut found = self.found.clone();
        let grown = |level: &Level| {
            let old = before.levels.iter().find(|old| old.dir == level.dir);
            let less = |now: u64, old: Option<u64>| now.saturating_sub(old.unwrap_or(now));
            (
                less(level.throttled_us, old.map(|old| old.throttled_us)),
                less(level.throttled_periods, old.map(|old| old.throttled_periods)),
                less(level.periods, old.map(|old| old.periods)),
            )
        };
        found.throttled_us = self.levels.iter().map(|level| grown(level).0).sum();
        let longest = self
            .levels
            .iter()
            .max_by(|a, b| grown(a).0.cmp(&grown(b).0).then_with(|| b.cores.total_cmp(&a.cores)));
        if let Some(level) = longest {
            (_, found.throttled_periods, found.periods) = grown(level);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("it is made");
            fs::write(path, text).expect("it is written");
        }
    }

    fn roots(room: &Path) -> Roots {
        Roots { proc: room.join("proc"), cgroup: room.join("cgroup") }
    }

    #[test]
    fn a_parents_limit_binds_as_well() {
        let room = tempfile::tempdir().expect("a directory");
        put(
            room.path(),
            &[
                ("proc/7/cgroup", "0::/pod.slice/one.scope\n"),
                ("proc/7/status", "Cpus_allowed_list:\t0-3\n"),
                ("proc/7/limits", "Max locked memory  8388608  8388608  bytes\n"),
                ("cgroup/cpuset.cpus.effective", "0-7\n"),
                ("cgroup/pod.slice/cpu.max", "150000 100000\n"),
                ("cgroup/pod.slice/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_usec 900\n"),
                ("cgroup/pod.slice/memory.max", "1000\n"),
                ("cgroup/pod.slice/cpuset.cpus.effective", "2-3\n"),
                ("cgroup/pod.slice/one.scope/cpu.max", "200000 100000\n"),
                ("cgroup/pod.slice/one.scope/cpu.stat", "nr_periods 20\nnr_throttled 1\nthrottled_usec 50\n"),
                ("cgroup/pod.slice/one.scope/memory.max", "max\n"),
                ("cgroup/pod.slice/one.scope/memory.current", "400\n"),
                ("cgroup/pod.slice/one.scope/memory.peak", "500\n"),
            ],
        );
        let before = Limits::of(&roots(room.path()), "7");
        let now = before.now();
        assert_eq!((now.cpu_limit, now.memory_limit_bytes), (1.5, 1_000));
        assert_eq!((now.memory_bytes, now.memory_bytes_max, now.cpuset.as_str()), (400, 500, "2-3"));
        assert_eq!((now.memlock_bytes, now.path.as_str()), (8_388_608, "/pod.slice/one.scope"));
        assert_eq!(before.throttled_us(), 950);
        let stat = "nr_periods 15\nnr_throttled 9\nthrottled_usec 1900\n";
        put(room.path(), &[("cgroup/pod.slice/cpu.stat", stat)]);
        let since = Limits::of(&roots(room.path()), "7").since(&before);
        assert_eq!((since.throttled_us, since.throttled_periods, since.periods), (1_000, 5, 5));
    }

    #[test]
    fn version_1_has_a_tree_for_each_controller() {
        let room = tempfile::tempdir().expect("a directory");
        put(
            room.path(),
            &[
                (
                    "proc/7/cgroup",
                    "4:memory:/docker/ab\n3:cpuset:/docker/ab\n1:cpu,cpuacct:/docker/ab\n0::/\n",
                ),
                ("proc/7/status", "Cpus_allowed_list:\t1\n"),
                ("cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us", "50000\n"),
                ("cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us", "100000\n"),
                (
                    "cgroup/cpu,cpuacct/docker/ab/cpu.stat",
                    "nr_periods 5\nnr_throttled 2\nthrottled_time 7000\n",
                ),
                ("cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n"),
                ("cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n"),
                ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("cgroup/memory/docker/memory.limit_in_bytes", "2048\n"),
                ("cgroup/memory/docker/ab/memory.limit_in_bytes", "9223372036854771712\n"),
                ("cgroup/memory/docker/ab/memory.usage_in_bytes", "100\n"),
                ("cgroup/memory/docker/ab/memory.max_usage_in_bytes", "200\n"),
                ("cgroup/cpuset/docker/ab/cpuset.effective_cpus", "1\n"),
                ("cgroup/cpuset/cpuset.effective_cpus", "0-1\n"),
                ("cgroup/unified/cgroup.procs", ""),
            ],
        );
        let limits = Limits::of(&roots(room.path()), "7");
        let now = limits.now();
        assert_eq!((now.cpu_limit, now.memory_limit_bytes, limits.throttled_us()), (0.5, 2_048, 7));
        assert_eq!((now.memory_bytes, now.memory_bytes_max, now.cpuset.as_str()), (100, 200, "1"));
    }

    #[test]
    fn what_is_outside_our_namespace_is_not_read() {
        let room = tempfile::tempdir().expect("a directory");
        put(room.path(), &[("proc/7/cgroup", "0::/../other\n"), ("other/cpu.max", "1 1\n")]);
        put(room.path(), &[("cgroup/cgroup.procs", ""), ("proc/7/status", "Cpus_allowed_list:\t0\n")]);
        let now = Limits::of(&roots(room.path()), "7").now();
        assert_eq!((now.cpu_limit, now.memory_limit_bytes, now.cpuset.as_str()), (0.0, 0, "0"));
        assert_eq!(Limits::of(&roots(room.path()), "8").now().cpuset, "");
    }
}
