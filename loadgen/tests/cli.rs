//! The program as a user meets it: what goes wrong is said, what was measured is kept, and the exit code tells the two apart.

use ringkeeper::wire::{
    begin_frame, end_frame, put_i32, put_i64, ConnectRequest, ConnectResponse, OpCode, Reader,
};
use rustix::process::{kill_process, Pid, Signal};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

const SERVER: i32 = 1;
const USAGE: i32 = 2;
const INVALID: i32 = 3;
const RATE_MISSED: i32 = 4;
const NOT_WRITTEN: i32 = 5;

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringkeeper-load"));
    command.stdin(Stdio::null());
    command
}

fn load(words: &str) -> Ended {
    let ended = program().args(words.split_whitespace()).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { code: ended.status.code().expect("no signal"), out: text(ended.stdout), err: text(ended.stderr) }
}

/// The null responder, ended with the test.
struct Null {
    child: Child,
    address: String,
}

impl Null {
    fn start() -> Null {
        let mut child = program().arg("null").stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut address = String::new();
        let pipe = child.stdout.take().expect("a pipe");
        BufReader::new(pipe).read_line(&mut address).expect("it says where it listens");
        Null { child, address: address.trim().to_owned() }
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// What a server of the tests does.
#[derive(Clone, Copy)]
enum Way {
    /// Every session is refused.
    Refuses,
    /// Closes after so many requests, and from then on every connection at once.
    ClosesAfter(usize),
    /// Closes the connection once, at that request; no session is taken up again.
    ForgetsAt(usize),
    /// Refuses all credentials.
    RefusesCredentials,
    /// Answers every request with NONODE.
    HasNothing,
    /// Has all znodes from that request on: a create of one is refused.
    HasAllFrom(usize),
}

fn server(way: Way) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let number = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let number = number.clone();
            std::thread::spawn(move || serve(stream, way, &number));
        }
    });
    address
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let mut body = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

fn serve(mut stream: TcpStream, way: Way, number: &AtomicUsize) -> Option<()> {
    let hello = frame(&mut stream)?;
    let hello = ConnectRequest::decode(&hello).ok()?;
    let is_known = match way {
        Way::Refuses => false,
        Way::ForgetsAt(_) => hello.session_id == 0,
        Way::ClosesAfter(end) if number.load(Ordering::Relaxed) >= end => return None,
        _ => true,
    };
    let mut out = Vec::new();
    if is_known {
        let (timeout_ms, session_id) = (hello.timeout_ms, 7);
        ConnectResponse { timeout_ms, session_id, password: [1; 16], read_only: Some(false) }
            .encode(&mut out);
    } else {
        ConnectResponse::expired(Some(false)).encode(&mut out);
    }
    stream.write_all(&out).ok()?;
    loop {
        let request = frame(&mut stream)?;
        let mut reader = Reader::new(&request);
        let (xid, op) = (reader.i32().ok()?, reader.i32().ok()?);
        let now = number.fetch_add(1, Ordering::Relaxed);
        match way {
            Way::ClosesAfter(end) if now >= end => return None,
            Way::ForgetsAt(at) if now == at => return None,
            _ => {}
        }
        let path = reader.buffer().ok().flatten();
        let mut out = Vec::new();
        let start = begin_frame(&mut out);
        put_i32(&mut out, xid);
        put_i64(&mut out, 1);
        put_i32(
            &mut out,
            match way {
                Way::HasNothing => -101,
                Way::HasAllFrom(begin) if now >= begin && op == OpCode::Create as i32 => -110,
                _ if op == OpCode::Auth as i32 => -115,
                _ => 0,
            },
        );
        match (OpCode::from_i32(op), path) {
            (Some(OpCode::Create), Some(path)) => {
                put_i32(&mut out, path.len() as i32);
                out.extend_from_slice(path);
            }
            _ => out.extend_from_slice(&[0; 68]),
        }
        end_frame(&mut out, start);
        stream.write_all(&out).ok()?;
    }
}

/// Every mode, short.
const MODES: [&str; 7] = [
    "run -r 100 -c 4 -k 10 --duration 0.5 --warmup 0",
    "ladder -r 100 --to 200 -c 4 -k 10 --duration 0.3 --warmup 0",
    "gap -r 100 -c 4 -k 10 --duration 0.5 --warmup 0",
    "fan-out -w 4 --rounds 2",
    "storm -n 4 --hold 0.1",
    "churn -r 50 --duration 0.5",
    "fill -k 100",
];

