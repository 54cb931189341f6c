//! From a container's name to its first process: the engine is asked, or, where none knows the name, the cgroups of all
//! processes are looked through.

use crate::process::Roots;
use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The engines that are asked where none is named, in this order.
const ENGINES: [&str; 3] = ["podman", "docker", "nerdctl"];
/// An engine whose daemon does not answer is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A container's name and its first process.
pub type Found = (String, u32);

enum Answer {
    NotInstalled,
    Unknown(String),
    Found(Found),
}

/// Finds a container. `engine`: the command of the engine to ask (several words: `sudo podman`), else all are asked.
pub fn find(name: &str, engine: Option<&str>, roots: &Roots) -> Result<Found, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_plain) {
        return Err(format!("'{name}' is no name and no id of a container"));
    }
    let mut said = Vec::new();
    let named = engine.map(|engine| [engine]);
    for asked in named.as_ref().map_or(&ENGINES[..], |one| &one[..]) {
        match ask(asked, name)? {
            Answer::Found((own, pid)) if roots.started(pid).is_some() => return Ok((own, pid)),
            Answer::Found((_, pid)) => {
                said.push(format!("{asked} says process {pid}, which is not on this machine"));
            }
            Answer::Unknown(why) => said.push(format!("{asked}: {why}")),
            Answer::NotInstalled if engine.is_some() => {
                return Err(format!("{asked}: there is no such command"))
            }
            Answer::NotInstalled => {}
        }
    }
    if engine.is_none() {
        if let Some(pid) = by_cgroup(name, roots)? {
            return Ok((name.to_owned(), pid));
        }
        said.push("no process has a cgroup of that name".to_owned());
    }
    Err(format!("there is no container '{name}' ({})", said.join("; ")))
}

/// Asks one engine. An error: the container is known and does not run.
fn ask(engine: &str, name: &str) -> Result<Answer, String> {
    let mut words = engine.split_whitespace();
    let Some(program) = words.next() else { return Ok(Answer::NotInstalled) };
    let spawned = Command::new(program)
        .args(words)
        .args(["container", "inspect", "--format", "{{.State.Pid}} {{.Name}}", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else { return Ok(Answer::NotInstalled) };
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(Answer::Unknown(format!("no answer in {} s", PATIENCE.as_secs())));
            }
        }
    };
    let text = |pipe: Option<&mut dyn Read>| {
        let mut text = Vec::new();
        let _ = pipe.map(|pipe| pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut text));
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let out = text(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read));
    if !status.success() {
        let why = text(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read));
        let last = why.lines().last().unwrap_or("it ended without a word").to_owned();
        return Ok(Answer::Unknown(last));
    }
    let mut words = out.split_whitespace();
    let (pid, own) = (words.next().unwrap_or_default().parse(), words.next().unwrap_or(name));
    match pid {
        Ok(0) => Err(format!("the container '{name}' does not run")),
        Ok(pid) => Ok(Answer::Found((own.trim_start_matches('/').to_owned(), pid))),
        Err(_) => Ok(Answer::Unknown(format!("'{out}' is no process id"))),
    }
}

/// The oldest of the processes whose cgroup's path has a part that contains the name.
fn by_cgroup(name: &str, roots: &Roots) -> Result<Option<u32>, String> {
    let mut oldest: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    for pid in roots.pids() {
        let Some(started) = roots.started(pid) else { continue };
        for (_, path) in roots.cgroups(&pid.to_string()) {
            // Podman's monitor has a cgroup of its own beside the container's.
            let part = path.split('/').find(|part| part.contains(name) && !part.contains("conmon"));
            if let Some(part) = part {
                let first = oldest.entry(container_of(part)).or_insert((started, pid));
                *first = (started, pid).min(*first);
            }
        }
    }
    match oldest.len() {
        0 | 1 => Ok(oldest.into_values().next().map(|(_, pid)| pid)),
        _ => {
            let names: Vec<_> = oldest.into_keys().take(5).collect();
            Err(format!("'{name}' is in the cgroups of several: {}", names.join(", ")))
        }
    }
}

