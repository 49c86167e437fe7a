//! All cleartext stages of a run, as a program would call them:
//! `cargo run --release -p train --example stages -- configs/demo.toml runs/demo [section.field=value ...]`

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use datasets::Split;
use train::{
    Session, Terminal, config, encode_latents, evaluate, load_classifier, train_classifier, train_vqgan,
};

fn main() -> Result<(), train::TrainError> {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().unwrap_or_else(|| "configs/demo.toml".into()));
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| "runs/stages".into()));
    let config = config::read(&file, &arguments.collect::<Vec<_>>())?;
    let progress = Terminal::new();
    let session = Session::new(dir, &progress, Arc::new(AtomicBool::new(false)));

    // 1. Compress: a VQGAN on the films.
    let started = Instant::now();
    let report = train_vqgan(&config, &session)?;
    println!("1. VQGAN: {report:#?} in {:.1} s", started.elapsed().as_secs_f64());

    // 2. Encode every film once.
    let started = Instant::now();
    let latents = encode_latents(&config, &session)?;
    println!("2. {} latents in {:.1} s", latents.len(), started.elapsed().as_secs_f64());

    // 3. Learn the findings from the latents.
    let started = Instant::now();
    let report = train_classifier(&config, &latents, &session)?;
    println!("3. classifier: best epoch {} of {}", report.best_epoch, report.epochs);
    println!("   validation {:?} in {:.1} s", report.validation.macro_, started.elapsed().as_secs_f64());

    // 4. Look at the test films, once.
    let classifier = load_classifier(&session.classifier_model(), &config.run.device()?)?;
    let metrics = evaluate(&classifier, &latents, Split::Test)?;
    println!("4. test: macro {:?}, micro {:?}", metrics.macro_, metrics.micro);
    for class in metrics.classes {
        println!("   {:<20} {:>5} positive  AUROC {:?}", class.label, class.positives, class.pair.auroc);
    }
    Ok(())
}
