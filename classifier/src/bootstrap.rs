//! Confidence intervals of AUROC and F1 by the bootstrap over patients.
//!
//! Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, percentile intervals. Films of one
//! patient resemble each other, so whole patients are drawn: each of `rounds` resamples draws as many patients as
//! there are, with repetition, and measures all their films. A figure that is undefined in a resample (a rare finding
//! was not drawn) is left out of that figure's interval; one that is undefined in more than half has none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ClassifierError, Metrics, metrics::Pair};

/// Resamples of [`Intervals::measure`] unless said otherwise: enough for two digits of a 95 % interval.
pub const ROUNDS: usize = 1000;
/// The part of the resamples that lies inside.
pub const LEVEL: f64 = 0.95;

/// A 95 % interval: low and high.
pub type Interval = [f64; 2];

/// Intervals of one pair of figures; absent where undefined.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PairIntervals {
    /// Of AUROC.
    pub auroc: Option<Interval>,
    /// Of F1.
    pub f1: Option<Interval>,
}

/// Intervals of all figures of [`Metrics`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Patients that were drawn from.
    pub patients: usize,
    /// Resamples.
    pub rounds: usize,
    /// The seed of the draws.
    pub seed: u64,
    /// Micro figures.
    pub micro: PairIntervals,
    /// Macro figures.
    #[serde(rename = "macro")]
    pub macro_: PairIntervals,
    /// Weighted figures.
    pub weighted: PairIntervals,
    /// Each class, by label.
    pub classes: BTreeMap<String, PairIntervals>,
}

/// SplitMix64 (Steele, Lea and Flood 2014): draws that repeat on every machine.
struct Draws(u64);

impl Draws {
    /// A number below `end`, as good as uniform: `end` is far below 2^32.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 32).wrapping_mul(end as u64) >> 32) as usize
    }
}

impl Intervals {
    /// Intervals of [`Metrics::measure`] with the same arguments; `patients` names the patient of each example.
    ///
    /// # Errors
    /// As [`Metrics::measure`], or there is not one patient per example.
    pub fn measure(
        names: &[String],
        scores: &[Vec<f64>],
        labels: &[Vec<Option<bool>>],
        patients: &[String],
        threshold: f64,
        rounds: usize,
        seed: u64,
    ) -> Result<Self, ClassifierError> {
        // Refuses what does not fit, once.
        Metrics::measure(names, scores, labels, threshold)?;
        if patients.len() != scores.len() {
            return Err(ClassifierError::Metrics {
                expected: format!("patients of {} examples", scores.len()),
                got: patients.len().to_string(),
            });
        }
        let mut films: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (film, patient) in patients.iter().enumerate() {
            films.entry(patient).or_default().push(film);
        }
        let films: Vec<Vec<usize>> = films.into_values().collect();
        let mut draws = Draws(seed);
        let mut found: Vec<Metrics> = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let drawn: Vec<usize> =
                (0..films.len()).flat_map(|_| films[draws.below(films.len())].iter().copied()).collect();
            let scores: Vec<Vec<f64>> = drawn.iter().map(|&film| scores[film].clone()).collect();
            let labels: Vec<Vec<Option<bool>>> = drawn.iter().map(|&film| labels[film].clone()).collect();
            found.push(Metrics::measure(names, &scores, &labels, threshold)?);
        }
        let of = |pair: &dyn Fn(&Metrics) -> Pair| PairIntervals {
            auroc: interval(found.iter().map(|m| pair(m).auroc)),
            f1: interval(found.iter().map(|m| pair(m).f1)),
        };
        let classes =
            names.iter().enumerate().map(|(k, name)| (name.clone(), of(&|m| m.classes[k].pair))).collect();
        Ok(Self {
            patients: films.len(),
            rounds,
            seed,
            micro: of(&|m| m.micro),
            macro_: of(&|m| m.macro_),
            weighted: of(&|m| m.weighted),
            classes,
        })
    }
}

