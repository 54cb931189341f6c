//! From the world to a checked [`Config`]: finds the file, reads it, lays the sources over each other.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::env::{jvm_properties, overruled, value_of, zoo_variables};
use super::flags::{KeyFlags, ServeArgs};
use super::keys::{check, DATA_DIR};
use super::reader::Reader;
use super::source::{printable, BadValue, Given, Invalid, Source, Warning};
use super::zoo_cfg::{parse_properties, Property};
use super::Config;
use crate::membership::server_number;

/// A file's name and its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextFile {
    /// As the operator gave it.
    pub path: PathBuf,
    /// Everything in it.
    pub bytes: Vec<u8>,
}

/// All that can be said, before it is judged.
#[derive(Clone, Default, Debug)]
pub struct Sources {
    /// The environment, in any order.
    pub variables: Vec<(String, String)>,
    /// A zoo.cfg.
    pub file: Option<TextFile>,
    /// The file that its `dynamicConfigFile` names.
    pub dynamic: Option<TextFile>,
    /// The `myid` in the data directory, which only an ensemble reads.
    pub id_file: Option<TextFile>,
    /// Flags that set keys.
    pub flags: KeyFlags,
}

/// Reads the environment, the zoo.cfg and the flags of this process. The warnings are to be said once.
pub fn load(args: &ServeArgs) -> Result<(Config, Vec<Warning>), Invalid> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut garbled: Vec<BadValue> = Vec::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let text = value.to_string_lossy().into_owned();
        // A path that only looks like the one that was meant would make a second, empty data directory.
        if value.to_str().is_none() && (name.starts_with("ZOO_") || name.ends_with("JVMFLAGS")) {
            let source = Source::Environment(name.clone());
            let value = printable(&name, &text);
            garbled.push(BadValue {
                source,
                key: name.clone(),
                value,
                expected: "expected UTF-8".to_owned(),
            });
        }
        variables.push((name, text));
    }
    if !garbled.is_empty() {
        return Err(Invalid { values: garbled });
    }
    let path = args.file.clone().or_else(|| conf_dir_file(&variables));
    let file = match path {
        None => None,
        Some(path) => {
            let source = Source::File { path: path.clone(), line: 0 };
            Some(read(path, "FILE", source)?)
        }
    };
    let mut sources = Sources { variables, file, flags: args.keys.clone(), ..Sources::default() };
    // A relative path starts where the process does, as in ZooKeeper.
    if let Some(given) = sources.said("dynamicConfigFile") {
        sources.dynamic = Some(read(given.value.into(), "dynamicConfigFile", given.source)?);
    }
    if sources.merged().given.keys().filter(|key| server_number(key).is_some()).count() > 1 {
        let dir = sources.said("dataDir").map_or_else(|| PathBuf::from(DATA_DIR), |given| given.value.into());
        let path = dir.join("myid");
        // One that is missing may be said elsewhere; one that can not be read may say something else.
        if !std::fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let source = Source::File { path: path.clone(), line: 0 };
            sources.id_file = Some(read(path, "myid", source)?);
        }
    }
    sources.check()
}

impl Sources {
    /// Judges what was said. Touches nothing outside, except that a host name in `clientPortAddress` is looked up.
    pub fn check(self) -> Result<(Config, Vec<Warning>), Invalid> {
        let mut reader = self.merged();
        reader.id_file = self.id_file;
        check(reader, self.file.map(|file| file.path))
    }

    /// The value that holds for a key, unless it is empty.
    fn said(&self, key: &str) -> Option<Given> {
        self.merged().given.remove(key).filter(|given| !given.value.is_empty())
    }

    /// The sources laid over each other.
    fn merged(&self) -> Reader {
        let mut merged = Reader::default();
        for (key, given) in jvm_properties(&self.variables) {
            merged.put(&key, given);
        }
        if value_of(&self.variables, "ZOO_DATADIR_AUTOCREATE_DISABLE") == Some("1") {
            let source = Source::Environment("ZOO_DATADIR_AUTOCREATE_DISABLE".to_owned());
            merged.put("datadir.autocreate", Given { value: "false".to_owned(), source });
        }
        match &self.file {
            None => {
                let found = zoo_variables(&self.variables);
                found.given.into_iter().for_each(|(key, given)| merged.put(&key, given));
                merged.warnings.extend(found.warnings);
                merged.problems.extend(found.problems);
            }
            Some(file) => {
                let names = overruled(&self.variables);
                if !names.is_empty() {
                    let text = format!("{} wins over {}", file.path.display(), names.join(", "));
                    merged.warnings.push(Warning { source: Source::Default, text });
                }
                // The one variable that the image reads beside any zoo.cfg.
                if let Some(id) = value_of(&self.variables, "ZOO_MY_ID").filter(|id| !id.is_empty()) {
                    let source = Source::Environment("ZOO_MY_ID".to_owned());
                    merged.put("ringkeeper.myid", Given { value: id.to_owned(), source });
                }
                merged.put_file(file, Kind::Static);
            }
        }
        if let Some(dynamic) = &self.dynamic {
            merged.refuse_outside_of_dynamic_file();
            merged.put_file(dynamic, Kind::Dynamic);
        }
        for (key, given) in self.flags.given() {
            merged.put(&key, given);
        }
        merged
    }
}

