//! The pictures of a cell: some test films and their reconstructions.

/// Test films whose originals and reconstructions are kept as pictures.
pub const PICTURED_FILMS: usize = 2;

/// The file of a picture in a stage's or a cell's folder.
pub fn picture_name(kind: &str, index: usize) -> String {
    format!("{kind}-{index}.png")
}

/// The names of a cell's pictures.
pub fn picture_names() -> Vec<String> {
    let kinds = ["film", "reconstruction"].into_iter();
    kinds.flat_map(|kind| (0..PICTURED_FILMS).map(move |index| picture_name(kind, index))).collect()
}
