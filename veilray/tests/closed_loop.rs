//! The binary as a user meets it: the whole loop on a small phantom at 128-bit security, then everything that can be
//! handed to it broken. Each refusal must name the file, say what to do, exit non-zero and leave good files alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use assert_cmd::Command;

/// A run that takes seconds: 32-pixel films, 8x8x3 latents, a small network.
const CONFIG: &str = r#"
[run]
dir = "run"
seed = 7

[data]
side = 32

[data.source.phantom]
films = 120

[vqgan.model]
side = 32
width = 8
multipliers = [1, 1, 1]
residual_blocks = 1
middle_attention = false
latent_channels = 3
codes = 32

[vqgan.train]
steps = 6
batch = 4
learning_rate = 1e-3
validate_every = 3
validation_films = 8
codebook = { warmup_steps = 2 }

[classifier.model]
architecture = "lenet"
width_divisor = 8

[classifier.train]
epochs = 1
batch = 16
learning_rate = 1e-3

[encrypted]
films = 2
"#;

struct Run {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

impl Run {
    fn path(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }
}

fn veilray(root: &Path, arguments: &[&str]) -> Output {
    Command::cargo_bin("veilray")
        .expect("the binary is built")
        .current_dir(root)
        .args(arguments)
        .output()
        .expect("runs")
}

/// Runs a command that must succeed.
fn succeed(root: &Path, arguments: &[&str]) -> Output {
    let output = veilray(root, arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "veilray {arguments:?}\n{out}\n{err}");
    output
}

/// Runs a command that must be refused with exit status 1 and a message that holds all of `said`.
fn refuse(root: &Path, arguments: &[&str], said: &[&str]) {
    let output = veilray(root, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "veilray {arguments:?} must fail\n{error}");
    assert!(!error.contains("panicked"), "veilray {arguments:?} panicked\n{error}");
    for text in said {
        assert!(error.contains(text), "veilray {arguments:?} must say {text:?}, said\n{error}");
    }
}

/// One finished run, made stage by stage as the README's tour does, shared by the tests.
fn run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().to_owned();
        fs::write(root.join("small.toml"), CONFIG).expect("config written");
        for stage in [
            &["train", "vqgan"][..],
            &["encode"],
            &["train", "classifier"],
            &["export"],
            &["keygen"],
            &["encrypt"],
            &["infer"],
            &["eval"],
        ] {
            succeed(&root, &[stage, &["--config", "small.toml", "--quiet"]].concat());
        }
        Run { _folder: folder, root }
    })
}

/// A copy of a file with one byte changed.
fn with_changed_byte(run: &Run, file: &str, name: &str, at: impl Fn(usize) -> usize) -> String {
    let mut bytes = fs::read(run.root.join(file)).expect("the file is there");
    let at = at(bytes.len());
    bytes[at] ^= 0x55;
    fs::write(run.root.join(name), bytes).expect("copy written");
    run.path(name)
}

/// A copy of a file without its last third.
fn cut_short(run: &Run, file: &str, name: &str) -> String {
    let bytes = fs::read(run.root.join(file)).expect("the file is there");
    fs::write(run.root.join(name), &bytes[..bytes.len() * 2 / 3]).expect("copy written");
    run.path(name)
}

fn first_file(folder: &Path) -> String {
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    files[0].display().to_string()
}

