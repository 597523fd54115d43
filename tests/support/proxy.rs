//! A proxy in front of the emulated AWS: records every call and, by rule, refuses it, drops it before or
//! after its effect, or delays it.

use super::pages;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use iamrole_operator::aws::PROBE;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const LIMIT: usize = 4 << 20;

/// One call to AWS.
#[derive(Clone, Debug)]
pub struct Call {
    pub action: String,
    pub parameters: BTreeMap<String, String>,
    pub at: Instant,
    /// The SDK repeats a call whose answer was lost, which also the emulator does now and then.
    pub repeated: bool,
    /// Region and service that it is signed for, such as `us-east-1/iam`.
    pub signed_for: String,
    /// The key that it is signed with.
    pub key: String,
}

impl Call {
    /// Whether it can change anything.
    pub fn writes(&self) -> bool {
        !(self.action.starts_with("Get") || self.action.starts_with("List"))
    }
}

/// What happens to a matching call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// AWS refuses it: status, code, message.
    Refuse(u16, &'static str, String),
    /// AWS throttles it, and asks to try again after so long.
    Throttle(Duration),
    /// AWS is not there for it, and asks to try again after so long.
    Unavailable(Duration),
    /// The connection breaks before AWS sees it.
    DropBefore,
    /// AWS does it, the answer is lost.
    DropAfter,
    /// AWS says that it was done, and goes on to show what was before.
    Pretend,
    /// It takes longer.
    Delay(Duration),
    /// AWS answers with other words: the first text is replaced by the second.
    Rewrite(String, String),
}

/// A fault for the next `times` calls of `action` whose parameters hold `part`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub action: &'static str,
    pub part: String,
    pub times: usize,
    pub fault: Fault,
    pub happened: usize,
}

/// Holds calls or requests open: they are seen as ever, and get their answers when this is dropped.
#[must_use = "nothing is held once it is dropped"]
pub struct Held(watch::Sender<()>);

/// What waits for the end of a [`Held`].
#[derive(Clone)]
pub struct Hold(watch::Receiver<()>);

impl Held {
    pub fn new() -> (Self, Hold) {
        let (held, end) = watch::channel(());
        (Self(held), Hold(end))
    }

    /// Gives the answers.
    pub fn release(self) {
        drop(self.0);
    }
}

