//! One connection to a service: requests with retries, answers with bounds.

use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::Arc;
use std::time::Duration;

use he_protocol::api::ErrorBody;
use serde::de::DeserializeOwned;
use ureq::http::{Request, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use crate::ClientError;

/// A JSON answer is smaller.
const MAX_JSON: u64 = 16 << 20;
/// A line of an event stream is smaller.
const MAX_LINE: u64 = 1 << 20;

/// How to reach a service.
#[derive(Clone)]
pub struct Options {
    /// Its address, `https://host:port`.
    pub url: String,
    /// The bearer token.
    pub token: Zeroizing<String>,
    /// Certificates (PEM) to trust instead of those of public authorities.
    pub authorities: Option<Vec<u8>>,
    /// Send the token without TLS to another machine: in a network that is encrypted otherwise.
    pub allow_plain_http: bool,
    /// Tries of a request, the first one included.
    pub tries: u32,
    /// Longest wait for an answer to begin.
    pub timeout: Duration,
}

impl Options {
    /// The usual: eight tries, ten minutes (the service checks evaluation keys before it answers).
    #[must_use]
    pub fn new(url: &str, token: &str) -> Self {
        Self {
            url: url.trim_end_matches('/').into(),
            token: Zeroizing::new(token.trim().into()),
            authorities: None,
            allow_plain_http: false,
            tries: 8,
            timeout: Duration::from_secs(600),
        }
    }
}

/// A connection; cheap to clone, and usable from several threads.
#[derive(Clone)]
pub struct Connection {
    agent: Agent,
    options: Arc<Options>,
}

/// One request.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, headers: &[], body: &[] }
    }
}

impl Connection {
    /// Checks the options; connects with the first request.
    ///
    /// # Errors
    /// An address without TLS that is not of this machine, or certificates that cannot be read.
    pub fn new(options: Options) -> Result<Self, ClientError> {
        let refused = |text: String| Err(ClientError::Options(text));
        let plain = options.url.strip_prefix("http://");
        if plain.is_none() && !options.url.starts_with("https://") {
            return refused(format!("expected an address like https://host:port, got {}", options.url));
        }
        let host = plain.map(|rest| rest.split('/').next().unwrap_or_default());
        let local = host.is_some_and(|h| {
            let name = h.rsplit_once(':').map_or(h, |(name, _)| name);
            name == "localhost"
                || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
        });
        if plain.is_some() && !local && !options.allow_plain_http {
            return refused(format!(
                "{} has no TLS: the token would travel in the clear; use https://",
                options.url
            ));
        }
        if options.token.is_empty() || !options.token.bytes().all(|b| b.is_ascii_graphic()) {
            return refused(
                "the token is empty or holds unusual characters: the service's operator makes tokens".into(),
            );
        }
        let mut tls = TlsConfig::builder().provider(TlsProvider::Rustls);
        if let Some(pem) = &options.authorities {
            let mut certificates = vec![];
            for item in parse_pem(pem) {
                match item {
                    Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                    Ok(_) => {}
                    Err(error) => return refused(format!("the certificates cannot be read: {error}")),
                }
            }
            if certificates.is_empty() {
                return refused("the file of certificates holds none".into());
            }
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls.build())
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_send_body(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .user_agent(concat!("veilray-client/", env!("CARGO_PKG_VERSION")));
        if local {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().new_agent(), options: Arc::new(options) })
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.options.url
    }

    /// One try.
    fn once(&self, call: Call<'_>) -> Result<Response<Body>, ureq::Error> {
        let authorization = Zeroizing::new(format!("Bearer {}", *self.options.token));
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.options.url, call.path))
            .header("authorization", authorization.as_str());
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        if call.body.is_empty() {
            return self.agent.run(request.body(()).map_err(ureq::Error::Http)?);
        }
        // A refusal comes before a large body is sent.
        request = request.header("content-type", "application/octet-stream").header("expect", "100-continue");
        self.agent.run(request.body(call.body).map_err(ureq::Error::Http)?)
    }

    /// Tries until the service answers for good. Every call here can be repeated without harm.
    pub(crate) fn send(&self, call: Call<'_>) -> Result<Response<Body>, ClientError> {
        let mut wait = Duration::from_millis(100);
        let mut tries = 0;
        loop {
            tries += 1;
            let last = tries >= self.options.tries.max(1);
            match self.once(call) {
                Ok(response) => {
                    let status = response.status().as_u16();
                    if (200..300).contains(&status) {
                        return Ok(response);
                    }
                    let after =
                        response.headers().get("retry-after").and_then(|h| h.to_str().ok()?.parse().ok());
                    let refusal = refusal(status, response);
                    // What was too much now may be right later; everything else stays refused.
                    if !matches!(status, 408 | 429 | 500 | 502 | 503 | 504) || last {
                        return Err(refusal);
                    }
                    wait = wait.max(Duration::from_secs(after.unwrap_or(0).min(30)));
                }
                Err(error) if last || is_final(&error) => {
                    let (url, reason) = (self.options.url.clone(), error.to_string());
                    return Err(ClientError::Unreachable { url, reason });
                }
                Err(_) => {}
            }
            // Half fixed, half random: clients that were refused together do not come back together.
            let random = f64::from(rand::random::<u16>()) / 65536.0;
            std::thread::sleep(wait.mul_f64(0.5 + 0.5 * random));
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, ClientError> {
        let bytes = self.bytes(call, MAX_JSON)?;
        serde_json::from_slice(&bytes).map_err(|e| ClientError::Answer(e.to_string()))
    }

    /// The whole answer, of at most `limit` bytes. A connection that breaks in the middle is tried again.
    pub(crate) fn bytes(&self, call: Call<'_>, limit: u64) -> Result<Vec<u8>, ClientError> {
        let mut reason = String::new();
        for _ in 0..self.options.tries.max(1) {
            let mut response = self.send(call)?;
            match response.body_mut().with_config().limit(limit.saturating_add(1)).read_to_vec() {
                Ok(bytes) if bytes.len() as u64 <= limit => return Ok(bytes),
                Ok(_) | Err(ureq::Error::BodyExceedsLimit(_)) => {
                    return Err(ClientError::Answer(format!("it is larger than {limit} bytes")));
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(ClientError::Unreachable { url: self.options.url.clone(), reason })
    }

    /// Hands on the data of each server-sent event, until the stream ends or `on` says stop.
    pub(crate) fn events(
        &self,
        path: &str,
        mut on: impl FnMut(&str) -> Result<bool, ClientError>,
    ) -> Result<(), ClientError> {
        let response = self.send(Call::new("GET", path))?;
        let mut lines = BufReader::new(response.into_body().into_reader());
        loop {
            let mut line = String::new();
            // A stream that breaks is followed again by the caller.
            let Ok(n) = lines.by_ref().take(MAX_LINE).read_line(&mut line) else { return Ok(()) };
            if n == 0 {
                return Ok(());
            }
            if let Some(data) = line.strip_prefix("data:")
                && !on(data.trim())?
            {
                return Ok(());
            }
        }
    }
}

fn refusal(status: u16, mut response: Response<Body>) -> ClientError {
    let body = response.body_mut().with_config().limit(64 << 10).read_to_vec().unwrap_or_default();
    let ErrorBody { code, message } = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorBody {
        code: "http".into(),
        message: format!("status {status} without a reason"),
    });
    // What the service says is printed: nothing of it may steer a terminal.
    let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(500).collect();
    ClientError::Refused { status, code: clean(code), message: clean(message) }
}

/// Errors that another try would meet again.
fn is_final(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_)
    )
}
