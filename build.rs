//! Hands the commit and its date to `--version`, to the word `srvr` and to the load generator's results:
//! `RINGKEEPER_COMMIT` when it is set (an image is built without a git directory), else what git says, else "unknown". It
//! never fails a build.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=RINGKEEPER_COMMIT");
    // The reflog grows with each commit and each switch of branch; HEAD alone only names the branch.
    for watched in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", watched]) {
            if std::path::Path::new(&path).exists() {
                println!("cargo:rerun-if-changed={path}");
            }
        }
    }
    let commit = std::env::var("RINGKEEPER_COMMIT")
        .ok()
        .map(|given| given.trim().chars().take(40).collect::<String>())
        .filter(|given| !given.is_empty() && given.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=RINGKEEPER_COMMIT={commit}");
    // The commit's date, not today's: the same sources give the same bytes. A client parses this form.
    let date = git(&["log", "-1", "--format=%cd", "--date=format-local:%m/%d/%Y %H:%M UTC"])
        .unwrap_or_else(|| "01/01/1970 00:00 UTC".to_owned());
    println!("cargo:rustc-env=RINGKEEPER_BUILT={date}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").env("TZ", "UTC").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
