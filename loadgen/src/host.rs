//! The machine that this runs on. Linux's /proc, read.

use crate::cgroup::Limits;
use crate::process::{field, Roots};
use crate::result::Host;
use std::fs;

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
        cgroup: Limits::of(&Roots::default(), "self").now(),
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
    fn this_machine_is_read() {
        let host = host();
        assert!(host.cpus >= 1 && host.memory_bytes > 0 && !host.kernel.is_empty());
        assert!(file_system("/proc").is_some_and(|text| text.contains("proc")));
    }
}
