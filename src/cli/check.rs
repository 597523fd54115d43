//! `iamrole check`: does an installation work? What `helm test` runs.

use crate::api::{ConditionType, DEFAULT_CONTROLLER, IamRoleClass};
use crate::aws::Aws;
use crate::controller::api_server;
use crate::telemetry::Metrics;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use std::fmt::Display;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Of the operator's probes.
const ANSWER: Duration = Duration::from_secs(5);
/// More than an answer of theirs has.
const LONGEST: u64 = 64 * 1024;

/// Arguments of `iamrole check`. Cluster and AWS identity come from where `iamrole run` has them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of the operator's probes and metrics. Without it they are not asked.
    #[arg(long, value_name = "HOST:PORT")]
    pub operator: Option<String>,

    /// Look at the classes whose spec.controller is this name.
    #[arg(long, env = "IAMROLE_CONTROLLER", default_value = DEFAULT_CONTROLLER, value_name = "NAME")]
    pub controller: String,

    /// How long to wait for what is not right yet.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = super::run::duration)]
    pub timeout: Duration,
}

/// Something does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A check has failed until the end of its time.
    #[error("{0}")]
    Failed(String),
    /// The system.
    #[error("starting: {0}")]
    System(#[from] std::io::Error),
}

/// Checks one thing after the other, and prints what is right.
pub fn run(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(check(args));
    runtime.shutdown_background();
    result
}

async fn check(args: &Args) -> Result<(), Error> {
    let end = Instant::now() + args.timeout;
    if let Some(operator) = &args.operator {
        until(end, || ready(operator)).await?;
    }
    until(end, identity).await?;
    until(end, || classes(&args.controller)).await
}

/// Tries until it succeeds or the time is over.
async fn until<F: Future<Output = Result<String, String>>>(end: Instant, look: impl Fn() -> F) -> Result<(), Error> {
    loop {
        match look().await {
            Ok(right) => {
                println!("ok: {right}");
                return Ok(());
            }
            Err(wrong) if Instant::now() + PAUSE > end => return Err(Error::Failed(wrong)),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn ready(operator: &str) -> Result<String, String> {
    let answer = timeout(ANSWER, get(operator, "/readyz")).await;
    let wrong = |what: &dyn Display| {
        format!("http://{operator}/readyz: {what}; see the operator's log, and whether a NetworkPolicy is in the way")
    };
    match answer {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => Ok(format!("the operator at {operator} is ready")),
        Ok(Ok(answer)) => Err(wrong(&answer.lines().next().unwrap_or("no answer"))),
        Ok(Err(error)) => Err(wrong(&error)),
        Err(_) => Err(wrong(&"no answer in time")),
    }
}

/// The whole answer, head and body. An HTTP client would be a dependency for one request without anything to it.
async fn get(operator: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(operator).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {operator}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn identity() -> Result<String, String> {
    let aws = Aws::from_environment(Metrics::default()).await.map_err(|error| error.to_string())?;
    let account = aws.identify(None, None).await.map_err(|error| {
        format!("the AWS identity of this ServiceAccount: {error}; docs/permissions.md tells how it gets one")
    })?;
    Ok(format!("in AWS it is {}", account.identity))
}

async fn classes(controller: &str) -> Result<String, String> {
    let config = api_server::config().await.map_err(|error| format!("Kubernetes: {error}"))?;
    let client = kube::Client::try_from(config).map_err(|error| format!("Kubernetes: {error}"))?;
    let all = Api::<IamRoleClass>::all(client).list(&ListParams::default()).await;
    let all =
        all.map_err(|error| format!("reading IamRoleClasses: {error}; are the CRDs and the RBAC of the chart there?"))?;
    let ours = all.items.iter().filter(|class| {
        class.spec.controller.as_deref().unwrap_or(DEFAULT_CONTROLLER) == controller
            && class.metadata.deletion_timestamp.is_none()
    });
    let names = ours.map(usable).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Ok("there is no IamRoleClass yet".to_owned());
    }
    Ok(format!("IamRoleClasses can be used: {}", names.join(", ")))
}

/// The name of a class of which the operator says that it can be used, as it is now: what it said of an earlier generation
/// counts for nothing.
fn usable(class: &IamRoleClass) -> Result<String, String> {
    let name = class.name_any();
    let conditions = class.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| {
        condition.type_ == ConditionType::Ready.as_str() && condition.observed_generation == class.metadata.generation
    });
    match ready {
        Some(ready) if ready.status == "True" => Ok(name),
        Some(ready) => Err(format!("IamRoleClass {name}: {}: {}", ready.reason, ready.message)),
        None => Err(format!(
            "IamRoleClass {name}: nobody has looked at it yet, as it is now; see the operator's log if this lasts"
        )),
    }
}
