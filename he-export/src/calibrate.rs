//! Calibration: the range of every value on films that the network was not trained on.
//!
//! A polynomial has no ceiling, and a ciphertext that overflows its modulus decrypts to noise without a word. So export
//! runs the folded graph over held-out latents, keeps the range of every node in the model file, and refuses a
//! network whose values come near the largest that the parameters hold.

use he_model::{Graph, Ranges};

use crate::ExportError;

/// What calibration measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Range of every node.
    pub ranges: Ranges,
    /// Largest magnitude of a latent value.
    pub latent_range: f64,
    /// The node with the largest values, and their magnitude.
    pub largest: (String, f64),
}

/// Largest magnitude that a value may have: the scale is at most 2^30 and the smallest modulus at which a value lies
/// is two primes of 30 bits, so 2^29 would wrap around; 2^10 of that is kept for what the plan scales values by.
pub const MAX_MAGNITUDE: f64 = (1u64 << 19) as f64;

/// Runs `graph` over latents, `[channels, height, width]` row-major each.
///
/// `headroom` is the factor by which a film may exceed what calibration saw before values could overflow.
///
/// # Errors
/// No latent, a latent of another size or with values that are not finite, or [`ExportError::OutOfRange`] naming
/// the first node whose values times `headroom` exceed [`MAX_MAGNITUDE`].
pub fn calibrate<'a>(
    graph: &Graph,
    latents: impl IntoIterator<Item = &'a [f32]>,
    headroom: f64,
) -> Result<Calibration, ExportError> {
    let expected = graph.input_shape().len();
    let mut ranges = Ranges::new(graph);
    let mut latent_range = 0f64;
    let limit = MAX_MAGNITUDE / headroom.max(1.0);
    for (example, latent) in latents.into_iter().enumerate() {
        if latent.len() != expected || latent.iter().any(|value| !value.is_finite()) {
            let got = format!("latent {example} with {} values, or one that is not finite", latent.len());
            return Err(ExportError::Calibration { expected, got });
        }
        let latent: Vec<f64> = latent.iter().map(|&value| f64::from(value)).collect();
        latent_range = latent.iter().fold(latent_range, |largest, value| largest.max(value.abs()));
        let output = ranges.observe(graph, &latent)?;
        let beyond = |magnitude: f64| magnitude > limit || magnitude.is_nan();
        if let Some((layer, range)) = ranges.nodes.iter().find(|(_, range)| beyond(range.magnitude())) {
            return Err(ExportError::OutOfRange {
                layer: layer.clone(),
                value: range.magnitude(),
                limit,
                example,
            });
        }
        // A NaN does not widen a range, but it reaches the output.
        if output.iter().any(|value| !value.is_finite()) {
            let layer = graph.node(graph.output()).name().to_owned();
            return Err(ExportError::OutOfRange { layer, value: f64::INFINITY, limit, example });
        }
    }
    if ranges.inputs == 0 {
        return Err(ExportError::Calibration { expected, got: "none".into() });
    }
    let largest = ranges
        .nodes
        .iter()
        .map(|(name, range)| (name.clone(), range.magnitude()))
        .fold((String::new(), 0.0), |best, node| if node.1 > best.1 { node } else { best });
    Ok(Calibration { ranges, latent_range, largest })
}

#[cfg(test)]
mod tests {
    use he_model::{GraphLiteral, Op, Polynomial, Shape};

    use super::*;

    /// x^2 on one value.
    fn square() -> Graph {
        let mut literal = GraphLiteral::new(Shape::new(1, 1, 1));
        let input = literal.input();
        let output = literal.push("act", Op::Polynomial(Polynomial::shared(&[0.0, 0.0, 1.0])), &[input]);
        Graph::new(literal.finish(output)).unwrap()
    }

    #[test]
    fn ranges_cover_all_latents() {
        let calibration = calibrate(&square(), [&[3.0f32][..], &[-4.0]], 2.0).unwrap();
        assert_eq!(calibration.latent_range, 4.0);
        assert_eq!(calibration.ranges.get("act").unwrap().max, 16.0);
        assert_eq!(calibration.largest, ("act".to_owned(), 16.0));
    }

    #[test]
    fn values_near_the_modulus_are_refused_by_layer() {
        let error = calibrate(&square(), [&[1.0f32][..], &[1000.0]], 2.0).unwrap_err();
        assert!(
            matches!(&error, ExportError::OutOfRange { layer, example: 1, .. } if layer == "act"),
            "{error}"
        );
        assert!(calibrate(&square(), [&[500.0f32][..]], 2.0).is_ok());
    }

    #[test]
    fn nothing_or_nonsense_to_calibrate_on_is_refused() {
        let none: [&[f32]; 0] = [];
        assert!(matches!(calibrate(&square(), none, 2.0), Err(ExportError::Calibration { .. })));
        assert!(matches!(calibrate(&square(), [&[f32::NAN][..]], 2.0), Err(ExportError::Calibration { .. })));
        assert!(matches!(
            calibrate(&square(), [&[1.0f32, 2.0][..]], 2.0),
            Err(ExportError::Calibration { .. })
        ));
    }
}
