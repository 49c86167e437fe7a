//! Writes a PNG of phantom films: healthy ones first, then a row for each finding.
//!
//! `cargo run --release -p datasets --example contact_sheet -- OUT.png [SIDE] [SEED]`

use datasets::phantom::{LABELS, Phantom};

const COLUMNS: usize = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().ok_or("usage: contact_sheet OUT.png [SIDE] [SEED]")?;
    let side: usize = arguments.next().map_or(Ok(128), |side| side.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(0), |seed| seed.parse())?;
    let phantom = Phantom::new(seed, 1);
    let mut films = Vec::new();
    let mut add = |title: &str, wanted: &dyn Fn(&[bool]) -> bool| {
        let row: Vec<usize> = (0..).filter(|&film| wanted(&phantom.labels(film))).take(COLUMNS).collect();
        println!("row {:2}: {title}, films {row:?}", films.len() / COLUMNS);
        films.extend(row);
    };
    add("no finding", &|labels| labels.iter().all(|label| !label));
    for (index, name) in LABELS.iter().enumerate() {
        add(name, &|labels| labels[index] && labels.iter().filter(|&&label| label).count() <= 2);
    }
    let rows = films.len() / COLUMNS;
    let mut sheet = image::GrayImage::new((COLUMNS * side) as u32, (rows * side) as u32);
    for (place, &film) in films.iter().enumerate() {
        let (left, top) = (place % COLUMNS * side, place / COLUMNS * side);
        for (pixel, &value) in phantom.film(film, side).to_bytes().iter().enumerate() {
            let (x, y) = (left + pixel % side, top + pixel / side);
            sheet.put_pixel(x as u32, y as u32, image::Luma([value]));
        }
    }
    sheet.save(&out)?;
    println!("wrote {out}");
    Ok(())
}