#[test]
fn a_server_that_is_not_there_is_named_by_every_mode() {
    let at = nobody();
    for mode in MODES {
        let ended = load(&format!("{mode} -q -s {at} --connect-timeout 0.5"));
        assert_eq!(ended.code, SERVER, "{mode}: {}", ended.err);
        assert!(
            ended.err.contains(&at.to_string()) && ended.err.contains("refused"),
            "{mode}: {}",
            ended.err
        );
    }
}

#[test]
fn a_refused_session_is_said_by_every_mode() {
    let at = server(Way::Refuses);
    for mode in MODES {
        let ended = load(&format!("{mode} -q -s {at} --connect-timeout 2"));
        assert_eq!(ended.code, SERVER, "{mode}: {}", ended.err);
        assert!(
            ended.err.contains("expired") || ended.err.contains("refused a session"),
            "{mode}: {}",
            ended.err
        );
    }
}

#[test]
fn a_password_that_the_server_does_not_take_is_a_session_lost_and_the_run_goes_on() {
    let room = tempfile::tempdir().expect("a directory");
    let json = room.path().join("a.json");
    let at = server(Way::ForgetsAt(20));
    let mix = "-m exists=1 -r 200 -c 2 -k 10 --duration 1 --warmup 0 --no-setup";
    let ended = load(&format!("run {mix} -q -s {at} --json {}", json.display()));
    let result = ringkeeper_load::files::read(&json).expect("a result");
    let counts = &result.counts;
    assert_eq!((counts.connections_lost, counts.sessions_lost), (1, 1), "{}", ended.out);
    assert_eq!((counts.due, counts.answered + counts.errors), (200, 200));
    assert!(
        ended.out.contains("1 connections lost") && ended.out.contains("1 sessions lost"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("1 sessions were lost and begun anew"), "{}", ended.out);
}

#[test]
fn wrong_credentials_are_said_and_never_shown() {
    let at = server(Way::RefusesCredentials);
    for mode in [
        "run -k 10",
        "fill -k 10",
        "storm -n 2",
        "churn -r 20 --duration 0.5",
        "run --no-setup --duration 0.5",
    ] {
        let ended = load(&format!("{mode} -q -s {at} --auth digest:me:secret --connect-timeout 2"));
        let all = format!("{}{}", ended.out, ended.err);
        assert!([SERVER, RATE_MISSED, INVALID].contains(&ended.code), "{mode}: {} {all}", ended.code);
        assert!(all.contains("refused the credentials: AUTHFAILED"), "{mode}: {all}");
        assert!(!all.contains("secret"), "{mode}: {all}");
        // It is there: it said no.
        let is_storm = mode.starts_with("storm");
        assert_eq!(all.contains("the server refused all of them"), is_storm, "{mode}: {all}");
        assert!(!is_storm || ended.code == SERVER && !all.contains("the server is gone"), "{mode}: {all}");
    }
    for (given, word) in [("nothing", "SCHEME:WORDS"), ("@/none/such", "/none/such")] {
        let ended = load(&format!("run -q -s {at} --auth {given}"));
        assert!(ended.code == USAGE && ended.err.contains(word), "{given}: {}", ended.err);
    }
}

#[test]
fn a_server_that_dies_leaves_what_was_measured() {
    let room = tempfile::tempdir().expect("a directory");
    let json = room.path().join("a.json");
    let kept = |words: &str, child: &mut Null| {
        let _ = std::fs::remove_file(&json);
        let mut run = program()
            .args(words.split_whitespace())
            .args(["-s", &child.address, "--json"])
            .arg(&json)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut progress = BufReader::new(run.stderr.take().expect("a pipe"));
        let mut line = String::new();
        // A fan-out's first round is not counted.
        for _ in 0..3 {
            progress.read_line(&mut line).expect("a line of progress");
        }
        child.child.kill().expect("it lives");
        let code = run.wait().expect("it ends").code().expect("no signal");
        let result =
            ringkeeper_load::files::read(&json).unwrap_or_else(|why| panic!("{words}: {line} {why}"));
        assert!(result.all.answered > 0 && !result.verdict.reasons.is_empty(), "{words}");
        (code, result)
    };
    let load = "-r 200 -c 4 -k 10 --duration 2 --warmup 0 --interval 0.2 --drain 0.3";
    let (code, result) = kept(&format!("run {load}"), &mut Null::start());
    assert_eq!(code, SERVER, "{:?}", result.verdict);
    assert_eq!((result.counts.due, result.counts.answered + result.counts.errors), (400, 400));
    assert!(result.verdict.reasons.iter().any(|why| why.contains("the server is gone")));
    let (code, result) = kept(&format!("gap {load}"), &mut Null::start());
    assert!(code == SERVER && result.gap_ns.0 > 500_000_000, "{code} {:?}", result.gap_ns);
    let (code, result) = kept(&format!("ladder {load} --to 1000"), &mut Null::start());
    assert!(code == SERVER && result.ladder.len() == 1, "{code} {:?}", result.verdict);
    let (code, result) = kept("fan-out -w 4 --rounds 100000 --patience 5", &mut Null::start());
    assert!(code == SERVER, "{code} {:?}", result.verdict);
    let at = server(Way::ClosesAfter(500));
    let ended = self::load(&format!("fill -q -s {at} -k 5000 --json {}", json.display()));
    let result = ringkeeper_load::files::read(&json).expect("a result");
    assert!(ended.code == SERVER && (1..=500).contains(&result.counts.answered), "{}", ended.out);
    assert!(ended.out.contains("ended before its time"), "{}", ended.out);
}

#[test]
fn a_rate_out_of_reach_is_said() {
    let null = Null::start();
    let ended = load(&format!(
        "run -q -s {} -r 5000000 -c 2 -k 10 --duration 0.5 --warmup 0 --drain 0.1",
        null.address
    ));
    assert!([INVALID, RATE_MISSED].contains(&ended.code), "{}", ended.code);
    assert!(ended.out.contains("the rate was not reached"), "{}", ended.out);
}

/// A mistyped port of a list put the load on the others, and nothing was said.
#[test]
fn a_server_of_a_list_that_took_no_connection_is_named() {
    let (null, nobody) = (Null::start(), nobody());
    let all =
        format!("-r 100 -c 4 -m get=1 --duration 0.3 --warmup 0 --no-setup -q -s {},{nobody}", null.address);
    let ended = load(&format!("run {all}"));
    assert!(
        ended.out.contains(&format!("no connection to {nobody} was ever up")),
        "{} {}",
        ended.out,
        ended.err
    );
    assert!(!ended.out.contains(&format!("no connection to {} was", null.address)), "{}", ended.out);
}

#[test]
fn a_ladder_that_meets_the_generators_limit_says_at_least() {
    let room = tempfile::tempdir().expect("a directory");
    let json = room.path().join("a.json");
    let null = Null::start();
    // The last step asks one thread for more than any can send, on connections that have room for it: where others take its
    // core, it is late if not busy.
    let steps =
        "-r 100 --to 50000000 --factor 500000 -c 16 -d 3000 -k 10 --duration 0.5 --warmup 0 --drain 0.1";
    let ended = load(&format!("ladder -q -s {} {steps} --json {}", null.address, json.display()));
    assert_eq!(ended.code, INVALID, "{}", ended.out);
    assert!(ended.out.contains("the load generator was the limit, not the server"), "{}", ended.out);
    let result = ringkeeper_load::files::read(&json).expect("a result");
    assert!(
        !result.verdict.is_valid && result.ladder.last().is_some_and(|step| !step.is_valid && !step.is_knee)
    );
}

#[test]
fn what_is_impossible_is_refused_before_anything_is_asked() {
    let room = tempfile::tempdir().expect("a directory");
    let number = AtomicUsize::new(0);
    let scenario = |text: &str| {
        let path = room.path().join(format!("{}s.toml", number.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&path, text).expect("it is written");
        format!("run --scenario {}", path.display())
    };
    let space = "[[space]]\nname = \"a\"\nroot = \"/a\"\nkeys = 1\n";
    for (words, word) in [
        (scenario("no toml"), "s.toml"),
        (scenario(space), "missing field `request`"),
        (scenario(&format!("{space}[[request]]\nop = \"get\"\nweight = 0\nspace = \"a\"\n")), "above 0"),
        (scenario(&format!("{space}[[request]]\nop = \"get\"\nweight = 1\nspace = \"b\"\n")), "no space 'b'"),
        ("run --scenario /none/such.toml".to_owned(), "/none/such.toml"),
        ("run --scenario /dev/zero".to_owned(), "at most"),
        ("run -m fly=1".to_owned(), "no operation is called 'fly'"),
        ("run --interval 0.0000000001".to_owned(), "--interval is at least"),
        ("run --duration 1000000 --interval 0.01".to_owned(), "intervals"),
        ("run --pid 4194305".to_owned(), "no process 4194305"),
        ("gap --kill 4194305".to_owned(), "no process 4194305"),
        ("gap --kill 4194305 --kill-after 10".to_owned(), "--duration 10"),
        ("gap --restart true --duration 2".to_owned(), "--kill-after 3 is not before the end"),
        ("storm --container a/b".to_owned(), "no name and no id"),
        ("fill --container x --engine /none/such".to_owned(), "no such command"),
        ("run -s no.such.host.invalid:1".to_owned(), "no.such.host.invalid"),
        ("ladder --rate 100 --to 10".to_owned(), "below"),
        ("ladder --to nan".to_owned(), "'nan' is no rate"),
        ("ladder --p99-max nan".to_owned(), "milliseconds"),
        ("ladder --rate 100-500".to_owned(), "one number"),
        ("run -m get=1,get=2".to_owned(), "get is there twice"),
        ("storm --auth digest:me".to_owned(), "a user and a password"),
    ] {
        let ended = load(&format!("{words} -q"));
        assert_eq!(ended.code, USAGE, "{words}: {}", ended.err);
        assert!(ended.err.contains(word) && ended.out.is_empty(), "{words}: {}", ended.err);
    }
}

#[test]
fn a_full_disk_costs_what_goes_there_and_nothing_else() {
    let room = tempfile::tempdir().expect("a directory");
    let null = Null::start();
    let html = room.path().join("a.html");
    let run = format!("run -q -s {} -r 100 -c 2 -k 10 --duration 0.3 --warmup 0", null.address);
    let ended = load(&format!("{run} --json /dev/full --hlog /dev/full --html {}", html.display()));
    assert_eq!(ended.code, NOT_WRITTEN, "{}", ended.err);
    assert_eq!(ended.err.matches("cannot write /dev/full").count(), 2, "{}", ended.err);
    assert!(ended.out.contains("30 answered, 0 errors"), "the table is printed: {}", ended.out);
    assert!(std::fs::read_to_string(&html).is_ok_and(|page| page.ends_with("</html>\n")));
    // Nobody takes the table; the files are kept all the same.
    let json = room.path().join("a.json");
    for out in [full(), gone()] {
        let _ = std::fs::remove_file(&json);
        let words = format!("{run} --json {}", json.display());
        let ended =
            program().args(words.split_whitespace()).stdout(out).output().expect("the program starts");
        assert_eq!(ended.status.code(), Some(NOT_WRITTEN));
        assert!(String::from_utf8_lossy(&ended.stderr).contains("cannot print the result"));
        assert!(ringkeeper_load::files::read(&json).is_ok_and(|result| result.counts.answered == 30));
    }
    let ended = load(&format!("report {} --html /dev/full", json.display()));
    assert!(ended.code == NOT_WRITTEN && ended.err.contains("cannot write /dev/full"), "{}", ended.err);
    let two = format!("{0} {0}", json.display());
    let ended = load(&format!("compare {two} --html /dev/full"));
    assert!(ended.code == NOT_WRITTEN && ended.out.contains("p99"), "{}", ended.err);
    for crafted in ["/dev/zero", "/none/such", "/dev/null"] {
        let ended = load(&format!("compare {} {crafted}", json.display()));
        assert!(ended.code == USAGE && ended.err.contains(crafted), "{crafted}: {}", ended.err);
    }
}

fn full() -> Stdio {
    std::fs::OpenOptions::new().write(true).open(Path::new("/dev/full")).expect("a device").into()
}

/// A pipe whose reader has gone.
fn gone() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// Presets, choices of keys and sizes of values: each asks what is due and every answer is right.
#[test]
fn every_workload_is_asked_and_counted() {
    let room = tempfile::tempdir().expect("a directory");
    let json = room.path().join("a.json");
    let null = Null::start();
    let all =
        "get,set,create,create-delete,ephemeral,sequential,exists,children,multi,sync-get,read-modify-write";
    for (flags, op) in [
        ("--ycsb a", "set"),
        ("--ycsb b", "get"),
        ("--ycsb c", "get"),
        ("--ycsb d", "create"),
        ("--ycsb e", "children"),
        ("--ycsb f", "read-modify-write"),
        ("-m set --choice uniform -v 10-1000", "set"),
        ("-m set --choice zipfian:1.2 -v 100=90,10000=10", "set"),
        ("-m multi --choice hot:0.1:0.9 --multi-size 20", "multi"),
        (&format!("-m {all}"), "sync-get"),
    ] {
        let words = format!("run -q -s {} -r 400 -c 4 -k 50 --duration 0.5 --warmup 0 {flags}", null.address);
        let ended = load(&format!("{words} --json {}", json.display()));
        assert!([0, INVALID].contains(&ended.code), "{flags}: {} {}", ended.code, ended.out);
        let result = ringkeeper_load::files::read(&json).expect("a result");
        let counts = &result.counts;
        assert_eq!((counts.due, counts.answered, counts.errors), (200, 200, 0), "{flags}: {}", ended.out);
        assert!(result.ops.iter().any(|one| one.op == op && one.answered > 0), "{flags}: {}", ended.out);
    }
}

/// An hour of load is not spent on a result that has no place.
#[test]
fn a_place_that_is_not_there_is_refused_before_anything_is_asked() {
    let at = nobody();
    for mode in MODES.into_iter().chain(["disk --duration 0.1"]) {
        let target = if mode.starts_with("disk") { String::new() } else { format!("-s {at}") };
        for flag in ["--json", "--hlog", "--html"] {
            let ended = load(&format!("{mode} -q {target} {flag} /none/such/a"));
            assert_eq!(ended.code, NOT_WRITTEN, "{mode} {flag}: {}", ended.err);
            assert!(
                ended.err.contains("cannot write /none/such/a: the directory /none/such"),
                "{}",
                ended.err
            );
            assert!(ended.out.is_empty(), "{mode} {flag}: {}", ended.out);
        }
    }
}

/// The load generator was blamed: it was late beside a latency of 0 us that nothing had.
#[test]
fn where_every_operation_failed_the_codes_are_the_verdict() {
    let at = server(Way::HasNothing);
    let run = format!("run -q -s {at} --no-setup -c 2 -k 10 --duration 0.5 --warmup 0");
    let ended = load(&format!("{run} -r 200"));
    assert_eq!(ended.code, SERVER, "{}", ended.out);
    assert!(ended.out.contains("no operation succeeded; all failed, by their errors: 100 NONODE"));
    assert!(!ended.out.contains("INVALID") && !ended.out.contains("rate was not reached"), "{}", ended.out);
    let ended = load(&format!("{run} --closed"));
    assert!([SERVER, INVALID].contains(&ended.code), "{}", ended.out);
    assert!(ended.out.contains("no operation succeeded"), "{}", ended.out);
}

#[test]
fn a_server_that_goes_while_sessions_are_held_is_gone() {
    // Each session pings every 100 ms; the third ping of all closes its connection, as the later ones do theirs.
    let at = server(Way::ClosesAfter(2));
    let ended = load(&format!("storm -q -s {at} -n 4 --hold 1 --session-timeout 300"));
    assert_eq!(ended.code, SERVER, "{}", ended.out);
    assert!(ended.out.contains("4 of 4 sessions opened, 0 refused, 4 lost"), "{}", ended.out);
    assert!(ended.out.contains("the server is gone"), "{}", ended.out);
}

/// A run whose progress is read: `act` is done at its first line.
fn at_first_progress(command: &mut Command, act: impl FnOnce(&Child)) -> Ended {
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut progress = BufReader::new(run.stderr.take().expect("a pipe"));
    let mut err = String::new();
    progress.read_line(&mut err).expect("a line of progress");
    act(&run);
    progress.read_to_string(&mut err).expect("text");
    let ended = run.wait_with_output().expect("it ends");
    let out = String::from_utf8(ended.stdout).expect("text");
    Ended { code: ended.status.code().expect("no signal"), out, err }
}

fn hang_up(child: &Child) {
    let pid = Pid::from_raw(child.id() as i32).expect("a process id");
    // The kernel tells of a terminal that has gone, and then the shell does.
    kill_process(pid, Signal::HUP).expect("it lives");
    let _ = kill_process(pid, Signal::HUP);
}

/// It ended as if all had been done.
#[test]
fn a_mode_that_is_stopped_says_so() {
    let null = Null::start();
    for mode in [
        "storm -n 1000 --hold 60",
        "fan-out -w 4 --rounds 1000000",
        "run --duration 60 --warmup 0 --interval 0.1",
    ] {
        let words = format!("{mode} -s {}", null.address);
        let ended = at_first_progress(program().args(words.split_whitespace()), |child| {
            let pid = Pid::from_raw(child.id() as i32).expect("a process id");
            kill_process(pid, Signal::INT).expect("it lives");
            // `timeout` tells the program, and then its group.
            let _ = kill_process(pid, Signal::TERM);
            let _ = kill_process(pid, Signal::INT);
        });
        assert_eq!(ended.code, SERVER, "{mode}: {}", ended.out);
        assert!(ended.out.contains("stopped before its time"), "{mode}: {}", ended.out);
    }
}

/// One dial too many cost all that was measured.
#[test]
fn open_files_are_as_many_as_may_be_and_what_was_measured_is_kept_when_they_end() {
    let room = tempfile::tempdir().expect("a directory");
    let json = room.path().join("a.json");
    let null = Null::start();
    let storm = |limit: &str| {
        let program = env!("CARGO_BIN_EXE_ringkeeper-load");
        let words = format!("storm -q -s {} -n 200 --hold 0.1 --json {}", null.address, json.display());
        let script = format!("ulimit {limit} 64 && exec {program} {words}");
        let ended = Command::new("sh").args(["-c", &script]).output().expect("the program starts");
        (ended.status.code(), ringkeeper_load::files::read(&json).expect("a result"))
    };
    let (code, result) = storm("-n");
    assert_eq!(code, Some(RATE_MISSED), "{:?}", result.verdict);
    assert!((40..64).contains(&result.counts.answered), "{:?}", result.counts);
    assert_eq!(result.counts.answered + result.counts.errors, 200);
    assert!(result.verdict.reasons[0].contains("Too many open files"), "{:?}", result.verdict);
    let (code, result) = storm("-S -n");
    assert_eq!((code, result.counts.answered), (Some(0), 200), "{:?}", result.verdict);
}

#[test]
fn a_terminal_that_goes_away_costs_no_result() {
    let status = std::fs::read_to_string("/proc/self/status").expect("we are a process");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask").trim();
    let room = tempfile::tempdir().expect("a directory");
    let null = Null::start();
    let json = room.path().join("a.json");
    let words = |duration: &str| {
        format!(
            "run -s {} -r 100 -c 2 -k 10 --warmup 0 --interval 0.2 --duration {duration} --json {}",
            null.address,
            json.display()
        )
    };
    // Where these tests run under nohup, so does the program.
    if !ignored.ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']) {
        let ended = at_first_progress(program().args(words("60").split_whitespace()), hang_up);
        assert_eq!(ended.code, SERVER, "{} {}", ended.err, ended.out);
        let result = ringkeeper_load::files::read(&json).expect("a result");
        assert!(result.all.answered > 0 && result.all.answered < 6_000, "{}", result.all.answered);
        assert!(result.verdict.reasons.iter().any(|why| why.contains("stopped before its time")));
    }
    let script = format!("trap '' HUP; exec {} {}", env!("CARGO_BIN_EXE_ringkeeper-load"), words("1"));
    let ended = at_first_progress(Command::new("sh").args(["-c", &script]), hang_up);
    assert!([0, INVALID].contains(&ended.code), "{} {}", ended.err, ended.out);
    assert!(ended.out.contains("100 answered"), "{}", ended.out);
}

/// The first operation after the stall was charged to the generator, the backlog to the server; and the intervals that it
/// slept through were waited for to the end.
#[test]
fn a_generator_that_stands_still_says_so_and_goes_on_reporting() {
    let room = tempfile::tempdir().expect("a directory");
    let json = room.path().join("a.json");
    let null = Null::start();
    let words = format!(
        "run -s {} -r 500 -c 1 -k 10 --warmup 0 --interval 0.1 --duration 1.5 --json {}",
        null.address,
        json.display()
    );
    let ended = at_first_progress(program().args(words.split_whitespace()), |run| {
        let pid = Pid::from_raw(run.id() as i32).expect("a process id");
        kill_process(pid, Signal::STOP).expect("it lives");
        // The stall itself.
        std::thread::sleep(std::time::Duration::from_millis(400));
        kill_process(pid, Signal::CONT).expect("it lives");
    });
    let result = ringkeeper_load::files::read(&json).expect("a result");
    assert!(result.own.lag.p90 > 100_000.0, "{:?} {:?}", result.own.lag, result.all.intended);
    assert!(ended.code == INVALID && !result.verdict.is_valid, "{} {}", ended.code, ended.out);
    let lines = ended.err.matches(" s left").count();
    assert!((14..=15).contains(&lines), "{lines} intervals were told: {}", ended.err);
    assert_eq!(result.intervals.len(), lines);
    assert_eq!(result.intervals.iter().map(|one| one.answered).sum::<u64>(), result.counts.answered);
}

#[test]
fn a_watched_process_that_ends_is_said() {
    let null = Null::start();
    let mut other = Null::start();
    let words = format!(
        "run -s {} -r 100 -c 2 -k 10 --warmup 0 --interval 0.2 --duration 1 --pid {}",
        null.address,
        other.child.id()
    );
    // It is not asked for until the end: nothing of it is left but its number.
    let ended = at_first_progress(program().args(words.split_whitespace()), |_| {
        other.child.kill().expect("it lives");
    });
    let why = format!("server {} ended during the run", other.child.id());
    assert!(ended.out.contains(&why), "{}", ended.out);
}

/// The time of the kill was counted from before the tree was made: with many keys it fell there.
#[test]
fn a_gap_is_made_in_the_measured_part_whatever_the_tree_takes() {
    let room = tempfile::tempdir().expect("a directory");
    let json = room.path().join("a.json");
    let null = Null::start();
    let restart = format!("exec {} null --listen {}", env!("CARGO_BIN_EXE_ringkeeper-load"), null.address);
    let words = format!(
        "gap -q -s {} -r 200 -c 4 -k 200000 --warmup 0.2 --duration 2 --kill {} --kill-after 0.3",
        null.address,
        null.child.id()
    );
    // What it starts is left to run: it goes with its group.
    let mut command = program();
    command.args(words.split_whitespace()).arg("--json").arg(&json).args(["--restart", &restart]);
    let run = command
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let group = Pid::from_raw(run.id() as i32).expect("a process id");
    let ended = run.wait_with_output().expect("it ends");
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    let result = ringkeeper_load::files::read(&json).unwrap_or_else(|why| panic!("{ended:?} {why}"));
    let begin = result.figures.iter().find(|figure| figure.name == "it began after").expect("a figure");
    assert!((0.2..2.0).contains(&begin.value), "it began after {} s", begin.value);
    assert!(result.counts.reconnects >= 4, "{:?} {:?}", result.counts, result.verdict);
}

/// What was there already was counted as created.
#[test]
fn a_fill_of_a_tree_that_is_there_is_no_figure_of_creates() {
    let ended = load(&format!("fill -q -s {} -k 100", server(Way::HasAllFrom(0))));
    assert_eq!(ended.code, INVALID, "{}", ended.out);
    assert!(ended.out.contains("all 101 znodes were there already") && ended.out.contains("0 answered"));
    assert!(!ended.out.contains("creates a second"), "{}", ended.out);
    // The root, the parent and 48 keys are made.
    let ended = load(&format!("fill -q -s {} -k 100", server(Way::HasAllFrom(50))));
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(
        ended.out.contains("52 znodes were there already and only set: 49 were created"),
        "{}",
        ended.out
    );
}

#[test]
fn what_has_no_rows_has_no_table_and_a_count_no_unit() {
    let null = Null::start();
    let ended = load(&format!("fill -q -s {} -k 100", null.address));
    assert!(ended.code == 0 && ended.out.contains("creates a second: "), "{} {}", ended.code, ended.out);
    assert!(!ended.out.contains("operation "), "{}", ended.out);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).canonicalize().expect("a directory");
    let ended = load(&format!("disk -q -r 100 --duration 0.3 --dir {}", dir.display()));
    // Not every file system can pass its cache.
    if !ended.err.contains("without the page cache") {
        let writes = ended.out.lines().find_map(|line| line.strip_prefix("writes: ")).expect("a figure");
        assert!(writes.parse::<u64>().is_ok_and(|writes| (1..=30).contains(&writes)), "{writes}");
        assert!(ended.out.contains(&format!("log in {}: ", dir.display())), "{}", ended.out);
        // 40 GB a second: what was asked was said to be reached.
        let ended = load(&format!("disk -r 10000000 --bytes 4096 --duration 0.1 --dir {}", dir.display()));
        assert_eq!(ended.code, RATE_MISSED, "{}", ended.out);
        assert!(ended.out.contains("the rate was not reached: 1000000 records came due"), "{}", ended.out);
    }
}
