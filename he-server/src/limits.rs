//! Rates, and bodies that have to arrive.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::config::Limits;
use crate::error::ApiError;

/// Keys remembered at most: a flood of addresses costs no more memory than this.
const REMEMBERED: usize = 8192;

/// Token buckets by key.
#[derive(Debug)]
pub struct Rate<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, (f64, Instant)>>,
}

impl<K: Hash + Eq> Rate<K> {
    /// `per_second` on average, `burst` at once.
    #[must_use]
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second: per_second.max(1e-6), burst: burst.max(1.0), buckets: Mutex::default() }
    }

    /// Takes one, or says how many seconds to wait.
    ///
    /// # Errors
    /// The seconds.
    pub fn take(&self, key: K) -> Result<(), u64> {
        self.look(key, 1.0)
    }

    /// Whether there is one, without taking it.
    ///
    /// # Errors
    /// The seconds.
    pub fn check(&self, key: K) -> Result<(), u64> {
        self.look(key, 0.0)
    }

    fn look(&self, key: K, cost: f64) -> Result<(), u64> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= REMEMBERED && !buckets.contains_key(&key) {
            // Full buckets say nothing; if all are in use, forgetting them is the lesser evil.
            let (rate, burst) = (self.per_second, self.burst);
            buckets.retain(|_, (left, at)| *left + (now - *at).as_secs_f64() * rate < burst);
            if buckets.len() >= REMEMBERED {
                buckets.clear();
            }
        }
        let (left, at) = buckets.entry(key).or_insert((self.burst, now));
        *left = (*left + (now - *at).as_secs_f64() * self.per_second).min(self.burst);
        *at = now;
        if *left < 1.0 {
            return Err(((1.0 - *left) / self.per_second).ceil() as u64);
        }
        *left -= cost;
        Ok(())
    }
}

/// How many of something each key has now.
#[derive(Debug, Clone)]
pub struct Held<K: Hash + Eq + Clone>(Arc<Mutex<HashMap<K, usize>>>);

impl<K: Hash + Eq + Clone> Default for Held<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub struct Hold<K: Hash + Eq + Clone>(Held<K>, K);

impl<K: Hash + Eq + Clone> Held<K> {
    /// Takes one unless `limit` are taken.
    #[must_use]
    pub fn take(&self, key: &K, limit: usize) -> Option<Hold<K>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(key).copied().unwrap_or(0);
        if count >= limit {
            return None;
        }
        held.insert(key.clone(), count + 1);
        Some(Hold(self.clone(), key.clone()))
    }
}

impl<K: Hash + Eq + Clone> Drop for Hold<K> {
    fn drop(&mut self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.1)),
        }
    }
}

/// A body that has to arrive in time and stay within its size.
struct Pieces<'a> {
    body: Body,
    limit: u64,
    limits: &'a Limits,
    started: Instant,
    received: u64,
}

impl<'a> Pieces<'a> {
    fn new(body: Body, limit: u64, limits: &'a Limits) -> Self {
        Self { body, limit, limits, started: Instant::now(), received: 0 }
    }

    fn slow(&self) -> ApiError {
        let rate = self.limits.body_bytes_per_second;
        let message = format!("the body came too slowly: at least {rate} bytes a second are expected");
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message)
    }

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<axum::body::Bytes>, ApiError> {
        let idle = Duration::from_secs(self.limits.idle_seconds);
        loop {
            let frame = tokio::time::timeout(idle, self.body.frame()).await.map_err(|_| self.slow())?;
            let Some(frame) = frame else { return Ok(None) };
            let broken = |_| ApiError::new(StatusCode::BAD_REQUEST, "broken_body", "the body broke off");
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            self.received += data.len() as u64;
            if self.received > self.limit {
                let message =
                    format!("the body is larger than the {} bytes that are expected at most", self.limit);
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
            }
            let needed = self.received as f64 / self.limits.body_bytes_per_second.max(1) as f64;
            if self.started.elapsed() > idle + Duration::from_secs_f64(needed) {
                return Err(self.slow());
            }
            return Ok(Some(data));
        }
    }
}

/// A body in memory.
///
/// # Errors
/// It is too large, too slow, or breaks off.
pub async fn read_body(body: Body, limit: u64, limits: &Limits) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut pieces) = (vec![], Pieces::new(body, limit, limits));
    while let Some(piece) = pieces.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A body in a new file, synced. Returns its digest.
///
/// # Errors
/// It is too large, too slow, or breaks off.
pub async fn read_to_file(
    body: Body,
    limit: u64,
    limits: &Limits,
    path: std::path::PathBuf,
) -> Result<he_protocol::Digest, ApiError> {
    let mut file = tokio::fs::File::create_new(path).await?;
    let (mut hasher, mut pieces) = (blake3::Hasher::new(), Pieces::new(body, limit, limits));
    while let Some(piece) = pieces.next().await? {
        hasher.update(&piece);
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    file.sync_all().await?;
    Ok(he_protocol::Digest::finish(&hasher))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_allow_a_burst_then_the_average_and_stay_small() {
        let rate = Rate::new(1000.0, 5.0);
        assert_eq!((0..5).filter(|_| rate.take(1u32).is_ok()).count(), 5);
        assert!(rate.take(1).is_err());
        assert!(rate.take(2).is_ok());
        std::thread::sleep(Duration::from_millis(5));
        assert!(rate.take(1).is_ok());
        let slow = Rate::new(0.001, 1.0);
        for key in 0..3 * REMEMBERED as u32 {
            assert!(slow.take(key).is_ok());
        }
        assert!(slow.buckets.lock().unwrap().len() <= REMEMBERED);
        assert!(slow.take(3 * REMEMBERED as u32 - 1).unwrap_err() > 100);
    }

    #[test]
    fn holds_are_given_back() {
        let held = Held::default();
        let one = held.take(&"a", 2);
        let two = held.take(&"a", 2);
        assert!(
            one.is_some() && two.is_some() && held.take(&"a", 2).is_none() && held.take(&"b", 2).is_some()
        );
        drop(one);
        assert!(held.take(&"a", 2).is_some());
        drop(two);
        assert!(held.0.lock().unwrap().is_empty());
    }
}
