//! What a sweep gave: a row for every run, and mean and deviation for every setting.

use std::path::Path;

use serde::Serialize;

use super::{Member, Until};
use crate::{ClassifierReport, Result, TestReport, VqganReport};

/// The field that repeats a setting.
const SEED: &str = "run.seed";
const PSNR: &str = "validation PSNR";
const MACRO_AUROC: &str = "validation macro AUROC";

/// What one run gave.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The run's folder.
    pub run: String,
    /// Field and value of every axis.
    pub values: Vec<(String, String)>,
    /// Figures on validation films, by name.
    pub figures: Vec<(&'static str, Option<f64>)>,
    /// Seconds of training.
    pub seconds: f64,
    /// Why there are no figures, if there are none.
    pub failed: Option<String>,
}

impl Outcome {
    pub(super) fn done(member: &Member, vqgan: &VqganReport, classifier: Option<&ClassifierReport>) -> Self {
        let mut figures = vec![
            (PSNR, Some(vqgan.best.psnr)),
            ("validation SSIM", vqgan.best.ssim),
            ("codes used", Some(vqgan.best.codes_used)),
        ];
        if let Some(report) = classifier {
            let metrics = &report.validation;
            figures.push((MACRO_AUROC, metrics.macro_.auroc));
            figures.push(("validation micro AUROC", metrics.micro.auroc));
            figures.push(("validation macro F1", metrics.macro_.f1));
            figures.push(("best epoch", Some(report.best_epoch as f64)));
        }
        let seconds = vqgan.seconds + classifier.map_or(0.0, |report| report.seconds);
        Self { run: member.name.clone(), values: member.values.clone(), figures, seconds, failed: None }
    }

    pub(super) fn failed(member: &Member, reason: String) -> Self {
        let (run, values) = (member.name.clone(), member.values.clone());
        Self { run, values, figures: Vec::new(), seconds: 0.0, failed: Some(reason) }
    }

    /// The values that make the setting: all but the seed.
    fn setting(&self) -> Vec<(String, String)> {
        self.values.iter().filter(|(field, _)| field != SEED).cloned().collect()
    }
}

/// Mean and deviation of a figure over the runs of a setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// Runs in which it is defined.
    pub runs: usize,
    /// Their mean.
    pub mean: Option<f64>,
    /// Standard deviation of a sample (divided by runs - 1); absent for fewer than two runs.
    pub deviation: Option<f64>,
}

impl Figure {
    fn over(name: &str, values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let values = values.into_iter().flatten().filter(|value| value.is_finite()).collect::<Vec<_>>();
        let count = values.len() as f64;
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / count);
        let deviation = mean.filter(|_| values.len() > 1).map(|mean| {
            (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
        });
        Self { name: name.to_owned(), runs: values.len(), mean, deviation }
    }
}

/// The runs that differ in their seed alone.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Field and value of every axis but the seed.
    pub values: Vec<(String, String)>,
    /// Folders of its runs.
    pub runs: Vec<String>,
    /// Runs that failed.
    pub failed: usize,
    /// Figures on validation films over the others.
    pub figures: Vec<Figure>,
    /// Figures on test films; of the best setting alone, where they were asked for.
    pub test: Vec<Figure>,
}

impl Setting {
    /// A figure by its name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

/// All runs and settings so far.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The figure by which settings are compared.
    pub compared_by: &'static str,
    /// Place in `settings` of the one with the highest mean; none while nothing is known, or where every run failed.
    pub best: Option<usize>,
    /// Every setting.
    pub settings: Vec<Setting>,
    /// Every run.
    pub runs: Vec<Outcome>,
}

impl Summary {
    pub(super) fn new(outcomes: &[Outcome], until: Until) -> Self {
        let mut settings: Vec<Setting> = Vec::new();
        for outcome in outcomes {
            let values = outcome.setting();
            if settings.iter().any(|setting| setting.values == values) {
                continue;
            }
            let of_setting = outcomes.iter().filter(|other| other.setting() == values).collect::<Vec<_>>();
            let names: Vec<&str> = of_setting
                .iter()
                .find(|outcome| outcome.failed.is_none())
                .into_iter()
                .flat_map(|outcome| outcome.figures.iter().map(|(name, _)| *name))
                .collect();
            let figure = |name: &&str| {
                let value = |outcome: &&Outcome| outcome.figures.iter().find(|(n, _)| n == name)?.1;
                Figure::over(name, of_setting.iter().map(value))
            };
            settings.push(Setting {
                runs: of_setting.iter().map(|outcome| outcome.run.clone()).collect(),
                failed: of_setting.iter().filter(|outcome| outcome.failed.is_some()).count(),
                figures: names.iter().map(figure).collect(),
                test: Vec::new(),
                values,
            });
        }
        let compared_by = if until == Until::Vqgan { PSNR } else { MACRO_AUROC };
        let mean = |setting: &Setting| setting.figure(compared_by)?.mean;
        // A setting some of whose seeds failed is not compared: its mean would be of the lucky ones.
        let best = (0..settings.len())
            .filter(|&i| settings[i].failed == 0)
            .filter_map(|i| Some((i, mean(&settings[i])?)))
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
            .map(|(i, _)| i);
        Self { compared_by, best, settings, runs: outcomes.to_vec() }
    }

