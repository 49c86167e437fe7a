//! AUROC and F1 for many labels, micro, macro, weighted and per class.
//!
//! A class of which the known labels are all positive or all negative has no AUROC: it is listed in
//! [`Metrics::undefined`] and left out of macro and weighted means, never counted as 0 or 1.

use serde::{Deserialize, Serialize};

use crate::ClassifierError;

/// AUROC and F1; absent where undefined.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Pair {
    /// Area under the ROC curve.
    pub auroc: Option<f64>,
    /// `2 tp / (2 tp + fp + fn)` at the threshold.
    pub f1: Option<f64>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Name of the label.
    pub label: String,
    /// Known positive examples.
    pub positives: usize,
    /// Known negative examples.
    pub negatives: usize,
    /// AUROC and F1.
    #[serde(flatten)]
    pub pair: Pair,
}

/// All figures of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Over all known (example, label) pairs at once.
    pub micro: Pair,
    /// Mean over the defined classes.
    #[serde(rename = "macro")]
    pub macro_: Pair,
    /// Mean over the defined classes, weighted by their positive examples.
    pub weighted: Pair,
    /// Each class.
    pub classes: Vec<ClassMetrics>,
    /// Labels without a known positive or without a known negative example.
    pub undefined: Vec<String>,
}

impl Metrics {
    /// Measures scores against labels.
    ///
    /// `scores[example][label]` may be logits or probabilities: AUROC needs only their order, F1 calls
    /// positive what is above `threshold` (0.5 for probabilities, 0 for logits).
    ///
    /// # Errors
    /// Lengths that do not fit, or a score that is not a number.
    pub fn measure(
        names: &[String],
        scores: &[Vec<f64>],
        labels: &[Vec<Option<bool>>],
        threshold: f64,
    ) -> Result<Self, ClassifierError> {
        check(names, scores, labels)?;
        let mut all = vec![];
        let (mut classes, mut undefined) = (vec![], vec![]);
        for (k, name) in names.iter().enumerate() {
            let known: Vec<(f64, bool)> =
                scores.iter().zip(labels).filter_map(|(s, l)| Some((s[k], l[k]?))).collect();
            let positives = known.iter().filter(|(_, l)| *l).count();
            let negatives = known.len() - positives;
            let pair = pair(&known, threshold);
            if pair.auroc.is_none() {
                undefined.push(name.clone());
            }
            classes.push(ClassMetrics { label: name.clone(), positives, negatives, pair });
            all.extend(known);
        }
        let micro = pair(&all, threshold);
        let macro_ = mean(&classes, |_| 1.0);
        let weighted = mean(&classes, |c| c.positives as f64);
        Ok(Self { micro, macro_, weighted, classes, undefined })
    }
}

fn check(names: &[String], scores: &[Vec<f64>], labels: &[Vec<Option<bool>>]) -> Result<(), ClassifierError> {
    let refuse = |expected: String, got: String| Err(ClassifierError::Metrics { expected, got });
    if scores.len() != labels.len() {
        return refuse(format!("labels for {} examples", scores.len()), labels.len().to_string());
    }
    for (i, (s, l)) in scores.iter().zip(labels).enumerate() {
        if s.len() != names.len() || l.len() != names.len() {
            let got = format!("{} scores and {} labels in example {i}", s.len(), l.len());
            return refuse(format!("{} of each", names.len()), got);
        }
        if let Some(k) = s.iter().position(|s| s.is_nan()) {
            return refuse("numbers as scores".into(), format!("NaN for {} in example {i}", names[k]));
        }
    }
    Ok(())
}

fn mean(classes: &[ClassMetrics], weight: impl Fn(&ClassMetrics) -> f64) -> Pair {
    let over = |value: fn(&Pair) -> Option<f64>| {
        let (mut sum, mut total) = (0.0, 0.0);
        for c in classes {
            if let Some(v) = value(&c.pair) {
                sum += weight(c) * v;
                total += weight(c);
            }
        }
        (total > 0.0).then(|| sum / total)
    };
    Pair { auroc: over(|p| p.auroc), f1: over(|p| p.f1) }
}

