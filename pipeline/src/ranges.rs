//! Whether test films stay where calibration has seen the exported network: what each activation is given, beside its interval.
//!
//! Export measures the largest input of every activation on validation films and leaves it a headroom. A polynomial has no
//! ceiling, so whether films that neither training nor calibration has seen stay inside is worth knowing before
//! one of them is encrypted, where nobody can look.

use datasets::{LatentSet, Split};
use he_model::{HeModel, Op, Ranges};
use rayon::prelude::*;
use report::Table;
use serde::Serialize;

use crate::context::Context;
use crate::error::{Explain as _, Result};
use crate::latents;
use crate::require;

/// Films between two looks at whether the user wants to stop.
const BLOCK: usize = 64;

/// What one activation was given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coverage {
    /// The activation.
    pub layer: String,
    /// Largest magnitude of its input on the calibration films.
    pub calibrated: f64,
    /// Largest magnitude of its input on the test films.
    pub largest: f64,
    /// Test films on which the calibrated magnitude is exceeded, headroom left aside.
    pub films_beyond_calibration: usize,
    /// Test films on which it is exceeded by more than the headroom.
    pub films_outside: usize,
}

/// What all activations of an exported model were given on the test films.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Films of the test split.
    pub films: usize,
    /// Films that calibration looked at.
    pub calibration_films: usize,
    /// Factor by which inputs may exceed calibration.
    pub headroom: f64,
    /// Every activation, in the order in which they run.
    pub layers: Vec<Coverage>,
}

impl Report {
    /// The headroom with which no activation would leave its interval: the largest ratio of test to calibration.
    pub fn needed(&self) -> f64 {
        self.layers.iter().map(|layer| layer.largest / layer.calibrated).fold(0.0, f64::max)
    }

    /// The activations and their films as a table.
    pub fn table(&self) -> Table {
        let outside = self.layers.iter().filter(|layer| layer.films_outside > 0).count();
        let verdict = match outside {
            0 => "all inside".to_owned(),
            count => format!("{count} activations outside"),
        };
        let caption = format!(
            "inputs of the exported activations on {} test films, calibrated on {} films with headroom {}: {verdict} \
             (a headroom of {:.2} is enough)",
            self.films,
            self.calibration_films,
            self.headroom,
            self.needed()
        );
        let mut table = Table::new(
            &caption,
            &["activation", "calibrated", "largest", "ratio", "films beyond", "films outside"],
        );
        for layer in &self.layers {
            table.rows.push(vec![
                layer.layer.clone(),
                format!("{:.3}", layer.calibrated),
                format!("{:.3}", layer.largest),
                format!("{:.2}", layer.largest / layer.calibrated),
                layer.films_beyond_calibration.to_string(),
                layer.films_outside.to_string(),
            ]);
        }
        table
    }
}

/// Runs the exported graph on all test films, in the clear.
///
/// # Errors
/// The model does not take these latents, a value is not finite, or the user interrupted.
pub fn on_test_films(
    context: &Context,
    model: &HeModel,
    latents: &LatentSet,
    headroom: f64,
) -> Result<Report> {
    let graph = &model.graph;
    let activations: Vec<(String, usize)> = graph
        .nodes()
        .iter()
        .filter(|node| matches!(node.op(), Op::Polynomial(_)))
        .map(|node| (node.name().to_owned(), node.inputs()[0].0))
        .collect();
    let mut layers = Vec::with_capacity(activations.len());
    for (layer, input) in &activations {
        let (_, range) =
            model.ranges.nodes.get(*input).explain(|| "the model file has no ranges: export it again")?;
        layers.push(Coverage {
            layer: layer.clone(),
            calibrated: range.magnitude(),
            largest: 0.0,
            films_beyond_calibration: 0,
            films_outside: 0,
        });
    }
    let films = latents.indices(Split::Test);
    let headroom = headroom.max(1.0);
    for block in films.chunks(BLOCK) {
        context.check("looking at ranges")?;
        let seen: Vec<Vec<f64>> = block
            .par_iter()
            .map(|&film| {
                let latent = &latents::of(latents, &[film])[0];
                let mut ranges = Ranges::new(graph);
                let output = ranges
                    .observe(graph, latent)
                    .explain(|| format!("cannot evaluate {} in the clear", latents.ids[film]))?;
                // A NaN does not widen a range, but it reaches the output.
                require!(
                    output.iter().all(|v| v.is_finite()),
                    "{}: its logits are no numbers",
                    latents.ids[film]
                );
                Ok(activations.iter().map(|(_, input)| ranges.nodes[*input].1.magnitude()).collect())
            })
            .collect::<Result<_>>()?;
        for film in seen {
            for (layer, magnitude) in layers.iter_mut().zip(film) {
                layer.largest = layer.largest.max(magnitude);
                layer.films_beyond_calibration += usize::from(magnitude > layer.calibrated);
                layer.films_outside += usize::from(magnitude > layer.calibrated * headroom);
            }
        }
    }
    Ok(Report { films: films.len(), calibration_films: model.ranges.inputs, headroom, layers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_worst_film() {
        let layer = |largest: f64, films_outside| Coverage {
            layer: "act".into(),
            calibrated: 4.0,
            largest,
            films_beyond_calibration: 3,
            films_outside,
        };
        let mut report = Report {
            films: 10,
            calibration_films: 5,
            headroom: 2.0,
            layers: vec![layer(5.0, 0), layer(3.0, 0)],
        };
        assert!((report.needed() - 1.25).abs() < 1e-12);
        assert!(report.table().caption.contains("all inside (a headroom of 1.25 is enough)"));
        report.layers.push(layer(9.0, 1));
        assert!(report.table().caption.contains("1 activations outside"));
    }
}