/// `veilray test` looks at the exported activations too, on every test film.
#[test]
fn test_films_are_compared_with_the_calibrated_intervals() {
    let run = run();
    let output = succeed(&run.root, &["test", "--config", "small.toml", "--quiet"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("inputs of the exported activations on 24 test films"), "{said}");
    let file = fs::read_to_string(run.root.join("run/ranges.json")).expect("the report is there");
    let report: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    let layers = report["layers"].as_array().expect("layers");
    assert!(layers.len() >= 3, "{file}");
    for layer in layers {
        let (calibrated, largest) = (layer["calibrated"].as_f64(), layer["largest"].as_f64());
        let (calibrated, largest) = (calibrated.expect("a number"), largest.expect("a number"));
        assert!(calibrated > 0.0 && largest > 0.0, "{file}");
        let outside = layer["films_outside"].as_u64().expect("a count");
        assert_eq!(outside > 0, largest > 2.0 * calibrated, "{file}");
    }
}

#[test]
fn encrypted_and_clear_results_agree() {
    let run = run();
    let text = fs::read_to_string(run.root.join("run/eval.json")).expect("eval.json");
    let evaluation: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let films = evaluation["films"].as_array().expect("films");
    assert_eq!(films.len(), 2);
    for film in films {
        let numbers = |name: &str| -> Vec<f64> {
            film[name].as_array().expect(name).iter().map(|value| value.as_f64().expect("a number")).collect()
        };
        let (clear, graph, encrypted) = (numbers("clear"), numbers("graph"), numbers("encrypted"));
        for ((clear, graph), encrypted) in clear.iter().zip(&graph).zip(&encrypted) {
            assert!((clear - graph).abs() < 1e-4, "trained network {clear}, exported graph {graph}");
            assert!((clear - encrypted).abs() < 1e-2, "clear {clear}, encrypted {encrypted}");
            assert!(clear != encrypted, "an encrypted result without any noise was not encrypted");
        }
    }
}

#[test]
fn layers_are_compared_and_noise_is_predicted() {
    let run = run();
    let report = fs::read_to_string(run.root.join("run/export.json")).expect("export.json");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let layers = report["layers"].as_array().expect("layers");
    let predicted: Vec<f64> = layers.iter().filter_map(|l| l["predicted_error"].as_f64()).collect();
    assert!(predicted.len() >= 3 && predicted.iter().all(|e| *e > 0.0 && *e < 1e-2), "{predicted:?}");
    let said = succeed(&run.root, &["eval", "--config", "small.toml", "--compare"]);
    let text = String::from_utf8_lossy(&said.stdout);
    // Name, largest value, largest error, precision in bits, predicted error.
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip_while(|line| !line.contains("layer by layer"))
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<&str>| row.len() == 6 && row[4] == "bits")
        .collect();
    assert!(rows.len() >= 3, "{text}");
    for row in rows {
        let (measured, predicted): (f64, f64) =
            (row[2].parse().expect("error"), row[5].parse().expect("error"));
        assert!((0.1..10.0).contains(&(measured / predicted)), "{row:?}");
    }
    let said = succeed(&run.root, &["simulate", "--config", "small.toml", "--films", "1"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("predicted largest difference of a logit"));
}

#[test]
fn a_benchmark_of_an_unknown_row_is_refused() {
    refuse(&run().root, &["bench", "he", "--rows", "resnet21-f8"], &["resnet21-f8", "resnet20-f8"]);
}

#[test]
fn results_are_printed_as_numbers_json_and_labels() {
    let run = run();
    let decrypt = |extra: &[&str]| {
        let output = succeed(&run.root, &[&["decrypt", "--config", "small.toml", "--quiet"], extra].concat());
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(decrypt(&[]).contains("Cardiomegaly"));
    let json: serde_json::Value = serde_json::from_str(&decrypt(&["--json"])).expect("JSON");
    let probability = json[0]["findings"]["Cardiomegaly"].as_f64().expect("a probability");
    assert!((0.0..=1.0).contains(&probability));
    let labels: serde_json::Value =
        serde_json::from_str(&decrypt(&["--json", "--labels-only"])).expect("JSON");
    assert!(labels[0]["findings"]["Cardiomegaly"].is_boolean());
}

/// Copies what training left in the run, for another export of it.
fn copy_training(run: &Run, to: &str) {
    let mut folders = vec![PathBuf::from("vqgan"), PathBuf::from("classifier")];
    fs::create_dir_all(run.root.join(to)).expect("folder");
    fs::copy(run.root.join("run/latents.safetensors"), run.root.join(to).join("latents.safetensors"))
        .expect("copied");
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(run.root.join(to).join(&folder)).expect("folder");
        for entry in fs::read_dir(run.root.join("run").join(&folder)).expect("folder") {
            let entry = entry.expect("entry");
            let part = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(part);
            } else {
                fs::copy(entry.path(), run.root.join(to).join(part)).expect("copied");
            }
        }
    }
}