impl Hold {
    pub async fn released(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// A bucket of calls, as AWS keeps one for each account.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    left: f64,
    filled: Instant,
}

#[derive(Default)]
struct Inner {
    bucket: Mutex<Option<Bucket>>,
    calls: Mutex<Vec<Call>>,
    rules: Mutex<Vec<Rule>>,
    holds: Mutex<Vec<(&'static str, String, Hold)>>,
    under_way: AtomicUsize,
    throttled: AtomicUsize,
    latency: Mutex<Duration>,
    /// How many calls were answered, and how long they took in all.
    answers: Mutex<(u32, Duration)>,
}

#[derive(Clone)]
pub struct Proxy {
    inner: Arc<Inner>,
    address: SocketAddr,
}

#[derive(Clone)]
struct Shared {
    inner: Arc<Inner>,
    client: Client<HttpConnector, Full<Bytes>>,
    upstream: String,
}

impl Proxy {
    pub async fn start(upstream: &str) -> Self {
        let inner = Arc::new(Inner::default());
        let client = Client::builder(TokioExecutor::new()).build_http();
        let shared = Shared { inner: inner.clone(), client, upstream: upstream.trim_end_matches('/').to_owned() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = axum::Router::new().fallback(handle).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { inner, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a fault for the next `times` matching calls; attempts of the SDK's own retries count.
    pub fn fault(&self, action: &'static str, part: &str, times: usize, fault: Fault) {
        self.inner.rules.lock().unwrap().push(Rule { action, part: part.to_owned(), times, fault, happened: 0 });
    }

    /// Whether every fault for `action` has happened at least once.
    pub fn happened(&self, action: &str) -> bool {
        self.inner.rules.lock().unwrap().iter().all(|rule| rule.action != action || rule.happened > 0)
    }

    /// Refuses matching calls until [`Proxy::heal`].
    pub fn refuse(&self, action: &'static str, part: &str, status: u16, code: &'static str, message: &str) {
        self.fault(action, part, usize::MAX, Fault::Refuse(status, code, message.to_owned()));
    }

    /// Holds matching calls open. What becomes of each is decided as it comes in.
    pub fn hold(&self, action: &'static str, part: &str) -> Held {
        let (held, end) = Held::new();
        self.inner.holds.lock().unwrap().push((action, part.to_owned(), end));
        held
    }

    /// Refuses calls beyond so many a second, after a burst of as many.
    pub fn limit(&self, rate: f64) {
        *self.inner.bucket.lock().unwrap() = Some(Bucket { rate, left: rate, filled: Instant::now() });
    }

    /// Answers no call sooner, refused ones included.
    pub fn latency(&self, latency: Duration) {
        *self.inner.latency.lock().unwrap() = latency;
    }

    /// How long a call took in the mean.
    pub fn mean_answer(&self) -> Duration {
        let (count, took) = *self.inner.answers.lock().unwrap();
        took / count.max(1)
    }

    /// Calls that were refused for that.
    pub fn throttled(&self) -> usize {
        self.inner.throttled.load(Relaxed)
    }

    /// Refuses what is refused in another way: no call gets through between the two.
    pub fn refuse_instead(&self, action: &str, status: u16, code: &'static str, message: &str) {
        for rule in self.inner.rules.lock().unwrap().iter_mut().filter(|rule| rule.action == action) {
            rule.fault = Fault::Refuse(status, code, message.to_owned());
        }
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.inner.rules.lock().unwrap().clear();
    }

    /// All IAM calls so far (the class's look at the account is left out).
    pub fn calls(&self) -> Vec<Call> {
        self.inner
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| !["GetCallerIdentity", "GetAccountSummary"].contains(&call.action.as_str()))
            .filter(|call| !call.parameters.values().any(|value| value.contains(PROBE)))
            .cloned()
            .collect()
    }

    /// All calls so far, the look at the account included.
    pub fn all(&self) -> Vec<Call> {
        self.inner.calls.lock().unwrap().clone()
    }

    /// How many calls of one action there were so far.
    pub fn count_of(&self, action: &str) -> usize {
        self.inner.calls.lock().unwrap().iter().filter(|call| call.action == action).count()
    }

    /// The number of all calls so far, the look at the account included.
    pub fn count(&self) -> usize {
        self.inner.calls.lock().unwrap().len()
    }

    /// The names of the IAM calls so far.
    pub fn actions(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.action).collect()
    }

    /// The names of the calls so far that can change anything.
    pub fn writes(&self) -> Vec<String> {
        self.calls().into_iter().filter(Call::writes).map(|call| call.action).collect()
    }

    /// Calls that AWS has not carried out yet.
    pub fn under_way(&self) -> usize {
        self.inner.under_way.load(Relaxed)
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.inner.calls.lock().unwrap().clear();
        *self.inner.answers.lock().unwrap() = Default::default();
    }
}

/// GETs a URL: status and body; `None` if there is no answer.
pub async fn get(url: &str) -> Option<(u16, String)> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.get(url.parse().ok()?).await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

/// What AWS has received it carries out, whether or not the caller is still there to hear of it.
async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let work = async move {
        shared.inner.under_way.fetch_add(1, Relaxed);
        let begun = tokio::time::Instant::now();
        let answered = begun + *shared.inner.latency.lock().unwrap();
        let response = forward(&shared, request).await;
        shared.inner.under_way.fetch_sub(1, Relaxed);
        if answered > tokio::time::Instant::now() {
            tokio::time::sleep_until(answered).await;
        }
        let mut answers = shared.inner.answers.lock().unwrap();
        *answers = (answers.0 + 1, answers.1 + begun.elapsed());
        response
    };
    tokio::spawn(work).await.unwrap_or_else(|_| broken())
}

async fn forward(shared: &Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LIMIT).await else {
        return broken();
    };
    let mut call = parse(&body);
    let attempt = parts.headers.get("amz-sdk-request").and_then(|value| value.to_str().ok());
    call.repeated = attempt.is_some_and(|attempt| !attempt.contains("attempt=1;"));
    let signature = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    (call.key, call.signed_for) = credential(signature);
    if shared.inner.is_beyond() {
        shared.inner.throttled.fetch_add(1, Relaxed);
        return refusal(400, "Throttling", "Rate exceeded");
    }
    let fault = shared.inner.take(&call);
    let stranger = missing_principal(&call).await;
    shared.inner.calls.lock().unwrap().push(call.clone());
    if let Some(hold) = shared.inner.hold(&call) {
        hold.released().await;
    }
    match &fault {
        Some(Fault::Refuse(status, code, message)) => return refusal(*status, code, message),
        Some(Fault::Throttle(pause)) => return later(refusal(400, "Throttling", "Rate exceeded"), *pause),
        Some(Fault::Unavailable(pause)) => return later(refusal(503, "ServiceUnavailable", "not now"), *pause),
        Some(Fault::DropBefore) => return broken(),
        Some(Fault::Pretend) => return success(&call.action),
        Some(Fault::Delay(delay)) => tokio::time::sleep(*delay).await,
        Some(Fault::DropAfter | Fault::Rewrite(..)) | None => {}
    }
    if let Some(principal) = stranger {
        let message = format!("Invalid principal in policy: \"AWS\":\"{principal}\"");
        return refusal(400, "MalformedPolicyDocument", &message);
    }
    let uri = format!("{}{}", shared.upstream, parts.uri.path_and_query().map_or("/", |path| path.as_str()));
    let mut forwarded = axum::http::Request::builder().method(parts.method).uri(uri);
    // With the host that the caller wrote: it is part of the signature.
    for (name, value) in &parts.headers {
        forwarded = forwarded.header(name, value);
    }
    let forwarded = forwarded.body(Full::new(body)).expect("a request");
    let Ok(answer) = shared.client.request(forwarded).await else {
        return broken();
    };
    if matches!(fault, Some(Fault::DropAfter)) {
        return broken();
    }
    let (mut parts, body) = answer.into_parts();
    let Ok(body) = body.collect().await else {
        return broken();
    };
    let mut body = body.to_bytes();
    if let Some(page) = pages::cut(&call.action, &call.parameters, &body) {
        body = page.into();
        parts.headers.remove("content-length");
    }
    if let Some(Fault::Rewrite(from, to)) = fault {
        let text = String::from_utf8_lossy(&body).into_owned();
        if text.contains(&from) {
            shared.inner.rewrote(&from);
        }
        body = text.replace(&from, &to).into();
        parts.headers.remove("content-length");
    }
    Response::from_parts(parts, Body::from(body))
}

/// A role of the account that a trust policy names and that does not exist. AWS refuses the policy then, moto does
/// not.
async fn missing_principal(call: &Call) -> Option<String> {
    let document = match call.action.as_str() {
        "CreateRole" => call.parameters.get("AssumeRolePolicyDocument")?,
        "UpdateAssumeRolePolicy" => call.parameters.get("PolicyDocument")?,
        _ => return None,
    };
    let document: serde_json::Value = serde_json::from_str(document).ok()?;
    let principals =
        document["Statement"].as_array()?.iter().flat_map(|statement| match &statement["Principal"]["AWS"] {
            serde_json::Value::Array(several) => several.clone(),
            one => vec![one.clone()],
        });
    let iam = super::aws::client().await;
    for principal in principals.filter_map(|principal| principal.as_str().map(str::to_owned)) {
        let Some(role) = principal.strip_prefix("arn:aws:iam::123456789012:role/") else { continue };
        let name = role.rsplit('/').next().unwrap_or_default();
        let found = iam.get_role().role_name(name).send().await.ok().and_then(|answer| answer.role);
        if found.is_none_or(|found| found.arn() != principal) {
            return Some(principal);
        }
    }
    None
}

impl Inner {
    fn is_beyond(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap();
        let Some(bucket) = bucket.as_mut() else { return false };
        let now = Instant::now();
        bucket.left = (bucket.left + (now - bucket.filled).as_secs_f64() * bucket.rate).min(bucket.rate);
        bucket.filled = now;
        let has = bucket.left >= 1.0;
        if has {
            bucket.left -= 1.0;
        }
        !has
    }

