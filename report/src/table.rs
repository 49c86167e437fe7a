//! Tables, as aligned text for a terminal and as HTML; the formats of files are in [`crate::formats`].

use std::fmt::Write as _;

use crate::html::escape;

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
    pub(crate) fn to_html(&self) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
