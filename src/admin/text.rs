//! Small texts that several words share.

use super::view::{Build, View};
use crate::auth::ip_identity;
use crate::ids::WallMillis;
use std::fmt;
use std::fmt::Write;
use std::net::SocketAddr;

/// The ZooKeeper that this server answers like. Clients compare the leading numbers.
const ZOOKEEPER_VERSION: &str = "3.9.5";

/// `3.9.5-<commit>, built on <date>`.
impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ZOOKEEPER_VERSION}-{}, built on {}", self.commit, self.date)
    }
}

/// A mean with up to four decimals and at least one, as ZooKeeper rounds it. Java would write a small one as
/// `6.0E-4`, which half of the parsers refuse: we write it out.
pub(super) fn mean(sum: u64, count: u64) -> String {
    let mean = if count == 0 { 0.0 } else { sum as f64 / count as f64 };
    let mut text = format!("{mean:.4}");
    while text.ends_with('0') && !text.ends_with(".0") {
        text.pop();
    }
    text
}

/// An address as Java prints it, which shortens no IPv6 address.
pub(super) fn peer(address: SocketAddr) -> String {
    let (ip, port) = (ip_identity(address.ip()).id, address.port());
    if ip.contains(':') {
        format!("/[{ip}]:{port}")
    } else {
        format!("/{ip}:{port}")
    }
}

/// A moment as `java.util.Date` prints it in UTC: `Wed Nov 25 03:50:26 UTC 2026`.
pub(super) fn java_date(wall: WallMillis) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = wall.0.div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let week_day = DAYS[usize::try_from(days.rem_euclid(7)).expect("0 to 6")];
    // Days from 1 March of year 0, in eras of 400 years of 146097 days: the leap day comes last in a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    let month = MONTHS[usize::try_from(month).expect("0 to 11")];
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{week_day} {month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year}")
}

/// Says whose part is missing.
pub(super) fn say_who_is_silent(out: &mut String, view: &View) {
    for shard in &view.silent {
        let _ = writeln!(out, "Shard {} did not answer in time: what it holds is missing here", shard.0);
    }
    if view.sequencer_is_silent {
        out.push_str("The sequencer did not answer in time: what it knows is missing here\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_javas() {
        for (ms, want) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_795_578_626_123, "Wed Nov 25 03:50:26 UTC 2026"),
            (4_107_542_399_000, "Sun Feb 28 23:59:59 UTC 2100"),
            (4_107_542_400_000, "Mon Mar 01 00:00:00 UTC 2100"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
        ] {
            assert_eq!(java_date(WallMillis(ms)), want);
        }
    }

    #[test]
    fn means_have_one_to_four_decimals() {
        for (sum, count, want) in
            [(0, 0, "0.0"), (5, 1, "5.0"), (159, 315, "0.5048"), (6, 10_000, "0.0006"), (1, 4, "0.25")]
        {
            assert_eq!(mean(sum, count), want);
        }
    }
}
