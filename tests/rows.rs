//! Holds `tests/ROWS.md`, the map from features to the tests that show them: every id of the sections we promise
//! stands there exactly once, and every test that it names exists. What is in the map is not proved by being named;
//! it is proved by the test named, which this file only finds.

use std::collections::BTreeMap;
use std::path::Path;

/// The sections of the feature inventory that a server and an ensemble must have, and how many rows each has.
const SECTIONS: &[(&str, u32)] = &[
    ("A", 22),
    ("B", 34),
    ("C", 13),
    ("D", 18),
    ("E", 12),
    ("F", 27),
    ("G", 20),
    ("H", 9),
    ("I", 22),
    ("J", 9),
    ("K", 10),
    ("L", 22),
    ("M", 15),
    ("N", 26),
    ("O", 8),
    ("P", 18),
    ("R", 22),
    ("TR", 43),
];

/// difftest's scripted cases; `random` stands for its random epochs.
const DIFFTEST_CASES: &[&str] = &[
    "handshake",
    "handshake_raw",
    "reattach",
    "moved_session",
    "crud",
    "paths",
    "raw_utf8",
    "flags",
    "sequence",
    "ephemeral",
    "acl",
    "auth_errors",
    "watch_table",
    "watch_mix",
    "set_watches",
    "multi",
    "multi_read",
    "opcodes",
    "short_bodies",
    "xids",
    "pipeline",
    "sizes",
    "many_children",
    "reconfig",
    "quota",
    "four_letter",
    "check_outside_multi",
    "expiry",
    "ttl_container",
    "random",
];

/// One line of the table.
#[derive(Debug)]
struct Row {
    line: usize,
    id: String,
    tests: String,
}

#[test]
fn every_row_stands_once_and_what_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("tests/ROWS.md")).expect("tests/ROWS.md is readable");
    let rows = parse(&text);
    let mut wrong = ids_wrong(&rows);
    for row in &rows {
        wrong
            .extend(row_wrong(root, row).map(|why| format!("tests/ROWS.md:{}: {}: {why}", row.line, row.id)));
    }
    let open = rows.iter().filter(|r| r.tests.starts_with("not yet")).count();
    println!("{} rows, {} with a test, {open} not yet", rows.len(), rows.len() - open);
    assert!(wrong.is_empty(), "{} faults in the map:\n{}", wrong.len(), wrong.join("\n"));
}

/// Rows are the table lines whose first cell looks like an id; everything else in the file is prose.
fn parse(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let Some(inner) = line.trim().strip_prefix('|').and_then(|l| l.strip_suffix('|')) else { continue };
        let (Some((id, _)), Some((_, tests))) = (inner.split_once('|'), inner.rsplit_once('|')) else {
            continue;
        };
        let id = id.trim();
        let digits = id.trim_start_matches(|c: char| c.is_ascii_uppercase());
        if id.len() > digits.len() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            rows.push(Row { line: n + 1, id: id.to_owned(), tests: tests.trim().to_owned() });
        }
    }
    rows
}

/// Ids that are missing, stand twice or do not belong.
fn ids_wrong(rows: &[Row]) -> Vec<String> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *seen.entry(&row.id).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for (section, count) in SECTIONS {
        for n in 1..=*count {
            let id = format!("{section}{n:02}");
            match seen.remove(id.as_str()) {
                Some(1) => {}
                Some(times) => wrong.push(format!("tests/ROWS.md: {id} stands {times} times")),
                None => wrong.push(format!("tests/ROWS.md: {id} is missing")),
            }
        }
    }
    wrong.extend(seen.keys().map(|id| format!("tests/ROWS.md: {id} is no id of the inventory")));
    wrong
}

fn row_wrong(root: &Path, row: &Row) -> Option<String> {
    if let Some(rest) = row.tests.strip_prefix("not yet") {
        let reason = rest.strip_prefix(':').map_or("", str::trim);
        return reason.is_empty().then(|| "'not yet' needs its reason: `not yet: REASON`".to_owned());
    }
    if row.tests.is_empty() {
        return Some("no test named, and not `not yet: REASON`".to_owned());
    }
    row.tests.split(';').find_map(|t| test_wrong(root, &row.id, t.trim().trim_matches('`')).err())
}

