//! What an unfriendly network sends: slow, endless, many, wrong. All of it on this machine, bounded in number and time.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::*;

const CONFIG: &str = "[limits]\nhead_seconds = 2\nidle_seconds = 2\nconnections_per_address = 64\n\
                      requests_per_second = 200.0\nrequest_burst = 200.0\nrefusals_per_minute = 30.0\n";

#[test]
fn slow_clients_are_let_go_and_others_are_served_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (model, package) = package(folder.path(), "small", 1);
    let server = Running::start(folder.path(), "127.0.0.1:0", CONFIG, &[&package]);
    let secret = token(folder.path(), "clinic");
    let clinic = enrol(connect(&server.address, &secret, 5), "small", &folder.path().join("keys"));
    let keys = clinic.enrolment().keys.to_string();
    // Forty heads that never end, and four bodies that never come.
    let mut slow: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(server.port()).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").unwrap();
    }
    let mut bodies: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(server.port()).unwrap()).collect();
    for (i, stream) in bodies.iter_mut().enumerate() {
        let head = format!(
            "POST /v1/jobs?model=small&keys={keys} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n\
             idempotency-key: slow-body-{i:08}\r\ncontent-length: 10000\r\n\r\nslow"
        );
        stream.write_all(head.as_bytes()).unwrap();
    }
    let started = Instant::now();
    let x = latent(&model, 1);
    let got = clinic.diagnose(&x, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_close(&got, &model.graph.run(&x).unwrap());
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let _ = stream.read_to_end(&mut vec![]).unwrap();
    }
    for stream in &mut bodies {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too_slow"), "{answer}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(std::fs::read_dir(folder.path().join("state/temp")).unwrap().count(), 0);
}

#[test]
fn endless_bodies_end_at_their_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (_, package) = package(folder.path(), "small", 1);
    let server = Running::start(folder.path(), "127.0.0.1:0", CONFIG, &[&package]);
    let secret = token(folder.path(), "clinic");
    let clinic = enrol(connect(&server.address, &secret, 5), "small", &folder.path().join("keys"));
    let keys = clinic.enrolment().keys.to_string();
    let before = server.resident();
    for path in ["/v1/keys".to_owned(), format!("/v1/jobs?model=small&keys={keys}")] {
        let mut stream = TcpStream::connect(server.port()).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\nidempotency-key: endless-00000000\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut chunk = b"10000\r\n".to_vec();
        chunk.resize(7 + 0x10000, b'x');
        chunk.extend_from_slice(b"\r\n");
        let mut sent = 0u64;
        // The server stops reading; 64 MiB are far more than it takes in, and than the buffers between.
        while sent < 64 << 20 && stream.write_all(&chunk).is_ok() {
            sent += 0x10000;
        }
        assert!(sent < 64 << 20, "{path} took {sent} bytes");
    }
    assert!(server.resident().saturating_sub(before) < 64 << 20);
    assert_eq!(std::fs::read_dir(folder.path().join("state/temp")).unwrap().count(), 0);
    assert_eq!(request(server.port(), "GET", "/healthz", "").0, 200);
    // A head that does not fit is refused too.
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(server.port()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(head.as_bytes());
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn tens_of_thousands_of_tiny_requests_cost_no_memory_and_are_held_to_their_rate() {
    let folder = tempfile::tempdir().unwrap();
    let (_, package) = package(folder.path(), "small", 1);
    let server = Running::start(folder.path(), "127.0.0.1:0", CONFIG, &[&package]);
    let secret = token(folder.path(), "clinic");
    let burst = |path: &str, token: &str, count: usize| -> [usize; 3] {
        // 500 requests at a time, one after the other on one connection.
        let one = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        let mut seen = [0; 3];
        for _ in 0..count / 500 {
            let mut stream = TcpStream::connect(server.port()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut writer = stream.try_clone().unwrap();
            let text = one.repeat(499) + &one.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
            let writing = std::thread::spawn(move || writer.write_all(text.as_bytes()));
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            writing.join().unwrap().unwrap();
            for (n, status) in seen.iter_mut().zip(["200", "401", "429"]) {
                *n += answer.matches(&format!("HTTP/1.1 {status}")).count();
            }
        }
        seen
    };
    burst("/healthz", "x", 1000);
    let before = server.resident();
    assert_eq!(burst("/healthz", "x", 20_000), [20_000, 0, 0]);
    let [served, refused, over] = burst("/v1/models", &secret, 10_000);
    assert!(
        served >= 200 && over > 0 && refused == 0 && served + over == 10_000,
        "{served} {refused} {over}"
    );
    // Wrong tokens: a few are told so, then the address has to wait, and with it everyone there.
    let [served, refused, over] = burst("/v1/models", "clinic.0123", 10_000);
    assert!(
        served == 0 && (20..200).contains(&refused) && refused + over == 10_000,
        "{served} {refused} {over}"
    );
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "memory grew by {} MiB", grown >> 20);
    assert!(
        !server.log().contains(&secret) && !server.log().contains("clinic.0123"),
        "a token is in the log"
    );
}

#[test]
fn path_tricks_find_nothing_and_make_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_, package) = package(folder.path(), "small", 1);
    let config = "[limits]\nrequests_per_second = 1000.0\nrequest_burst = 1000.0\n";
    let server = Running::start(folder.path(), "127.0.0.1:0", config, &[&package]);
    let secret = token(folder.path(), "clinic");
    let list = |path: &std::path::Path| {
        let mut names: Vec<_> = walk(path).into_iter().filter(|p| !p.ends_with("server.log")).collect();
        names.sort();
        names
    };
    let before = list(folder.path());
    let long = "a".repeat(5000);
    let tricks = [
        "..",
        ".",
        "..%2f..%2ftokens%2fclinic",
        "%2e%2e",
        "%2e%2e%2ftokens",
        "..%5c..",
        "%00",
        "a%00b",
        "%ff%fe",
        "~",
        "*",
        "$HOME",
        &long,
        "%F0%9F%98%80",
        "A",
        "//etc//passwd",
    ];
    for trick in tricks {
        for (method, path) in [
            ("GET", format!("/v1/models/{trick}")),
            ("GET", format!("/v1/models/{trick}/encoder")),
            ("GET", format!("/v1/keys/{trick}")),
            ("DELETE", format!("/v1/keys/{trick}")),
            ("PUT", format!("/v1/keys/{trick}/parts/0")),
            ("POST", format!("/v1/keys/{trick}/complete")),
            ("GET", format!("/v1/jobs/{trick}/result")),
            ("DELETE", format!("/v1/jobs/{trick}")),
            ("POST", format!("/v1/jobs?model={trick}&keys={trick}")),
        ] {
            let (status, answer) = request(server.port(), method, &path, &secret);
            assert!((400..500).contains(&status), "{method} {path}: {answer}");
            assert!(!answer.contains("state") && !answer.contains("digest\":"), "{method} {path}: {answer}");
        }
    }
    for bad in ["../clinic.x", "..", "clinic", &format!("../tokens/clinic.{}", "0".repeat(64)), "%00"] {
        assert_eq!(request(server.port(), "GET", "/v1/models", bad).0, 401, "{bad}");
    }
    assert_eq!(list(folder.path()), before);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}