    fn hold(&self, call: &Call) -> Option<Hold> {
        let holds = self.holds.lock().unwrap();
        let matches = |(action, part, _): &&(&str, String, Hold)| {
            *action == call.action && (part.is_empty() || call.parameters.values().any(|value| value.contains(part)))
        };
        holds.iter().rfind(matches).map(|(.., hold)| hold.clone())
    }

    fn take(&self, call: &Call) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let matches = |rule: &&mut Rule| {
            rule.times > 0
                && (rule.action == "*" || rule.action == call.action)
                && (rule.part.is_empty() || call.parameters.values().any(|value| value.contains(&rule.part)))
        };
        let rule = rules.iter_mut().find(matches)?;
        rule.times -= 1;
        rule.happened += usize::from(!matches!(rule.fault, Fault::Rewrite(..)));
        Some(rule.fault.clone())
    }

    /// An answer held a text that is replaced: only then has that fault happened.
    fn rewrote(&self, text: &str) {
        for rule in self.rules.lock().unwrap().iter_mut() {
            rule.happened += usize::from(matches!(&rule.fault, Fault::Rewrite(from, _) if from == text));
        }
    }
}

/// A connection that breaks in the middle of the answer.
fn broken() -> Response {
    let stream = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("broken on purpose")) });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert("content-length", axum::http::HeaderValue::from_static("100"));
    response
}

