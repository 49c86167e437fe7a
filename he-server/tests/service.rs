//! The closed loop, many clients at once, crashes, and the description of the routes.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../examples/crowd/crowd.rs"]
mod crowd;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::*;
use he_client::{ClientError, Clinic, Connection, Options, Step, Vault};
use he_protocol::api::JobState;
use he_runtime::RuntimeError;

fn code(error: &ClientError) -> &str {
    match error {
        ClientError::Refused { code, .. } | ClientError::Job { code, .. } => code,
        other => panic!("expected a refusal, got {other}"),
    }
}

#[test]
fn a_film_goes_round_and_a_retry_is_not_a_second_job() {
    let folder = tempfile::tempdir().unwrap();
    let (model, package) = package(folder.path(), "small", 1);
    let server = Running::start(folder.path(), "127.0.0.1:0", "", &[&package]);
    let secret = token(folder.path(), "clinic");
    let connection = connect(&server.address, &secret, 2);
    // Parameters for tests are refused by a client that is not told otherwise.
    let vault = Vault::new(&folder.path().join("keys"));
    let refused =
        Clinic::enrol(connection.clone(), &"small".parse().unwrap(), vault.clone(), None, &mut |_| {});
    assert!(matches!(refused, Err(ClientError::Insecure)));
    let clinic = enrol(connection.clone(), "small", vault.folder());
    let x = latent(&model, 5);
    let want = model.graph.run(&x).unwrap();
    let steps = AtomicUsize::new(0);
    let mut count = |_: &he_protocol::api::JobStatus| {
        steps.fetch_add(1, Ordering::Relaxed);
    };
    let got = clinic.diagnose(&x, &AtomicBool::new(false), &mut count).unwrap();
    assert_close(&got, &want);
    assert!(steps.load(Ordering::Relaxed) > 0);
    // The same submission, three times, is one job.
    let bytes = clinic.encrypt(&x).unwrap();
    let name = "0123456789abcdef0123";
    let jobs: BTreeSet<_> = (0..3).map(|_| clinic.submit_bytes(&bytes, name).unwrap().id).collect();
    assert_eq!(jobs.len(), 1);
    let job = jobs.first().unwrap();
    assert_eq!(clinic.wait(job, &AtomicBool::new(false), &mut |_| {}).unwrap().state, JobState::Done);
    assert_eq!(clinic.submit_bytes(&bytes, name).unwrap().state, JobState::Done);
    let other = clinic.encrypt(&latent(&model, 6)).unwrap();
    assert_eq!(code(&clinic.submit_bytes(&other, name).unwrap_err()), "idempotency_conflict");
    assert_close(&clinic.result(job).unwrap(), &want);
    assert_eq!(code(&clinic.status(job).unwrap_err()), "not_found");
    assert!(server.metrics().contains("veilray_jobs_accepted_total 2\n"), "{}", server.metrics());
    // Another client sees nothing of it, and the encoder arrives whole.
    let other = connect(&server.address, &token(folder.path(), "other"), 1);
    let stranger = Clinic::open(other, vault, None).unwrap();
    let bytes = stranger.encrypt(&x).unwrap();
    assert_eq!(code(&stranger.submit_bytes(&bytes, name).unwrap_err()), "no_keys");
    let described = &clinic.enrolment().model;
    let encoder = he_client::clinic::fetch_encoder(&connection, described, folder.path()).unwrap().unwrap();
    assert_eq!(std::fs::read(encoder).unwrap(), b"stands for an encoder");
    assert!(!server.log().contains(&secret), "a token is in the log");
}

/// Requests of eight clients, a third of them cancelled, altered or under wrong keys.
fn script(films: usize) -> crowd::Script {
    crowd::Script {
        requests: 200,
        cancelled: 0.2,
        altered: 0.2,
        wrong_keys: 0.2,
        films,
        at_once: 2,
        tolerance: TOLERANCE,
        seed: 5,
    }
}

/// Eight clients enrolled at a server.
fn eight(folder: &Path, server: &Running) -> Vec<Clinic> {
    let clinic = |i| {
        let secret = token(folder, &format!("clinic-{i}"));
        enrol(connect(&server.address, &secret, 8), "small", &folder.join(format!("keys-{i}")))
    };
    (0..8).map(clinic).collect()
}

