//! How many connections there may be, of one address and in all: counted over all shards (maxClientCnxns, maxCnxns).

use crate::ids::plain_ip;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why a connection is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// maxClientCnxns.
    OfAddress,
    /// maxCnxns, or the limit of open files.
    InAll,
}

/// The counts.
pub struct ConnectionLimits {
    /// 0: no limit.
    of_address_max: u32,
    in_all_max: u32,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    in_all: u32,
    /// Kept only where there is a limit.
    of_address: BTreeMap<IpAddr, u32>,
}

impl ConnectionLimits {
    /// No connections yet.
    #[must_use]
    pub fn new(of_address_max: u32, in_all_max: u32) -> ConnectionLimits {
        ConnectionLimits { of_address_max, in_all_max, counts: Mutex::new(Counts::default()) }
    }

    /// A connection came. Taken once an accept, never on the path of a request.
    pub fn enter(&self, ip: IpAddr) -> Result<(), Refused> {
        let mut counts = self.lock();
        if counts.in_all >= self.in_all_max {
            return Err(Refused::InAll);
        }
        if self.of_address_max > 0 {
            let mine = counts.of_address.entry(plain_ip(ip)).or_insert(0);
            if *mine >= self.of_address_max {
                return Err(Refused::OfAddress);
            }
            *mine += 1;
        }
        counts.in_all += 1;
        Ok(())
    }

    /// A connection that had entered is gone.
    pub fn leave(&self, ip: IpAddr) {
        let mut counts = self.lock();
        counts.in_all = counts.in_all.saturating_sub(1);
        let ip = plain_ip(ip);
        if let Some(mine) = counts.of_address.get_mut(&ip) {
            *mine -= 1;
            if *mine == 0 {
                counts.of_address.remove(&ip);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_all_together_are_bounded() {
        let limits = ConnectionLimits::new(2, 3);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(limits.enter(a), Ok(()));
        assert_eq!(limits.enter(mapped), Ok(()));
        assert_eq!(limits.enter(a), Err(Refused::OfAddress));
        assert_eq!(limits.enter(b), Ok(()));
        assert_eq!(limits.enter(b), Err(Refused::InAll));
        limits.leave(a);
        assert_eq!(limits.enter(a), Ok(()));
    }
}
