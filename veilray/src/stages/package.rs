//! `veilray package` and `veilray inspect`: what a clinic and a service are given.

use anyhow::{Context as _, Result, ensure};
use he_protocol::{Card, Package};
use report::{Table, readable_bytes};

use super::eval::Evaluation;
use super::load_model;
use crate::cli::{InspectArguments, PackageArguments};
use crate::context::{Context, configuration};
use crate::run_folder::RunFolder;

/// Makes the package of a run. Figures of `veilray eval` go into the model card, where they are there.
///
/// # Errors
/// A file is missing or does not belong to the model, or the package cannot be written.
pub fn package(context: &Context, arguments: &PackageArguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let folder = RunFolder::new(&config.run.dir);
    let model = load_model(&folder.model())?;
    let encoder = context.session(&config.run.dir).vqgan_model();
    super::encrypt::Encoder::load(&encoder, &model)?;
    let mut card = Card { notes: model.notes.clone(), ..Card::default() };
    for note in &arguments.notes {
        let (heading, text) = note.split_once('=').context("expected --note HEADING=TEXT")?;
        card.notes.insert(heading.trim().into(), text.trim().into());
    }
    match std::fs::read(folder.evaluation()) {
        Ok(bytes) => {
            let evaluation: Evaluation = serde_json::from_slice(&bytes).with_context(|| {
                format!("{} cannot be read: run `veilray eval` again", folder.evaluation().display())
            })?;
            ensure!(
                evaluation.labels == model.labels,
                "{} is about other labels than the model: run `veilray eval` again",
                folder.evaluation().display()
            );
            fill(&mut card, &evaluation);
        }
        Err(_) => context.say("no eval.json in the run folder: the model card will hold no figures"),
    }
    let to = arguments.to.clone().unwrap_or_else(|| config.run.dir.join("package"));
    let made = Package::create(&to, arguments.name.clone(), &folder.model(), Some(&encoder), card)?;
    context.say(&format!("package -> {}", to.display()));
    println!("{}", made.digest);
    context.say(
        "tell this digest to whoever receives the package: `veilray inspect DIR --digest DIGEST` checks it",
    );
    Ok(())
}

fn fill(card: &mut Card, evaluation: &Evaluation) {
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            card.metrics.insert(name.into(), value);
        }
    };
    put("test films", Some(evaluation.test_films as f64));
    put("macro AUROC, all test films, clear", evaluation.test.macro_.auroc);
    put("micro AUROC, all test films, clear", evaluation.test.micro.auroc);
    put("films run encrypted", Some(evaluation.films.len() as f64));
    put("macro AUROC of these, clear", evaluation.clear.macro_.auroc);
    put("macro AUROC of these, encrypted", evaluation.encrypted.macro_.auroc);
    put("largest difference of a logit, clear against encrypted", Some(evaluation.largest_difference()));
    for (label, class) in evaluation.labels.iter().zip(&evaluation.test.classes) {
        if let Some(auroc) = class.pair.auroc {
            card.auroc.insert(label.clone(), auroc);
        }
    }
}

/// Shows a package after checking every digest in it.
///
/// # Errors
/// The package is refused.
pub fn inspect(arguments: &InspectArguments) -> Result<()> {
    let package = Package::open(&arguments.package)?;
    if let Some(expected) = &arguments.digest {
        ensure!(
            *expected == package.digest,
            "{} has digest {}, expected {expected}: this is not the publisher's package",
            arguments.package.display(),
            package.digest
        );
    }
    package.load_model()?;
    let manifest = &package.manifest;
    if arguments.json {
        println!("{:#}", serde_json::to_value(manifest)?);
        return Ok(());
    }
    println!("{} (package {})", manifest.name, package.digest);
    println!("every digest is right\n");
    let preprocessing = &manifest.preprocessing;
    println!("model     {} ({})", manifest.model_digest, readable_bytes(manifest.model.bytes));
    match &manifest.encoder {
        Some(encoder) => println!("encoder   {} ({})", encoder.digest, readable_bytes(encoder.bytes)),
        None => println!("encoder   not in the package"),
    }
    let (side, fit) = (preprocessing.film_side, preprocessing.film_fit.name());
    println!("films     {side}x{side} pixels ({fit}), latents {}", preprocessing.latent);
    println!("batch     {} in a ciphertext", manifest.films);
    println!(
        "range     latents up to {:.3}, logits up to {:.3}\n",
        preprocessing.latent_range, manifest.logit_range
    );
    let mut table = Table::new("findings", &["finding", "AUROC on held-out films"]);
    for label in &manifest.labels {
        let auroc = super::eval::figure(manifest.card.auroc.get(label).copied());
        table.rows.push(vec![label.clone(), auroc]);
    }
    println!("{}", table.to_text());
    for (name, value) in &manifest.card.metrics {
        println!("{name}: {value:.4}");
    }
    for (heading, text) in &manifest.card.notes {
        println!("{heading}: {text}");
    }
    Ok(())
}
