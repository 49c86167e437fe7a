//! A clinic in forty lines: enrols, sends latents, prints findings.
//!
//! `TOKEN=... cargo run --release -p he-client --example diagnose -- https://host:port MODEL KEY_FOLDER LATENTS.json`
//!
//! `LATENTS.json` is a list of latents, each the list of its values, `[channels, height, width]` row-major: what the encoder of the
//! model's package makes of a film.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use he_client::{Clinic, Connection, Options, Step, Vault, findings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, model, folder, latents] = arguments.as_slice() else {
        return Err("expected: URL MODEL KEY_FOLDER LATENTS.json".into());
    };
    let token = std::env::var("TOKEN").map_err(|_| "expected the token in the variable TOKEN")?;
    let latents: Vec<Vec<f64>> = serde_json::from_slice(&std::fs::read(latents)?)?;

    // Keys are made once; the same call later finds them, and goes on with an upload that broke off.
    let connection = Connection::new(Options::new(url, &token))?;
    let mut tell = |step| {
        if let Step::Upload(sent, all) = step {
            eprintln!("keys: {sent} of {all} bytes");
        }
    };
    let clinic = Clinic::enrol(connection, &model.parse()?, Vault::new(Path::new(folder)), None, &mut tell)?;

    let results = clinic.diagnose_all(&latents, 4, &AtomicBool::new(false), &|_| {});
    for (number, result) in results.into_iter().enumerate() {
        match result {
            Ok(logits) => {
                for finding in findings(&clinic.enrolment().model.spec.labels, &logits) {
                    println!("{number}\t{}\t{:.4}", finding.label, finding.probability);
                }
            }
            Err(error) => eprintln!("{number}: {error}"),
        }
    }
    Ok(())
}