fn check(summary: &crowd::Summary) {
    assert!(summary.is_clean(), "{:#?}", summary.failures);
    assert_eq!((summary.answered, summary.cancelled[0]), (80, 40));
    assert_eq!(summary.refused.values().sum::<usize>(), 80, "{:?}", summary.refused);
    assert!(summary.refused["other_key"] >= 40, "{:?}", summary.refused);
    assert!(summary.median_latency() > Duration::ZERO && summary.wall > Duration::ZERO);
    assert!(summary.closest > 0.0, "two films alike: a mix-up of theirs would not show");
    assert!(summary.largest_difference > 0.0, "an encrypted result without any noise was not encrypted");
}

/// The value of a metric.
fn metric(server: &Running, name: &str) -> u64 {
    let text = server.metrics();
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name} "))).expect(name);
    line.parse::<f64>().unwrap() as u64
}

#[test]
fn eight_clients_at_once_get_their_own_answers_and_every_bad_request_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (model, package) = package(folder.path(), "small", 2);
    let server = Running::start(folder.path(), "127.0.0.1:0", "", &[&package]);
    let clinics = eight(folder.path(), &server);
    // A first film each, so that memory is at its working size.
    for (i, clinic) in clinics.iter().enumerate() {
        let x = latent(&model, 1000 + i as u64);
        assert_close(
            &clinic.diagnose(&x, &AtomicBool::new(false), &mut |_| {}).unwrap(),
            &model.graph.run(&x).unwrap(),
        );
    }
    let before = server.resident();
    let summary = crowd::run(&clinics, &model, &script(1)).unwrap();
    check(&summary);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 192 << 20, "memory grew by {} MiB", grown >> 20);
    // Nothing is left behind: every job ended and was deleted.
    let left = std::fs::read_dir(folder.path().join("state/temp")).unwrap().count();
    assert_eq!(left, 0, "{left} files in temp");
    assert!(server.metrics().contains("veilray_jobs_pending 0\n"));
}

