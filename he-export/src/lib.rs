//! From a trained classifier to an HE-ready model: graph building, folding, calibration, parameter choice, precision report.
