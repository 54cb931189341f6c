//! A mix of operations as a flag says it.

use super::Op;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Weighted operations: `get=90,set=10`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Mix(pub Vec<(Op, f64)>);

impl std::str::FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let known =
                || Op::ALL.iter().filter(|op| **op != Op::Delete).map(|op| op.name()).collect::<Vec<_>>();
            let op = Op::from_name(name.trim()).ok_or_else(|| {
                format!("no operation is called '{}'; there are {}", name.trim(), known().join(", "))
            })?;
            let weight: f64 =
                weight.trim().parse().map_err(|_| format!("the weight of {} is no number", op.name()))?;
            if !(weight.is_finite() && weight > 0.0) {
                return Err(format!("the weight of {} must be above 0", op.name()));
            }
            if mix.iter().any(|(known, _)| *known == op) {
                return Err(format!("{} is there twice: give it one weight", op.name()));
            }
            mix.push((op, weight));
        }
        if mix.is_empty() {
            return Err("a mix names at least one operation, for example get=90,set=10".to_owned());
        }
        Ok(Mix(mix))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(op, weight)| format!("{}={weight}", op.name())).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_read_or_refused_with_what_there_is() {
        assert_eq!("get=90, set=10".parse::<Mix>().map(|m| m.to_string()), Ok("get=90,set=10".to_owned()));
        assert!("gett=1".parse::<Mix>().unwrap_err().contains("there are get, set"));
        assert!("delete".parse::<Mix>().is_err(), "the second half of another operation");
        for bad in ["", "get=0", "get=x", "get=-1", "get=inf"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
        let why = "get=1,set=1,get=2".parse::<Mix>().expect_err("one operation twice");
        assert!(why.contains("get is there twice"), "{why}");
    }
}
