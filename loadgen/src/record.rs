//! What was measured: histograms of nanoseconds, counts and errors, per operation.

use crate::plan::{Op, OPS};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Longest latency that a histogram holds; a longer one is counted as this.
pub const NANOS_MAX: u64 = 600_000_000_000;

/// A histogram of nanoseconds with three significant digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(64, NANOS_MAX, 3).expect("the bounds are constants that it takes")
}

/// Adds a latency, however long.
pub fn add(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record(nanos.min(NANOS_MAX));
}

/// One operation's measure.
pub struct Measure {
    /// From the time at which the operation was due, to its reply.
    pub intended: Histogram<u64>,
    /// From the time at which it was handed to the socket, to its reply.
    pub service: Histogram<u64>,
    /// Operations that were due in the measured part and were answered, without an error, be it after its end.
    pub answered: u64,
    /// Operations that were answered in the measured part, without an error, be they due before it: what a rate is made of,
    /// and CPU an operation. An open loop's backlog that is answered behind the end is not the rate that the server holds.
    pub completed: u64,
    /// Errors by code, ZooKeeper's (negative) and our own (`errors`). They are in no histogram, except that an operation
    /// without an answer at the end is in `intended` with the time it had waited: leaving it out would flatter.
    pub errors: BTreeMap<i32, u64>,
}

/// Our own error numbers, beside ZooKeeper's negative ones.
pub mod errors {
    /// The connection ended with the request under way.
    pub const CONNECTION_LOST: i32 = 1;
    /// No answer when the run ended.
    pub const UNANSWERED: i32 = 2;
    /// A reply bore another xid than the oldest request.
    pub const WRONG_XID: i32 = 3;
    /// A value came back that was not what was written.
    pub const WRONG_VALUE: i32 = 4;
    /// A reply too short for its operation.
    pub const MALFORMED: i32 = 5;

    /// What a number means.
    #[must_use]
    pub fn name(code: i32) -> String {
        match code {
            CONNECTION_LOST => "connection lost".to_owned(),
            UNANSWERED => "unanswered at the end".to_owned(),
            WRONG_XID => "reply out of order".to_owned(),
            WRONG_VALUE => "wrong value".to_owned(),
            MALFORMED => "malformed reply".to_owned(),
            -4 => "CONNECTIONLOSS".to_owned(),
            -5 => "MARSHALLINGERROR".to_owned(),
            -6 => "UNIMPLEMENTED".to_owned(),
            -7 => "OPERATIONTIMEOUT".to_owned(),
            -8 => "BADARGUMENTS".to_owned(),
            -101 => "NONODE".to_owned(),
            -102 => "NOAUTH".to_owned(),
            -103 => "BADVERSION".to_owned(),
            -108 => "NOCHILDRENFOREPHEMERALS".to_owned(),
            -110 => "NODEEXISTS".to_owned(),
            -111 => "NOTEMPTY".to_owned(),
            -112 => "SESSIONEXPIRED".to_owned(),
            -114 => "INVALIDACL".to_owned(),
            -115 => "AUTHFAILED".to_owned(),
            -118 => "SESSIONMOVED".to_owned(),
            -119 => "NOTREADONLY".to_owned(),
            -125 => "QUOTAEXCEEDED".to_owned(),
            -127 => "THROTTLEDOP".to_owned(),
            other => format!("error {other}"),
        }
    }
}

impl Measure {
    #[must_use]
    pub fn new() -> Measure {
        Measure {
            intended: histogram(),
            service: histogram(),
            answered: 0,
            completed: 0,
            errors: BTreeMap::new(),
        }
    }

    fn clear(&mut self) {
        self.intended.reset();
        self.service.reset();
        (self.answered, self.completed) = (0, 0);
        self.errors.clear();
    }

    pub fn merge(&mut self, other: &Measure) {
        self.intended.add(&other.intended).expect("all histograms have the same bounds");
        self.service.add(&other.service).expect("all histograms have the same bounds");
        self.answered += other.answered;
        self.completed += other.completed;
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
    }

    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }
}

impl Default for Measure {
    fn default() -> Measure {
        Measure::new()
    }
}

/// What a thread measured in one interval, or what all measured in all.
#[derive(Default)]
pub struct Tally {
    pub ops: [Option<Box<Measure>>; OPS],
    /// How late operations were handed to a connection that had room for them: our own fault.
    pub lag: Option<Box<Histogram<u64>>>,
    /// Operations that came due.
    pub due: u64,
    pub connections_lost: u64,
    pub reconnects: u64,
    pub sessions_lost: u64,
    /// Watch events.
    pub events: u64,
    /// The longest time in which no operation succeeded: (its length, its begin), of one thread.
    pub gap: (u64, u64),
}

impl Tally {
    pub fn op(&mut self, op: Op) -> &mut Measure {
        self.ops[op as usize].get_or_insert_default()
    }

    pub fn lag(&mut self, nanos: u64) {
        add(self.lag.get_or_insert_with(|| Box::new(histogram())), nanos);
    }

    pub fn merge(&mut self, other: &Tally) {
        for op in Op::ALL {
            if let Some(measure) = &other.ops[op as usize] {
                self.op(op).merge(measure);
            }
        }
        if let Some(lag) = &other.lag {
            let own = self.lag.get_or_insert_with(|| Box::new(histogram()));
            own.add(&**lag).expect("all histograms have the same bounds");
        }
        self.due += other.due;
        self.connections_lost += other.connections_lost;
        self.reconnects += other.reconnects;
        self.sessions_lost += other.sessions_lost;
        self.events += other.events;
        self.gap = self.gap.max(other.gap);
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.ops.iter_mut().flatten().for_each(|measure| measure.clear());
        if let Some(lag) = &mut self.lag {
            lag.reset();
        }
        self.gap = (0, 0);
        (self.due, self.connections_lost, self.reconnects, self.sessions_lost, self.events) = (0, 0, 0, 0, 0);
    }

    /// Answered operations, without errors.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.ops.iter().flatten().map(|measure| measure.answered).sum()
    }

    /// Those that were answered within the measured part.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.ops.iter().flatten().map(|measure| measure.completed).sum()
    }

    #[must_use]
    pub fn errors(&self) -> u64 {
        self.ops.iter().flatten().map(|measure| measure.errors()).sum()
    }

    /// All operations in one histogram: (intended, service).
    #[must_use]
    pub fn all(&self) -> (Histogram<u64>, Histogram<u64>) {
        let (mut intended, mut service) = (histogram(), histogram());
        for measure in self.ops.iter().flatten() {
            intended.add(&measure.intended).expect("all histograms have the same bounds");
            service.add(&measure.service).expect("all histograms have the same bounds");
        }
        (intended, service)
    }
}
