//! How films become square, as the data set says it and as the model file tells clients.

use datasets::Fit;
use he_model::FilmFit;

/// What a model says of films that were read with `fit`.
pub fn in_model(fit: Fit) -> FilmFit {
    match fit {
        Fit::Crop => FilmFit::Crop,
        Fit::Pad => FilmFit::Pad,
        Fit::Stretch => FilmFit::Stretch,
    }
}

/// How to read films for a model.
pub fn of_model(fit: FilmFit) -> Fit {
    match fit {
        FilmFit::Crop => Fit::Crop,
        FilmFit::Pad => Fit::Pad,
        FilmFit::Stretch => Fit::Stretch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_are_read_as_in_training() {
        for fit in [Fit::Crop, Fit::Pad, Fit::Stretch] {
            assert_eq!(of_model(in_model(fit)), fit);
            let names = (serde_json::to_value(fit).unwrap(), serde_json::to_value(in_model(fit)).unwrap());
            assert_eq!(names.0, names.1);
        }
    }
}
