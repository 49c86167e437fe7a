//! The self-contained report of a run: one HTML file with pictures, curves and tables, no scripts, no links outside.
//!
//! Everything shown is handed in as plain values, so that a page knows nothing of how they were made. Pictures are
//! embedded as PNG data URIs, charts as inline SVG, and every text is escaped.

use std::fmt::Write as _;

use crate::chart::Chart;
use crate::html::escape;
use crate::picture::Picture;
use crate::table::Table;

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
}
