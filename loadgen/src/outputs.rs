//! What is written of results, and what is made of written ones.

use crate::{complain, say, INVALID, NOT_WRITTEN, USAGE};
use ringkeeper_load::args::{CompareArgs, OutputArgs, ReportArgs};
use ringkeeper_load::result::Outcome;
use ringkeeper_load::{compare, files, hlog, report};
use std::io;
use std::path::Path;

/// Says what could not be written; `false`: it was not.
fn wrote(path: &Path, bytes: io::Result<Vec<u8>>) -> bool {
    match bytes.and_then(|bytes| files::write(path, &bytes)) {
        Ok(()) => true,
        Err(error) => {
            complain(&format!("cannot write {}: {error}", path.display()));
            false
        }
    }
}

/// Why one of the files could not be written later, as far as that is known before; nothing is made.
pub fn refusal(output: &OutputArgs) -> Option<String> {
    let paths = [&output.json, &output.hlog, &output.html];
    paths.into_iter().flatten().find_map(|path| {
        files::check(path).err().map(|why| format!("cannot write {}: {why}", path.display()))
    })
}

/// Writes each file that was asked for, whatever becomes of the others; `false`: one could not be written.
pub fn write_all(output: &OutputArgs, outcome: &Outcome) -> bool {
    let json = output.json.as_deref().is_none_or(|path| wrote(path, files::json(outcome)));
    let hlog = output.hlog.as_deref().is_none_or(|path| wrote(path, hlog::log(outcome)));
    let html = output.html.as_deref().is_none_or(|path| wrote(path, Ok(report::page(outcome).into_bytes())));
    json && hlog && html
}

pub fn report(args: &ReportArgs) -> u8 {
    let outcome = match files::read(&args.result) {
        Ok(outcome) => outcome,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    if wrote(&args.html, Ok(report::page(&outcome).into_bytes())) {
        0
    } else {
        NOT_WRITTEN
    }
}

pub fn compare(args: &CompareArgs) -> u8 {
    let read: Vec<_> = args.results.iter().map(|path| (path.as_path(), files::read(path))).collect();
    let mut results = Vec::new();
    for (path, result) in read {
        match result {
            Ok(outcome) => results.push((path, outcome)),
            Err(why) => complain(&why),
        }
    }
    if results.len() < args.results.len() {
        return USAGE;
    }
    let entries = compare::entries(results);
    if let Some(why) = compare::refusal(&entries).filter(|_| !args.anyway) {
        complain(&why);
        return USAGE;
    }
    let shown = if args.markdown { compare::markdown(&entries) } else { compare::text(&entries) };
    let is_written =
        args.html.as_deref().is_none_or(|path| wrote(path, Ok(compare::page(&entries).into_bytes())));
    if !say(&shown) || !is_written {
        return NOT_WRITTEN;
    }
    if entries.iter().any(|one| !one.outcome.verdict.is_valid) {
        return INVALID;
    }
    0
}
