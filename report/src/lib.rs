//! What a reader is shown: tables, charts, figures, pictures, and a page with all of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`table`], [`formats`] | tables: text, HTML, Markdown, CSV, LaTeX |
//! | [`chart`] | curves over steps, as SVG |
//! | [`figure`] | points over categories, as SVG |
//! | [`png`] | any SVG of this crate as PNG |
//! | [`picture`] | grey pictures |
//! | [`page`] | one HTML file with all of that |
//! | [`readable`] | bytes and durations as a person reads them |
//!
//! Nothing here knows where a number comes from: everything is handed in as plain values.

pub mod chart;
pub mod figure;
pub mod formats;
mod html;
pub mod page;
pub mod picture;
pub mod png;
pub mod readable;
pub mod table;

pub use self::html::escape;
pub use self::page::{PictureRow, Report, Section};
pub use self::picture::Picture;
pub use self::readable::{readable_bytes, readable_time};
pub use self::table::Table;
