//! The self-contained report of a run: one HTML file with pictures, curves and tables, no scripts, no links outside.
//!
//! Everything shown is handed in as plain values ([`Report`]), so that the report knows nothing of how they were
//! made. Pictures are embedded as PNG data URIs, charts as inline SVG, and every text is escaped.

pub mod chart;
pub mod figure;
pub mod formats;
pub mod picture;
pub mod raster;

use std::fmt::Write as _;

use chart::Chart;
use picture::Picture;

/// A table: a caption, column heads and rows of equal length. Columns that hold a number are right-aligned, except for the first.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What the table shows, above it.
    pub caption: String,
    /// Column heads.
    pub head: Vec<String>,
    /// Rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

/// A labelled row of pictures, for example one film: original, reconstruction, latent channels.
#[derive(Debug, Clone)]
pub struct PictureRow {
    /// What the row shows.
    pub label: String,
    /// The pictures with their captions.
    pub pictures: Vec<(String, Picture)>,
}

/// One section of the report.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Paragraphs below the heading.
    pub text: Vec<String>,
    /// Tables, in order.
    pub tables: Vec<Table>,
    /// Charts, side by side.
    pub charts: Vec<Chart>,
    /// Rows of pictures.
    pub pictures: Vec<PictureRow>,
    /// Figures that are drawn already, as `<svg>` elements.
    pub drawings: Vec<String>,
    /// Texts that are shown as they are: heading and lines.
    pub listings: Vec<(String, String)>,
}

/// A whole report.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Title of the page.
    pub title: String,
    /// One sentence below the title.
    pub summary: String,
    /// Sections, in order.
    pub sections: Vec<Section>,
}

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#1b1f24;max-width:84rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.25rem;margin-top:2.2rem;border-bottom:1px solid #d0d7de}\
.summary{color:#57606a;margin-top:0}table{border-collapse:collapse}.scroll{overflow-x:auto;margin-bottom:1.4rem}\
.caption{color:#57606a;margin:.8rem 0 .3rem}\
th,td{padding:.22rem .6rem;white-space:nowrap;border-bottom:1px solid #eaeef2;text-align:right;font-variant-numeric:tabular-nums}\
.text{text-align:left}th{background:#f6f8fa;white-space:normal;vertical-align:bottom}\
figure{display:inline-block;margin:.3rem .6rem .3rem 0;text-align:center;vertical-align:top}\
figcaption{font-size:.8rem;color:#57606a}figure img{width:160px;height:160px;image-rendering:pixelated;background:#000}\
.row{margin-bottom:.5rem}.row>b{display:block;font-weight:600;font-size:.9rem}pre{background:#f6f8fa;padding:.8rem;overflow-x:auto;font-size:.8rem}.charts svg{max-width:100%;height:auto}";

/// `text` with the five characters that HTML treats specially escaped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

impl Table {
    /// A table with a caption and column heads, still without rows.
    pub fn new(caption: &str, head: &[&str]) -> Self {
        Self {
            caption: caption.into(),
            head: head.iter().map(|&title| title.into()).collect(),
            rows: Vec::new(),
        }
    }

    /// Whether a column is left-aligned: the first, and those in which there are words and no cell begins with a number.
    pub fn is_text(&self, column: usize) -> bool {
        let firsts = || self.rows.iter().filter_map(|row| row.get(column)?.chars().next());
        column == 0 || (firsts().any(char::is_alphabetic) && !firsts().any(|c| c.is_ascii_digit()))
    }

    /// The table as aligned plain text for a terminal.
    pub fn to_text(&self) -> String {
        let columns = self.head.len();
        let width = |column: usize| {
            std::iter::once(&self.head)
                .chain(&self.rows)
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = format!("{}\n", self.caption);
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::from(" ");
            for (column, cell) in row.iter().enumerate().take(columns) {
                let pad = widths[column].saturating_sub(cell.chars().count());
                let fill = " ".repeat(pad);
                let (before, after) =
                    if self.is_text(column) { ("", fill.as_str()) } else { (fill.as_str(), "") };
                let _ = write!(line, " {before}{cell}{after}");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// The caption is a paragraph of its own: inside the table it would be as wide as the table, and scroll away with it.
    fn to_html(&self) -> String {
        let mut out =
            format!("<p class=\"caption\">{}</p>\n<div class=\"scroll\"><table><tr>", escape(&self.caption));
        let class = |column| if self.is_text(column) { " class=\"text\"" } else { "" };
        for (column, title) in self.head.iter().enumerate() {
            let _ = write!(out, "<th{}>{}</th>", class(column), escape(title));
        }
        out.push_str("</tr>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let _ = write!(out, "<td{}>{}</td>", class(column), escape(cell));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table></div>\n");
        out
    }
}

impl Section {
    fn to_html(&self) -> String {
        let mut out = format!("<h2>{}</h2>\n", escape(&self.title));
        for paragraph in &self.text {
            let _ = writeln!(out, "<p>{}</p>", escape(paragraph));
        }
        for row in &self.pictures {
            let _ = write!(out, "<div class=\"row\"><b>{}</b>", escape(&row.label));
            for (caption, picture) in &row.pictures {
                let caption = escape(caption);
                let _ = write!(
                    out,
                    "<figure><img alt=\"{caption}\" src=\"{}\"><figcaption>{caption}</figcaption></figure>",
                    picture.data_uri()
                );
            }
            out.push_str("</div>\n");
        }
        if !self.charts.is_empty() {
            out.push_str("<div class=\"charts\">");
            for chart in &self.charts {
                out.push_str(&chart.to_svg());
            }
            out.push_str("</div>\n");
        }
        if !self.drawings.is_empty() {
            let _ = writeln!(out, "<div class=\"charts\">{}</div>", self.drawings.concat());
        }
        for table in &self.tables {
            out.push_str(&table.to_html());
        }
        for (heading, lines) in &self.listings {
            let (heading, lines) = (escape(heading), escape(lines));
            let _ = writeln!(out, "<details><summary>{heading}</summary><pre>{lines}</pre></details>");
        }
        out
    }
}

impl Report {
    /// The whole page.
    pub fn to_html(&self) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
             <h1>{title}</h1>\n<p class=\"summary\">{}</p>\n",
            escape(&self.summary),
            title = escape(&self.title),
        );
        for section in &self.sections {
            out.push_str(&section.to_html());
        }
        out.push_str("</body></html>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_nothing_points_outside() {
        let mut table = Table::new("a <caption>", &["film", "x & y"]);
        table.rows.push(vec!["<script>".into(), "\"1\"".into()]);
        let section = Section { title: "T".into(), tables: vec![table], ..Section::default() };
        let html = Report { title: "R".into(), summary: "s".into(), sections: vec![section] }.to_html();
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
        assert!(html.contains("x &amp; y") && !html.contains("http://") && !html.contains("https://"));
    }

    #[test]
    fn text_tables_line_up() {
        let mut table = Table::new("sizes", &["what", "bytes"]);
        table.rows.push(vec!["model".into(), "7".into()]);
        table.rows.push(vec!["k".into(), "123456".into()]);
        let text = table.to_text();
        let ends: Vec<usize> = text.lines().skip(1).map(str::len).collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
