//! A shard's counters, as plain numbers. Who prints them is not its business.

use crate::ids::Millis;

/// Least, most and sum of latencies, in milliseconds, as ZooKeeper shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Latency {
    pub count: u64,
    pub sum_ms: u64,
    pub min_ms: u64,
    pub max_ms: u64,
    pub last_ms: u64,
}

impl Latency {
    /// Counts one.
    pub fn record(&mut self, took: Millis) {
        self.min_ms = if self.count == 0 { took.0 } else { self.min_ms.min(took.0) };
        self.max_ms = self.max_ms.max(took.0);
        self.sum_ms += took.0;
        self.last_ms = took.0;
        self.count += 1;
    }

    /// Both together.
    #[must_use]
    pub fn merged(self, other: Latency) -> Latency {
        match (self.count, other.count) {
            (_, 0) => self,
            (0, _) => other,
            _ => Latency {
                count: self.count + other.count,
                sum_ms: self.sum_ms + other.sum_ms,
                min_ms: self.min_ms.min(other.min_ms),
                max_ms: self.max_ms.max(other.max_ms),
                last_ms: other.last_ms,
            },
        }
    }

    /// The mean, 0 where nothing was counted.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum_ms as f64 / self.count as f64
    }
}

/// What a shard counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    pub connections: usize,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub reads: u64,
    pub writes: u64,
    pub events: u64,
    /// Connections closed for a fault of their own.
    pub cut: u64,
    pub auth_failed: u64,
    pub latency: Latency,
}

impl Stats {
    /// Forgets what `srst` forgets.
    pub fn reset(&mut self) {
        self.packets_received = 0;
        self.packets_sent = 0;
        self.latency = Latency::default();
    }

    /// Both together.
    #[must_use]
    pub fn merged(self, other: Stats) -> Stats {
        Stats {
            connections: self.connections + other.connections,
            packets_received: self.packets_received + other.packets_received,
            packets_sent: self.packets_sent + other.packets_sent,
            bytes_received: self.bytes_received + other.bytes_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            reads: self.reads + other.reads,
            writes: self.writes + other.writes,
            events: self.events + other.events,
            cut: self.cut + other.cut,
            auth_failed: self.auth_failed + other.auth_failed,
            latency: self.latency.merged(other.latency),
        }
    }
}
