//! What a run leaves behind: one JSON document, complete enough to draw every picture and to be compared years later.

use crate::plan::{Op, Plan};
use crate::record::{errors, Measure, Tally};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer, V2Serializer};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The layout's number; a reader refuses what is newer.
pub const FORMAT: u32 = 1;

/// A whole result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub format: u32,
    /// A name for tables and legends, `--name`.
    pub name: String,
    pub tool: String,
    /// Seconds since 1970 at which the measured part began.
    pub started_unix: u64,
    pub command: Vec<String>,
    pub target: Target,
    pub load: Load,
    pub verdict: Verdict,
    /// All operations together, then each kind.
    pub all: OpResult,
    pub ops: Vec<OpResult>,
    pub counts: Counts,
    pub own: Own,
    pub servers: Vec<ServerUse>,
    pub host: Host,
    pub intervals: Vec<Interval>,
    /// Of a rate ladder: its steps, lowest rate first; the rest of the document is the step at the knee.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ladder: Vec<Step>,
    /// The longest time without a success, and when it began: nanoseconds of the run's clock, of one thread.
    #[serde(default)]
    pub gap_ns: (u64, u64),
    /// Of the other modes: named figures in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
}

/// Who was asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Target {
    pub servers: Vec<String>,
    /// The first line of its `srvr`, where it answers that.
    pub version: String,
}

/// What was asked of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    /// `open`, `closed`, or the mode's name.
    pub mode: String,
    /// Operations a second asked for, at the begin and at the end; 0 in a closed loop.
    pub rate_from: f64,
    pub rate_to: f64,
    pub connections: u64,
    pub depth: usize,
    pub threads: usize,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub plan: Option<Plan>,
}

/// Whether the figures may be quoted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    pub is_valid: bool,
    /// Why not, or what else a reader must know.
    pub reasons: Vec<String>,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
}

impl Latency {
    /// Of a histogram of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        if histogram.is_empty() {
            return Latency::default();
        }
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Latency {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            min: micros(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: micros(histogram.max()),
        }
    }
}

/// One kind of operation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OpResult {
    pub op: String,
    pub answered: u64,
    pub per_second: f64,
    /// From the time at which an operation was due.
    pub intended: Latency,
    /// From the time at which it was sent.
    pub service: Latency,
    /// By name.
    pub errors: BTreeMap<String, u64>,
    /// The histograms of nanoseconds: HdrHistogram's V2 encoding, deflated, in base64.
    pub intended_hdr: String,
    pub service_hdr: String,
}

impl OpResult {
    #[must_use]
    pub fn of(op: &str, measure: &Measure, seconds: f64) -> OpResult {
        let mut by_name = BTreeMap::new();
        for (code, count) in &measure.errors {
            *by_name.entry(errors::name(*code)).or_insert(0) += count;
        }
        OpResult {
            op: op.to_owned(),
            answered: measure.answered,
            per_second: measure.completed as f64 / seconds.max(1e-9),
            intended: Latency::of(&measure.intended),
            service: Latency::of(&measure.service),
            errors: by_name,
            intended_hdr: encode(&measure.intended),
            service_hdr: encode(&measure.service),
        }
    }
}

/// Things counted over the measured part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub due: u64,
    /// Of what was due in the measured part, be it after its end.
    pub answered: u64,
    /// In the measured part. A result of before 2026-11-30 does not say, and counts the others.
    #[serde(default)]
    pub completed: u64,
    pub errors: u64,
    /// Due in an open loop, and never handed to a connection.
    pub unsent: u64,
    pub connections_lost: u64,
    pub reconnects: u64,
    pub sessions_lost: u64,
    pub events: u64,
}

impl Counts {
    /// Whether this is a result of a release that counted, for rate and CPU an operation, what was answered behind the end as
    /// well.
    #[must_use]
    pub fn counts_late_ones(&self) -> bool {
        self.completed == 0 && self.answered > 0
    }

