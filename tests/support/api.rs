//! A proxy between an operator and the API server: records every request and, by rule, refuses it or drops it before
//! or after its effect; ends watches; is down for a while.

use super::env;
use super::proxy::{Held, Hold};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::serve::Listener;
use futures::StreamExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const LIMIT: usize = 4 << 20;

/// One request of the operator.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub at: Instant,
    /// What was answered; 0: nothing.
    pub status: u16,
}

impl Asked {
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true") || self.path.contains("watch=1")
    }

    /// Whether it can change anything. The lease of the election is left out: it says itself who may write it.
    pub fn writes(&self) -> bool {
        self.method != Method::GET && !self.path.contains("/leases")
    }
}

/// What happens to a matching request.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// It is refused with this status.
    Refuse(u16),
    /// It is refused for being one too many, and may come again after so many seconds.
    Later(u16),
    /// The connection breaks before the API server sees it.
    DropBefore,
    /// The API server does it, the answer is lost.
    DropAfter,
    /// Neither a refusal nor an answer, as where packets are lost.
    Hang,
}

#[derive(Clone, Debug)]
struct Rule {
    method: Method,
    part: String,
    /// So many matching requests pass before.
    after: usize,
    times: usize,
    trouble: Trouble,
    happened: usize,
}

/// How all open watches end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As at their timeout.
    Closed,
    /// In the middle of the stream.
    Cut,
    /// By an event that says that the resource version is too old.
    Gone,
}

struct Inner {
    asked: Mutex<Vec<Asked>>,
    rules: Mutex<Vec<Rule>>,
    holds: Mutex<Vec<(Method, String, Hold)>>,
    down: AtomicBool,
    attempts: AtomicUsize,
    open: AtomicUsize,
    ends: watch::Sender<(u64, End)>,
    upstream: kube::Client,
}

#[derive(Clone)]
pub struct ApiProxy {
    inner: Arc<Inner>,
    address: SocketAddr,
}

