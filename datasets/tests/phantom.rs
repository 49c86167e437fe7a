//! What the phantom promises: the same film from the same seed, the prevalences, and findings that can be seen.

use datasets::phantom::{LABELS, Phantom};

#[test]
fn films_repeat_and_differ() {
    let phantom = Phantom::new(5, 3);
    assert_eq!(phantom.film(17, 64), phantom.film(17, 64));
    assert_ne!(phantom.film(17, 64), phantom.film(16, 64));
    assert_ne!(phantom.film(17, 64), Phantom::new(6, 3).film(17, 64));
    for side in [8, 31, 64, 256] {
        let film = phantom.film(3, side);
        assert_eq!(film.pixels.len(), side * side);
        assert!(film.pixels.iter().all(|p| (0.0..=1.0).contains(p)));
        let mean = film.pixels.iter().sum::<f32>() / film.pixels.len() as f32;
        assert!((0.2..0.8).contains(&mean), "mean {mean} at {side}");
    }
}

#[test]
fn prevalences_are_those_of_a_clinic() {
    let phantom = Phantom::new(11, 3);
    let films = 6000;
    let mut positives = [0usize; LABELS.len()];
    let (mut healthy, mut edema, mut edema_with_heart) = (0, 0, 0);
    for film in 0..films {
        let labels = phantom.labels(film);
        for (count, label) in positives.iter_mut().zip(labels) {
            *count += usize::from(label);
        }
        healthy += usize::from(labels.iter().all(|label| !label));
        edema += usize::from(labels[7]);
        edema_with_heart += usize::from(labels[7] && labels[1]);
    }
    for (name, count) in LABELS.iter().zip(positives) {
        let part = count as f64 / films as f64;
        assert!((0.10..0.25).contains(&part), "{name}: {part}");
    }
    assert!((0.25..0.5).contains(&(healthy as f64 / films as f64)), "{healthy} without finding");
    assert!(edema_with_heart * 2 > edema, "edema comes with an enlarged heart");
}

#[test]
fn findings_change_the_picture_where_they_should() {
    // Mean over many films with and without a finding, in a region that a reader would look at.
    let phantom = Phantom::new(2, 1);
    let region = |film: usize, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| -> f32 {
        let picture = phantom.film(film, 64);
        let area = (rows.len() * columns.len()) as f32;
        rows.flat_map(|row| columns.clone().map(move |column| row * 64 + column))
            .map(|pixel| picture.pixels[pixel])
            .sum::<f32>()
            / area
    };
    let mean = |label: Option<usize>, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| -> f32 {
        let chosen = (0..4000usize).filter(|&film| {
            let labels = phantom.labels(film);
            (0..LABELS.len()).all(|l| labels[l] == (label == Some(l)))
        });
        let values: Vec<f32> =
            chosen.take(60).map(|film| region(film, rows.clone(), columns.clone())).collect();
        values.iter().sum::<f32>() / values.len() as f32
    };
    let base = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| mean(None, rows, columns);
    let left_heart = (38..44, 42..47);
    let healthy = base(left_heart.0.clone(), left_heart.1.clone());
    assert!(mean(Some(1), left_heart.0, left_heart.1) > healthy + 0.03, "a large heart reaches further left");
    let hila = (26..36, 18..26);
    let healthy = base(hila.0.clone(), hila.1.clone());
    assert!(mean(Some(7), hila.0, hila.1) > healthy + 0.03, "edema lightens the hila");
}