    /// The operations that what a server used is divided by.
    #[must_use]
    pub fn per_op(&self) -> u64 {
        if self.completed > 0 { self.completed } else { self.answered }.max(1)
    }
}

/// What the load generator says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Own {
    /// How late operations were sent though a connection had room.
    pub lag: Latency,
    /// Share of a core that each thread took.
    pub threads_busy: Vec<f64>,
}

/// What a server process used in the measured part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServerUse {
    /// A process id or a container.
    pub name: String,
    pub command: String,
    /// How many processes of it lived at the end.
    #[serde(default)]
    pub processes: u64,
    pub cpu_s: f64,
    pub cpu_us_per_op: f64,
    pub user_share: f64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub rss_bytes: u64,
    pub rss_bytes_max: u64,
    pub threads: u64,
    pub disk_write_bytes: u64,
    pub disk_write_bytes_per_op: f64,
    /// Of its cgroup, where it has limits; empty otherwise.
    pub cgroup: Cgroup,
}

/// A server's limits, the tightest of its cgroup and of all above it, and how often they held it up in the measured part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cgroup {
    pub path: String,
    /// Cores' worth of quota; 0: none.
    pub cpu_limit: f64,
    pub memory_limit_bytes: u64,
    /// What its own group holds now, and the most it held since it was made; 0: not known.
    #[serde(default)]
    pub memory_bytes: u64,
    #[serde(default)]
    pub memory_bytes_max: u64,
    /// The effective one.
    pub cpuset: String,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_us: u64,
    pub memlock_bytes: u64,
}

/// The machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Host {
    pub kernel: String,
    pub cpu_model: String,
    pub cpus: usize,
    pub memory_bytes: u64,
    pub load_average: String,
    /// File system of each server's log, where it is known: `directory: device type options`.
    pub file_systems: Vec<String>,
    /// Whether the servers' acknowledged writes are on the disk: begins with `on`, `off` or `unknown`, and says how that is
    /// known. Empty: no server was watched.
    pub fsync: String,
    pub cgroup: Cgroup,
}

/// One interval of the measured part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Seconds from the begin of the measured part to its end.
    pub end_s: f64,
    pub seconds: f64,
    pub answered: u64,
    pub errors: u64,
    /// Intended time, microseconds.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// For the heat map: [upper edge in microseconds, count], only where there are any.
    pub heat: Vec<(f64, u64)>,
    pub server_cpu_share: f64,
    pub throttled_us: u64,
    /// The intended times' histogram, for the interval log; not in the document, which would double for it.
    #[serde(skip)]
    pub intended_hdr: String,
}

/// One step of a ladder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Step {
    pub rate: f64,
    pub per_second: f64,
    pub intended: Latency,
    pub errors: u64,
    pub cpu_us_per_op: f64,
    pub is_valid: bool,
    pub is_knee: bool,
    /// Of a knee: the server may hold more, nothing above was measured that says otherwise.
    #[serde(default)]
    pub is_at_least: bool,
}

/// A figure of a mode.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

impl Figure {
    #[must_use]
    pub fn new(name: &str, value: f64, unit: &str) -> Figure {
        Figure { name: name.to_owned(), value, unit: unit.to_owned() }
    }
}

/// Edges of the heat map's rows: ten a decade, from 10 us to 100 s.
#[must_use]
pub fn heat(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let mut rows = Vec::new();
    let mut low = 0;
    for step in 0..=70 {
        let edge = 10_f64.powf(1.0 + f64::from(step) / 10.0);
        let high = (edge * 1e3) as u64;
        let count = histogram.count_between(low, high - 1);
        if count > 0 {
            rows.push((edge, count));
        }
        low = high;
    }
    rows
}

