//! The arrows between crates, as ARCHITECTURE.md draws them, checked against `cargo metadata`, and those between the files
//! of a crate, read from its sources.
//!
//! Three kinds of rule: what a crate of ours may name directly, what must not be reachable from it at all (nothing below the
//! bridge may reach Burn; the server's side may not enable the `secret-key` feature), and that no files of a crate name
//! each other in a circle.

#[path = "layering/modules.rs"]
mod modules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use modules::Modules;

/// How files are written: any crate may use it.
const GROUND: &str = "durable";

/// Every crate of the workspace and the crates of the workspace that it may depend on (dev-dependencies apart).
const ALLOWED: &[(&str, &[&str])] = &[
    ("durable", &[]),
    ("networks", &[]),
    ("ckks", &[]),
    ("he-model", &["ckks", "networks"]),
    ("he-runtime", &["ckks", "he-model"]),
    ("he-protocol", &["he-model", "he-runtime"]),
    ("he-server", &["ckks", "he-model", "he-protocol", "he-runtime"]),
    ("he-client", &["he-model", "he-protocol", "he-runtime"]),
    ("datasets", &[]),
    ("kernels", &[]),
    ("vqgan", &["kernels"]),
    ("classifier", &["kernels", "networks"]),
    ("train", &["classifier", "datasets", "kernels", "networks", "vqgan"]),
    ("he-export", &["he-model", "networks"]),
    ("report", &[]),
    (
        "pipeline",
        &[
            "ckks",
            "classifier",
            "datasets",
            "he-export",
            "he-model",
            "he-protocol",
            "he-runtime",
            "report",
            "train",
            "vqgan",
        ],
    ),
    (
        "studies",
        &[
            "ckks",
            "classifier",
            "datasets",
            "he-export",
            "he-model",
            "he-runtime",
            "networks",
            "pipeline",
            "report",
            "train",
            "vqgan",
        ],
    ),
    (
        "veilray",
        &[
            "ckks",
            "classifier",
            "datasets",
            "he-client",
            "he-protocol",
            "he-runtime",
            "pipeline",
            "report",
            "studies",
            "train",
        ],
    ),
];

/// Crates from which Burn must not be reachable.
const WITHOUT_BURN: &[&str] = &[
    "ckks",
    "networks",
    "he-model",
    "he-runtime",
    "he-protocol",
    "he-server",
    "he-client",
    "he-export",
    "datasets",
    "report",
];

/// The platform that cargo builds for here.
fn host() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().expect("rustc is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

/// Of this platform only: a build downloads no dependency of another, and without a network none can be looked at.
fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .other_options(vec!["--offline".into(), format!("--filter-platform={}", host())])
        .exec()
        .expect("cargo metadata runs offline in a workspace that has just been built")
}

/// Package names reachable from `root` through normal and build dependencies.
fn reachable(metadata: &Metadata, root: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("metadata has a resolved graph");
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = metadata.packages.iter().find(|package| package.name.as_str() == root).expect(root);
    let mut seen = BTreeSet::new();
    let mut queue = VecDeque::from([&start.id]);
    while let Some(id) = queue.pop_front() {
        for dependency in &nodes[id].deps {
            let is_used = dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
            if is_used && seen.insert(names[&dependency.pkg].clone()) {
                queue.push_back(&dependency.pkg);
            }
        }
    }
    seen
}

#[test]
fn workspace_crates_name_only_what_the_architecture_allows() {
    let metadata = metadata();
    let members: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let known: BTreeSet<String> = ALLOWED.iter().map(|(name, _)| (*name).to_string()).collect();
    assert_eq!(
        members, known,
        "a crate was added or removed: say in ALLOWED and ARCHITECTURE.md what it may know"
    );
    for (name, allowed) in ALLOWED {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == *name).expect(name);
        for dependency in &package.dependencies {
            let inside = members.contains(&dependency.name) && dependency.kind != DependencyKind::Development;
            assert!(
                !inside || GROUND == dependency.name || allowed.contains(&dependency.name.as_str()),
                "{name} must not depend on {}: dependencies run one way (ARCHITECTURE.md)",
                dependency.name
            );
        }
    }
}

#[test]
fn burn_is_not_reachable_below_the_bridge() {
    let metadata = metadata();
    for name in WITHOUT_BURN {
        let burn: Vec<_> =
            reachable(&metadata, name).into_iter().filter(|found| found.starts_with("burn")).collect();
        assert!(burn.is_empty(), "{name} reaches {burn:?}: the encrypted world must not know Burn");
    }
    assert!(reachable(&metadata, "vqgan").contains("burn"), "the check itself must be able to see Burn");
}

/// `cargo tree` resolves features for one package alone, which is what a server build does.
fn feature_tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none", "-f", "{p} [{f}]"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo tree prints UTF-8")
}

#[test]
fn the_server_side_does_not_enable_secret_keys() {
    let server = feature_tree(&["-p", "he-runtime", "--no-default-features"]);
    assert!(server.contains("ckks"), "the tree must contain ckks:\n{server}");
    assert!(!server.contains("secret-key"), "a server build enables ckks/secret-key:\n{server}");
    let client = feature_tree(&["-p", "he-runtime"]);
    assert!(client.contains("secret-key"), "the check itself must be able to see the feature:\n{client}");
}

