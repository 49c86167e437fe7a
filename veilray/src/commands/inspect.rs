//! `veilray inspect`: what is in a package, and that it is whole.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use he_protocol::Package;
use pipeline::Context;
use report::{Table, readable_bytes};

/// Show a model package, after checking every digest in it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The package.
    #[arg(value_name = "DIR")]
    pub package: PathBuf,
    /// Refuse the package unless it has this digest, which its publisher told you.
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<he_protocol::Digest>,
    /// Print the manifest as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Shows a package after checking every digest in it.
///
/// # Errors
/// The package is refused.
pub fn run(_: &Context, arguments: &Arguments) -> Result<()> {
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
        let auroc = pipeline::eval::figure(manifest.card.auroc.get(label).copied());
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
