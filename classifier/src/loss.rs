//! Binary cross-entropy on logits, with unknown labels left out.

use burn::tensor::{Tensor, activation};

/// Mean over the known labels of `-w t log s(x) - (1 - t) log(1 - s(x))`, `s` the sigmoid, in a form that
/// does not overflow: `(1 - t) x + (1 + (w - 1) t) (log(1 + exp(-|x|)) + max(-x, 0))`.
///
/// Zero if nothing is known.
///
/// # Shapes
/// - `logits`, `targets` (0 or 1), `known` (0 or 1): `[batch, labels]`
/// - `positive_weights`, `w`: `[labels]`, 1 if absent
/// - result: `[1]`
#[must_use]
pub fn masked_bce(
    logits: Tensor<2>,
    targets: Tensor<2>,
    known: Tensor<2>,
    positive_weights: Option<Tensor<1>>,
) -> Tensor<1> {
    let softplus = logits.clone().abs().neg().exp().log1p() + activation::relu(logits.clone().neg());
    let softplus = match positive_weights {
        Some(w) => softplus * (targets.clone() * (w.unsqueeze::<2>() - 1.0) + 1.0),
        None => softplus,
    };
    let loss = (targets.neg() + 1.0) * logits + softplus;
    (loss * known.clone()).sum() / known.sum().clamp_min(1.0)
}
