//! Where a value came from, and what is said when it is wrong: one line that names file, line, key, value and
//! what would have been right.

use std::fmt;
use std::path::PathBuf;

/// Who said it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A variable of the environment.
    Environment(String),
    /// A line of zoo.cfg, or of the dynamic file that it names.
    File {
        /// The file's name as the operator gave it.
        path: PathBuf,
        /// From 1; 0 means the file as a whole.
        line: u32,
    },
    /// A flag, with its dashes.
    Flag(&'static str),
    /// Nobody: two defaults, or what the machine says.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::File { path, line: 0 } => write!(f, "{}", path.display()),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Flag(flag) => f.write_str(flag),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A value as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// The text, trimmed.
    pub value: String,
    /// Who said it.
    pub source: Source,
}

/// One value that can not be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadValue {
    /// Who said it.
    pub source: Source,
    /// ZooKeeper's name of the key, or ours.
    pub key: String,
    /// As written, shortened; `***` for secrets.
    pub value: String,
    /// What would have been accepted, or why this is not.
    pub expected: String,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}={}: {}", self.source, self.key, self.value, self.expected)
    }
}

/// Everything that is wrong with a configuration, in the order in which it was found. Never empty.
/// The process prints it and exits 78 (`EX_CONFIG`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invalid {
    /// One line each.
    pub values: Vec<BadValue>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, value) in self.values.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{value}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// Something that the operator should hear once at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// Who said it.
    pub source: Source,
    /// One line.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => f.write_str(&self.text),
            source => write!(f, "{source}: {}", self.text),
        }
    }
}

/// A value fit for one line of a log: control characters escaped, long texts cut, secrets masked.
#[must_use]
pub fn printable(key: &str, value: &str) -> String {
    let lower = key.to_ascii_lowercase();
    if ["password", "superdigest", "passwd", "secret"].iter().any(|word| lower.contains(word)) {
        return "***".to_owned();
    }
    let mut shown: String = value.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_default).collect();
    // escape_default also turns quotes and letters beyond ASCII into escapes; undo what is harmless.
    if value.chars().count() <= SHOWN_CHARS_MAX && !value.chars().any(char::is_control) {
        shown = value.to_owned();
    } else if value.chars().count() > SHOWN_CHARS_MAX {
        shown.push_str("...");
    }
    shown
}

const SHOWN_CHARS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_one_line() {
        let bad = BadValue {
            source: Source::File { path: "zoo.cfg".into(), line: 12 },
            key: "tickTime".to_owned(),
            value: printable("tickTime", "a\nb"),
            expected: "expected a whole number of milliseconds, 1 to 3600000".to_owned(),
        };
        let want = r"zoo.cfg:12: tickTime=a\nb: expected a whole number of milliseconds, 1 to 3600000";
        assert_eq!(bad.to_string(), want);
    }

    #[test]
    fn secrets_are_masked_and_long_values_cut() {
        assert_eq!(printable("ssl.keyStore.password", "x"), "***");
        assert_eq!(printable("DigestAuthenticationProvider.superDigest", "x"), "***");
        assert_eq!(printable("dataDir", "/dätä"), "/dätä");
        assert_eq!(printable("dataDir", &"x".repeat(500)).len(), 123);
    }
}
