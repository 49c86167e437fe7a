//! A small model, a real server process, and clients of it. All traffic stays on this machine.

#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use he_client::{Clinic, Connection, Options, Vault};
use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{HeModel, Offsets, PlanOptions, Preprocessing, Ranges, SecurityLevel, Shape, plan};
use he_protocol::{Card, Name, Package};
use he_server::tokens::Tokens;

/// Logits may differ from the clear by this much, at the small parameters of these tests.
pub const TOLERANCE: f64 = 1e-2;

pub fn model(seed: u64) -> HeModel {
    model_for(seed, 1)
}

/// A model whose ciphertexts hold so many films.
pub fn model_for(seed: u64, films: usize) -> HeModel {
    let input = Shape::new(3, 8, 8);
    let recipe = Recipe {
        architecture: Architecture::ResNet(8),
        input,
        labels: 2,
        se: false,
        post_add_activation: false,
        shrink: 16,
    };
    let graph = random(&recipe, seed).unwrap();
    let options = PlanOptions {
        log_ring_degree: Some(if films > 1 { 12 } else { 10 }),
        films,
        security: SecurityLevel::InsecureForTests,
        ..PlanOptions::default()
    };
    let mut ranges = Ranges::new(&graph);
    for seed in 0..16 {
        ranges.observe(&graph, &random_input(input, seed)).unwrap();
    }
    HeModel {
        plan: plan(&graph, &options).unwrap(),
        labels: vec!["effusion".into(), "nodule".into()],
        preprocessing: Preprocessing::unknown(64, input),
        ranges,
        graph,
        offsets: Offsets::new(),
        notes: BTreeMap::new(),
    }
}

pub fn package(folder: &Path, name: &str, seed: u64) -> (HeModel, PathBuf) {
    package_of(folder, name, model(seed))
}

pub fn package_of(folder: &Path, name: &str, model: HeModel) -> (HeModel, PathBuf) {
    let (file, encoder, package) = (
        folder.join(format!("{name}.model")),
        folder.join("encoder"),
        folder.join(format!("{name}.package")),
    );
    model.save(&file).unwrap();
    std::fs::write(&encoder, b"stands for an encoder").unwrap();
    Package::create(&package, name.parse().unwrap(), &file, Some(&encoder), Card::default()).unwrap();
    (model, package)
}

pub fn latent(model: &HeModel, seed: u64) -> Vec<f64> {
    random_input(model.preprocessing.latent, seed)
}

pub fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let far = got.iter().zip(want).find(|(a, b)| (*a - *b).abs() > TOLERANCE);
    assert!(far.is_none(), "a wrong answer: {got:?} instead of {want:?}");
}

/// A server process; killed when dropped.
pub struct Running {
    pub child: Child,
    pub address: String,
    pub admin: String,
    log: PathBuf,
}

impl Running {
    pub fn start(folder: &Path, listen: &str, config: &str, packages: &[&Path]) -> Self {
        let file = folder.join("server.toml");
        std::fs::write(&file, config).unwrap();
        let log = folder.join("server.log");
        let to = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_veilray-server"));
        command.arg("--config").arg(&file).args([
            "--listen",
            listen,
            "--admin",
            "127.0.0.1:0",
            "--threads",
            "2",
        ]);
        command.arg("--state").arg(folder.join("state"));
        for package in packages {
            command.arg("--package").arg(package);
        }
        command.env("VEILRAY_LOG", "debug");
        let mut child = command.stdout(Stdio::piped()).stderr(to).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = |prefix: &str| {
            let line = lines.next().unwrap_or_else(|| panic!("{}", std::fs::read_to_string(&log).unwrap()));
            line.unwrap().strip_prefix(prefix).unwrap().to_owned()
        };
        let address = line("listening on ");
        let admin = line("metrics on http://").trim_end_matches("/metrics").to_owned();
        Self { child, address, admin, log }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    pub fn port(&self) -> &str {
        self.address.split_once("://").unwrap().1
    }

    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn metrics(&self) -> String {
        exchange(&self.admin, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn token(folder: &Path, client: &str) -> String {
    Tokens::open(&folder.join("state")).unwrap().add(&client.parse::<Name>().unwrap()).unwrap()
}

pub fn connect(address: &str, token: &str, tries: u32) -> Connection {
    let mut options = Options::new(address, token);
    options.tries = tries;
    options.timeout = Duration::from_secs(60);
    Connection::new(options).unwrap()
}

pub fn enrol(connection: Connection, model: &str, keys: &Path) -> Clinic {
    Clinic::enrol_insecure_for_tests(connection, &model.parse().unwrap(), Vault::new(keys), None, &mut |_| {})
        .unwrap()
}

/// Sends bytes and reads all of the answer: status and text.
pub fn exchange(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, text)
}

pub fn request(address: &str, method: &str, path: &str, token: &str) -> (u16, String) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
    );
    exchange(address, &head)
}