/// One named test: does what it names exist?
fn test_wrong(root: &Path, id: &str, test: &str) -> Result<(), String> {
    if let Some((file, name)) = test.split_once("::") {
        let text = read(root, file)?;
        let name = name.rsplit("::").next().expect("rsplit yields one");
        let declared =
            [format!("fn {name}("), format!("fn {name}<")].iter().any(|d| text.contains(d.as_str()));
        if name.is_empty() || !declared {
            return Err(format!("{file} has no `fn {name}`"));
        }
        let named = !id.starts_with("TR") || text.contains(id) || text.contains(&id.to_lowercase());
        return if named { Ok(()) } else { Err(format!("{file} never names the trap {id}")) };
    }
    match test.split_once(':') {
        Some(("difftest", case)) if DIFFTEST_CASES.contains(&case) => Ok(()),
        Some(("difftest", case)) => Err(format!("difftest has no case '{case}'")),
        Some(("clients", rest)) => match rest.split_once(':') {
            Some((language, case)) if !case.is_empty() => {
                let folder = root.join("tests/clients").join(language);
                if !folder.is_dir() {
                    Err(format!("there is no folder tests/clients/{language}"))
                } else if says(&folder, case) {
                    Ok(())
                } else {
                    Err(format!("no file below tests/clients/{language} says '{case}'"))
                }
            }
            _ => Err(format!("'{test}' is not clients:LANGUAGE:CASE")),
        },
        Some(("script", path)) => read(root, path).map(drop),
        Some(("reconfig", case)) => {
            let files =
                ["cases", "sessions", "links"].map(|name| read(root, &format!("tests/reconfig/{name}.py")));
            let cases = files.into_iter().collect::<Result<String, _>>()?;
            match cases.contains(&format!("\n@case\ndef {case}(")) {
                true => Ok(()),
                false => Err(format!("tests/reconfig has no case '{case}'")),
            }
        }
        Some(("hostile", case)) if !case.is_empty() => Ok(()),
        _ => Err(format!("'{test}' is none of the forms at the head of the file")),
    }
}

fn read(root: &Path, file: &str) -> Result<String, String> {
    std::fs::read_to_string(root.join(file)).map_err(|e| format!("{file}: {e}"))
}

/// Whether any source file below `folder` contains `text`; what package managers put there is not looked at.
fn says(folder: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(folder).expect("a folder of tests is readable");
    entries.map(|e| e.expect("a directory entry").path()).any(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            !["node_modules", "target", "vendor", "__pycache__"].contains(&name.as_str())
                && !name.starts_with('.')
                && says(&path, text)
        } else {
            std::fs::read_to_string(&path).is_ok_and(|t| t.contains(text))
        }
    })
}

/// The check can fail: each planted fault gives the complaint beside it.
#[test]
fn planted_faults_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let me = "tests/rows.rs";
    let rows: &[(&str, &str, Option<&str>)] = &[
        ("A01", "not yet: no server", None),
        ("A01", "not yet", Some("needs its reason")),
        ("A01", "not yet:", Some("needs its reason")),
        ("A01", "", Some("no test named")),
        ("A01", &format!("{me}::planted_faults_are_found"), None),
        ("A01", &format!("`{me}::planted_faults_are_found`; difftest:crud"), None),
        ("A01", &format!("{me}::planted_faults_are"), Some("has no `fn planted_faults_are`")),
        ("A01", "tests/nowhere.rs::a", Some("tests/nowhere.rs")),
        ("A01", &format!("{me}::"), Some("has no `fn `")),
        ("TR99", &format!("{me}::{}", "says"), None),
        ("TR98", &format!("{me}::{}", "says"), None),
        ("TR00", "src/ids.rs::new", Some("src/ids.rs")),
        ("A01", "difftest:crudd", Some("has no case 'crudd'")),
        ("A01", "clients:cobol:locks", Some("no folder tests/clients/cobol")),
        ("A01", "clients:kazoo", Some("is not clients:LANGUAGE:CASE")),
        ("A01", "script:scripts/nowhere.sh", Some("scripts/nowhere.sh")),
        ("A01", "difftest:crud; believe me", Some("'believe me' is none of the forms")),
        ("A01", "hostile:oversized", None),
        ("A01", "reconfig:add", None),
        ("A01", "reconfig:ad", Some("has no case 'ad'")),
    ];
    for (id, tests, want) in rows {
        let row = Row { line: 1, id: (*id).to_owned(), tests: (*tests).to_owned() };
        let got = row_wrong(root, &row);
        match (want, &got) {
            (None, None) => {}
            (Some(part), Some(why)) if why.contains(part) => {}
            _ => panic!("row '{id} | {tests}': want {want:?}, got {got:?}"),
        }
    }
    let table = "| id | what | test |\n|---|---|---|\n| A01 | a \\| b | x::y |\n| A01 | twice | x::y |\n| Z99 | odd | x::y |\n";
    let wrong = ids_wrong(&parse(table));
    for part in ["A01 stands 2 times", "A02 is missing", "TR43 is missing", "Z99 is no id"] {
        assert!(wrong.iter().any(|w| w.contains(part)), "no complaint '{part}' in {wrong:?}");
    }
    assert_eq!(parse(table)[0].tests, "x::y", "a bar inside a cell does not shift the columns");
}