#[test]
fn keys_of_eight_clients_take_turns_in_memory_that_holds_those_of_three() {
    let folder = tempfile::tempdir().unwrap();
    let (model, package) = package_of(folder.path(), "small", model_for(2, 4));
    let mut server = Running::start(folder.path(), "127.0.0.1:0", "", &[&package]);
    let clinics = eight(folder.path(), &server);
    let one = metric(&server, "veilray_key_memory_bytes") / 8;
    let limit = 7 * one / 2;
    let (listen, config) = (server.port().to_owned(), format!("[limits]\nmemory_bytes = {limit}\n"));
    server.kill();
    server = Running::start(folder.path(), &listen, &config, &[&package]);
    let (ended, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                most.fetch_max(metric(&server, "veilray_key_memory_bytes"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let summary = crowd::run(&clinics, &model, &script(4)).unwrap();
        ended.store(true, Ordering::Relaxed);
        summary
    });
    check(&summary);
    assert!(summary.films > summary.answered, "{} films", summary.films);
    let most = most.into_inner();
    assert!((one..=limit).contains(&most), "{most} bytes of keys, one set has {one}, the limit is {limit}");
    assert!(metric(&server, "veilray_key_loads_total") > 8);
    let done = metric(&server, "veilray_jobs_ended_total{state=\"done\"}");
    assert_eq!(metric(&server, "veilray_film_places_total"), 4 * done);
}

#[test]
fn films_share_jobs_in_their_order_and_a_bad_one_does_not_spoil_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let (model, package) = package_of(folder.path(), "small", model_for(3, 4));
    let (_, other) = package_of(folder.path(), "other", model_for(4, 4));
    let server = Running::start(folder.path(), "127.0.0.1:0", "", &[&package, &other]);
    let secret = token(folder.path(), "clinic");
    let clinic = enrol(connect(&server.address, &secret, 2), "small", &folder.path().join("keys"));
    assert_eq!((clinic.films(), clinic.enrolment().model.batch), (4, 4));
    // Nine sound films are three jobs: four, four, and one place in use.
    let mut films: Vec<Vec<f64>> = (0..9).map(|seed| latent(&model, seed)).collect();
    films.insert(2, vec![9.0; films[0].len()]);
    films.insert(5, vec![0.0; 7]);
    let told: Vec<AtomicBool> = films.iter().map(|_| AtomicBool::new(false)).collect();
    let tell = |step| {
        if let Step::Job(film, JobState::Done, _) = step {
            told[film].store(true, Ordering::Relaxed);
        }
    };
    let results = clinic.diagnose_all(&films, 2, &AtomicBool::new(false), &tell);
    assert_eq!(results.len(), films.len());
    for (index, (result, film)) in results.iter().zip(&films).enumerate() {
        let is_told = told[index].load(Ordering::Relaxed);
        match (index, result) {
            (2, Err(error)) => {
                assert!(matches!(**error, ClientError::Runtime(RuntimeError::OutOfRange { .. })))
            }
            (5, Err(error)) => assert!(matches!(**error, ClientError::Runtime(RuntimeError::Length { .. }))),
            (_, Ok(got)) => assert_close(got, &model.graph.run(film).unwrap()),
            (_, Err(error)) => panic!("film {index}: {error}"),
        }
        assert_eq!(is_told, result.is_ok(), "progress of film {index}");
    }
    assert_eq!(metric(&server, "veilray_jobs_accepted_total"), 3);
    assert_eq!(metric(&server, "veilray_film_places_total"), 12);
    // Three films, submitted three times under one name, are one job; its size says nothing of how many they are.
    let three: Vec<Vec<f64>> = (20..23).map(|seed| latent(&model, seed)).collect();
    let bytes = clinic.encrypt_batch(&three).unwrap();
    assert_eq!(bytes.len(), clinic.encrypt(&three[0]).unwrap().len());
    let name = "0123456789abcdef0123";
    let jobs: BTreeSet<_> = (0..3).map(|_| clinic.submit_bytes(&bytes, name).unwrap().id).collect();
    assert_eq!((jobs.len(), metric(&server, "veilray_jobs_accepted_total")), (1, 4));
    let job = jobs.first().unwrap();
    assert_eq!(clinic.wait(job, &AtomicBool::new(false), &mut |_| {}).unwrap().state, JobState::Done);
    let results = clinic.results(job, 3).unwrap();
    assert_eq!(results.len(), 3);
    for (got, film) in results.iter().zip(&three) {
        assert_close(got.as_ref().unwrap(), &model.graph.run(film).unwrap());
    }
    // A batch for another model is refused, and so are more films than there are places.
    let stranger = enrol(connect(&server.address, &secret, 2), "other", &folder.path().join("other-keys"));
    let foreign = stranger.encrypt_batch(&three).unwrap();
    assert_eq!(code(&clinic.submit_bytes(&foreign, "0123456789abcdef0124").unwrap_err()), "other_model");
    let five: Vec<Vec<f64>> = (0..5).map(|seed| latent(&model, seed)).collect();
    assert!(matches!(
        clinic.encrypt_batch(&five),
        Err(ClientError::Runtime(RuntimeError::Batch { most: 4, got: 5 }))
    ));
}

