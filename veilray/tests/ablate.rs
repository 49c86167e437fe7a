//! `veilray ablate` as a user meets it: a study of small networks, whole, in shards, killed and continued; and cells that fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// 32-pixel films, networks of an eighth of the width. Two cells are exported, one ends in the clear, two fail.
const STUDY: &str = r#"
name = "small"
title = "A small <study>"
rows = "latent-size"
seeds = [3]

[run.data]
side = 32
source.phantom = { films = 120 }

[run.vqgan.model]
side = 32
width = 8
multipliers = [1, 1, 1]
residual_blocks = 1
middle_attention = false
latent_channels = 3
codes = 32

[run.vqgan.train]
steps = 6
batch = 4
learning_rate = 1e-3
validate_every = 3
validation_films = 8
codebook = { warmup_steps = 2 }

[run.classifier.model]
architecture = "lenet"
width_divisor = 8

[run.classifier.train]
epochs = 2
batch = 16
learning_rate = 1e-3

[run.encrypted]
films = 2

[[cells]]
name = "f = 4"

[[cells]]
name = "f = 8"
set.vqgan.model = { multipliers = [1, 1, 1, 1], latent_channels = 4 }

[[cells]]
name = "clear"
set.classifier.model.activation = { kind = "relu" }

[[cells]]
name = "no room for keys"
set.export = { max_key_megabytes = 1 }

[[cells]]
name = "too many films"
set.encrypted = { films = 1000 }
"#;

/// The study with only the cells of the given names.
fn with_cells(names: &[&str]) -> String {
    let mut parts = STUDY.split("[[cells]]\n");
    let head = parts.next().expect("a head").to_owned();
    let is_wanted = |cell: &&str| names.iter().any(|name| cell.starts_with(&format!("name = {name:?}")));
    let cells: Vec<String> = parts.filter(is_wanted).map(|cell| format!("[[cells]]\n{cell}")).collect();
    assert_eq!(cells.len(), names.len());
    head + &cells.concat()
}

fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_veilray"));
    command.current_dir(root).args(arguments);
    command
}

fn veilray(root: &Path, arguments: &[&str]) -> Output {
    command(root, arguments).output().expect("veilray runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn succeed(root: &Path, arguments: &[&str]) -> String {
    let output = veilray(root, arguments);
    assert!(output.status.success(), "veilray {arguments:?}\n{}", said(&output));
    said(&output)
}

fn table(root: &Path, out: &str, name: &str) -> String {
    let file = root.join(out).join("tables").join(format!("{name}.csv"));
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The line of a table that begins with `start`.
fn line<'a>(table: &'a str, start: &str) -> &'a str {
    table
        .lines()
        .find(|line| line.trim_start_matches('"').starts_with(start))
        .unwrap_or_else(|| panic!("{start}: {table}"))
}