/// The container's id in a part of a cgroup's path, which engines write as `ID`, `docker-ID.scope`,
/// `cri-containerd-ID.scope`; without one, the whole part.
fn container_of(part: &str) -> String {
    let is_id = |word: &&str| word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    part.split(['-', '.', ':', '_']).find(is_id).unwrap_or(part).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    const ID: &str = "0a1b2c3d4e5f60718293";
    const OTHER: &str = "0affffffffffffffffff";

    /// A process: its number, when it began, its pid namespace, its cgroup.
    fn process(roots: &Roots, pid: &str, started: u64, space: &str, cgroup: &str) {
        let dir = roots.proc.join(pid);
        fs::create_dir_all(dir.join("ns")).expect("it is made");
        let stat = format!("{pid} (a) b) S 1 1 1 0 -1 0 0 0 0 0 200 100 0 0 20 0 3 0 {started} 0 0");
        fs::write(dir.join("stat"), stat).expect("it is written");
        fs::write(dir.join("status"), "VmRSS: 10 kB\nVmHWM: 20 kB\nThreads: 3\n").expect("it is written");
        fs::write(dir.join("cmdline"), format!("/bin/p{pid}\0-x\0")).expect("it is written");
        fs::write(dir.join("cgroup"), format!("0::{cgroup}\n")).expect("it is written");
        symlink(format!("pid:[{space}]"), dir.join("ns/pid")).expect("a link");
    }

    fn machine(room: &Path) -> Roots {
        let roots = Roots { proc: room.join("proc"), cgroup: room.join("cgroup") };
        process(&roots, "self", 900, "1", "/user.slice");
        process(&roots, "1", 1, "1", "/");
        process(&roots, "40", 50, "1", &format!("/machine.slice/libpod-conmon-{ID}.scope"));
        process(&roots, "60", 61, "2", &format!("/machine.slice/libpod-{ID}.scope/container"));
        process(&roots, "41", 62, "2", &format!("/machine.slice/libpod-{ID}.scope/container/below"));
        // Of the same namespace, wherever else it is.
        process(&roots, "62", 63, "2", "/elsewhere");
        process(&roots, "70", 70, "3", &format!("/system.slice/docker-{OTHER}.scope"));
        roots
    }

    fn shell(script: &str, room: &Path) -> String {
        let path = room.join("engine");
        fs::write(&path, script).expect("it is written");
        format!("sh {}", path.display())
    }

    #[test]
    fn without_an_engine_a_cgroup_is_found_by_the_id_and_its_oldest_process_taken() {
        let room = tempfile::tempdir().expect("a directory");
        let roots = machine(room.path());
        assert_eq!(by_cgroup(&ID[..12], &roots), Ok(Some(60)));
        assert_eq!(by_cgroup(OTHER, &roots), Ok(Some(70)));
        assert_eq!(by_cgroup("nothing", &roots), Ok(None));
        let why = by_cgroup("0a", &roots).expect_err("two have it");
        assert!(why.contains("several") && why.contains(ID) && why.contains(OTHER), "{why}");
    }

    #[test]
    fn all_processes_of_a_container_are_one_server() {
        let room = tempfile::tempdir().expect("a directory");
        let roots = machine(room.path());
        let mut together = roots.together_with(60);
        together.sort_unstable();
        assert_eq!(together, [41, 60, 62]);
        assert_eq!(roots.together_with(1), [1], "what has our own namespace and cgroup is itself alone");
        let server = crate::server::Server::container("mine".to_owned(), 60, roots.clone());
        let before = server.read().expect("it runs");
        assert_eq!(before.rss(), 3 * 10 * 1024);
        // One works, one ends, one begins.
        fs::remove_dir_all(roots.proc.join("62")).expect("it ends");
        let stat = fs::read_to_string(roots.proc.join("41/stat")).expect("it is read");
        fs::write(roots.proc.join("41/stat"), stat.replace(" 200 100 ", " 500 200 ")).expect("it is written");
        process(&roots, "63", 99, "2", "/");
        let after = server.read().expect("it runs");
        let used = server.used(&before, &after, 1_000_000);
        assert_eq!((used.name.as_str(), used.processes, used.threads), ("mine", 3, 9));
        assert!(
            (used.cpu_s - 7.0).abs() < 1e-9,
            "4 s of the one that worked, 3 s of the new one: {}",
            used.cpu_s
        );
        assert!((used.cpu_us_per_op - 7.0).abs() < 1e-9 && (used.user_share - 5.0 / 7.0).abs() < 1e-9);
        assert_eq!(used.command, "p41", "the one that did the work");
    }

    #[test]
    fn an_engine_is_asked_and_believed_where_its_process_is_here() {
        let room = tempfile::tempdir().expect("a directory");
        let roots = machine(room.path());
        let ask = |script: &str| find("web", Some(&shell(script, room.path())), &roots);
        assert_eq!(
            ask("[ \"$1 $2 $5\" = 'container inspect web' ] && echo 60 /my-web"),
            Ok(("my-web".to_owned(), 60))
        );
        for (script, word) in [
            ("echo 0 web", "does not run"),
            ("echo 12345 web", "12345, which is not on this machine"),
            ("echo no such container >&2; exit 125", "no such container"),
            ("echo '<no value>'", "no process id"),
            ("exit 1", "without a word"),
        ] {
            let why = ask(script).expect_err(script);
            assert!(why.contains("'web'") && why.contains(word), "{script}: {why}");
        }
        let why = find("web", Some("/none/such/engine"), &roots).expect_err("it is not there");
        assert!(why.contains("no such command"), "{why}");
        for name in ["", "-f", "a b", "a/b"] {
            assert!(find(name, None, &roots).is_err_and(|why| why.contains("no name")), "{name}");
        }
    }
}