#[test]
fn keys_of_another_model_and_altered_keys_are_refused_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, one) = package(folder.path(), "one", 1);
    let (_, two) = package(folder.path(), "two", 7);
    let server =
        Running::start(folder.path(), "127.0.0.1:0", "[limits]\nkey_sets_per_client = 2\n", &[&one, &two]);
    let secret = token(folder.path(), "clinic");
    let connection = connect(&server.address, &secret, 1);
    let keys = folder.path().join("keys");
    enrol(connection.clone(), "one", &keys);
    // The same folder cannot serve another model.
    let other = Clinic::enrol_insecure_for_tests(
        connection.clone(),
        &"two".parse().unwrap(),
        Vault::new(&keys),
        None,
        &mut |_| {},
    );
    assert!(matches!(other, Err(ClientError::Vault { .. })));
    // Altered after their digest was taken, and again with a digest that fits: both are refused.
    let altered = folder.path().join("altered");
    std::fs::create_dir(&altered).unwrap();
    for entry in std::fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, altered.join(path.file_name().unwrap())).unwrap();
    }
    let file = altered.join("evaluation.keys");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let fresh = |name: &str| connect(&server.address, &token(folder.path(), name), 1);
    let clinic = Clinic::open(fresh("second"), Vault::new(&altered), None).unwrap();
    assert_eq!(code(&clinic.upload(&mut |_| {}).unwrap_err()), "digest_mismatch");
    let record = altered.join("enrolment.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let (old, new) = (clinic.enrolment().keys.to_string(), he_protocol::Digest::of(&bytes).to_string());
    std::fs::write(&record, text.replace(&old, &new)).unwrap();
    let clinic = Clinic::open(fresh("second"), Vault::new(&altered), None).unwrap();
    assert_eq!(code(&clinic.upload(&mut |_| {}).unwrap_err()), "malformed");
    let (status, list) = request(server.port(), "GET", "/v1/keys", &token(folder.path(), "second"));
    assert!(status == 200 && list.ends_with("[]"), "refused keys are kept: {list}");
    // A client has room for two sets.
    let third = token(folder.path(), "third");
    for (number, expected) in [(1, None), (2, None), (3, Some("too_many_keys"))] {
        let vault = Vault::new(&folder.path().join(format!("third-{number}")));
        let connection = connect(&server.address, &third, 1);
        let made =
            Clinic::enrol_insecure_for_tests(connection, &"one".parse().unwrap(), vault, None, &mut |_| {});
        assert_eq!(made.err().as_ref().map(code), expected);
    }
}

#[test]
fn after_kill_9_at_any_moment_uploads_go_on_and_accepted_jobs_end() {
    let folder = tempfile::tempdir().unwrap();
    let (model, package) = package(folder.path(), "small", 3);
    // Small parts, so that uploads are hit too.
    let config = "[limits]\npart_bytes = 65536\nattempts = 100\n";
    let mut server = Running::start(folder.path(), "127.0.0.1:0", config, &[&package]);
    let (listen, address) = (server.port().to_owned(), server.address.clone());
    let tokens: Vec<String> = (0..3).map(|i| token(folder.path(), &format!("clinic-{i}"))).collect();
    let (done, kills) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let until = Instant::now() + Duration::from_secs(8);
    std::thread::scope(|scope| {
        let workers: Vec<_> = tokens
            .iter()
            .enumerate()
            .map(|(i, token)| {
                let (model, done, folder, address) = (&model, &done, folder.path(), &address);
                scope.spawn(move || {
                    let clinic =
                        enrol(connect(address, token, 200), "small", &folder.join(format!("keys-{i}")));
                    let mut number = 0;
                    while Instant::now() < until || number < 3 {
                        let x = latent(model, (1000 * i + number) as u64);
                        // Whatever was accepted ends, and as done: no job is lost, none is half-done.
                        let got = clinic.diagnose(&x, &AtomicBool::new(false), &mut |_| {}).unwrap();
                        assert_close(&got, &model.graph.run(&x).unwrap());
                        done.fetch_add(1, Ordering::Relaxed);
                        number += 1;
                    }
                })
            })
            .collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let pause = if Instant::now() < until { rand::random_range(20..500) } else { 100 };
            std::thread::sleep(Duration::from_millis(pause));
            if Instant::now() < until {
                server.kill();
                kills.fetch_add(1, Ordering::Relaxed);
                server = Running::start(folder.path(), &listen, config, &[&package]);
            }
        }
    });
    assert!(kills.load(Ordering::Relaxed) >= 5 && done.load(Ordering::Relaxed) >= 9);
    assert!(server.metrics().contains("veilray_jobs_pending 0\n"));
}