#[test]
fn shards_merge_to_the_whole_study_and_failures_are_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::write(root.join("small.toml"), STUDY).expect("written");
    let plan = succeed(root, &["ablate", "--config", "small.toml", "--cache", "cache", "--dry-run"]);
    assert!(
        plan.contains("vqgan, latents, classifier, export, encrypted") && plan.contains("all 5"),
        "{plan}"
    );
    assert!(plan.contains("1000") || plan.contains("budget is 1 MiB"), "what will fail is foreseen: {plan}");
    let in_cache: Vec<_> = fs::read_dir(root.join("cache")).expect("the cache").flatten().collect();
    assert!(in_cache.len() == 1 && in_cache[0].file_name() == "forecasts", "a plan runs no stage");

    let mut results = Vec::new();
    for shard in ["0/2", "1/2"] {
        let out = format!("part-{}", &shard[..1]);
        let arguments =
            ["ablate", "--config", "small.toml", "--cache", "cache", "--out", &out, "--shard", shard, "-q"];
        results.push(veilray(root, &arguments));
    }
    // Cells 0, 2 and 4 ("too many films") run in the first shard, 1 and 3 ("no room for keys") in the second.
    for result in &results {
        assert_eq!(result.status.code(), Some(1), "a failed cell shows in the exit status: {}", said(result));
        assert!(said(result).contains("runs failed"), "{}", said(result));
    }
    succeed(root, &["ablate", "report", "part-0", "part-1", "--out", "merged"]);

    let runs = table(root, "merged", "runs");
    assert!(
        line(&runs, "phantom, f = 4").contains(",done,") && line(&runs, "phantom, f = 4").contains("2 of 2"),
        "{runs}"
    );
    assert!(line(&runs, "phantom, f = 8").contains("2 of 2"), "{runs}");
    assert!(line(&runs, "phantom, clear").contains("in the clear only"), "{runs}");
    let failures = table(root, "merged", "failures");
    assert!(line(&failures, "phantom, no room").contains("budget is 1 MiB"), "{failures}");
    assert!(line(&failures, "phantom, too many").contains("asks for 1000 films"), "{failures}");
    let accuracy = table(root, "merged", "accuracy");
    assert!(!line(&accuracy, "no room for keys").contains(",-,-,-"), "it counts in the clear: {accuracy}");
    assert_eq!(line(&table(root, "merged", "ciphertexts"), "no room").matches(",-").count(), 12);

    // Everything that can be done is done, so the whole study reads what the shards made.
    let keys = || -> BTreeSet<_> {
        let stages = fs::read_dir(root.join("cache")).expect("the cache").flatten();
        stages
            .flat_map(|stage| fs::read_dir(stage.path()).expect("a stage").flatten())
            .map(|key| key.path())
            .collect()
    };
    let before = keys();
    // Cells of the same latents share their VQGAN: two of them, not five.
    assert_eq!(before.iter().filter(|key| key.starts_with(root.join("cache/vqgan"))).count(), 2);
    let output = veilray(root, &["ablate", "--config", "small.toml", "--cache", "cache", "--out", "whole"]);
    assert_eq!(said(&output).matches("done before").count(), 5 + 5 + 3 + 3 + 4, "{}", said(&output));
    assert_eq!(keys(), before);
    for name in ["accuracy", "ciphertexts", "latents", "runs", "failures"] {
        assert_eq!(table(root, "whole", name), table(root, "merged", name), "{name}");
        for extension in ["md", "tex"] {
            let file = root.join("merged/tables").join(format!("{name}.{extension}"));
            assert!(fs::metadata(&file).is_ok_and(|m| m.len() > 50), "{}", file.display());
        }
    }
    for name in ["time", "auroc", "psnr", "parameters", "reconstructions"] {
        let svg = fs::read_to_string(root.join(format!("merged/figures/{name}.svg"))).expect(name);
        assert!(svg.starts_with("<svg"), "{name}");
        let png = fs::read(root.join(format!("merged/figures/{name}.png"))).expect(name);
        assert!(image::load_from_memory(&png).is_ok(), "{name}");
    }
    let page = fs::read_to_string(root.join("merged/report.html")).expect("the report");
    for text in [
        "A small &lt;study&gt;",
        "asks for 1000 films",
        "4 films were classified",
        "small.toml",
        "veilray 0.",
    ] {
        assert!(page.contains(text), "the report shows {text:?}");
    }
    let keys_left: Vec<_> =
        before.iter().filter(|key| key.join("keys").exists() && key.join("done.json").exists()).collect();
    assert!(keys_left.is_empty(), "keys are removed once their figures are there: {keys_left:?}");

    fs::write(root.join("other.toml"), STUDY.replace("seeds = [3]", "seeds = [4]")).expect("written");
    let other =
        ["ablate", "--config", "other.toml", "--set", "vqgan.train.steps=0", "--out", "other", "--dry-run"];
    assert!(
        said(&veilray(root, &other)).contains("vqgan.train.steps"),
        "a study that cannot run is refused at once"
    );
}

#[test]
fn a_killed_study_continues_to_the_same_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::write(root.join("small.toml"), with_cells(&["f = 4", "clear"])).expect("written");
    succeed(root, &["ablate", "--config", "small.toml", "--cache", "at-once", "--out", "reference", "-q"]);

    let arguments = ["ablate", "--config", "small.toml", "--cache", "cache", "--out", "killed", "-q"];
    let mut kills = 0;
    // Killed after longer and longer, so that some stage is hit on every machine, until it ends by itself.
    let mut patience = Duration::from_millis(200);
    loop {
        let mut child =
            command(root, &arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("spawned");
        let started = std::time::Instant::now();
        let mut status = None;
        while status.is_none() && started.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(10));
            status = child.try_wait().expect("a child");
        }
        if let Some(status) = status {
            assert!(status.success());
            break;
        }
        child.kill().expect("killed");
        child.wait().expect("waited");
        kills += 1;
        patience = patience.mul_f64(1.5);
        assert!(kills < 40, "the study never ends");
    }
    assert!(kills >= 2, "the study was killed {kills} times only");
    for name in ["accuracy", "latents"] {
        assert_eq!(
            table(root, "killed", name),
            table(root, "reference", name),
            "{name}, after {kills} kills"
        );
    }
    // Noise and time are drawn and measured anew for each set of keys; the number of films is not.
    for out in ["killed", "reference"] {
        assert_eq!(table(root, out, "ciphertexts").matches("2 of 2").count(), 1);
    }
}

#[test]
fn folders_of_different_studies_do_not_merge() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let one_cell = with_cells(&["f = 4"]);
    fs::write(root.join("a.toml"), &one_cell).expect("written");
    fs::write(root.join("b.toml"), one_cell.replace("epochs = 2", "epochs = 3")).expect("written");
    for name in ["a", "b"] {
        // An interrupted or failing study leaves its outline; no film is needed for it.
        let config = format!("{name}.toml");
        let set = "data.source.phantom.films=3";
        veilray(
            root,
            &["ablate", "--config", &config, "--out", name, "--cache", "cache", "--set", set, "-q"],
        );
    }
    let output = veilray(root, &["ablate", "report", "a", "b", "--out", "c"]);
    assert!(!output.status.success() && said(&output).contains("different"), "{}", said(&output));
    let output = veilray(root, &["ablate", "report", "nowhere"]);
    assert!(said(&output).contains("not the folder of a study"), "{}", said(&output));
    assert!(said(&veilray(root, &["ablate"])).contains("--config"));
    assert!(said(&veilray(root, &["ablate", "--config", "a.toml", "--shard", "2/2"])).contains("0/4"));
}
