//! Reads one key after the other out of what was given: the forms that values have, and what is said when one has not.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::ignored::why_ignored;
use super::load::TextFile;
use super::source::{printable, BadValue, Given, Source, Warning};
use crate::ids::Millis;
use crate::membership::server_number;

/// What the sources said, strongest already on top.
#[derive(Default)]
pub struct Reader {
    pub given: BTreeMap<String, Given>,
    /// Everything that was said of `ringkeeper.myid`, weakest first: servers that share a number are no ensemble.
    pub ids: Vec<Given>,
    /// The `myid` in the data directory.
    pub id_file: Option<TextFile>,
    pub asked: BTreeSet<&'static str>,
    pub problems: Vec<BadValue>,
    pub warnings: Vec<Warning>,
}

impl Reader {
    pub fn take(&mut self, key: &'static str) -> Option<Given> {
        self.asked.insert(key);
        self.given.get(key).cloned()
    }

    /// A key that ZooKeeper's parser reads with `Integer.parseInt`.
    pub fn number(&mut self, key: &'static str, what: &str, range: RangeInclusive<i64>) -> Option<i64> {
        self.whole(key, what, range, |text| text.parse().ok())
    }

    /// A key that ZooKeeper reads with `Integer.getInteger`: hexadecimal and octal too (`jute.maxbuffer=0xfffff`).
    pub fn property(&mut self, key: &'static str, what: &str, range: RangeInclusive<i64>) -> Option<i64> {
        self.whole(key, what, range, java_decode)
    }

    fn whole(
        &mut self,
        key: &'static str,
        what: &str,
        range: RangeInclusive<i64>,
        parse: fn(&str) -> Option<i64>,
    ) -> Option<i64> {
        let given = self.take(key)?;
        let number = parse(&given.value).filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = range.into_inner();
            let range = match (low, high) {
                (low, high) if low == high => format!("{low}"),
                (i64::MIN, high) => format!("at most {high}"),
                (low, high) => format!("{low} to {high}"),
            };
            self.refuse(key, &given, format!("expected {what}, {range}"));
        }
        number
    }

    pub fn millis(&mut self, key: &'static str, low: i64, default: i64) -> Millis {
        millis(self.property(key, MILLIS, low..=MAX).unwrap_or(default))
    }

    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.word(key, &[("true", true), ("false", false)])
    }

    /// ZooKeeper compares with one of the two words and takes anything else for the other: `skipACL=true` checks ACLs
    /// there. Who writes that means something else, so it is refused.
    pub fn yes_no(&mut self, key: &'static str) -> Option<bool> {
        self.word(key, &[("yes", true), ("no", false)])
    }

    pub fn word<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let given = self.take(key)?;
        let chosen =
            choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(&given.value)).map(|&(_, value)| value);
        if chosen.is_none() {
            let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
            self.refuse(key, &given, format!("expected {}", one_of(&words)));
        }
        chosen
    }

    pub fn directory(&mut self, key: &'static str) -> Option<PathBuf> {
        let given = self.take(key)?;
        if given.value.is_empty() || given.value.contains('\0') {
            self.refuse(key, &given, "expected the path of a directory".to_owned());
            return None;
        }
        Some(PathBuf::from(given.value))
    }

    /// Hours, or with one of 3.10's units.
    pub fn purge_interval(&mut self) -> Option<Millis> {
        const KEY: &str = "autopurge.purgeInterval";
        const HOUR: i64 = 3_600_000;
        let Some(given) = self.take(KEY) else { return Some(millis(HOUR)) };
        let digits = given.value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &given.value[digits.len()..] {
            "" | "h" => Some(HOUR),
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            "d" => Some(24 * HOUR),
            _ => None,
        };
        let span = unit.and_then(|unit| digits.trim().parse::<i64>().ok()?.checked_mul(unit));
        // A timer of less than a second would only burn CPU; ten years is never.
        let known = span.filter(|span| *span <= 0 || (1000..=87_600 * HOUR).contains(span));
        if known.is_none() {
            let expected =
                "expected a whole number of hours, 0 (off) to 87600, or one with a unit: 30m, 45s, 1d";
            self.refuse(KEY, &given, expected.to_owned());
        }
        // ZooKeeper takes a negative interval for "off" too.
        known.filter(|&span| span > 0).map(millis)
    }

    pub fn refuse(&mut self, key: &str, given: &Given, expected: String) {
        self.problems.push(BadValue {
            source: given.source.clone(),
            key: key.to_owned(),
            value: printable(key, &given.value),
            expected,
        });
    }

    /// Refuses what was given for the key; when it is our default, that.
    pub fn refuse_key(&mut self, key: &str, expected: String) {
        let default = Given { value: "(default)".to_owned(), source: Source::Default };
        let given = self.given.get(key).cloned().unwrap_or(default);
        self.refuse(key, &given, expected);
    }

    pub fn warn(&mut self, source: &Source, text: String) {
        self.warnings.push(Warning { source: source.clone(), text });
    }

    /// Whether anything was given for the key.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    pub fn warn_key(&mut self, key: &str, text: String) {
        let source = self.given.get(key).map_or(Source::Default, |given| given.source.clone());
        self.warnings.push(Warning { source, text });
    }

    pub fn warn_about_the_rest(&mut self) {
        let mut misspelt = Vec::new();
        for (key, given) in &self.given {
            if self.asked.contains(key.as_str()) || server_number(key).is_some() {
                continue;
            }
            // A server that was started with `datadir` served from another directory.
            if let Some(meant) = self.asked.iter().find(|known| known.eq_ignore_ascii_case(key)) {
                misspelt.push((key.clone(), given.clone(), *meant));
                continue;
            }
            let shown = printable("key", key);
            let text = match why_ignored(key) {
                Some(why) => format!("has no effect in ringkeeper: {shown} ({why})"),
                None if key.starts_with("ringkeeper.") => format!("unknown key {shown}: has no effect"),
                None => format!(
                    "unknown key {shown}: taken for the system property zookeeper.{shown}, which has no \
                                 effect in ringkeeper"
                ),
            };
            self.warnings.push(Warning { source: given.source.clone(), text });
        }
        for (key, given, meant) in misspelt {
            self.refuse(&key, &given, format!("expected {meant}: upper and lower case are told apart"));
        }
    }
}

/// `Integer.decode`: sign, then `0x`, `0X` or `#` for hexadecimal, a leading `0` for octal.
fn java_decode(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = ["0x", "0X", "#"].iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (digits, radix) = match hex {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

pub fn wide(number: i64) -> u64 {
    u64::try_from(number).expect("the key's range is not negative")
}

pub fn millis(number: i64) -> Millis {
    Millis(wide(number))
}

pub const MAX: i64 = i32::MAX as i64;
pub const MILLIS: &str = "a whole number of milliseconds";
pub const BYTES: &str = "a whole number of bytes";
pub const KIB: &str = "a whole number of KiB";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_decoded_as_java_does() {
        for (text, want) in [
            ("0xfffff", Some(0xf_ffff)),
            ("#ff", Some(255)),
            ("-0x10", Some(-16)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("+5", Some(5)),
            ("", None),
            ("-", None),
            ("0x", None),
            ("0x-5", None),
            ("--5", None),
            ("1 000", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(java_decode(text), want, "{text:?}");
        }
    }
}
