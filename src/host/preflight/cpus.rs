//! How many CPUs there really are: the affinity mask and the quota of the control group, which nobody else looks at.

use std::path::{Path, PathBuf};

use crate::config::Pin;

/// Which CPU each thread is bound to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinPlan {
    /// One a shard, in the shards' order.
    pub shards: Vec<usize>,
    /// The sequencer's: the last of those allowed, because interrupts like the first.
    pub sequencer: usize,
}

/// Threads and their places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub shards: u16,
    pub pin: Option<PinPlan>,
}

/// Shards unless told. Four answer 5 million pipelined gets a second (benches/RESULTS.md, 16 CPUs), and each more costs
/// every write one more table to keep: a set 3.7 us of CPU with four and 5.4 with eight.
const DEFAULT_MAX: usize = 4;

/// `clamp(cpus - 1, 1, DEFAULT_MAX)` shards unless told; bound to CPUs only when each thread gets one.
pub(super) fn plan(allowed: &[usize], quota: Option<f64>, shards: Option<u16>, pin: Pin) -> Plan {
    let cpus = usable(allowed.len(), quota);
    let default = u16::try_from(cpus.saturating_sub(1).clamp(1, DEFAULT_MAX)).expect("it is small");
    let shards = shards.unwrap_or(default);
    let threads = usize::from(shards) + 1;
    let bound = match pin {
        Pin::Auto => threads <= cpus,
        Pin::Always => threads <= allowed.len(),
        Pin::Never => false,
    };
    let pin = bound.then(|| PinPlan {
        shards: allowed[..threads - 1].to_vec(),
        sequencer: *allowed.last().expect("there is a CPU for each thread"),
    });
    Plan { shards, pin }
}

pub(super) fn describe(allowed: &[usize], quota: Option<f64>) -> String {
    let quota = quota.map_or_else(String::new, |cpus| format!(", and the control group gives {cpus:.2}"));
    format!("{} may be used{quota}", allowed.len())
}

/// Half a CPU is one; one and a half are one, because the second thread would be throttled.
fn usable(allowed: usize, quota: Option<f64>) -> usize {
    let by_quota = quota.map_or(usize::MAX, |cpus| {
        (1..=allowed).take_while(|&whole| whole as f64 <= cpus).last().unwrap_or(1)
    });
    allowed.min(by_quota).max(1)
}

/// The smallest CPU quota of this process's control group and of all above it. `root` is `/` but in tests.
pub(super) fn quota(root: &Path) -> Option<f64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mount = root.join("sys/fs/cgroup");
    let mut least: Option<f64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let found = if controllers.is_empty() {
            ["", "unified"].iter().filter_map(|name| walk(&mount.join(name), path, v2)).reduce(f64::min)
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            [controllers, "cpu", "cpu,cpuacct"]
                .iter()
                .filter_map(|name| walk(&mount.join(name), path, v1))
                .reduce(f64::min)
        } else {
            None
        };
        least = [least, found].into_iter().flatten().reduce(f64::min);
    }
    least
}

/// Inside a container the path may be the host's, which is not mounted: the mount's own root is always looked at.
fn walk(mount: &Path, path: &str, read: fn(&Path) -> Option<f64>) -> Option<f64> {
    let mut dir: PathBuf = mount.to_owned();
    let mut least = read(&dir);
    for part in path.split('/').filter(|part| !part.is_empty() && *part != "..") {
        dir.push(part);
        least = [least, read(&dir)].into_iter().flatten().reduce(f64::min);
    }
    least
}

/// `cpu.max`: `max 100000` or `150000 100000`.
fn v2(dir: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(dir.join("cpu.max")).ok()?;
    let mut fields = text.split_whitespace();
    ratio(fields.next()?, fields.next()?)
}

fn v1(dir: &Path) -> Option<f64> {
    let read = |name| std::fs::read_to_string(dir.join(name)).ok();
    ratio(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<i64>().ok()?, period.parse::<i64>().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_and_pins() {
        for (cpus, quota, asked, pin, shards, bound) in [
            (1, None, None, Pin::Auto, 1, false),
            (2, None, None, Pin::Auto, 1, true),
            (4, None, None, Pin::Auto, 3, true),
            (16, None, None, Pin::Auto, 4, true),
            (4, Some(0.5), None, Pin::Auto, 1, false),
            (4, Some(1.5), None, Pin::Auto, 1, false),
            (4, Some(2.0), None, Pin::Auto, 1, true),
            (4, Some(9.0), None, Pin::Auto, 3, true),
            (4, None, Some(4), Pin::Auto, 4, false),
            (4, None, Some(2), Pin::Never, 2, false),
            (4, Some(1.0), Some(3), Pin::Always, 3, true),
            (4, None, Some(4), Pin::Always, 4, false),
        ] {
            let allowed: Vec<usize> = (10..10 + cpus).collect();
            let plan = plan(&allowed, quota, asked, pin);
            let row = format!("{cpus} {quota:?} {asked:?} {pin:?}");
            assert_eq!((plan.shards, plan.pin.is_some()), (shards, bound), "{row}");
            if let Some(pin) = plan.pin {
                assert_eq!(pin.shards.len(), usize::from(shards), "{row}");
                assert!(!pin.shards.contains(&pin.sequencer) && pin.shards[0] == 10, "{row}");
            }
        }
    }

    #[test]
    fn quotas_of_both_generations() {
        for (groups, files, want) in [
            ("0::/\n", &[("cpu.max", "150000 100000\n")][..], Some(1.5)),
            ("0::/\n", &[("cpu.max", "max 100000\n")], None),
            ("0::/a/b\n", &[("a/cpu.max", "200000 100000"), ("a/b/cpu.max", "400000 100000")], Some(2.0)),
            ("0::/not/mounted\n", &[("cpu.max", "50000 100000")], Some(0.5)),
            (
                "4:memory:/x\n3:cpu,cpuacct:/docker/1\n",
                &[
                    ("cpu,cpuacct/cpu.cfs_quota_us", "300000\n"),
                    ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ],
                Some(3.0),
            ),
            ("1:cpu:/\n", &[("cpu/cpu.cfs_quota_us", "-1"), ("cpu/cpu.cfs_period_us", "100000")], None),
            ("1:cpu:/\n", &[("cpu/cpu.cfs_quota_us", "x"), ("cpu/cpu.cfs_period_us", "0")], None),
            ("nonsense", &[], None),
        ] {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
            std::fs::write(root.path().join("proc/self/cgroup"), groups).unwrap();
            for (name, text) in files {
                let path = root.path().join("sys/fs/cgroup").join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            assert_eq!(quota(root.path()), want, "{groups:?} {files:?}");
        }
    }
}