    /// The setting with the highest mean.
    #[must_use]
    pub fn best_setting(&self) -> Option<&Setting> {
        self.settings.get(self.best?)
    }

    pub(super) fn add_test(&mut self, reports: &[TestReport]) {
        let Some(best) = self.best.and_then(|best| self.settings.get_mut(best)) else { return };
        type Value = fn(&TestReport) -> Option<f64>;
        let figures: [(&str, Value); 5] = [
            ("test macro AUROC", |report| report.classifier.macro_.auroc),
            ("test micro AUROC", |report| report.classifier.micro.auroc),
            ("test macro F1", |report| report.classifier.macro_.f1),
            ("test PSNR", |report| Some(report.reconstruction.vqgan.psnr)),
            ("test layers outside their interval", |report| Some(report.outside().len() as f64)),
        ];
        best.test = figures.map(|(name, value)| Figure::over(name, reports.iter().map(value))).to_vec();
    }

    /// One row a setting: its values, runs, and mean and deviation of every figure.
    #[must_use]
    pub fn csv(&self) -> String {
        let fields = self.settings.first().map(|s| s.values.clone()).unwrap_or_default();
        let mut figures: Vec<&str> = Vec::new();
        for figure in self.settings.iter().flat_map(|s| s.figures.iter().chain(&s.test)) {
            if !figures.contains(&figure.name.as_str()) {
                figures.push(&figure.name);
            }
        }
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let mut head = fields.iter().map(|(field, _)| quoted(field)).collect::<Vec<_>>();
        head.extend(["runs".to_owned(), "failed".to_owned()]);
        head.extend(figures.iter().flat_map(|name| [format!("{name} mean"), format!("{name} deviation")]));
        let mut text = head.join(",") + "\n";
        let cell = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        for setting in &self.settings {
            let mut row = setting.values.iter().map(|(_, value)| quoted(value)).collect::<Vec<_>>();
            row.extend([setting.runs.len().to_string(), setting.failed.to_string()]);
            for name in &figures {
                let figure = setting.figures.iter().chain(&setting.test).find(|figure| figure.name == *name);
                row.extend([cell(figure.and_then(|f| f.mean)), cell(figure.and_then(|f| f.deviation))]);
            }
            text += &(row.join(",") + "\n");
        }
        text
    }

    pub(super) fn save(&self, folder: &Path) -> Result<()> {
        durable::write(&folder.join("sweep.csv"), self.csv().as_bytes())?;
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        Ok(durable::write(&folder.join("sweep.json"), json.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rate: &str, seed: u64, auroc: Option<f64>) -> Outcome {
        Outcome {
            run: format!("{rate}-{seed}"),
            values: vec![("rate".into(), rate.into()), (SEED.into(), seed.to_string())],
            figures: auroc.map(|auroc| (MACRO_AUROC, Some(auroc))).into_iter().collect(),
            seconds: 1.0,
            failed: auroc.is_none().then(|| "no number".into()),
        }
    }

    #[test]
    fn seeds_are_averaged_and_settings_with_failures_are_not_best() {
        let outcomes = [
            outcome("1", 1, Some(0.6)),
            outcome("1", 2, Some(0.7)),
            outcome("1", 3, Some(0.8)),
            outcome("2", 1, Some(0.9)),
            outcome("2", 2, None),
            outcome("3", 1, Some(0.65)),
        ];
        let summary = Summary::new(&outcomes, Until::Classifier);
        assert_eq!(summary.settings.len(), 3);
        let figure = summary.settings[0].figure(MACRO_AUROC).unwrap();
        assert_eq!(figure.runs, 3);
        assert!(
            (figure.mean.unwrap() - 0.7).abs() < 1e-12 && (figure.deviation.unwrap() - 0.1).abs() < 1e-12
        );
        assert_eq!(summary.best, Some(0));
        assert_eq!(summary.settings[1].failed, 1);
        assert_eq!(summary.settings[2].figure(MACRO_AUROC).unwrap().deviation, None);
        let csv = summary.csv();
        assert_eq!(
            csv.lines().next().unwrap(),
            "\"rate\",runs,failed,validation macro AUROC mean,validation macro AUROC deviation"
        );
        assert_eq!(csv.lines().nth(3).unwrap(), "\"3\",1,0,0.65,");
        assert!(Summary::new(&[outcome("1", 1, None)], Until::Classifier).best.is_none());
    }
}
