//! `veilray eval`: clear and encrypted results side by side, over the films whose encrypted results are there.

use anyhow::Result;
use clap::Args;
use pipeline::eval::{Evaluation, compare, save};
use pipeline::files::load_model;
use pipeline::{Context, RunFolder, latents, simulate};
use train::encode_latents;

use crate::arguments::{RunArguments, configuration};

/// Compare clear and encrypted results over held-out films: logits, AUROC, time.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Also run one held-out film, or a batch, on ciphertexts with every layer decrypted, and print its error beside the predicted one.
    /// Needs the secret and the evaluation keys in one place: for the model's author, never for a server.
    #[arg(long)]
    pub compare: bool,
}

/// Compares what is in the run folder.
///
/// # Errors
/// No encrypted result is there, or a file cannot be read.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let folder = RunFolder::new(&config.run.dir);
    let session = context.session(&config.run.dir);
    let latents = encode_latents(&config, &session)?;
    let model = load_model(&folder.model())?;
    let evaluation = compare(&config, &latents, &model, &folder, &session.classifier_model())?;
    print_evaluation(&evaluation);
    if arguments.compare {
        let films = evaluation.films.iter().take(model.plan.packing.films()).map(|film| film.index);
        let batch = latents::of(&latents, &films.collect::<Vec<_>>());
        println!("\n{}", simulate::compare(&model, &folder, &batch)?.to_text());
    }
    save(&evaluation, &folder.evaluation())?;
    context.say(&format!("-> {}", folder.evaluation().display()));
    Ok(())
}

/// Prints the tables of an evaluation.
pub fn print_evaluation(evaluation: &Evaluation) {
    println!("\n{}", evaluation.probability_table().to_text());
    println!("{}", evaluation.metrics_table().to_text());
    println!(
        "largest difference of a logit, clear against encrypted: {:.2e} (trained network against exported graph: {:.2e})",
        evaluation.largest_difference(),
        evaluation.largest_graph_difference()
    );
}
