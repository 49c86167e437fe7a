//! A table as Markdown, CSV (RFC 4180) and LaTeX.

use std::fmt::Write as _;

use super::Table;

impl Table {
    /// A GitHub table below its caption.
    pub fn to_markdown(&self) -> String {
        let row = |cells: &[String]| {
            let cells = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " "));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let rule = (0..self.head.len()).map(|column| if self.is_text(column) { "---" } else { "---:" });
        let mut out = format!("{}\n\n{}", self.caption, row(&self.head));
        let _ = writeln!(out, "|{}|", rule.collect::<Vec<_>>().join("|"));
        for cells in &self.rows {
            out.push_str(&row(cells));
        }
        out
    }

    /// Heads and rows, without the caption.
    pub fn to_csv(&self) -> String {
        let cell = |text: &String| {
            if text.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.clone()
            }
        };
        let row = |cells: &Vec<String>| cells.iter().map(cell).collect::<Vec<_>>().join(",");
        std::iter::once(&self.head).chain(&self.rows).map(|cells| row(cells) + "\n").collect()
    }

    /// A `table` with a `tabular` in the style of booktabs.
    pub fn to_latex(&self) -> String {
        let row = |cells: &[String]| {
            format!("{} \\\\\n", cells.iter().map(|cell| latex(cell)).collect::<Vec<_>>().join(" & "))
        };
        let mut out = format!(
            "% needs \\usepackage{{booktabs}}\n\\begin{{table}}\n\\caption{{{}}}\n\\begin{{tabular}}{{{}}}\n\\toprule\n",
            latex(&self.caption),
            (0..self.head.len())
                .map(|column| if self.is_text(column) { 'l' } else { 'r' })
                .collect::<String>()
        );
        out.push_str(&row(&self.head));
        out.push_str("\\midrule\n");
        for cells in &self.rows {
            out.push_str(&row(cells));
        }
        out.push_str("\\bottomrule\n\\end{tabular}\n\\end{table}\n");
        out
    }
}

/// `text` with everything that LaTeX reads as a command written as a character.
fn latex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\textbackslash{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(character);
            }
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '±' => out.push_str("$\\pm$"),
            '×' => out.push_str("$\\times$"),
            '†' => out.push_str("\\dag{}"),
            '<' => out.push_str("$<$"),
            '>' => out.push_str("$>$"),
            '\n' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("cost & gain", &["cell", "time, s"]);
        table.rows.push(vec!["f = 2 | \"se\"".into(), "1.5 ± 0.1 †".into()]);
        table.rows.push(vec!["a_b".into(), "-".into()]);
        table
    }

    #[test]
    fn markdown_has_a_rule_and_escapes_bars() {
        let text = table().to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2..4], ["| cell | time, s |", "|---|---:|"]);
        assert_eq!(lines[4], "| f = 2 \\| \"se\" | 1.5 ± 0.1 † |");
    }

    #[test]
    fn columns_of_words_are_left_aligned() {
        let mut table = Table::new("", &["run", "state", "films", "paper"]);
        table.rows.push(["a", "done", "4 of 4", "almost 600 †"].map(str::to_owned).to_vec());
        table.rows.push(["b", "-", "-", "76.9 †"].map(str::to_owned).to_vec());
        assert!(table.to_markdown().contains("|---|---|---:|---:|"), "{}", table.to_markdown());
        assert!(table.to_latex().contains("{llrr}"));
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        assert_eq!(table().to_csv(), "cell,\"time, s\"\n\"f = 2 | \"\"se\"\"\",1.5 ± 0.1 †\na_b,-\n");
    }

    #[test]
    fn latex_escapes_what_would_be_a_command() {
        let text = table().to_latex();
        assert!(text.contains("\\caption{cost \\& gain}") && text.contains("\\begin{tabular}{lr}"), "{text}");
        assert!(text.contains("1.5 $\\pm$ 0.1 \\dag{} \\\\") && text.contains("a\\_b & - \\\\"), "{text}");
    }
}