impl ApiProxy {
    /// A proxy in front of the rig's API server, for requests with the operator's token.
    pub async fn start() -> Self {
        let kubeconfig = Kubeconfig::read_from(env("RIG_OPERATOR_KUBECONFIG")).expect("the operator's kubeconfig");
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a configuration");
        config.read_timeout = None;
        config.default_retry = false;
        let inner = Arc::new(Inner {
            asked: Mutex::default(),
            rules: Mutex::default(),
            holds: Mutex::default(),
            down: AtomicBool::new(false),
            attempts: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            ends: watch::channel((0, End::Closed)).0,
            upstream: kube::Client::try_from(config).expect("a client"),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = axum::Router::new().fallback(handle).with_state(inner.clone());
        let gate = Gate { listener, inner: inner.clone() };
        tokio::spawn(async move { axum::serve(gate, app).await });
        Self { inner, address }
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig that leads here; returns its path.
    pub fn kubeconfig(&self, name: &str) -> String {
        Self::kubeconfig_to(&format!("http://{}", self.address), name)
    }

    /// Writes the operator's kubeconfig with another server; returns its path.
    pub fn kubeconfig_to(server: &str, name: &str) -> String {
        let config = std::fs::read_to_string(env("RIG_OPERATOR_KUBECONFIG")).expect("the operator's kubeconfig");
        let lines = config.lines().map(|line| match line.split_once("server:") {
            Some((indent, _)) => format!("{indent}server: {server}"),
            None => line.to_owned(),
        });
        let path = format!("{}/{name}.kubeconfig", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).expect("a kubeconfig");
        path
    }

    /// Trouble for the next `times` requests of `method` whose path and query hold `part`; `WATCH` means watches.
    pub fn trouble(&self, method: &str, part: &str, times: usize, trouble: Trouble) {
        self.trouble_after(0, method, part, times, trouble);
    }

    /// The same after `after` of them have passed.
    pub fn trouble_after(&self, after: usize, method: &str, part: &str, times: usize, trouble: Trouble) {
        let method = method.parse().expect("a method");
        self.inner.rules.lock().unwrap().push(Rule { method, part: part.into(), after, times, trouble, happened: 0 });
    }

    /// Holds the requests of `method` whose path and query hold `part`. What becomes of each is decided as it comes in.
    pub fn hold(&self, method: &str, part: &str) -> Held {
        let (held, end) = Held::new();
        let method = method.parse().expect("a method");
        self.inner.holds.lock().unwrap().push((method, part.to_owned(), end));
        held
    }

    /// How often trouble happened.
    pub fn happened(&self) -> usize {
        self.inner.rules.lock().unwrap().iter().map(|rule| rule.happened).sum()
    }

    /// Takes all trouble away.
    pub fn heal(&self) {
        self.inner.rules.lock().unwrap().clear();
    }

    /// Ends all open watches.
    pub fn end_watches(&self, end: End) {
        self.inner.ends.send_modify(|(round, how)| (*round, *how) = (*round + 1, end));
    }

    /// Open watches.
    pub fn watches(&self) -> usize {
        self.inner.open.load(Relaxed)
    }

    /// The API server is gone, with all connections, until [`ApiProxy::up`].
    pub fn down(&self) {
        self.inner.down.store(true, Relaxed);
        self.end_watches(End::Cut);
    }

    pub fn up(&self) {
        self.inner.down.store(false, Relaxed);
    }

    /// Connections and requests while it was down.
    pub fn attempts(&self) -> usize {
        self.inner.attempts.load(Relaxed)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// All requests so far that can change anything but the lease.
    pub fn writes(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::writes).collect()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.inner.asked.lock().unwrap().clear();
        self.inner.attempts.store(0, Relaxed);
    }
}

/// Accepts nothing while the server is down.
struct Gate {
    listener: TcpListener,
    inner: Arc<Inner>,
}

impl Listener for Gate {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = Listener::accept(&mut self.listener).await;
            if !self.inner.down.load(Relaxed) {
                return accepted;
            }
            self.inner.attempts.fetch_add(1, Relaxed);
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What the API server has received it carries out, whether or not the caller is still there to hear of it.
async fn handle(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    if inner.down.load(Relaxed) {
        inner.attempts.fetch_add(1, Relaxed);
        return broken();
    }
    tokio::spawn(forward(inner, request)).await.unwrap_or_else(|_| broken())
}

async fn forward(inner: Arc<Inner>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LIMIT).await else {
        return broken();
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let asked = Asked { method: parts.method.clone(), path: path.clone(), at: Instant::now(), status: 0 };
    let (is_watch, trouble, hold) = (asked.is_watch(), inner.take(&asked), inner.hold(&asked));
    let number = {
        let mut all = inner.asked.lock().unwrap();
        all.push(asked);
        all.len() - 1
    };
    let answered = |status: u16| {
        if let Some(asked) = inner.asked.lock().unwrap().get_mut(number).filter(|asked| asked.path == path) {
            asked.status = status;
        }
    };
    if let Some(hold) = hold {
        hold.released().await;
    }
    match trouble {
        Some(Trouble::Refuse(status)) => {
            answered(status);
            return refusal(status, 1);
        }
        Some(Trouble::Later(seconds)) => {
            answered(429);
            return refusal(429, seconds);
        }
        Some(Trouble::DropBefore) => return broken(),
        Some(Trouble::Hang) => {
            tokio::time::sleep(Duration::from_mins(10)).await;
            return broken();
        }
        Some(Trouble::DropAfter) | None => {}
    }
    parts.uri = path.parse().expect("a path");
    for name in ["host", "authorization", "connection", "content-length", "accept-encoding"] {
        parts.headers.remove(name);
    }
    let forwarded = Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let Ok(answer) = inner.upstream.send(forwarded).await else {
        return broken();
    };
    if matches!(trouble, Some(Trouble::DropAfter)) || (inner.down.load(Relaxed) && !is_watch) {
        return broken();
    }
    answered(answer.status().as_u16());
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove("transfer-encoding");
    let body = Body::new(body);
    Response::from_parts(parts, if is_watch { watched(&inner, body) } else { body })
}

/// The stream of a watch, until it ends by itself or as we say.
fn watched(inner: &Arc<Inner>, body: Body) -> Body {
    let mut ends = inner.ends.subscribe();
    ends.mark_unchanged();
    let inner = inner.clone();
    let (to, mut from) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(16);
    tokio::spawn(async move {
        inner.open.fetch_add(1, Relaxed);
        let mut data = body.into_data_stream();
        loop {
            tokio::select! {
                part = data.next() => {
                    let Some(part) = part else { break };
                    if to.send(part.map_err(std::io::Error::other)).await.is_err() {
                        break;
                    }
                }
                _ = ends.changed() => {
                    let (_, how) = *ends.borrow();
                    let _ = match how {
                        End::Closed => Ok(()),
                        End::Cut => to.send(Err(std::io::Error::other("cut on purpose"))).await,
                        End::Gone => to.send(Ok(gone())).await,
                    };
                    break;
                }
                () = to.closed() => break,
            }
        }
        inner.open.fetch_sub(1, Relaxed);
    });
    Body::from_stream(futures::stream::poll_fn(move |context| from.poll_recv(context)))
}

/// The event that ends a watch whose resource version is too old.
fn gone() -> Bytes {
    let event = serde_json::json!({ "type": "ERROR", "object": status(410) });
    Bytes::from(format!("{event}\n"))
}

impl Inner {
    fn hold(&self, asked: &Asked) -> Option<Hold> {
        let holds = self.holds.lock().unwrap();
        let matches =
            |(method, part, _): &&(Method, String, Hold)| *method == asked.method && asked.path.contains(part);
        holds.iter().rfind(matches).map(|(.., hold)| hold.clone())
    }

    fn take(&self, asked: &Asked) -> Option<Trouble> {
        let mut rules = self.rules.lock().unwrap();
        let matches = |rule: &&mut Rule| {
            let method = if rule.method == *"WATCH" { asked.is_watch() } else { rule.method == asked.method };
            rule.times > 0 && method && asked.path.contains(&rule.part)
        };
        let rule = rules.iter_mut().find(matches)?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        rule.times -= 1;
        rule.happened += 1;
        Some(rule.trouble.clone())
    }
}

/// A connection that breaks in the middle of the answer.
fn broken() -> Response {
    let stream = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("broken on purpose")) });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert("content-length", HeaderValue::from_static("100"));
    response
}

fn refusal(code: u16, seconds: u16) -> Response {
    let mut response = Response::new(Body::from(status(code).to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    if code == 429 {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

/// As the API server says it.
fn status(code: u16) -> serde_json::Value {
    let (reason, message) = match code {
        404 => ("NotFound", "not found"),
        409 => ("Conflict", "the object has been modified; please apply your changes to the latest version"),
        410 => ("Expired", "too old resource version"),
        429 => ("TooManyRequests", "too many requests, please try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}
