//! A server under load, as the machine it runs on sees it: one process, or all processes of a container.

use crate::cgroup::Limits;
use crate::process::{Process, Roots};
use crate::result::ServerUse;

/// Whom the readings are of.
#[derive(Clone, Debug)]
pub struct Server {
    /// A process id, or the container's name.
    pub name: String,
    pid: u32,
    is_container: bool,
    roots: Roots,
}

/// One reading of all processes of a server.
#[derive(Clone, Debug)]
pub struct Reading {
    processes: Vec<Process>,
    limits: Limits,
}

impl Server {
    /// A process; an error: there is none.
    pub fn process(pid: u32, roots: Roots) -> Result<Server, String> {
        roots.started(pid).ok_or_else(|| format!("there is no process {pid} on this machine"))?;
        Ok(Server { name: pid.to_string(), pid, is_container: false, roots })
    }

    /// All processes of the container that this one is in.
    #[must_use]
    pub fn container(name: String, pid: u32, roots: Roots) -> Server {
        Server { name, pid, is_container: true, roots }
    }

    /// The processes that are counted.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        match self.is_container {
            true => self.roots.together_with(self.pid),
            false => vec![self.pid],
        }
    }

    #[must_use]
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// `None`: no process of it is left.
    #[must_use]
    pub fn read(&self) -> Option<Reading> {
        let mut processes: Vec<Process> =
            self.pids().into_iter().filter_map(|pid| Process::of(&self.roots, pid)).collect();
        processes.sort_by_key(|process| (process.started, process.pid));
        let limits = Limits::of(&self.roots, &self.pid.to_string());
        (!processes.is_empty()).then_some(Reading { processes, limits })
    }

    /// What it used between two readings in which `ops` operations were answered.
    #[must_use]
    pub fn used(&self, before: &Reading, after: &Reading, ops: u64) -> ServerUse {
        let cpu_s = after.cpu_since(before);
        let ops = ops.max(1) as f64;
        let sum = |what: fn(&Process) -> u64| after.processes.iter().map(what).sum::<u64>();
        let grown = |what: fn(&Process) -> u64| after.grown(before, what);
        let ticks = |what: fn(&Process) -> f64| {
            let of = |process: &Process| what(process) - before.same(process).map_or(0.0, what);
            after.processes.iter().map(of).sum::<f64>()
        };
        let (user, all) = (ticks(|process| process.user_s), ticks(Process::cpu_s));
        let written = grown(|process| process.written);
        ServerUse {
            name: self.name.clone(),
            command: self.command(after),
            processes: after.processes.len() as u64,
            cpu_s,
            cpu_us_per_op: cpu_s * 1e6 / ops,
            user_share: if all > 0.0 { user / all } else { 0.0 },
            voluntary_switches: grown(|process| process.voluntary),
            involuntary_switches: grown(|process| process.involuntary),
            rss_bytes: after.rss(),
            rss_bytes_max: sum(|process| process.rss_max),
            threads: sum(|process| process.threads),
            disk_write_bytes: written,
            disk_write_bytes_per_op: written as f64 / ops,
            cgroup: after.limits.since(&before.limits),
        }
    }

    /// The program's name and its first words, for tables: of the process that took most processor time, because the first
    /// may only have launched it.
    fn command(&self, reading: &Reading) -> String {
        let busiest = reading.processes.iter().max_by(|a, b| a.cpu_s().total_cmp(&b.cpu_s()));
        let words = busiest.map_or(Vec::new(), |process| self.roots.words(process.pid));
        let name = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
        let main = words.iter().find(|word| word.starts_with("org.apache.zookeeper.server"));
        format!("{name} {}", main.map_or("", |word| word.as_str())).trim().to_owned()
    }
}

impl Reading {
    fn same(&self, other: &Process) -> Option<&Process> {
        self.processes.iter().find(|one| (one.pid, one.started) == (other.pid, other.started))
    }

    fn grown(&self, before: &Reading, what: fn(&Process) -> u64) -> u64 {
        let of = |process: &Process| what(process).saturating_sub(before.same(process).map_or(0, what));
        self.processes.iter().map(of).sum()
    }

    /// Seconds of processor time since an earlier reading. Of a process that has begun since, all of it; what one used
    /// that has ended since is lost.
    #[must_use]
    pub fn cpu_since(&self, before: &Reading) -> f64 {
        let none = Process::default();
        self.processes.iter().map(|one| one.cpu_since(before.same(one).unwrap_or(&none))).sum()
    }

    /// Seconds of processor time of the processes that live.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.processes.iter().map(Process::cpu_s).sum()
    }

    #[must_use]
    pub fn rss(&self) -> u64 {
        self.processes.iter().map(|process| process.rss).sum()
    }

    #[must_use]
    pub fn throttled_us(&self) -> u64 {
        self.limits.throttled_us()
    }
}

/// A reading of each.
#[must_use]
pub fn read_all(servers: &[Server]) -> Vec<Option<Reading>> {
    servers.iter().map(Server::read).collect()
}

/// Seconds of processor time of all of them between two readings.
#[must_use]
pub fn cpu_between(before: &[Option<Reading>], after: &[Option<Reading>]) -> f64 {
    let pairs =
        before.iter().zip(after).filter_map(|(before, after)| Some((before.as_ref()?, after.as_ref()?)));
    pairs.map(|(before, after)| after.cpu_since(before)).sum()
}

/// Resident bytes of all of them.
#[must_use]
pub fn rss_of(readings: &[Option<Reading>]) -> u64 {
    readings.iter().flatten().map(Reading::rss).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let own = Server::process(std::process::id(), Roots::default()).expect("we are a process");
        let before = own.read().expect("it lives");
        assert!(before.rss() > 0);
        let use_ = own.used(&before, &before, 10);
        assert_eq!((use_.cpu_s, use_.voluntary_switches, use_.processes), (0.0, 0, 1));
        assert!(use_.threads >= 1);
        let why = Server::process(u32::MAX, Roots::default()).expect_err("there is none");
        assert!(why.contains("no process 4294967295"), "{why}");
    }
}
