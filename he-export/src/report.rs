//! What is known of an exported model before it runs: depth, ring, keys, operations and ranges, layer by layer.

use std::fmt;

use he_model::interpret::trace::{Costs, Trace};
use he_model::{Graph, Plan, SecurityLevel};
use serde::Serialize;

use crate::Calibration;

/// One layer of the packed program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// Its name.
    pub name: String,
    /// Level at which it begins.
    pub level: usize,
    /// Polynomials cut into digits for products with keys.
    pub decompositions: usize,
    /// Products with keys: rotations, conjugations and relinearizations, those that share a decomposition too.
    pub key_products: usize,
    /// Products with plaintexts.
    pub plaintext_products: usize,
    /// Products of ciphertexts.
    pub ciphertext_products: usize,
    /// Predicted milliseconds of one thread; a model, see [`Report::predicted_seconds`].
    pub predicted_milliseconds: f64,
    /// Largest magnitude seen in calibration; absent where the layer is not a node of the graph.
    pub largest_value: Option<f64>,
    /// Largest error that encryption is predicted to leave in its result; absent until simulated.
    pub predicted_error: Option<f64>,
}

/// The report of an export.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Multiplicative depth in rescalings.
    pub depth: usize,
    /// log2 of the ring degree.
    pub log_ring_degree: u32,
    /// Bits of the ciphertext modulus.
    pub modulus_bits: u32,
    /// Bits of the special modulus.
    pub special_bits: u32,
    /// log2 of the scale.
    pub scale_bits: u32,
    /// What the parameters promise.
    pub security: String,
    /// Number of evaluation keys.
    pub key_count: usize,
    /// Bytes of the evaluation keys in memory; about half on the wire.
    pub key_bytes: usize,
    /// Films that one run takes: those of a batch share the ciphertexts.
    pub films: usize,
    /// Predicted seconds of one thread for a run, however many films it has, from counts of operations and fitted unit costs: an estimate,
    /// not a promise, of a processor with AVX-512; [`Costs::AVX2`] is the factor without.
    pub predicted_seconds: f64,
    /// The same, for each film of a full batch.
    pub predicted_seconds_per_film: f64,
    /// Latents seen in calibration.
    pub calibration_films: usize,
    /// Layer with the largest values in calibration, and their magnitude.
    pub largest_value: (String, f64),
    /// Parameters of the network.
    pub weights: usize,
    /// The layers.
    pub layers: Vec<LayerReport>,
}

impl Report {
    /// Collects the report.
    #[must_use]
    pub fn new(graph: &Graph, plan: &Plan, trace: &Trace, calibration: &Calibration) -> Self {
        let layers = trace.layers.iter().map(|layer| LayerReport {
            name: layer.name.clone(),
            level: layer.level,
            decompositions: layer.operations.decompositions,
            key_products: layer.operations.key_products,
            plaintext_products: layer.operations.plaintext_products,
            ciphertext_products: layer.operations.ciphertext_products,
            predicted_milliseconds: layer.milliseconds,
            largest_value: calibration.ranges.get(&layer.name).map(|range| range.magnitude()),
            predicted_error: None,
        });
        let arrays = graph.nodes().iter().flat_map(|node| node.op().arrays());
        Self {
            depth: trace.depth,
            log_ring_degree: plan.ring.log_ring_degree,
            modulus_bits: plan.ring.modulus_bits.iter().sum(),
            special_bits: plan.ring.special_bits.iter().sum(),
            scale_bits: plan.scale_bits,
            security: match plan.ring.security {
                SecurityLevel::Classical128 => "128-bit security".into(),
                SecurityLevel::Quantum128 => "128-bit security against quantum attacks".into(),
                SecurityLevel::InsecureForTests => "NO security (tests only)".into(),
            },
            key_count: trace.key_count,
            key_bytes: trace.key_bytes,
            films: plan.packing.films(),
            predicted_seconds: trace.seconds(),
            predicted_seconds_per_film: trace.seconds() / plan.packing.films() as f64,
            calibration_films: calibration.ranges.inputs,
            largest_value: calibration.largest.clone(),
            weights: arrays.map(|(_, values)| values.len()).sum(),
            layers: layers.collect(),
        }
    }

    /// Fills in the errors that a simulation of the encrypted run predicts, by name of layer.
    pub fn set_predicted_errors<'a>(&mut self, errors: impl IntoIterator<Item = (&'a str, f64)>) {
        for (name, error) in errors {
            for layer in self.layers.iter_mut().filter(|layer| layer.name == name) {
                layer.predicted_error = Some(error);
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "depth {}, {}, N = 2^{}, log2 Q = {} + {} special bits, scale 2^{}, {} weights after folding",
            self.depth,
            self.security,
            self.log_ring_degree,
            self.modulus_bits,
            self.special_bits,
            self.scale_bits,
            self.weights
        )?;
        let batch = match self.films {
            1 => " a film".to_owned(),
            films => format!(
                " a batch of up to {films} films, {:.1} s a film if it is full",
                self.predicted_seconds_per_film
            ),
        };
        writeln!(
            f,
            "{} evaluation keys: {:.0} MB in memory; predicted time: {:.1} s of one thread{batch} (an estimate for AVX-512; AVX2 takes about {} times that)",
            self.key_count,
            self.key_bytes as f64 / 1e6,
            self.predicted_seconds,
            Costs::AVX2
        )?;
        writeln!(
            f,
            "calibration on {} films: largest value {:.3} at {}",
            self.calibration_films, self.largest_value.1, self.largest_value.0
        )?;
        writeln!(
            f,
            "{:24} {:>5} {:>8} {:>9} {:>9} {:>8} {:>9} {:>9} {:>11}",
            "layer",
            "level",
            "decomp.",
            "key prod",
            "pt prod",
            "ct prod",
            "pred. ms",
            "largest",
            "pred. error"
        )?;
        for layer in &self.layers {
            let largest = layer.largest_value.map_or_else(String::new, |value| format!("{value:.2}"));
            writeln!(
                f,
                "{:24} {:>5} {:>8} {:>9} {:>9} {:>8} {:>9.0} {:>9} {:>11}",
                layer.name,
                layer.level,
                layer.decompositions,
                layer.key_products,
                layer.plaintext_products,
                layer.ciphertext_products,
                layer.predicted_milliseconds,
                largest,
                layer.predicted_error.map_or_else(String::new, |error| format!("{error:.1e}"))
            )?;
        }
        Ok(())
    }
}