impl Reader {
    /// The later wins. `zookeeper.x` is the system property that an `x` in zoo.cfg sets.
    fn put(&mut self, key: &str, given: Given) {
        let key = key.strip_prefix("zookeeper.").unwrap_or(key);
        if key == "ringkeeper.myid" {
            self.ids.push(given.clone());
        }
        // To ZooKeeper the N is a number: server.01 is server.1.
        let number = server_number(key).filter(|number| !number.is_empty());
        let same = number.map(|number| format!("server.{:0>1}", number.trim_start_matches('0')));
        let key = same.as_deref().unwrap_or(key);
        if let Some(earlier) = self.given.get(key).filter(|_| number.is_some()) {
            if is_one_place(&earlier.source, &given.source) && earlier.value != given.value {
                let expected = format!(
                    "expected one line for a server: {} says {}",
                    earlier.source,
                    printable(key, &earlier.value)
                );
                self.refuse(key, &given, expected);
            }
        }
        self.given.insert(key.to_owned(), given);
    }

    /// As in ZooKeeper: a list in two places is two lists.
    fn refuse_outside_of_dynamic_file(&mut self) {
        let lines: Vec<(String, Given)> = self
            .given
            .iter()
            .filter(|(key, _)| is_membership(key))
            .map(|(key, given)| (key.clone(), given.clone()))
            .collect();
        let named = self.given.get("dynamicConfigFile").cloned();
        for (key, given) in lines {
            let mut expected = "expected in the file that dynamicConfigFile names, and only there".to_owned();
            if let Some(named) = &named {
                let path = printable("dynamicConfigFile", &named.value);
                expected = format!("{expected}: {path} ({})", named.source);
            }
            self.refuse(&printable("key", &key), &given, expected);
        }
    }

    fn put_file(&mut self, file: &TextFile, kind: Kind) {
        let properties = match parse_properties(&file.bytes) {
            Ok(properties) => properties,
            Err(bad) => {
                self.problems.push(BadValue {
                    source: Source::File { path: file.path.clone(), line: bad.line },
                    key: "\\u".to_owned(),
                    value: String::new(),
                    expected: "expected four hexadecimal digits behind \\u".to_owned(),
                });
                return;
            }
        };
        let mut lines = BTreeMap::new();
        for Property { line, key, value } in properties {
            let source = Source::File { path: file.path.clone(), line };
            if let Some(earlier) = lines.insert(key.clone(), line) {
                let text = format!("{key} is set again (first on line {earlier}); the last one holds");
                self.warnings.push(Warning { source: source.clone(), text });
            }
            let given = Given { value, source };
            if kind == Kind::Dynamic && key != "version" && !is_membership(&key) {
                let expected = "expected server.N lines and a version alone: other keys belong into zoo.cfg";
                self.refuse(&printable("key", &key), &given, expected.to_owned());
                continue;
            }
            self.put(&key, given);
        }
    }
}

/// Which of the two files it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Static,
    Dynamic,
}

/// Keys that say who the ensemble is.
fn is_membership(key: &str) -> bool {
    server_number(key).is_some() || key.starts_with("group.") || key.starts_with("weight.")
}

/// Lines of one file, entries of one variable, or flags: what stands there twice is a slip, and not one source over
/// another.
fn is_one_place(one: &Source, other: &Source) -> bool {
    match (one, other) {
        (Source::File { path: one, .. }, Source::File { path: other, .. }) => one == other,
        (one, other) => one == other,
    }
}

/// The official image's place, when the operator names no file.
fn conf_dir_file(variables: &[(String, String)]) -> Option<PathBuf> {
    let dir = value_of(variables, "ZOO_CONF_DIR").filter(|dir| !dir.is_empty())?;
    let path = Path::new(dir).join("zoo.cfg");
    // One that is there and out of reach (a dangling link, a closed directory) is refused when it is read: the defaults
    // in its place might open what it shuts.
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        _ => Some(path),
    }
}

fn read(path: PathBuf, key: &str, source: Source) -> Result<TextFile, Invalid> {
    let refuse = |expected: String| Invalid {
        values: vec![BadValue {
            source: source.clone(),
            key: key.to_owned(),
            value: path.display().to_string(),
            expected,
        }],
    };
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| refuse(format!("expected a readable file: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refuse(format!("expected a configuration of at most {FILE_BYTES_MAX} bytes")));
    }
    Ok(TextFile { path, bytes })
}

/// No configuration is longer; a wrong path may be endless (`/dev/zero`).
const FILE_BYTES_MAX: u64 = 1 << 20;
