//! Where a value stands on an axis, and which values are named there.

/// An axis of a plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    Linear(f64, f64),
    /// Both ends are above 0.
    Log(f64, f64),
    /// Of percentiles, which stand by their nines: 90% at 1, 99% at 2, up to so many.
    Nines(f64),
}

/// More nines than this are never drawn; no histogram here holds as many counts.
const NINES_MAX: f64 = 9.0;
/// A log axis spans at most so many decades.
const DECADES_MAX: f64 = 12.0;

impl Scale {
    /// Linear from 0 to a round number that is not below any of the values.
    #[must_use]
    pub fn from_zero(values: impl Iterator<Item = f64>) -> Scale {
        let top = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        if top <= 0.0 {
            return Scale::Linear(0.0, 1.0);
        }
        let step = step(top / 4.0);
        Scale::Linear(0.0, (top * 1.02 / step).ceil() * step)
    }

    /// Logarithmic, between the nearest of 1, 2, 5, 10, ... around the values that are above 0.
    #[must_use]
    pub fn log(values: impl Iterator<Item = f64>) -> Scale {
        let (mut low, mut high) = (f64::MAX, 0.0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        if high <= 0.0 {
            return Scale::Log(1.0, 1_000.0);
        }
        let (low, high) = (low.clamp(1e-6, 1e15), high.clamp(1e-6, 1e15));
        let (from, mut to) = (round_below(low), round_above(high * 1.05));
        if to < from * 9.0 {
            to = round_above(from * 9.0);
        }
        Scale::Log(from.max(to / 10_f64.powf(DECADES_MAX)), to)
    }

    /// Nines up to the last single measurement of a count: a million has six.
    #[must_use]
    pub fn nines(count: u64) -> Scale {
        Scale::Nines((count.max(1) as f64).log10().clamp(2.0, NINES_MAX))
    }

    /// The place of a value, 0 at the axis' begin and 1 at its end; `None`: it has none.
    #[must_use]
    pub fn at(&self, value: f64) -> Option<f64> {
        let place = match *self {
            Scale::Linear(from, to) => (value - from) / (to - from),
            Scale::Log(from, to) if value > 0.0 => (value / from).ln() / (to / from).ln(),
            Scale::Log(..) => return None,
            Scale::Nines(most) => nines(value) / most,
        };
        place.is_finite().then(|| place.clamp(0.0, 1.0))
    }

    /// The values to name, about so many at most.
    #[must_use]
    pub fn ticks(&self, about: usize) -> Vec<f64> {
        let about = about.max(2);
        match *self {
            Scale::Linear(from, to) => {
                let step = step((to - from) / about as f64);
                let first = (from / step - 1e-9).ceil() as i64;
                let last = (to / step + 1e-9).floor() as i64;
                (first..=last.min(first + 100)).map(|at| at as f64 * step).collect()
            }
            Scale::Log(from, to) => {
                let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
                let inside = |value: &f64| (from * 0.999..=to * 1.001).contains(value);
                let of = |parts: &[f64]| -> Vec<f64> {
                    decades
                        .clone()
                        .flat_map(|power| parts.iter().map(move |part| part * 10_f64.powi(power)))
                        .filter(inside)
                        .collect()
                };
                let choices = [of(&[1.0, 2.0, 5.0]), of(&[1.0, 3.0]), of(&[1.0])];
                let fit = choices.iter().find(|ticks| ticks.len() <= about);
                fit.unwrap_or(&choices[2]).clone()
            }
            Scale::Nines(most) => {
                let whole = (1..=most.floor() as i32).map(|nines| 1.0 - 10_f64.powi(-nines));
                [0.0, 0.5].into_iter().chain(whole).collect()
            }
        }
    }
}

/// How many nines a quantile (0 to 1) has: 0.99 has two, one half has 0.3.
#[must_use]
pub fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(10_f64.powf(-NINES_MAX)).log10()
}

/// The quantile of a number of nines.
#[must_use]
pub fn quantile(nines: f64) -> f64 {
    1.0 - 10_f64.powf(-nines)
}

/// A quantile as text: `50%`, `99.9%`.
#[must_use]
pub fn percent(quantile: f64) -> String {
    let digits = (nines(quantile) - 2.0).ceil().clamp(0.0, 7.0) as usize;
    let text = format!("{:.digits$}", quantile * 100.0);
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

/// The step of 1, 2 or 5 times a power of ten that is not below.
fn step(least: f64) -> f64 {
    round_above(least.max(1e-12))
}

fn round_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let part = value / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|round| part <= round * 1.000_000_1).unwrap_or(10.0)
}

fn round_below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let part = value / power;
    power * [5.0, 2.0, 1.0].into_iter().find(|round| part >= round * 0.999_999_9).unwrap_or(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) -> bool {
        (got - want).abs() < 1e-9
    }

    #[test]
    fn percentiles_stand_by_their_nines() {
        let scale = Scale::nines(1_000_000);
        assert_eq!(scale, Scale::Nines(6.0));
        for (quantile, place) in [(0.0, 0.0), (0.9, 1.0 / 6.0), (0.99, 2.0 / 6.0), (0.999_999, 1.0)] {
            let at = scale.at(quantile).expect("a quantile has a place");
            assert!((at - place).abs() < 1e-6, "{quantile} at {at}, not {place}");
        }
        assert!(near(scale.at(1.0).unwrap_or_default(), 1.0), "the whole is at the end");
        assert!((nines(0.5) - 0.301).abs() < 1e-3 && near(quantile(2.0), 0.99));
        let names: Vec<_> = scale.ticks(9).into_iter().map(percent).collect();
        assert_eq!(names, ["0%", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"]);
        assert_eq!(Scale::nines(0), Scale::Nines(2.0));
        assert_eq!(Scale::nines(u64::MAX), Scale::Nines(9.0));
    }

    #[test]
    fn a_log_axis_ends_at_round_numbers() {
        let scale = Scale::log([120.0, 4_800.0].into_iter());
        assert_eq!(scale, Scale::Log(100.0, 10_000.0));
        assert_eq!(scale.ticks(9), [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0]);
        assert_eq!(scale.ticks(4), [100.0, 1_000.0, 10_000.0]);
        assert!(near(scale.at(1_000.0).unwrap_or_default(), 0.5));
        assert_eq!(scale.at(0.0), None);
        assert_eq!(scale.at(-1.0), None);
        assert_eq!(Scale::log([250.0].into_iter()), Scale::Log(200.0, 2_000.0));
    }

    #[test]
    fn a_linear_axis_begins_at_zero() {
        let scale = Scale::from_zero([1.0, 48_300.0].into_iter());
        assert_eq!(scale, Scale::Linear(0.0, 60_000.0));
        assert_eq!(scale.ticks(3), [0.0, 20_000.0, 40_000.0, 60_000.0]);
    }

    #[test]
    fn no_value_is_too_odd() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -3.0, f64::MAX, f64::MIN_POSITIVE];
        let scales = [
            Scale::log(odd.into_iter()),
            Scale::from_zero(odd.into_iter()),
            Scale::log(std::iter::empty()),
            Scale::from_zero(std::iter::empty()),
            Scale::nines(1),
        ];
        for scale in scales {
            assert!(scale.ticks(8).len() < 40, "{scale:?} has too many ticks");
            for value in odd {
                assert!(scale.at(value).is_none_or(|at| (0.0..=1.0).contains(&at)), "{scale:?} {value}");
            }
        }
    }
}
