//! Tells the program which commit it is built from, for the results that it writes. Outside of a repository that is `unknown`.

use std::path::Path;
use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn main() {
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| !commit.is_empty());
    let commit = commit.map_or_else(
        || "unknown".to_owned(),
        |commit| {
            let is_changed =
                git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
            if is_changed { format!("{commit}-changed") } else { commit }
        },
    );
    println!("cargo::rustc-env=VEILRAY_COMMIT={commit}");
    // Looked at again after a commit or a checkout, and when any source of the workspace changes.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    let entries = std::fs::read_dir("..").into_iter().flatten().flatten();
    for sources in entries.map(|entry| entry.path().join("src")).filter(|sources| sources.is_dir()) {
        println!("cargo::rerun-if-changed={}", sources.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
}
