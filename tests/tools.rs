//! `check`, `inspect` and `verify` as an operator runs them, on a data directory that a real server has left.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// A server, killed when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(data: &Path) -> Server {
        Server::start_with(data, Stdio::null())
    }

    fn start_with(data: &Path, stderr: Stdio) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1", "--set", "ringkeeper.segmentSizeKb=2048"])
            .args(["--client-port", &port.to_string(), "--data-dir"])
            .arg(data)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Server { child, port }
    }

    /// A new session on a server that serves: until then it closes the connection.
    fn connect(&self) -> TcpStream {
        let until = Instant::now() + Duration::from_secs(20);
        let mut hello = vec![0; 4 + 45];
        hello[3] = 45;
        hello[4 + 12..4 + 16].copy_from_slice(&30_000i32.to_be_bytes());
        hello[4 + 24..4 + 28].copy_from_slice(&16i32.to_be_bytes());
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                if stream.write_all(&hello).is_ok() && frame(&mut stream).is_some() {
                    return stream;
                }
            }
            assert!(Instant::now() < until, "the server does not serve");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).ok()?;
    let mut body = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

fn create(stream: &mut TcpStream, path: &str) {
    let mut body = Vec::new();
    let put = |body: &mut Vec<u8>, bytes: &[u8]| {
        body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        body.extend_from_slice(bytes);
    };
    body.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    put(&mut body, path.as_bytes());
    put(&mut body, b"some data");
    body.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 31]);
    put(&mut body, b"world");
    put(&mut body, b"anyone");
    body.extend_from_slice(&[0; 4]);
    let mut out = Vec::new();
    put(&mut out, &body);
    stream.write_all(&out).unwrap();
    let reply = frame(stream).expect("an answer");
    assert_eq!(reply[12..16], [0; 4], "create {path}");
}

fn run(args: &[&str], path: &Path) -> (i32, String) {
    let Output { status, stdout, stderr } = Command::new(BINARY).args(args).arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().unwrap_or(-1), said)
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == extension));
    found.sort();
    found
}

#[test]
fn what_a_server_left_is_shown_and_judged() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = Server::start(&data);
    let mut client = server.connect();
    for n in 0..300 {
        create(&mut client, &format!("/node-{n}"));
    }
    let (exit, said) = run(&["verify"], &data);
    assert!(exit == 71 && said.contains("is running on it"), "{exit}: {said}");
    // It would have waited for what can not happen, and the server runs on.
    let (exit, said) = run(&["leave", "--data-dir"], &data);
    assert!(exit == 71 && said.contains("is in no ensemble"), "{exit}: {said}");
    create(&mut client, "/node-300");
    drop(client);
    drop(server);

    let (exit, said) = run(&["verify"], &data);
    assert!(exit == 0 && said.contains("result         fine"), "{exit}: {said}");
    assert!(said.contains("305 znodes"), "{said}");
    assert!(said.contains(" entries of the log, without a snapshot: up to entry "), "{said}");
    assert!(said.contains(", term 1; zxid"), "{said}");
    // A log elsewhere is this directory's, or it is not looked at.
    let other = home.path().join("other");
    let server = Server::start(&other);
    drop(server.connect());
    drop(server);
    for (log, what) in
        [(&other, "is the log of another data directory"), (&home.path().into(), "is not its log")]
    {
        let (exit, said) = run(&["verify", "--log-dir", log.to_str().unwrap()], &data);
        assert!(exit == 78 && said.contains(what), "{exit}: {said}");
    }
    let (exit, said) = run(&["check", "--client-port", "0", "--data-dir"], &data);
    assert!(exit == 0 && said.contains("a server would start"), "{exit}: {said}");

    let segments = files(&data.join("log"), "seg");
    let (exit, said) = run(&["inspect", "log"], &segments[0]);
    assert!(exit == 0 && said.contains("Create \"/node-299\" flags 0 9 bytes"), "{exit}: {said}");
    let (exit, said) = run(&["inspect", "snapshot"], &segments[0]);
    assert!(exit == 74 && said.contains("not a ringkeeper snapshot"), "{exit}: {said}");

    // A record in the middle, which later ones vouch for.
    let mut bytes = fs::read(&segments[0]).unwrap();
    bytes[4096 * 20 + 60] ^= 1;
    fs::write(&segments[0], bytes).unwrap();
    for (args, path) in [(&["verify"][..], &data), (&["inspect", "log"][..], &segments[0])] {
        let (exit, said) = run(args, path);
        assert!(exit == 74 && said.contains("DAMAGED"), "{exit}: {said}");
        assert!(said.contains("log segment 0000000000000001, offset 81920"), "{said}");
    }
    let (exit, said) = run(&["serve", "--client-port", "0", "--data-dir"], &data);
    assert!(exit == 74 && said.contains("offset 81920"), "{exit}: {said}");

    fs::write(data.join("ringkeeper.id"), "ringkeeper").unwrap();
    let (exit, said) = run(&["verify"], &data);
    assert!(exit == 74 && said.contains("ringkeeper.id"), "{exit}: {said}");
}

