//! The longest time without a success while servers fail: a leader that is killed, a restart, a network that is cut.
//! It can kill and start a server itself, or only watch.

use crate::process::Roots;
use crate::result::{Figure, Outcome};
use crate::run::{self, Ending, Progress, Settings};
use rustix::process::{kill_process, Pid, Signal};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is done to a server while the load runs.
#[derive(Clone, Debug, Default)]
pub struct Blow {
    /// SIGKILL for this process...
    pub kill: Option<u32>,
    /// ...so long after the measured part began...
    pub after: Duration,
    /// ...and then this, in a shell, not waited for.
    pub restart: Option<String>,
}

/// Runs the load, deals the blow, and says how long the longest gap was.
pub fn gap(
    settings: &Settings,
    blow: &Blow,
    stop: &Arc<AtomicBool>,
    told: impl FnMut(Progress),
) -> Result<(Outcome, Ending), String> {
    let settings = Settings { threads: 1, ..settings.clone() };
    // Set-up takes as long as its tree is large: the time is counted from where the run says that it begins.
    let (tell, begun) = mpsc::channel();
    let dealer = {
        let (blow, wait, stop) = (blow.clone(), settings.warmup + blow.after, stop.clone());
        std::thread::spawn(move || deal(&blow, &begun, wait, &stop))
    };
    let begins = |at| {
        let _ = tell.send(at);
    };
    let ran = run::run_from(&settings, stop, begins, told);
    drop(tell);
    let dealt = dealer.join().map_err(|_| "the thread that kills ended by its own fault".to_owned())?;
    let (mut outcome, mut ending) = ran?;
    let failed = dealt.failed.or_else(|| match dealt.command?.try_wait() {
        Ok(Some(status)) if !status.success() => Some(format!("what was to restart ended with {status}")),
        // What still runs is left to run: it may be the server.
        _ => None,
    });
    if let Some(why) = failed {
        outcome.verdict.reasons.push(why);
        ending = if ending == Ending::Whole { Ending::Stopped } else { ending };
    }
    if !dealt.was_due {
        let what = match (blow.kill, &blow.restart) {
            (Some(_), None) => Some("nobody was killed"),
            (Some(_), Some(_)) => Some("nobody was killed and nothing restarted"),
            (None, Some(_)) => Some("nothing was restarted"),
            (None, None) => None,
        };
        let after = blow.after.as_secs_f64();
        let told = what.map(|what| format!("{what}: the run ended before --kill-after {after}"));
        outcome.verdict.reasons.extend(told);
    }
    outcome.load.mode = "gap".to_owned();
    let (length, begin) = outcome.gap_ns;
    let second = |nanos: u64| nanos as f64 / 1e9;
    outcome.figures.push(Figure::new("longest time without a success", second(length) * 1e3, "ms"));
    outcome.figures.push(Figure::new(
        "it began after",
        second(begin.saturating_sub(settings.warmup.as_nanos() as u64)),
        "s",
    ));
    if dealt.is_killed {
        outcome.figures.push(Figure::new("the kill was after", blow.after.as_secs_f64(), "s"));
    }
    Ok((outcome, ending))
}

/// A process that is killed is waited for so long; one that hangs in the kernel is not.
const DEATH: Duration = Duration::from_secs(10);

/// What became of a blow.
#[derive(Default)]
struct Dealt {
    /// Its time came before the end of the run.
    was_due: bool,
    is_killed: bool,
    /// What was to restart.
    command: Option<Child>,
    failed: Option<String>,
}

/// `begun` tells when the warm-up began, and has no sender from the end of the run on.
fn deal(blow: &Blow, begun: &Receiver<Instant>, wait: Duration, stop: &AtomicBool) -> Dealt {
    let mut dealt = Dealt::default();
    let Ok(began) = begun.recv() else { return dealt };
    let waited = begun.recv_timeout(wait.saturating_sub(began.elapsed()));
    // Who wants the end wants nobody killed while the sessions are closed.
    if waited == Err(RecvTimeoutError::Disconnected) || stop.load(Ordering::Relaxed) {
        return dealt;
    }
    dealt.was_due = true;
    dealt.failed = strike(blow, &mut dealt).err();
    dealt
}

fn strike(blow: &Blow, dealt: &mut Dealt) -> Result<(), String> {
    if let Some(pid) = blow.kill {
        let process =
            i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(format!("{pid} is no process id"))?;
        kill_process(process, Signal::KILL).map_err(|error| format!("cannot kill process {pid}: {error}"))?;
        dealt.is_killed = true;
        // Its files and its port are free only when it is gone.
        let deadline = Instant::now() + DEATH;
        while Roots::default().lives(pid) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    if let Some(command) = &blow.restart {
        let spawned = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).spawn();
        dealt.command = Some(spawned.map_err(|error| format!("cannot run '{command}': {error}"))?);
    }
    Ok(())
}
