//! Connections: how many, how slow, with TLS or without, and how the service ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, Tls};
use crate::engine::Engine;
use crate::error::ServiceError;
use crate::jobs::JobStore;
use crate::keys::KeyStore;
use crate::limits::{Held, Rate};
use crate::metrics::Metrics;
use crate::routes::{self, App, State};
use crate::store::Store;
use crate::tokens::Tokens;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// How often old results, stuck uploads and left jobs are looked for.
const SWEEP: Duration = Duration::from_secs(2);

/// A service that is bound to its address and not yet running.
pub struct Service {
    config: Config,
    app: App,
    listener: std::net::TcpListener,
    admin: Option<std::net::TcpListener>,
    tls: Option<TlsAcceptor>,
}

impl Service {
    /// Loads models, recovers the queue and binds the addresses.
    ///
    /// # Errors
    /// A package, file or address is refused.
    pub fn new(config: Config) -> Result<Self, ServiceError> {
        if config.tls.is_none() && !config.listen.ip().is_loopback() && !config.allow_plain_http {
            return Err(ServiceError::Config(format!(
                "{} is not an address of this machine alone, and tokens would travel in the clear: give --tls-cert and --tls-key, \
                 or --allow-plain-http behind a proxy that does TLS",
                config.listen
            )));
        }
        let io = |what: &str| ServiceError::io(format!("{what} in {}", config.state.display()));
        let store = Store::open(&config.state).map_err(io("the state folder cannot be made"))?;
        let tokens = Tokens::open(&config.state).map_err(io("the tokens cannot be read"))?;
        let (jobs, keys) = (JobStore::new(store.clone()), KeyStore::new(store.clone()));
        let waiting = jobs.recover().map_err(io("the queue cannot be read"))?;
        let metrics = Arc::new(Metrics::default());
        let limits = config.limits.clone();
        let engine =
            Engine::new(&config.packages, jobs.clone(), keys.clone(), limits.clone(), Arc::clone(&metrics))?;
        let bind = |address: SocketAddr| {
            let bound = std::net::TcpListener::bind(address).and_then(|l| {
                l.set_nonblocking(true)?;
                Ok(l)
            });
            bound.map_err(ServiceError::io(format!("cannot listen on {address}")))
        };
        let (listener, admin) = (bind(config.listen)?, config.admin.map(bind).transpose()?);
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        if waiting > 0 {
            tracing::info!(waiting, "jobs of an earlier run wait");
        }
        let app = Arc::new(State {
            engine: Arc::new(engine),
            jobs,
            keys,
            store,
            tokens,
            metrics,
            requests: Rate::new(limits.requests_per_second, limits.request_burst),
            refusals: Rate::new(limits.refusals_per_minute / 60.0, limits.refusals_per_minute),
            bodies: Held::default(),
            streams: Held::default(),
            limits,
            stopping: watch::channel(false).0,
        });
        Ok(Self { config, app, listener, admin, tls })
    }

    /// The address of the service.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address for operators.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|a| a.local_addr().ok())
    }

    /// Serves until `stop` resolves, then finishes what runs, or leaves it queued on disk.
    ///
    /// # Errors
    /// A thread or the network cannot be set up.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServiceError> {
        let Self { config, app, listener, admin, tls } = self;
        let io = |what: &'static str| ServiceError::io(what);
        let mut workers = vec![];
        for number in 0..config.limits.workers.max(1) {
            let engine = Arc::clone(&app.engine);
            let builder = std::thread::Builder::new().name(format!("worker-{number}"));
            workers.push(builder.spawn(move || engine.work()).map_err(io("cannot start a worker"))?);
        }
        let sweeper = tokio::spawn(sweep(Arc::clone(&app)));
        let listener = TcpListener::from_std(listener).map_err(io("cannot listen"))?;
        let (ended, mut on_end) = watch::channel(false);
        let serve = |listener, tls, router| {
            let ended = ended.subscribe();
            tokio::spawn(accept(listener, tls, router, Arc::clone(&app), ended))
        };
        let mut accepting = vec![serve(listener, tls, routes::router(Arc::clone(&app)))];
        if let Some(admin) = admin {
            let admin = TcpListener::from_std(admin).map_err(io("cannot listen"))?;
            accepting.push(serve(admin, None, routes::admin_router(Arc::clone(&app))));
        }
        tracing::info!("ready");
        stop.await;
        tracing::info!("stopping: running jobs are finished, waiting ones stay on disk");
        app.stopping.send_replace(true);
        app.engine.stop();
        let done = tokio::task::spawn_blocking(move || workers.into_iter().for_each(|w| drop(w.join())));
        let patience = Duration::from_secs(config.limits.shutdown_seconds);
        tokio::pin!(done);
        if tokio::time::timeout(patience, &mut done).await.is_err() {
            app.engine.interrupt();
            let _ = done.await;
        }
        ended.send_replace(true);
        let _ = on_end.changed().await;
        sweeper.abort();
        for task in accepting {
            let _ = task.await;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn acceptor(files: &Tls) -> Result<TlsAcceptor, ServiceError> {
    let refused = |path: &std::path::Path, e: &dyn std::fmt::Display| {
        ServiceError::Tls(format!("{}: {e}", path.display()))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
        .map_err(|e| refused(&files.certificate, &e))?
        .collect();
    let chain = chain.map_err(|e| refused(&files.certificate, &e))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| refused(&files.key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|c| c.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|e| ServiceError::Tls(e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn sweep(app: App) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        let app = Arc::clone(&app);
        let swept = tokio::task::spawn_blocking(move || {
            app.jobs.sweep(&app.limits)?;
            app.keys.sweep(&app.limits)?;
            app.store.sweep_temp(Duration::from_secs(3600))
        });
        if let Ok(Err(error)) = swept.await {
            tracing::error!(%error, "sweeping failed");
        }
    }
}

/// Accepts connections until `ended`, then lets open ones finish for a moment.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    app: App,
    mut ended: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let (all, by_address): (Held<()>, Held<IpAddr>) = (Held::default(), Held::default());
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            _ = ended.changed() => break,
        };
        let limits = &app.limits;
        let slot = all
            .take(&(), limits.connections)
            .and_then(|a| Some((a, by_address.take(&peer.ip(), limits.connections_per_address)?)));
        let Some(slot) = slot else {
            app.metrics.refused_connections.add(1);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let head = Duration::from_secs(limits.head_seconds);
        let (router, tls, watcher, app) = (router.clone(), tls.clone(), graceful.watcher(), Arc::clone(&app));
        tokio::spawn(async move {
            app.metrics.connections.add(1);
            match tls {
                None => talk(stream, peer, router, head, watcher).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(head, tls.accept(stream)).await {
                        talk(stream, peer, router, head, watcher).await;
                    }
                }
            }
            app.metrics.connections.sub(1);
            drop(slot);
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(5), graceful.shutdown()).await;
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: SocketAddr,
    router: Router,
    head: Duration,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let router = router.layer(axum::Extension(ConnectInfo(peer)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(MAX_HEAD)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A connection that breaks is the client's affair.
    let _ = watcher.watch(connection).await;
}
