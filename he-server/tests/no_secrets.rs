//! The serving process holds no type that can decrypt: neither its dependency graph nor its binary has one.
//!
//! In a build of the whole workspace cargo joins the features that all crates want, so the binary is built here as operators build it: alone, into
//! a folder of its own beside the tests' (the first time takes as long as its dependencies).

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;

/// What only exists with the feature `secret-key`, as it stands in symbols and messages.
const SECRETS: [&str; 5] = ["SecretKey", "Decryptor", "KeyGenerator", "ClientKeys", "SecretEncryptor"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn tree(package: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-e",
            "normal,build",
            "--prefix",
            "none",
            "-f",
            "{p} [{f}]",
            "-p",
            package,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_dependency_graph_of_the_server_enables_no_secret_key() {
    let server = tree("he-server");
    assert!(server.contains("ckks v") && server.contains("he-runtime v"), "{server}");
    let enabled = |text: &str| {
        text.lines().any(|l| {
            l.contains("secret-key")
                || (l.starts_with("he-runtime") && l.contains("client"))
                || l.starts_with("he-client")
        })
    };
    assert!(!enabled(&server), "{server}");
    assert!(enabled(&tree("he-client")), "the check itself must be able to see the feature");
}

fn names_in(binary: &std::path::Path) -> Vec<&'static str> {
    let bytes = std::fs::read(binary).unwrap();
    SECRETS.into_iter().filter(|s| bytes.windows(s.len()).any(|w| w == s.as_bytes())).collect()
}

#[test]
fn the_binary_of_the_server_names_no_secret() {
    // This program links the client: the search must find it here.
    let own = std::env::current_exe().unwrap();
    let _ = std::hint::black_box(he_client::Clinic::open as fn(_, _, _) -> _);
    assert!(names_in(&own).contains(&"SecretKey"), "the search itself must be able to see the types");
    // target/release/deps/no_secrets-... -> target/server-alone
    let target = own.ancestors().nth(3).unwrap().join("server-alone");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "-q", "-p", "he-server", "--bin", "veilray-server"])
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(root())
        .status()
        .unwrap();
    assert!(status.success(), "the server does not build alone");
    let binary = target.join("release/veilray-server");
    let bytes = std::fs::read(&binary).unwrap();
    // Symbols must be there to be searched: its own types are.
    assert!(
        bytes.windows(11).any(|w| w == b"ServerKeys\x00" || w.starts_with(b"ServerKeys")),
        "no symbols to search"
    );
    assert_eq!(names_in(&binary), Vec::<&str>::new());
}
