//! Numbers and foreign text as a page shows them.

use crate::table;

/// What stands where there is no figure.
pub const NONE: &str = "–";

/// Text that cannot become markup, in an element and in an attribute. Control characters, which HTML has no way to say,
/// become U+FFFD.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn known(number: f64) -> bool {
    number.is_finite() && number >= 0.0
}

/// Microseconds; 0 is not a latency that can be measured.
#[must_use]
pub fn time(micros: f64) -> String {
    if known(micros) && micros > 0.0 {
        table::time(micros).replace(" us", " µs")
    } else {
        NONE.to_owned()
    }
}

/// Microseconds at a tick: no digits that say nothing.
#[must_use]
pub fn tick_time(micros: f64) -> String {
    if micros == 0.0 {
        return "0".to_owned();
    }
    let (value, unit) = match micros {
        m if m < 0.999_9 => (m * 1e3, "ns"),
        m if m < 999.9 => (m, "µs"),
        m if m < 999_900.0 => (m / 1e3, "ms"),
        m => (m / 1e6, "s"),
    };
    format!("{} {unit}", short(value))
}

/// A number with at most three digits behind the point, none of them an empty zero.
#[must_use]
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count at a tick.
#[must_use]
pub fn tick_count(number: f64) -> String {
    match number {
        n if n < 999.9 => short(n),
        n if n < 999_900.0 => format!("{}k", short(n / 1e3)),
        n => format!("{}M", short(n / 1e6)),
    }
}

/// A count.
#[must_use]
pub fn count(number: f64) -> String {
    if known(number) {
        table::count(number)
    } else {
        NONE.to_owned()
    }
}

/// A whole number, its thousands apart.
#[must_use]
pub fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[must_use]
pub fn bytes(number: f64) -> String {
    if known(number) {
        table::bytes(number)
    } else {
        NONE.to_owned()
    }
}

/// Any other figure, short.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => NONE.to_owned(),
        v if v >= 1e4 => format!("{}{}", if value < 0.0 { "-" } else { "" }, table::count(v)),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A share as a percentage.
#[must_use]
pub fn share(part: f64) -> String {
    match part * 100.0 {
        p if !p.is_finite() => NONE.to_owned(),
        0.0 => "0%".to_owned(),
        p if p < 0.01 => "below 0.01%".to_owned(),
        p if p < 10.0 => format!("{p:.2}%"),
        p => format!("{p:.0}%"),
    }
}

/// Seconds since 1970 as a date and a time of day in UTC.
#[must_use]
pub fn date(unix: u64) -> String {
    if unix == 0 || unix > 253_402_300_799 {
        return NONE.to_owned();
    }
    let (mut day, second) = ((unix / 86_400) as i64, unix % 86_400);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while day >= 365 + i64::from(is_leap(year)) {
        day -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", day + 1, second / 3_600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_becomes_markup() {
        assert_eq!(
            escape("</script><b a=\"x\" c='y'>&amp;\0\u{1b}"),
            "&lt;/script&gt;&lt;b a=&quot;x&quot; c=&#39;y&#39;&gt;&amp;amp;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn figures_are_short() {
        let times = [0.5, 12.0, 1_500.0, 2e6, 0.0, -1.0, f64::NAN].map(time);
        assert_eq!(times, ["500 ns", "12 µs", "1.50 ms", "2.00 s", NONE, NONE, NONE]);
        assert_eq!([0.1, 50.0, 1e3, 2e6].map(tick_time), ["100 ns", "50 µs", "1 ms", "2 s"]);
        assert_eq!([0.0, 2.5, 1e3, 25e4, 1.5e6].map(tick_count), ["0", "2.5", "1k", "250k", "1.5M"]);
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(whole),
            ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
        assert_eq!(
            [0.0, 0.000_01, 0.05, 0.5, f64::NAN].map(share),
            ["0%", "below 0.01%", "5.00%", "50%", NONE]
        );
    }

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(date(1), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_799_364), "2026-11-27 17:09 UTC");
        assert_eq!([0, u64::MAX].map(date), [NONE, NONE]);
    }
}