#[test]
fn the_server_module_never_names_a_secret() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../he-runtime/src");
    let mut files = vec![std::path::PathBuf::from(root).join("server.rs")];
    if let Ok(folder) = std::fs::read_dir(std::path::Path::new(root).join("server")) {
        files.extend(folder.map(|entry| entry.expect("readable folder").path()));
    }
    for file in files {
        let text = std::fs::read_to_string(&file).expect("the server's source is there");
        for secret in ["SecretKey", "Decryptor", "KeyGenerator"] {
            assert!(!text.contains(secret), "{} names {secret}", file.display());
        }
    }
}

/// Every Rust file below a folder.
fn sources(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable folder") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The greatest modulus of every ring degree stands in one file; who needs a bound asks `ckks::Security` for it.
#[test]
fn the_security_bounds_are_written_down_once() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![];
    for package in metadata().workspace_packages() {
        sources(package.manifest_path.parent().expect("a folder").join("src").as_std_path(), &mut files);
    }
    let names_bounds = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).expect("readable source");
        let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        ["868", "1747", "3523"].iter().all(|bound| words.contains(bound))
    };
    let found: Vec<_> = files.into_iter().filter(names_bounds).collect();
    let [only] = found.as_slice() else { panic!("bounds stand in {found:?}") };
    let home = root.join("ckks/src/security.rs").canonicalize().expect("ckks has them");
    assert_eq!(only.canonicalize().expect("a file"), home);
}

#[test]
fn files_of_a_crate_name_each_other_one_way() {
    let mut circles = String::new();
    for package in metadata().workspace_packages() {
        let root = package.manifest_path.parent().expect("a manifest lies in a folder");
        let found = Modules::of_folder(root.join("src").as_std_path()).describe_circles();
        if !found.is_empty() {
            circles += &format!("{}:\n{found}", package.name);
        }
    }
    assert!(circles.is_empty(), "files name each other in circles:\n{circles}");
}

/// The arrows and circles of a crate of these files.
fn read(files: &[(&str, &str)]) -> (Vec<String>, Vec<Vec<String>>) {
    let files = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    let modules = Modules::new(&files);
    let names = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
    let arrows = modules.arrows().into_iter();
    let arrows = arrows.map(|((from, to), taken)| format!("{from} -> {to}: {}", names(taken))).collect();
    (arrows, modules.circles().into_iter().map(|circle| circle.into_iter().collect()).collect())
}

#[test]
fn the_reader_of_modules_sees_imports_paths_and_what_stands_behind_names() {
    let arrows = |text| {
        let (root, others) =
            ("mod a; pub mod b; pub use b::{B, inner::Deep as Renamed};", "mod inner; pub use inner::Deep;");
        read(&[("lib.rs", root), ("a.rs", text), ("b.rs", others), ("b/inner.rs", "pub struct Deep;")]).0
    };
    assert_eq!(arrows("use crate::b::{B, other as that};"), ["a.rs -> b.rs: B other"]);
    assert_eq!(arrows("use crate::B; use std::b::B as Other;"), ["a.rs -> b.rs: B"]);
    assert_eq!(arrows("use crate::{Renamed};"), ["a.rs -> b/inner.rs: Deep"]);
    assert_eq!(arrows("use crate::b::Deep;"), ["a.rs -> b.rs: Deep", "a.rs -> b/inner.rs: Deep"]);
    assert_eq!(arrows("fn f() { println!(\"{}\", crate::b::g(1)); }"), ["a.rs -> b.rs: g"]);
    assert_eq!(
        arrows("use crate::b; fn f() -> b::Deep {}"),
        ["a.rs -> b.rs: Deep b", "a.rs -> b/inner.rs: Deep"]
    );
    assert_eq!(arrows("mod tests { use super::super::b::B; }"), ["a.rs -> b.rs: B"]);
    for nothing in [
        "pub use crate::b::B;",
        "pub(crate) use crate::b::B;",
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] use crate::b::B;",
        "#[cfg(all(test, unix))] #[allow(unused)] fn f() { crate::b::g() }",
        "use b::B; fn f() { self.b(); std::b::g(); }",
        "/// See [`crate::b::B`].\nfn f() { \"crate::b::B\"; }",
    ] {
        assert_eq!(arrows(nothing), [""; 0], "{nothing}");
    }
}

#[test]
fn the_reader_of_modules_sees_circles_and_no_circle_in_a_file_and_its_parts() {
    let circles = |files: &[(&str, &str)]| read(files).1;
    let root = ("lib.rs", "mod a; mod b; mod c;");
    let through =
        [root, ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")];
    assert_eq!(circles(&through), [["a.rs", "b.rs", "c.rs"]]);
    let behind =
        [root, ("a.rs", "use crate::b::B;"), ("b.rs", "mod part;"), ("b/part.rs", "use crate::a::A;")];
    assert_eq!(circles(&behind), [[""; 0]; 0]);
    let entered = [root, ("a.rs", "use crate::b::B;"), ("b.rs", "mod part; use part::P;"), behind[3]];
    assert_eq!(circles(&entered), [["a.rs", "b.rs", "b/part.rs"]]);
    let family = [("lib.rs", "mod b;"), ("b.rs", "mod part; use part::P;"), ("b/part.rs", "use super::B;")];
    assert_eq!(circles(&family), [[""; 0]; 0]);
    let siblings =
        [("b.rs", "mod x; mod y;"), ("b/x.rs", "use super::y::Y;"), ("b/y.rs", "use super::x::X;")];
    assert_eq!(circles(&[&[root][..], &siblings].concat()), [["b/x.rs", "b/y.rs"]]);
}
