//! What the planner says of networks that are not trained yet: seconds, keys and ciphertexts of a film, for the plan of a study.
//!
//! Packing, levels and keys follow from the shape of a network and not from its weights, so a network with random ones is exported as
//! a trained one would be, up to the plan. That takes from a second to minutes a network: the distinct networks of a
//! study are planned side by side, and what was said is kept in the cache.
//!
//! ```text
//! CACHE/forecasts/KEY.json
//! ```
//!
//! A key is the digest of the network's configuration, the options of the planner and the program itself, so that a changed planner is
//! asked again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use classifier::{Classifier, ClassifierConfig};
use he_export::{Weights, build, fold};
use he_model::{PlanOptions, plan};
use pipeline::Context;
use pipeline::error::{Explain as _, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use train::state::{collect, seeded};

/// A network on ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encrypted {
    /// Seconds of one thread for a film.
    pub seconds: f64,
    /// Seconds that planning took, which an export takes again.
    pub planning_seconds: f64,
    /// Bytes of the evaluation keys in memory; half as many on disk.
    pub key_bytes: f64,
    /// Bytes of one encrypted film.
    pub ciphertext_bytes: f64,
}

/// What the planner said, or why the network cannot be planned.
pub type Forecast = Result<Encrypted, String>;

/// A network and how it would be exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The network.
    pub model: ClassifierConfig,
    /// The options of its export.
    pub options: PlanOptions,
}

impl Request {
    /// Plans the network with random weights.
    fn answer(&self) -> Forecast {
        let text = |error: &dyn std::error::Error| error.to_string();
        let start = Instant::now();
        let device = Device::flex();
        let network = self.model.network().map_err(|e| text(&e))?;
        let net = seeded(&device, 1, || Ok::<_, String>(Classifier::new(&network, &device)))?;
        let graph = build(&network, &Weights::from(collect(&net))).map_err(|e| text(&e))?;
        let (graph, _) = fold(&graph).map_err(|e| text(&e))?;
        let chosen = plan(&graph, &self.options).map_err(|e| text(&e))?;
        let program = chosen.program(&graph).map_err(|e| text(&e))?;
        let trace = chosen.trace(&program).map_err(|e| text(&e))?;
        let limbs = (trace.input_level + 1) as f64;
        Ok(Encrypted {
            seconds: trace.seconds(),
            planning_seconds: start.elapsed().as_secs_f64(),
            key_bytes: trace.key_bytes as f64,
            // Two polynomials of N coefficients of 4 bytes a limb, for one ciphertext.
            ciphertext_bytes: 8.0 * f64::from(chosen.ring.log_ring_degree).exp2() * limbs,
        })
    }

    /// The digest of everything that the answer follows from.
    fn key(&self, program: &str) -> String {
        let inputs =
            json!({ "model": self.model, "options": format!("{:?}", self.options), "program": program });
        blake3::hash(inputs.to_string().as_bytes()).to_hex().to_string()
    }
}

/// The answers to all requests of a plan.
pub struct Forecasts {
    folder: PathBuf,
    /// The digest of this program.
    program: String,
    known: BTreeMap<String, Forecast>,
}

impl Forecasts {
    /// Without answers yet; those of earlier plans are read from `folder`.
    ///
    /// # Errors
    /// The program cannot be read.
    pub fn new(folder: PathBuf) -> Result<Self> {
        let program =
            std::env::current_exe().and_then(std::fs::read).explain(|| "cannot read this program")?;
        let program = blake3::hash(&program).to_hex().to_string();
        Ok(Self { folder, program, known: BTreeMap::new() })
    }

    /// Answers the requests, those that no earlier plan has answered on all threads.
    ///
    /// # Errors
    /// The user interrupted; an answer cannot be kept.
    pub fn prepare(&mut self, context: &Context, requests: &[Request]) -> Result<()> {
        let mut open = BTreeMap::new();
        for request in requests {
            let key = request.key(&self.program);
            if self.known.contains_key(&key) {
                continue;
            }
            match read(&self.file(&key)) {
                Some(answer) => _ = self.known.insert(key, answer),
                None => _ = open.insert(key, request),
            }
        }
        if !open.is_empty() {
            context.say(&format!("planning {} networks; the next plan finds them done", open.len()));
        }
        let open: Vec<_> = open.into_iter().collect();
        let answered = open.par_iter().with_max_len(1).map(|(key, request)| -> Result<(String, Forecast)> {
            context.check("the plan")?;
            let answer = request.answer();
            durable::write(&self.file(key), serde_json::to_string(&answer)?.as_bytes())?;
            Ok((key.clone(), answer))
        });
        let answered = answered.collect::<Result<Vec<_>>>()?;
        self.known.extend(answered);
        Ok(())
    }

