//! `veilray sweep`: many runs from one configuration, and what they gave.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pipeline::Context;
use report::Table;
use train::Sweep;
use train::sweep::{Figure, Setting, Summary, Until};

/// Train many runs from one configuration: every combination of the values that its fields take.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration file (TOML); its table `[sweep]`, if it has one, lists values of fields.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// One value overrides a field in all runs, several make it vary: `--set run.seed=1,2,3`. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE[,VALUE...]")]
    pub overrides: Vec<String>,
    /// Folder for the folders of the runs; overrides `run.dir` of the configuration.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Train the VQGANs only, and compare them by PSNR.
    #[arg(long, conflicts_with = "test")]
    pub vqgan_only: bool,
    /// Measure the setting that is best on validation films, and no other, on the test films.
    #[arg(long)]
    pub test: bool,
}

/// Runs a sweep, from where it stands, and prints a row for every setting.
///
/// # Errors
/// As [`Sweep::read`] and [`Sweep::run`].
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
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