/// The central part of the defined values.
fn interval(values: impl Iterator<Item = Option<f64>>) -> Option<Interval> {
    let all: Vec<Option<f64>> = values.collect();
    let mut defined: Vec<f64> = all.iter().copied().flatten().collect();
    if defined.is_empty() || 2 * defined.len() < all.len() {
        return None;
    }
    defined.sort_by(f64::total_cmp);
    let at = |part: f64| defined[(part * (defined.len() - 1) as f64).round() as usize];
    Some([at((1.0 - LEVEL) / 2.0), at((1.0 + LEVEL) / 2.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores, labels and patients of films.
    type Sample = (Vec<Vec<f64>>, Vec<Vec<Option<bool>>>, Vec<String>);

    /// Scores of `count` examples, half of them positive, normal with means 0 and `shift`.
    fn sample(count: usize, shift: f64, per_patient: usize) -> Sample {
        let mut draws = Draws(5);
        // Twelve uniform numbers add up to something close to a normal one.
        let mut normal =
            || (0..12).map(|_| draws.below(1 << 20) as f64 / (1 << 20) as f64).sum::<f64>() - 6.0;
        let labels: Vec<bool> = (0..count).map(|i| (i / per_patient).is_multiple_of(2)).collect();
        // Films of a patient differ little from each other.
        let mut mean = 0.0;
        let mut scores = vec![];
        for (i, label) in labels.iter().enumerate() {
            if i.is_multiple_of(per_patient) {
                mean = normal();
            }
            let own = if per_patient > 1 { 0.1 * normal() } else { 0.0 };
            scores.push(vec![mean + own + if *label { shift } else { 0.0 }]);
        }
        let patients = (0..count).map(|i| format!("p{}", i / per_patient)).collect();
        (scores, labels.into_iter().map(|l| vec![Some(l)]).collect(), patients)
    }

    fn measure(count: usize, per_patient: usize, seed: u64) -> Interval {
        let (scores, labels, patients) = sample(count, 1.0, per_patient);
        let names = ["a".to_owned()];
        let found = Intervals::measure(&names, &scores, &labels, &patients, 0.5, 400, seed).unwrap();
        assert_eq!(found.patients, count / per_patient);
        assert_eq!(found.macro_, found.classes["a"]);
        found.macro_.auroc.unwrap()
    }

    /// Against the closed form for independent films: Hanley and McNeil (1982), AUROC 0.76 of a shift of 1.
    #[test]
    fn the_width_is_that_of_theory_and_grows_when_films_share_patients() {
        let (a, n) = (0.7602f64, 200.0);
        let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
        let variance = (a * (1.0 - a) + (n - 1.0) * (q1 - a * a) + (n - 1.0) * (q2 - a * a)) / (n * n);
        let width = 2.0 * 1.96 * variance.sqrt();
        let [low, high] = measure(400, 1, 1);
        assert!(low < a && a < high, "{low} to {high}");
        assert!(((high - low) / width - 1.0).abs() < 0.2, "{} against {width}", high - low);
        let [low_8, high_8] = measure(400, 8, 1);
        assert!(high_8 - low_8 > 2.0 * (high - low), "eight films a patient: {low_8} to {high_8}");
        assert_eq!(measure(400, 1, 1), [low, high], "the seed decides");
        assert_ne!(measure(400, 1, 2), [low, high]);
    }

    #[test]
    fn what_is_undefined_has_no_interval() {
        let names = ["a".to_owned(), "b".to_owned()];
        let scores = vec![vec![0.1, 0.2], vec![0.4, 0.1], vec![0.3, 0.6]];
        let labels = vec![vec![Some(true), None], vec![Some(false), None], vec![Some(true), Some(false)]];
        let patients = ["p", "q", "r"].map(str::to_owned);
        let found = Intervals::measure(&names, &scores, &labels, &patients, 0.0, 50, 3).unwrap();
        assert_eq!(found.classes["b"], PairIntervals::default());
        assert!(Intervals::measure(&names, &scores, &labels, &patients[..2], 0.0, 50, 3).is_err());
    }
}