    /// The answer to a request that was prepared.
    pub fn of(&self, request: &Request) -> Forecast {
        let answer = self.known.get(&request.key(&self.program));
        answer.cloned().unwrap_or_else(|| Err("it was not planned".into()))
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }
}

/// An answer that is kept; one that cannot be read is made again.
fn read(file: &Path) -> Option<Forecast> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use he_export::{ExportInputs, export};

    use super::*;
    use pipeline::settings;

    fn request(overrides: &[&str]) -> Request {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let text = include_str!("../../configs/demo.toml");
        let config = train::config::parse(text, Path::new("demo"), &overrides).expect("the demo");
        let model = config.classifier_model([3, 8, 8], 4).expect("a classifier");
        Request { model, options: settings::export(&config).expect("settings").plan_options() }
    }

    const NARROW: &str = "classifier.model.width_divisor=8";

    #[test]
    fn a_forecast_is_what_the_export_will_say() {
        for activation in ["{ kind = 'square' }", "{ kind = 'chebyshev-relu', degree = 8 }"] {
            let request = request(&[NARROW, &format!("classifier.model.activation={activation}")]);
            let device = Device::flex();
            let net =
                seeded(&device, 7, || Classifier::from_config(&request.model, &device)).expect("a network");
            let inputs = ExportInputs {
                network: &request.model.network().expect("a network"),
                weights: &Weights::from(collect(&net)),
                labels: &["a", "b", "c", "d"].map(str::to_owned),
                film_side: 64,
                film_fit: he_model::FilmFit::default(),
                encoder_digest: "",
                headroom: 2.0,
                plan: request.options,
                notes: BTreeMap::new(),
            };
            let latent = vec![0.5f32; 3 * 8 * 8];
            let report = export(&inputs, [latent.as_slice()]).expect("an export").report;
            let forecast = request.answer().expect("a plan");
            assert_eq!(forecast.seconds, report.predicted_seconds, "{activation}");
            assert_eq!(forecast.key_bytes, report.key_bytes as f64, "{activation}");
        }
    }

    #[test]
    fn the_options_of_the_export_decide() {
        let wide = |stages: &str| {
            request(&[
                "classifier.model.architecture=resnet20",
                "classifier.model.width_divisor=2",
                "export.log_ring_degree=16",
                &format!("export.wide_stages={stages}"),
            ])
        };
        let seconds = |request: Request| request.answer().expect("a plan").seconds;
        assert!(seconds(wide("0")) < seconds(wide("2")), "wide stages take more levels");
        let no_room = request(&[NARROW, "export.max_key_megabytes=1"]);
        assert!(no_room.answer().expect_err("no room for keys").contains("budget is 1 MiB"));
    }

    #[test]
    fn what_was_planned_is_read_and_what_is_damaged_is_planned_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (context, request) = (Context::quiet(), request(&[NARROW]));
        let forecast = || {
            let mut forecasts = Forecasts::new(folder.path().to_owned()).expect("the program");
            assert!(forecasts.of(&request).is_err(), "nothing is known before it is asked for");
            forecasts.prepare(&context, &[request.clone(), request.clone()]).expect("prepared");
            forecasts.of(&request).expect("a plan")
        };
        let planned = forecast();
        let files: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").flatten().collect();
        assert_eq!(files.len(), 1, "the same network is planned once");
        let other: Forecast = Ok(Encrypted { seconds: 77.0, ..planned });
        std::fs::write(files[0].path(), serde_json::to_string(&other).expect("JSON")).expect("written");
        assert_eq!(forecast().seconds, 77.0);
        std::fs::write(files[0].path(), "{\"Ok\":").expect("written");
        // Planned again, which takes another time.
        let again = forecast();
        assert_eq!(Encrypted { planning_seconds: planned.planning_seconds, ..again }, planned);
    }
}
