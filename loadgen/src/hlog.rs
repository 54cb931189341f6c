//! The intervals of a run as an HdrHistogram log, which HistogramLogAnalyzer and its kin read.

use crate::result::{decode, Outcome};
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use hdrhistogram::serialization::V2DeflateSerializer;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

/// Seconds of a result as a duration, whatever they are.
fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number.max(0.0)).unwrap_or_default()
}

/// The log: intended times in nanoseconds, one histogram an interval; the maximum that stands beside is in milliseconds.
/// A mode without intervals has one, the whole.
pub fn log(outcome: &Outcome) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let started = UNIX_EPOCH + Duration::from_secs(outcome.started_unix.min(u64::from(u32::MAX)));
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(&format!("[Logged with {}]", outcome.tool))
        .add_comment("[Intended times in nanoseconds; Interval_Max in milliseconds]")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut bytes, &mut serializer)?;
    let whole = (0.0, outcome.load.duration_s, &outcome.all.intended_hdr);
    let intervals: Vec<_> = if outcome.intervals.is_empty() {
        vec![whole]
    } else {
        outcome.intervals.iter().map(|i| (i.end_s - i.seconds, i.seconds, &i.intended_hdr)).collect()
    };
    for (begin, length, text) in intervals {
        if let Some(histogram) = decode(text) {
            writer
                .write_histogram(&histogram, seconds(begin), seconds(length), None)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{add, histogram};
    use crate::result::{encode, Interval};
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_is_read_back() {
        let interval = |n: u64| {
            let mut times = histogram();
            add(&mut times, n * 1_000_000);
            Interval { end_s: n as f64, seconds: 1.0, intended_hdr: encode(&times), ..Interval::default() }
        };
        let mut outcome = Outcome { started_unix: 1_700_000_000, ..Outcome::default() };
        outcome.intervals = vec![interval(1), interval(2)];
        let bytes = log(&outcome).expect("it is written");
        let read: Vec<_> = IntervalLogIterator::new(&bytes)
            .filter_map(|entry| match entry.expect("each line is read") {
                LogEntry::Interval(one) => Some((
                    one.start_timestamp().as_secs(),
                    one.duration().as_secs(),
                    one.max().round() as u64,
                    decode(one.encoded_histogram()).expect("a histogram").len(),
                )),
                _ => None,
            })
            .collect();
        assert_eq!(read, [(0, 1, 1, 1), (1, 1, 2, 1)]);
    }

    #[test]
    fn a_result_without_intervals_has_one() {
        let mut outcome = Outcome::default();
        outcome.load.duration_s = f64::NAN;
        outcome.all.intended_hdr = encode(&histogram());
        let text = String::from_utf8(log(&outcome).expect("it is written")).expect("a log is text");
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 1);
        outcome.all.intended_hdr = "no histogram".to_owned();
        assert!(log(&outcome).is_ok());
    }
}
