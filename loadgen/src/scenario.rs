//! A plan from a file: parts of the tree and weighted requests on them, in TOML.

use crate::plan::{Op, Plan, Request, Space};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default = "ten")]
    multi_size: usize,
    #[serde(default = "one")]
    seed: u64,
    space: Vec<SpaceLines>,
    request: Vec<RequestLines>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SpaceLines {
    name: String,
    root: String,
    keys: u64,
    #[serde(default = "thousand")]
    keys_per_parent: u64,
    #[serde(default = "uniform")]
    choice: String,
    #[serde(default = "hundred")]
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RequestLines {
    op: Op,
    weight: f64,
    space: String,
}

fn one() -> u64 {
    1
}

fn ten() -> usize {
    10
}

fn thousand() -> u64 {
    1_000
}

fn uniform() -> String {
    "uniform".to_owned()
}

fn hundred() -> String {
    "100".to_owned()
}

/// A scenario larger than this is none.
const BYTES_MAX: u64 = 1 << 20;
/// Spaces and requests, each.
const PARTS_MAX: usize = 1_000;

/// Reads a file; a message names it and says what is wrong where.
pub fn read(path: &Path) -> Result<Plan, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let mut text = String::new();
    // Of a pipe or a device no length is known before.
    std::fs::File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| named(error.to_string()))?;
    if text.len() as u64 > BYTES_MAX {
        return Err(named(format!("this is no scenario: they have at most {BYTES_MAX} bytes")));
    }
    parse(&text).map_err(named)
}

fn parse(text: &str) -> Result<Plan, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    if file.space.len() > PARTS_MAX || file.request.len() > PARTS_MAX {
        return Err(format!("a scenario has at most {PARTS_MAX} spaces and {PARTS_MAX} requests"));
    }
    let mut spaces = Vec::new();
    for lines in &file.space {
        let named = |why: String| format!("space '{}': {why}", lines.name);
        if file.space.iter().filter(|other| other.name == lines.name).count() > 1 {
            return Err(named("the name is there twice".to_owned()));
        }
        spaces.push(Space {
            root: lines.root.trim_end_matches('/').to_owned(),
            keys: lines.keys,
            keys_per_parent: lines.keys_per_parent,
            choice: lines.choice.parse().map_err(named)?,
            value: lines.value.parse().map_err(named)?,
        });
    }
    let mut requests = Vec::new();
    for RequestLines { op, weight, space } in &file.request {
        if *op == Op::Delete {
            return Err(
                "delete is the second half of create-delete, ephemeral and sequential: name one of these"
                    .to_owned(),
            );
        }
        let place = file.space.iter().position(|lines| lines.name == *space);
        let place = place.ok_or_else(|| format!("request {}: there is no space '{space}'", op.name()))?;
        requests.push(Request { op: *op, weight: *weight, space: place });
    }
    Plan { spaces, requests, multi_size: file.multi_size, seed: file.seed }.checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[space]]
        name = "a"
        root = "/a"
        keys = 10
        [[space]]
        name = "b"
        root = "/b/c/"
        keys = 20
        keys-per-parent = 5
        choice = "zipfian:1.1"
        value = "10-20"
        [[request]]
        op = "get"
        weight = 9
        space = "b"
        [[request]]
        op = "create-delete"
        weight = 1
        space = "a"
    "#;

    #[test]
    fn a_scenario_becomes_a_plan() {
        let plan = parse(GOOD).expect("a scenario");
        assert_eq!(plan.spaces[1].root, "/b/c");
        assert_eq!((plan.requests[0].space, plan.requests[1].op), (1, Op::CreateDelete));
        assert_eq!(plan.root(), "/a");
    }

    #[test]
    fn what_is_impossible_is_named() {
        for (from, to, word) in [
            ("keys = 10\n", "keys = 0\n", "keys are 1 to"),
            ("space = \"a\"", "space = \"x\"", "no space 'x'"),
            ("weight = 9", "weight = -1", "above 0"),
            ("\"get\"", "\"gett\"", "unknown variant"),
            ("\"get\"", "\"delete\"", "second half"),
            ("name = \"b\"", "name = \"a\"", "twice"),
            ("root = \"/a\"", "root = \"a\"", "no path below /"),
            ("10-20", "20-10", "ends before it begins"),
            ("keys = 20", "keys = 20\n colour = 1", "unknown field"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let why = parse(&text).expect_err(to);
            assert!(why.contains(word), "{to}: {why}");
        }
        assert!(parse("").is_err());
        let many = "[[request]]\nop = \"get\"\nweight = 1\nspace = \"a\"\n".repeat(PARTS_MAX);
        assert!(parse(&format!("{GOOD}{many}")).is_err_and(|why| why.contains("at most 1000 spaces")));
        let long = GOOD.replacen("/a", &format!("/{}", "a".repeat(2_000)), 1);
        assert!(parse(&long).is_err_and(|why| why.contains("longer than")));
        let large = format!("multi-size = 1000\n{GOOD}").replacen("create-delete", "multi", 1);
        let large = large.replacen("keys = 10\n", "keys = 10\nvalue = \"10=9,20000=1\"\n", 1);
        assert!(parse(&large).is_err_and(|why| why.contains("a multi of 1000 values of up to 20000 bytes")));
        let keys = GOOD.replacen("keys = 10\n", "keys = 1000000000\n", 1);
        assert!(parse(&keys).is_err_and(|why| why.contains("all spaces together")));
        let why = read(Path::new("/dev/zero")).expect_err("it has no end");
        assert!(why.contains("at most 1048576 bytes"), "{why}");
    }

    #[test]
    fn the_examples_are_scenarios() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: Vec<_> = std::fs::read_dir(dir).expect("the examples").flatten().collect();
        assert!(files.len() >= 2);
        for file in files {
            read(&file.path()).expect("a scenario");
        }
    }
}
