//! What the operating system says about this process, for `envi` and `mntr`. What it does not say is 0 or "?".

use crate::admin::Process;
use std::fs;
use std::path::Path;

/// Looks it all up: a few small files, and a listing of the open ones.
pub(super) fn look() -> Process {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |path: &str| known(text(path).trim().to_owned());
    let variable = |name: &str| known(std::env::var(name).unwrap_or_default());
    let meminfo = text("/proc/meminfo");
    let memory_max = kilobytes(&meminfo, "MemTotal:").min(cgroup_limit());
    let memory_used = kilobytes(&text("/proc/self/status"), "VmRSS:");
    let available = kilobytes(&meminfo, "MemAvailable:");
    Process {
        open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        open_files_max: open_files_max(&text("/proc/self/limits")),
        host_name: line("/proc/sys/kernel/hostname"),
        os_version: line("/proc/sys/kernel/osrelease"),
        user_name: variable("USER"),
        user_home: variable("HOME"),
        user_dir: known(std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default()),
        memory_free: available.min(memory_max.saturating_sub(memory_used)),
        memory_max,
        memory_used,
    }
}

/// The lengths of a directory's files, those of its own directories included.
pub(super) fn directory_bytes(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            // A link is not followed: a directory that contains itself would not end.
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                // Purged meanwhile.
                Err(_) => {}
            }
        }
    }
    bytes
}

fn known(text: String) -> String {
    if text.is_empty() {
        "?".to_owned()
    } else {
        text
    }
}

/// `Key:   123 kB` in bytes.
fn kilobytes(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1_024)
}

/// `Max open files   1024   524288   files`: the first number holds.
fn open_files_max(limits: &str) -> u64 {
    let value = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match value.and_then(|value| value.split_whitespace().next()) {
        Some("unlimited") => i64::MAX.unsigned_abs(),
        Some(number) => number.parse().unwrap_or(0),
        None => 0,
    }
}

fn cgroup_limit() -> u64 {
    let text = fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    text.trim().parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_files_and_memory() {
        let process = look();
        assert!(process.open_files >= 3, "{process:?}");
        assert!(process.open_files_max >= process.open_files, "{process:?}");
        assert!(process.memory_used > 1 << 20 && process.memory_max > process.memory_used, "{process:?}");
        assert_eq!(
            open_files_max("Max open files            unlimited   unlimited   files"),
            i64::MAX as u64
        );
    }

    #[test]
    fn a_directory_is_as_large_as_its_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), [0; 100]).unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/c"), [0; 11]).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        let link = fs::symlink_metadata(dir.path().join("loop")).unwrap().len();
        assert_eq!(directory_bytes(dir.path()), 111 + link);
        assert_eq!(directory_bytes(&dir.path().join("none")), 0);
    }
}
