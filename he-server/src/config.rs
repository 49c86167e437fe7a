//! What an operator sets, and every limit.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Configuration of the service (TOML; the command line overrides it).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the service.
    pub listen: SocketAddr,
    /// Address of health, readiness and metrics for operators; none unless given.
    pub admin: Option<SocketAddr>,
    /// Folder for tokens, keys and jobs. Several processes may share it.
    pub state: PathBuf,
    /// Model packages.
    pub packages: Vec<PathBuf>,
    /// Certificate chain and private key, PEM.
    pub tls: Option<Tls>,
    /// Serve without TLS on an address that is not of this machine: behind a proxy that does TLS.
    pub allow_plain_http: bool,
    /// Every limit.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8750)),
            admin: None,
            state: PathBuf::from("veilray-state"),
            packages: vec![],
            tls: None,
            allow_plain_http: false,
            limits: Limits::default(),
        }
    }
}

/// Files for TLS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Limits on size, number, rate and time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections of one address.
    pub connections_per_address: usize,
    /// Seconds for a TLS handshake, and for the head of a request.
    pub head_seconds: u64,
    /// Seconds without a byte after which a body is given up.
    pub idle_seconds: u64,
    /// Bytes a second that a body must reach on average, after `idle_seconds` of grace.
    pub body_bytes_per_second: u64,
    /// Bodies of one client that are read at once.
    pub bodies_per_client: usize,
    /// Event streams of one client.
    pub streams_per_client: usize,
    /// Bytes of one part of an upload.
    pub part_bytes: u64,
    /// Requests a second of one client, on average.
    pub requests_per_second: f64,
    /// Requests of one client at once, above the average.
    pub request_burst: f64,
    /// Refused tokens a minute of one address, before it has to wait.
    pub refusals_per_minute: f64,
    /// Sets of evaluation keys of one client.
    pub key_sets_per_client: usize,
    /// Bytes of evaluation keys of one client.
    pub key_bytes_per_client: u64,
    /// Bytes of evaluation keys of all clients.
    pub key_bytes: u64,
    /// Hours after which an upload that does not go on is removed.
    pub upload_hours: u64,
    /// Jobs that wait or run.
    pub queued_jobs: usize,
    /// Jobs of one client that wait or run.
    pub queued_jobs_per_client: usize,
    /// Finished jobs of one client that are kept.
    pub results_per_client: usize,
    /// Hours for which finished jobs are kept.
    pub result_hours: u64,
    /// Seconds of a lease: a job whose client neither asks nor follows for so long is cancelled.
    pub lease_seconds: u64,
    /// Times that a job is begun, before it is taken to be what kills the process.
    pub attempts: u32,
    /// Jobs of one client in a row, while others wait: keys stay in memory for so long.
    pub jobs_per_turn: usize,
    /// Jobs at once; each uses all threads where it can.
    pub workers: usize,
    /// Bytes of prepared keys in memory.
    pub memory_bytes: u64,
    /// Seconds that a shutdown waits for running jobs; what is not finished then stays queued on disk.
    pub shutdown_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_address: 128,
            head_seconds: 10,
            idle_seconds: 15,
            body_bytes_per_second: 32 << 10,
            bodies_per_client: 8,
            streams_per_client: 64,
            part_bytes: 4 << 20,
            requests_per_second: 100.0,
            request_burst: 400.0,
            refusals_per_minute: 60.0,
            key_sets_per_client: 4,
            key_bytes_per_client: 16 << 30,
            key_bytes: 256 << 30,
            upload_hours: 24,
            queued_jobs: 1024,
            queued_jobs_per_client: 64,
            results_per_client: 256,
            result_hours: 24,
            lease_seconds: 900,
            attempts: 3,
            jobs_per_turn: 4,
            workers: 1,
            memory_bytes: 8 << 30,
            shutdown_seconds: 60,
        }
    }
}
