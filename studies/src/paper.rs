//! Figures of Kim et al., "Privacy-Preserving Chest X-ray Classification in Latent Space with Homomorphically Encrypted Neural
//! Inference", MICCAI 2025 (arXiv 2506.15258), as far as they are on record here.
//!
//! Only what could be traced to the paper stands here; its tables have more. A cell without an entry shows `-`: add the number
//! here once it has been read in the paper, and every table shows it.

/// The side of the paper's films in pixels.
pub const FILM_SIDE: usize = 256;

/// Seconds for one film on ciphertexts: network, squeeze and excitation, f, what the paper says.
const SECONDS: &[(&str, bool, usize, &str)] =
    &[("resnet20", false, 8, "76.9"), ("resnet20", true, 8, "92.1"), ("resnet20", false, 2, "almost 600")];

/// AUROC of its classifier: data set, what the paper says.
const AUROC: &[(&str, &str)] = &[("NIH ChestX-ray14", "0.690")];

/// Seconds for one film on ciphertexts.
pub fn seconds(architecture: &str, se: bool, factor: usize) -> Option<&'static str> {
    SECONDS.iter().find(|(a, s, f, _)| *a == architecture && *s == se && *f == factor).map(|entry| entry.3)
}

/// The AUROC that the paper reports on a data set of its own.
pub fn auroc(data: &str) -> Option<&'static str> {
    AUROC.iter().find(|(name, _)| *name == data).map(|entry| entry.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_on_record_is_not_shown() {
        assert_eq!(seconds("resnet20", true, 8), Some("92.1"));
        assert_eq!(seconds("resnet20", false, 4), None);
        assert_eq!(seconds("lenet", false, 8), None);
        assert_eq!(auroc("phantom"), None);
    }
}