/// Seven films in ciphertexts of four: each result is that of its film, and nothing is said of the empty place.
#[test]
fn films_share_ciphertexts_and_the_last_batch_may_be_partial() {
    let run = run();
    let root = &run.root;
    copy_training(run, "batches");
    let settings = [
        "--config",
        "small.toml",
        "--set",
        "run.dir=batches",
        "--set",
        "export.films=3",
        "--set",
        "encrypted.films=7",
    ];
    let batches = |stage: &[&str]| {
        String::from_utf8(succeed(root, &[stage, &settings[..]].concat()).stdout).expect("UTF-8")
    };
    let said = batches(&["export", "--json", "report.json"]);
    assert!(said.contains("a batch of up to 4 films"), "{said}");
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root.join("report.json")).expect("report")).expect("JSON");
    let seconds = |name: &str| report[name].as_f64().expect(name);
    assert_eq!(report["films"], 4);
    assert_eq!(seconds("predicted_seconds_per_film"), seconds("predicted_seconds") / 4.0);
    for stage in ["keygen", "encrypt", "infer"] {
        batches(&[stage]);
    }
    let names = |folder: &str, extension: &str| -> Vec<String> {
        let entries = fs::read_dir(root.join("batches").join(folder)).expect("folder");
        let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> =
            names.filter_map(|n| Some(n.strip_suffix(extension)?.to_owned())).collect();
        names.sort();
        names
    };
    let ciphertexts = names("encrypted", ".ct");
    assert_eq!(ciphertexts.len(), 2);
    assert_eq!(names("encrypted", ".json"), ciphertexts);
    assert_eq!(names("results", ".ct"), ciphertexts);
    batches(&["eval"]);
    let compared = batches(&["eval", "--compare"]);
    assert!(compared.contains("the worst of 4 films"), "{compared}");
    assert!(batches(&["simulate", "--films", "6"]).contains("6 films, simulated noise"));
    let text = fs::read_to_string(root.join("batches/eval.json")).expect("eval.json");
    let evaluation: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let decrypted: serde_json::Value = serde_json::from_str(&batches(&["decrypt", "--json"])).expect("JSON");
    let (films, decrypted) =
        (evaluation["films"].as_array().expect("films"), decrypted.as_array().expect("films"));
    assert_eq!((films.len(), decrypted.len()), (7, 7));
    for (film, decrypted) in films.iter().zip(decrypted) {
        assert_eq!(film["id"], decrypted["film"], "films come back in their order");
        for (index, label) in evaluation["labels"].as_array().expect("labels").iter().enumerate() {
            let number = |name: &str| film[name][index].as_f64().expect("a number");
            assert!((number("clear") - number("encrypted")).abs() < 1e-2, "{film}");
            let probability = decrypted["findings"][label.as_str().expect("label")].as_f64();
            let expected = 1.0 / (1.0 + (-number("encrypted")).exp());
            assert_eq!(probability, Some(expected), "JSON holds all digits");
        }
    }
    succeed(root, &[&["package", "--name", "batches", "--to", "batch-package"], &settings[..]].concat());
    let shown = succeed(root, &["inspect", "batch-package"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("batch     4 in a ciphertext"));

    let result = run.path(&format!("batches/results/{}.ct", ciphertexts[1]));
    let refused = |extra: &[&str], said: &[&str]| {
        refuse(root, &[&["decrypt"], extra, &[result.as_str()]].concat(), said);
    };
    let model = run.path("batches/model.safetensors");
    refused(&["--model", &model, "--keys", "batches/keys"], &["up to 4 films", "--lists"]);
    refused(&["--config", "small.toml"], &[&result]);
    refused(&["--model", &model, "--keys", "run/keys", "--lists", "batches/encrypted"], &["another key"]);
    succeed(
        root,
        &["decrypt", "--model", &model, "--keys", "batches/keys", "--lists", "batches/encrypted", &result],
    );
    let list = root.join(format!("batches/encrypted/{}.json", ciphertexts[1]));
    let text = fs::read_to_string(&list).expect("list");
    let id = films[4]["id"].as_str().expect("id");
    fs::write(&list, text.replace(id, "somebody else")).expect("written");
    refuse(root, &[&["decrypt"], &settings[..]].concat(), &[&ciphertexts[1], "altered"]);
    refuse(root, &[&["eval"], &settings[..]].concat(), &[&ciphertexts[1], "altered"]);
    refuse(root, &[&["encrypt"], &settings[..]].concat(), &[&ciphertexts[1], "altered"]);
    fs::write(&list, text).expect("written");
    // Ciphertexts under another key do not travel along with new ones.
    succeed(root, &["keygen", "--model", &model, "--keys", "batches/other-keys"]);
    let other = [&["encrypt", "--keys", "batches/other-keys"], &settings[..]].concat();
    refuse(root, &other, &["does not belong here", "another key"]);
    refuse(root, &["export", "--config", "small.toml", "--set", "export.films=0"], &["export", "nonzero"]);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_secret_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let run = run();
    let mode = |name: &str| fs::metadata(run.root.join(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!(mode("run/keys/secret.key"), 0o600);
    assert_eq!(mode("run/keys"), 0o700);
}

#[test]
fn finished_stages_are_not_done_again_and_keys_are_not_overwritten() {
    let run = run();
    let trained = fs::read(run.root.join("run/vqgan/model.safetensors")).expect("checkpoint");
    succeed(&run.root, &["train", "vqgan", "--config", "small.toml", "--quiet"]);
    assert_eq!(trained, fs::read(run.root.join("run/vqgan/model.safetensors")).expect("checkpoint"));
    let secret = fs::read(run.root.join("run/keys/secret.key")).expect("key");
    refuse(&run.root, &["keygen", "--config", "small.toml"], &["already there", "--force"]);
    assert_eq!(secret, fs::read(run.root.join("run/keys/secret.key")).expect("key"));
}

#[test]
fn bad_configurations_are_refused_by_path() {
    let run = run();
    let set = |value: &str| veilray(&run.root, &["encode", "--config", "small.toml", "--set", value]);
    for (value, said) in [
        ("vqgan.train.stepz=3", "vqgan.train"),
        ("vqgan.train.steps=\"many\"", "vqgan.train.steps"),
        ("classifier.model.architecture=\"resnet7\"", "classifier.model.architecture"),
        ("export.headrom=2.0", ""),
        ("nonsense", "nonsense"),
    ] {
        if value.starts_with("export") {
            refuse(&run.root, &["export", "--config", "small.toml", "--set", value], &["export", "headrom"]);
            continue;
        }
        let output = set(value);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{value}: {error}");
        assert!(error.contains(said), "{value}: {error}");
    }
    refuse(&run.root, &["encode", "--config", "nowhere.toml"], &["nowhere.toml"]);
    fs::write(run.root.join("broken.toml"), "[run\ndir=").expect("written");
    refuse(&run.root, &["encode", "--config", "broken.toml"], &["broken.toml"]);
}

#[test]
fn bad_films_are_refused_by_name() {
    let run = run();
    let root = &run.root;
    refuse(root, &["demo", "--data", "no-such-folder", "--out", "x"], &["no-such-folder"]);
    fs::create_dir_all(root.join("empty")).expect("folder");
    refuse(root, &["demo", "--data", "empty", "--out", "x"], &["empty"]);
    fs::write(root.join("zero.png"), b"").expect("written");
    fs::write(root.join("noise.png"), b"this is no picture at all").expect("written");
    for film in ["zero.png", "noise.png", "missing.png"] {
        refuse(root, &["encrypt", "--config", "small.toml", "--out", "enc", film], &[film]);
    }
    fs::create_dir_all(root.join("nih/images")).expect("folder");
    fs::write(root.join("nih/Data_Entry_2017_v2020.csv"), "Name,Findings\na.png,Mass\n").expect("written");
    fs::write(root.join("nih/images/00000001_000.png"), b"").expect("written");
    refuse(root, &["demo", "--data", "nih", "--out", "x"], &["Data_Entry_2017_v2020.csv"]);
    let sound = succeed(root, &["data", "check", "--config", "small.toml", "--quiet"]);
    assert!(String::from_utf8_lossy(&sound.stdout).contains("no broken film"));
    fs::write(root.join("films.npz"), b"PK\x03\x04 cut").expect("written");
    refuse(root, &["demo", "--data", "films.npz", "--out", "x"], &["films.npz"]);
}

#[test]
fn damaged_models_checkpoints_and_caches_are_refused() {
    let run = run();
    let root = &run.root;
    for model in [
        cut_short(run, "run/model.safetensors", "cut-model.safetensors"),
        with_changed_byte(run, "run/model.safetensors", "changed-weight.safetensors", |length| length - 3),
        with_changed_byte(run, "run/model.safetensors", "changed-header.safetensors", |_| 600),
    ] {
        refuse(root, &["keygen", "--model", &model, "--keys", "other-keys"], &[&model]);
        assert!(!root.join("other-keys/secret.key").exists());
    }
    let checkpoint = cut_short(run, "run/vqgan/model.safetensors", "cut-vqgan.safetensors");
    refuse(
        root,
        &["encrypt", "--config", "small.toml", "--out", "enc", "--encoder", &checkpoint],
        &[&checkpoint],
    );
    let classifier = run.path("run/classifier/model.safetensors");
    refuse(
        root,
        &["encrypt", "--config", "small.toml", "--out", "enc", "--encoder", &classifier],
        &[&classifier],
    );
    // A classifier checkpoint of another architecture under this run's name.
    let other = run.path("other-run");
    succeed(root, &["train", "vqgan", "--config", "small.toml", "--quiet", "--out", &other]);
    fs::create_dir_all(root.join("other-run/classifier")).expect("folder");
    fs::copy(root.join("run/vqgan/model.safetensors"), root.join("other-run/classifier/model.safetensors"))
        .expect("copied");
    refuse(root, &["export", "--config", "small.toml", "--out", &other], &["classifier/model.safetensors"]);
}

#[test]
fn ciphertexts_and_keys_that_do_not_belong_together_are_refused() {
    let run = run();
    let root = &run.root;
    let encrypted = first_file(&root.join("run/encrypted"));
    let name = Path::new(&encrypted).file_name().expect("name").to_string_lossy().into_owned();
    let encrypted_name = format!("run/encrypted/{name}");
    let infer = |input: &str, said: &[&str]| {
        refuse(root, &["infer", "--config", "small.toml", "--out", "bad-results", input], said);
        assert!(!root.join("bad-results").join(&name).exists(), "no result may be written for {input}");
    };
    infer(&cut_short(run, &encrypted_name, "cut.ct"), &["cut.ct"]);
    infer(&with_changed_byte(run, &encrypted_name, "changed.ct", |_| 20), &["changed.ct"]);
    infer(
        &with_changed_byte(run, &encrypted_name, "changed-inside.ct", |length| length / 2),
        &["changed-inside.ct"],
    );
    // Another client's keys, made for the same model.
    succeed(root, &["keygen", "--config", "small.toml", "--keys", "stranger", "--quiet"]);
    let stranger = run.path("stranger/evaluation.keys");
    refuse(
        root,
        &[
            "infer",
            "--config",
            "small.toml",
            "--evaluation-keys",
            &stranger,
            "--out",
            "bad-results",
            &encrypted,
        ],
        &["another key"],
    );
    let result = first_file(&root.join("run/results"));
    refuse(root, &["decrypt", "--config", "small.toml", "--keys", "stranger", &result], &["another key"]);
    refuse(root, &["decrypt", "--config", "small.toml", &encrypted], &[&encrypted]);
    let keys = cut_short(run, "run/keys/evaluation.keys", "cut.keys");
    refuse(
        root,
        &["infer", "--config", "small.toml", "--evaluation-keys", &keys, "--out", "bad", &encrypted],
        &["cut.keys"],
    );
}

#[test]
fn no_half_written_file_is_left_under_any_name() {
    let run = run();
    let mut folders = vec![run.root.join("run")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            assert!(
                !name.ends_with(".partial") && !name.starts_with(".tmp"),
                "{} is left over",
                path.display()
            );
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
}

#[test]
fn a_package_is_inspected_and_a_changed_one_is_refused() {
    let run = run();
    let root = &run.root;
    let made = succeed(
        root,
        &[
            "package",
            "--config",
            "small.toml",
            "--name",
            "small",
            "--to",
            "package",
            "--note",
            "use=tests",
            "--quiet",
        ],
    );
    let digest = String::from_utf8(made.stdout).expect("UTF-8").trim().to_owned();
    let shown = succeed(root, &["inspect", "package", "--digest", &digest]);
    let shown = String::from_utf8(shown.stdout).expect("UTF-8");
    for text in ["every digest is right", "Cardiomegaly", "use: tests", "films run encrypted: 2"] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    refuse(root, &["inspect", "package", "--digest", &"0".repeat(64)], &["not the publisher's package"]);
    assert_eq!(
        veilray(root, &["package", "--config", "small.toml", "--name", "../x"]).status.code(),
        Some(2)
    );
    for file in ["model.safetensors", "encoder.safetensors"] {
        fs::create_dir_all(root.join("changed-package")).expect("folder");
        for name in ["package.json", "model.safetensors", "encoder.safetensors"] {
            fs::copy(root.join("package").join(name), root.join("changed-package").join(name))
                .expect("copied");
        }
        with_changed_byte(run, &format!("package/{file}"), &format!("changed-package/{file}"), |length| {
            length - 3
        });
        refuse(root, &["inspect", "changed-package"], &[file, "was changed"]);
    }
}

#[test]
fn a_clinic_without_keys_token_or_service_is_told_what_to_do() {
    let run = run();
    let root = &run.root;
    refuse(root, &["client", "diagnose", "--keys", "no-keys", "film.png"], &["no-keys", "client enroll"]);
    fs::write(root.join("token"), "clinic.00").expect("written");
    let enroll = |url: &str, said: &[&str]| {
        refuse(root, &["client", "enroll", url, "--keys", "new-keys", "--token-file", "token"], said);
        assert!(!root.join("new-keys").exists());
    };
    enroll("http://192.0.2.1:1", &["no TLS"]);
    enroll("ftp://x", &["https://"]);
    refuse(root, &["client", "enroll", "https://x", "--keys", "k", "--token-file", "none"], &["none"]);
}