/// A histogram as text.
#[must_use]
pub fn encode(histogram: &Histogram<u64>) -> String {
    use base64::Engine;
    let mut bytes = Vec::new();
    if V2DeflateSerializer::new().serialize(histogram, &mut bytes).is_err() {
        bytes.clear();
        V2Serializer::new().serialize(histogram, &mut bytes).expect("a histogram is written to memory");
    }
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Ours have at most 30,000 counts of at most nine bytes.
const HISTOGRAM_BYTES_MAX: usize = 512 << 10;
/// What stands before the counts.
const HEADER_BYTES: usize = 40;
const DEFLATED_COOKIE: [u8; 4] = [0x1c, 0x84, 0x93, 0x14];

/// The histogram of a text; `None`: it is none, or none of ours. The decoder makes room for as much as a header asks for, up
/// to 4 GiB, so what it gets is inflated and looked at before.
#[must_use]
pub fn decode(text: &str) -> Option<Histogram<u64>> {
    use base64::Engine;
    use std::io::Read;
    if text.len() > HISTOGRAM_BYTES_MAX * 2 {
        return None;
    }
    let mut bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    if bytes.starts_with(&DEFLATED_COOKIE) {
        let mut plain = Vec::new();
        let inflater = flate2::read::ZlibDecoder::new(bytes.get(8..)?);
        inflater.take(HISTOGRAM_BYTES_MAX as u64 + 1).read_to_end(&mut plain).ok()?;
        bytes = plain;
    }
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let (length, digits) = (number(4)? as usize, number(12)?);
    if bytes.len() > HISTOGRAM_BYTES_MAX || length != bytes.len().checked_sub(HEADER_BYTES)? || digits > 3 {
        return None;
    }
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

/// The results of all operations together and of each kind.
#[must_use]
pub fn results(totals: &Tally, seconds: f64) -> (OpResult, Vec<OpResult>) {
    let mut all = Measure::new();
    let mut ops = Vec::new();
    for op in Op::ALL {
        if let Some(measure) = &totals.ops[op as usize] {
            all.merge(measure);
            ops.push(OpResult::of(op.name(), measure, seconds));
        }
    }
    (OpResult::of("all", &all, seconds), ops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{add, histogram};
    use base64::engine::general_purpose::STANDARD;
    use base64::Engine;
    use std::io::Write;

    fn plain(histogram: &Histogram<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).expect("it is written to memory");
        bytes
    }

    fn deflated(plain: &[u8]) -> String {
        let mut body = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        body.write_all(plain).expect("it is written to memory");
        let body = body.finish().expect("it is written to memory");
        let mut bytes = DEFLATED_COOKIE.to_vec();
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&body);
        STANDARD.encode(bytes)
    }

    #[test]
    fn a_histogram_survives_and_the_fullest_has_room() {
        let mut times = histogram();
        for bucket in 0..40 {
            for step in 0..1_024_u64 {
                times.saturating_record_n((1_024 + step) << bucket, u64::MAX >> 20);
            }
        }
        add(&mut times, 1);
        for text in [encode(&times), STANDARD.encode(plain(&times)), deflated(&plain(&times))] {
            assert!(decode(&text).is_some_and(|again| again == times));
        }
    }

    /// A text of 60 bytes once asked for 4 GiB.
    #[test]
    fn what_a_header_asks_for_is_not_believed() {
        let mut times = histogram();
        add(&mut times, 5_000);
        let good = plain(&times);
        let with = |at: usize, value: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            bytes
        };
        let mut bomb = good.clone();
        bomb.resize(64 << 20, 0);
        for bytes in
            [with(4, u32::MAX), with(4, 0), with(12, 5), with(0, 1), bomb, Vec::new(), good[..39].to_vec()]
        {
            assert!(decode(&deflated(&bytes)).is_none());
            assert!(decode(&STANDARD.encode(&bytes)).is_none());
        }
        assert!(decode(&"A".repeat(HISTOGRAM_BYTES_MAX * 2 + 1)).is_none());
        // Whatever stands there, it is an answer.
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                if let Some(odd) = decode(&STANDARD.encode(&bytes)) {
                    assert!(odd.value_at_quantile(0.99) <= odd.high() && odd.mean().is_finite());
                }
            }
        }
    }
}
