//! `veilray sweep`: many runs from one configuration, and what they gave.

use anyhow::Result;
use report::Table;
use train::Sweep;
use train::sweep::{Figure, Setting, Summary, Until};

use crate::cli::SweepArguments;
use crate::context::Context;

/// Runs a sweep, from where it stands, and prints a row for every setting.
///
/// # Errors
/// As [`Sweep::read`] and [`Sweep::run`].
pub fn run(context: &Context, arguments: &SweepArguments) -> Result<()> {
    let sweep = Sweep::read(&arguments.config, &arguments.overrides, arguments.out.as_deref())?;
    let until = if arguments.vqgan_only { Until::Vqgan } else { Until::Classifier };
    let summary = sweep.run(until, arguments.test, |dir| context.session(dir))?;
    println!("{}", table(&summary, |setting| &setting.figures).to_text());
    if summary.settings.iter().any(|setting| !setting.test.is_empty()) {
        println!("{}", table(&summary, |setting| &setting.test).to_text());
    }
    context.say(&format!("-> {}, sweep.json", sweep.dir.join("sweep.csv").display()));
    Ok(())
}

/// Settings with figures of one kind, the best one marked.
fn table(summary: &Summary, figures: fn(&Setting) -> &Vec<Figure>) -> Table {
    let caption = format!("mean and deviation over runs; * best by {}", summary.compared_by);
    let shown =
        || summary.settings.iter().enumerate().filter(|(_, s)| !figures(s).is_empty() || s.failed > 0);
    let names: Vec<&str> = shown()
        .map(|(_, s)| figures(s))
        .max_by_key(|f| f.len())
        .into_iter()
        .flatten()
        .map(|f| f.name.as_str())
        .collect();
    let mut head = vec!["setting", "runs", "failed"];
    head.extend(&names);
    let mut table = Table::new(&caption, &head);
    for (i, setting) in shown() {
        let values =
            setting.values.iter().map(|(field, value)| format!("{field}={value}")).collect::<Vec<_>>();
        let mark = if summary.best == Some(i) { "* " } else { "" };
        let mut row = vec![
            format!("{mark}{}", if values.is_empty() { "all".to_owned() } else { values.join(" ") }),
            setting.runs.len().to_string(),
            setting.failed.to_string(),
        ];
        row.extend(names.iter().map(|name| {
            figures(setting).iter().find(|figure| figure.name == *name).map_or_else(|| "-".to_owned(), cell)
        }));
        table.rows.push(row);
    }
    table
}

fn cell(figure: &Figure) -> String {
    match (figure.mean, figure.deviation) {
        (Some(mean), Some(deviation)) => format!("{mean:.3} +- {deviation:.3}"),
        (Some(mean), None) => format!("{mean:.3}"),
        _ => "-".to_owned(),
    }
}