fn pair(known: &[(f64, bool)], threshold: f64) -> Pair {
    let Some(auroc) = auroc(known) else { return Pair::default() };
    let called = known.iter().filter(|(s, _)| *s > threshold).count();
    let hit = known.iter().filter(|(s, l)| *s > threshold && *l).count();
    let positives = known.iter().filter(|(_, l)| *l).count();
    // 2 tp + fp + fn = called + positives, which is not zero because AUROC is defined.
    Pair { auroc: Some(auroc), f1: Some(2.0 * hit as f64 / (called + positives) as f64) }
}

/// The probability that a positive example scores above a negative one, ties counting half (the rank-sum form
/// of Mann and Whitney); `None` without a positive or without a negative example.
#[must_use]
pub fn auroc(known: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = known.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = sorted.iter().filter(|(_, l)| *l).count() as f64;
    let negatives = sorted.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut pairs, mut below) = (0.0, 0.0);
    // Equality by `==`, so that 0.0 and -0.0 are a tie.
    for tie in sorted.chunk_by(|a, b| a.0 == b.0) {
        let p = tie.iter().filter(|(_, l)| *l).count() as f64;
        let n = tie.len() as f64 - p;
        pairs += p * (below + n / 2.0);
        below += n;
    }
    Some(pairs / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("l{i}")).collect()
    }

    #[test]
    fn auroc_counts_ties_half() {
        let k = [(0.1, false), (0.4, false), (0.4, true), (0.8, true)];
        assert_eq!(auroc(&k), Some(3.5 / 4.0));
        assert_eq!(auroc(&[(1.0, true), (1.0, false)]), Some(0.5));
        assert_eq!(auroc(&[(0.0, true), (-0.0, false)]), Some(0.5));
        assert_eq!(auroc(&[(1.0, true)]), None);
        assert_eq!(auroc(&[]), None);
    }

    #[test]
    fn auroc_is_the_share_of_ordered_pairs() {
        // A small linear congruence gives many ties.
        let mut s = 1u32;
        let known: Vec<(f64, bool)> = (0..200)
            .map(|_| {
                s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (f64::from(s >> 28), (s >> 20) & 1 == 1)
            })
            .collect();
        let (mut sum, mut n) = (0.0, 0.0);
        for (a, _) in known.iter().filter(|k| k.1) {
            for (b, _) in known.iter().filter(|k| !k.1) {
                sum += if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                };
                n += 1.0;
            }
        }
        assert!((auroc(&known).unwrap() - sum / n).abs() < 1e-12);
    }

    #[test]
    fn undefined_classes_stay_out_of_the_means() {
        let scores = vec![vec![0.9, 0.9, 0.2], vec![0.1, 0.8, 0.7], vec![0.6, 0.1, 0.9]];
        let labels = vec![
            vec![Some(true), Some(true), None],
            vec![Some(false), Some(true), Some(true)],
            vec![Some(false), Some(true), Some(false)],
        ];
        let m = Metrics::measure(&names(3), &scores, &labels, 0.5).unwrap();
        assert_eq!(m.undefined, vec!["l1".to_owned()]);
        assert_eq!(m.classes[0].pair, Pair { auroc: Some(1.0), f1: Some(2.0 / 3.0) });
        assert_eq!(m.classes[1].pair, Pair::default());
        assert_eq!((m.classes[2].positives, m.classes[2].negatives), (1, 1));
        assert_eq!(m.macro_.auroc, Some(0.5));
        assert_eq!(m.weighted.auroc, Some(0.5));
        assert_eq!(m.macro_.f1, Some((2.0 / 3.0 + 2.0 / 3.0) / 2.0));
        let json = serde_json::to_value(&m).unwrap();
        assert_eq!(json["macro"]["auroc"], 0.5);
        assert!(json["classes"][1]["auroc"].is_null());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let e = Metrics::measure(&names(2), &[vec![0.0]], &[vec![None, None]], 0.5).unwrap_err();
        assert!(e.to_string().contains("2 of each"));
        let e = Metrics::measure(&names(1), &[vec![f64::NAN]], &[vec![None]], 0.5).unwrap_err();
        assert!(e.to_string().contains("NaN"));
        assert!(Metrics::measure(&names(1), &[], &[vec![None]], 0.5).is_err());
    }
}