#[test]
fn a_graceful_stop_keeps_what_was_accepted_and_a_left_job_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let (model, package) = package(folder.path(), "small", 4);
    let mut server = Running::start(folder.path(), "127.0.0.1:0", "", &[&package]);
    let (listen, address) = (server.port().to_owned(), server.address.clone());
    let secret = token(folder.path(), "clinic");
    let clinic = enrol(connect(&address, &secret, 50), "small", &folder.path().join("keys"));
    let xs: Vec<_> = (0..20).map(|i| latent(&model, i)).collect();
    let submit = |(i, x): (usize, &Vec<f64>)| {
        clinic.submit_bytes(&clinic.encrypt(x).unwrap(), &format!("graceful-stop-{i:08}")).unwrap().id
    };
    let jobs: Vec<_> = xs.iter().enumerate().map(submit).collect();
    server.terminate();
    assert!(server.child.wait().unwrap().success());
    server = Running::start(folder.path(), &listen, "", &[&package]);
    for (job, x) in jobs.iter().zip(&xs) {
        assert_eq!(clinic.wait(job, &AtomicBool::new(false), &mut |_| {}).unwrap().state, JobState::Done);
        assert_close(&clinic.result(job).unwrap(), &model.graph.run(x).unwrap());
    }
    // A service without a worker's attention: the job waits, nobody asks, its lease of 2 s runs out.
    server.kill();
    server = Running::start(folder.path(), &listen, "", &[&package]);
    let state = folder.path().join("state/pending/clinic");
    let left = clinic.lease(Duration::from_secs(2));
    let bytes = left.encrypt(&xs[0]).unwrap();
    let job = left.submit_bytes(&bytes, "left-alone-0000000").unwrap().id;
    let deadline = Instant::now() + Duration::from_secs(20);
    while state.join(job.as_str()).exists() {
        assert!(Instant::now() < deadline, "the job never ended");
        std::thread::sleep(Duration::from_millis(100));
    }
    let end = left.status(&job).unwrap().state;
    assert!(matches!(end, JobState::Done | JobState::Cancelled), "{end:?}");
    drop(server);
}

#[test]
fn with_tls_the_loop_closes_and_an_unknown_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, package) = package(folder.path(), "small", 5);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let server = Running::start(folder.path(), "127.0.0.1:0", &config, &[&package]);
    assert!(server.address.starts_with("https://"));
    let secret = token(folder.path(), "clinic");
    let mut options = Options::new(&server.address, &secret);
    options.tries = 1;
    let stranger = Connection::new(options.clone()).unwrap();
    assert!(matches!(he_client::clinic::models(&stranger), Err(ClientError::Unreachable { .. })));
    options.authorities = Some(made.cert.pem().into_bytes());
    let clinic = enrol(Connection::new(options).unwrap(), "small", &folder.path().join("keys"));
    let x = latent(&model, 1);
    assert_close(
        &clinic.diagnose(&x, &AtomicBool::new(false), &mut |_| {}).unwrap(),
        &model.graph.run(&x).unwrap(),
    );
    // Plain HTTP to another machine is refused by both sides.
    assert!(matches!(
        Connection::new(Options::new("http://192.0.2.1:80", "t")),
        Err(ClientError::Options(_))
    ));
    let config = he_server::Config { listen: "0.0.0.0:0".parse().unwrap(), ..he_server::Config::default() };
    assert!(matches!(he_server::Service::new(config), Err(he_server::ServiceError::Config(_))));
}

#[test]
fn the_description_has_the_routes_of_the_service_and_no_others() {
    let described: serde_json::Value = serde_json::from_str(he_server::routes::OPENAPI).unwrap();
    let paths = described["paths"].as_object().unwrap();
    let said: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|m| (m.clone(), path.clone())))
        .collect();
    let real: BTreeSet<(String, String)> =
        he_server::routes::ROUTES.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(said, real);
    let folder = tempfile::tempdir().unwrap();
    let (_, package) = package(folder.path(), "small", 6);
    let server = Running::start(folder.path(), "127.0.0.1:0", "", &[&package]);
    for (method, path) in &real {
        let open = he_server::routes::OPEN.contains(&path.as_str());
        let path = path.replace("{model}", "small").replace("{offset}", "0");
        let path = path.replace("{digest}", &"0".repeat(64)).replace("{job}", &"0".repeat(32));
        let (status, answer) = request(server.port(), &method.to_uppercase(), &path, "none");
        assert_eq!(status, if open { 200 } else { 401 }, "{method} {path}: {answer}");
        assert_eq!(request(server.port(), "PATCH", &path, "none").0, 405, "{path}");
    }
    assert_eq!(request(server.port(), "GET", "/metrics", "none").0, 404);
}