#[test]
fn what_is_not_ours_is_refused_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    for (args, path, want) in [
        (&["verify"][..], home.path().to_owned(), (78, "not a data directory of ringkeeper")),
        (&["verify"], home.path().join("missing"), (71, "missing")),
        (&["inspect", "log"], home.path().join("missing"), (71, "missing")),
        (&["inspect", "snapshot"], home.path().to_owned(), (78, "not a file")),
    ] {
        let (exit, said) = run(args, &path);
        assert!(exit == want.0 && said.contains(want.1), "{args:?}: {exit}: {said}");
    }
    fs::create_dir(home.path().join("version-2")).unwrap();
    let (exit, said) = run(&["verify"], home.path());
    assert!(exit == 78 && said.contains("ZooKeeper"), "{exit}: {said}");
}

#[test]
fn what_the_environment_says_is_taken_as_it_was_meant_or_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let home = tempfile::tempdir().unwrap();
    let dangling = home.path().join("conf");
    fs::create_dir(&dangling).unwrap();
    std::os::unix::fs::symlink("gone", dangling.join("zoo.cfg")).unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (name, value, want) in [
        ("ZOO_CONF_DIR", dangling.as_os_str(), (78, "conf/zoo.cfg: FILE=")),
        ("ZOO_CONF_DIR", file.as_os_str(), (78, "file/zoo.cfg: FILE=")),
        ("ZOO_CONF_DIR", empty.as_os_str(), (0, "configuration file none")),
        ("ZOO_DATA_DIR", OsStr::from_bytes(b"/d\xff"), (78, "environment ZOO_DATA_DIR: ZOO_DATA_DIR=/d")),
        ("JVMFLAGS", OsStr::from_bytes(b"-Dx=\xff"), (78, "environment JVMFLAGS")),
        ("LANG", OsStr::from_bytes(b"\xff"), (0, "configuration file none")),
    ] {
        let data = home.path().join("data");
        let Output { status, stdout, stderr } = Command::new(BINARY)
            .args(["check", "--client-port", "0", "--data-dir"])
            .arg(&data)
            .env(name, value)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert!(status.code() == Some(want.0) && said.contains(want.1), "{name}={value:?}: {status}: {said}");
    }
}

#[test]
fn a_standard_error_that_takes_nothing_ends_no_server_and_hides_no_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut server = Server::start_with(&home.path().join("data"), full().into());
    create(&mut server.connect(), "/a");
    assert!(server.child.try_wait().unwrap().is_none());
    for (args, want) in [
        (&["serve", "--tick-time=x"][..], 78),
        (&["check", "--tick-time=x"], 78),
        (&["verify", "missing"], 71),
        (&["inspect", "log", "missing"], 71),
    ] {
        let status =
            Command::new(BINARY).args(args).current_dir(home.path()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(want), "{args:?}");
    }
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_nobody() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::start_with(&home.path().join("data"), Stdio::piped());
    let mut client = server.connect();
    let mut unread = server.child.stderr.take().unwrap();
    // The pipe is made full from the other side, so that the server's next line stands still.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&unread));
    let mut filler = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    for piece in [&[b'x'; 4096][..], b"x"] {
        while filler.write(piece).is_ok() {}
    }
    for n in 0..20 {
        // What is no frame is told to the operator.
        let mut stranger = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stranger.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stranger.write_all(&[0xff; 50]).unwrap();
        assert!(!matches!(stranger.read(&mut [0; 10]), Ok(1..)), "stranger {n}");
        create(&mut client, &format!("/{n}"));
    }
    let ended = Command::new("kill").arg(server.child.id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "the end does not wait for it either");
    drop(filler);
    let mut said = Vec::new();
    unread.read_to_end(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("ringkeeper serves on"), "what was said before is there");
}

/// nohup(1) leaves SIGHUP ignored, a script's shell SIGINT where it puts a command into the background.
#[test]
fn a_signal_that_was_ignored_at_the_start_ends_no_server() {
    let home = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("sh")
        .args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\"", BINARY])
        .args(["serve", "--listen", "127.0.0.1", "--set", "ringkeeper.segmentSizeKb=2048"])
        .args(["--client-port", &port.to_string(), "--data-dir"])
        .arg(home.path().join("data"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server { child, port };
    let mut client = server.connect();
    // One that is waited for is taken in the order of the numbers: SIGTERM comes last.
    for signal in ["-HUP", "-INT", "-TERM"] {
        create(&mut client, &format!("/{}", &signal[1..]));
        let sent = Command::new("kill").args([signal, &server.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
    let until = Instant::now() + Duration::from_secs(20);
    let ended = loop {
        assert!(Instant::now() < until, "SIGTERM ends it");
        match server.child.try_wait().unwrap() {
            Some(ended) => break ended,
            None => std::thread::yield_now(),
        }
    };
    assert_eq!(ended.code(), Some(0));
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("SIGTERM: going down"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = Server::start(&data);
    let mut client = server.connect();
    for n in 0..1000 {
        create(&mut client, &format!("/node-{n}"));
    }
    drop(client);
    drop(server);
    let mut child = Command::new(BINARY)
        .args(["inspect", "log"])
        .arg(&files(&data.join("log"), "seg")[0])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}
