//! Counters in the text format of Prometheus. Labels are fixed: nothing that a client sends becomes one.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use he_protocol::api::JobState;

/// One number.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Replaces.
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// Takes away.
    pub fn sub(&self, by: u64) {
        self.0.fetch_sub(by, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the service counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Answers by class of status: 1xx to 5xx.
    pub answers: [Number; 5],
    /// Tokens that were refused.
    pub refused_tokens: Number,
    /// Requests over a rate.
    pub over_rate: Number,
    /// Connections turned away.
    pub refused_connections: Number,
    /// Open connections.
    pub connections: Number,
    /// Jobs accepted.
    pub accepted: Number,
    /// Jobs done, failed, cancelled.
    ended: [Number; 3],
    /// Places for films in the jobs done. How many of them held a film is known to the clients only.
    pub film_places: Number,
    /// Milliseconds of evaluation.
    pub evaluation_millis: Number,
    /// Times that keys were read into memory.
    pub key_loads: Number,
    /// Bytes of prepared keys in memory.
    pub key_memory: Number,
}

impl Metrics {
    /// The counter of a final state.
    #[must_use]
    pub fn jobs(&self, state: JobState) -> &Number {
        match state {
            JobState::Done => &self.ended[0],
            JobState::Cancelled => &self.ended[2],
            _ => &self.ended[1],
        }
    }

    /// As Prometheus reads it.
    #[must_use]
    pub fn render(&self, pending: usize, resident: u64) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(&str, f64)]| {
            let _ = writeln!(text, "# HELP veilray_{name} {help}\n# TYPE veilray_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "veilray_{name}{labels} {value}");
            }
        };
        let n = |number: &Number| number.get() as f64;
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|c| format!("{{status=\"{c}\"}}"));
        let answers: Vec<_> = classes.iter().map(String::as_str).zip(self.answers.iter().map(n)).collect();
        family("answers_total", "counter", "Answers by class of status.", &answers);
        let ended = ["done", "failed", "cancelled"].map(|c| format!("{{state=\"{c}\"}}"));
        let ended: Vec<_> = ended.iter().map(String::as_str).zip(self.ended.iter().map(n)).collect();
        family("jobs_ended_total", "counter", "Jobs that ended here.", &ended);
        let single = [
            ("jobs_accepted_total", "counter", "Jobs accepted.", n(&self.accepted)),
            ("jobs_pending", "gauge", "Jobs that wait or run, of all processes.", pending as f64),
            ("refused_tokens_total", "counter", "Tokens that were refused.", n(&self.refused_tokens)),
            ("over_rate_total", "counter", "Requests over a rate.", n(&self.over_rate)),
            (
                "refused_connections_total",
                "counter",
                "Connections turned away.",
                n(&self.refused_connections),
            ),
            ("connections", "gauge", "Open connections.", n(&self.connections)),
            (
                "film_places_total",
                "counter",
                "Places for films in the jobs done: at most so many films.",
                n(&self.film_places),
            ),
            (
                "evaluation_seconds_total",
                "counter",
                "Seconds of evaluation.",
                n(&self.evaluation_millis) / 1e3,
            ),
            ("key_loads_total", "counter", "Times that keys were read into memory.", n(&self.key_loads)),
            ("key_memory_bytes", "gauge", "Prepared keys in memory.", n(&self.key_memory)),
            ("resident_memory_bytes", "gauge", "Memory of this process.", resident as f64),
        ];
        for (name, kind, help, value) in single {
            family(name, kind, help, &[("", value)]);
        }
        text
    }
}

/// Resident memory of this process in bytes; 0 where the system does not say.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}