/// The answer to a call that answers nothing.
fn success(action: &str) -> Response {
    let mut response = Response::new(Body::from(format!("<{action}Response/>")));
    response.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("text/xml"));
    response
}

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let kind = if status >= 500 { "Receiver" } else { "Sender" };
    let text = format!(
        "<ErrorResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><Error><Type>{kind}</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = axum::http::StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("text/xml"));
    response
}

/// Asks to try again after so long.
fn later(mut response: Response, pause: Duration) -> Response {
    let pause = pause.as_millis().to_string();
    response.headers_mut().insert("x-amz-retry-after", pause.parse().expect("a header"));
    response
}

/// The form that the Query protocol sends.
fn parse(body: &[u8]) -> Call {
    let text = String::from_utf8_lossy(body);
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let mut parameters: BTreeMap<String, String> = pairs.map(|(key, value)| (decode(key), decode(value))).collect();
    let action = parameters.remove("Action").unwrap_or_default();
    Call { action, parameters, at: Instant::now(), repeated: false, signed_for: String::new(), key: String::new() }
}

/// Of `… Credential=KEY/DATE/REGION/SERVICE/aws4_request, …` the key, and region and service.
fn credential(authorization: &str) -> (String, String) {
    let scope =
        authorization.split_once("Credential=").and_then(|(_, rest)| rest.split(',').next()).unwrap_or_default();
    let parts: Vec<&str> = scope.split('/').collect();
    let signed_for = parts.iter().skip(2).take(2).copied().collect::<Vec<_>>().join("/");
    (parts.first().copied().unwrap_or_default().to_owned(), signed_for)
}
