//! `iamrole run`: the operator.

use crate::api::DEFAULT_CONTROLLER;
use crate::controller::workload::{DEFAULT_PREFIX, Options as WorkloadOptions};
use crate::controller::{self, ElectionOptions, Options};
use crate::lease::{Timing, TimingError};
use crate::role::{EksCluster, names, workload};
use crate::server::{self, Health};
use crate::telemetry::{LogError, Metrics, start_logs};
use k8s_openapi::jiff::SignedDuration;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Arguments of `iamrole run`. The cluster comes from KUBECONFIG or the pod's service account, the AWS
/// identity from AWS's own variables.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "IAMROLE_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// How many calls to AWS are under way at once, in each account.
    #[arg(long, env = "IAMROLE_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrency: u16,

    /// Name of this cluster, used in the names and owner tags of roles. Without it: the first 8 characters of
    /// the UID of the namespace kube-system.
    #[arg(long, env = "IAMROLE_CLUSTER_NAME", value_name = "NAME", value_parser = cluster_name)]
    pub cluster_name: Option<String>,

    /// Serve only these namespaces, separated by commas. Without it: all.
    #[arg(long, env = "IAMROLE_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,

    /// Serve the classes whose spec.controller is this name.
    #[arg(long, env = "IAMROLE_CONTROLLER", default_value = DEFAULT_CONTROLLER, value_name = "NAME")]
    pub controller: String,

    /// Issuer of this cluster's ServiceAccount tokens (https://…), with a slash at the end if they have one. Without it:
    /// that of the operator's own token, or the one that the API server tells.
    #[arg(long, env = "IAMROLE_OIDC_ISSUER", value_name = "URL")]
    pub oidc_issuer: Option<String>,

    /// ARN of this cluster in EKS, for EKS Pod Identity. Without it: made of region and name.
    #[arg(long, env = "IAMROLE_CLUSTER_ARN", value_name = "ARN", value_parser = workload::cluster_arn)]
    pub cluster_arn: Option<String>,

    /// AWS region of this cluster, for EKS Pod Identity where --cluster-arn is not given. --cluster-name must then be
    /// its name in EKS.
    #[arg(long, env = "IAMROLE_CLUSTER_REGION", value_name = "REGION", value_parser = workload::region)]
    pub cluster_region: Option<String>,

    /// Annotate the ServiceAccounts that roles list, for IRSA. Takes the right to watch and patch ServiceAccounts.
    #[arg(long, env = "IAMROLE_ANNOTATE_SERVICE_ACCOUNTS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub annotate_service_accounts: bool,

    /// Prefix of the annotations, as the webhook was told by its flag --annotation-prefix.
    #[arg(long, env = "IAMROLE_SERVICE_ACCOUNT_ANNOTATION_PREFIX", default_value = DEFAULT_PREFIX, value_name = "PREFIX", value_parser = annotation_prefix)]
    pub service_account_annotation_prefix: String,

    /// Look for pods that were made too early to get credentials. Takes the right to list pods.
    #[arg(long, env = "IAMROLE_CHECK_PODS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub check_pods: bool,

    /// error, warn, info, debug, trace, or a filter such as info,kube=debug.
    #[arg(long, env = "IAMROLE_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// For how long after a write reads may show the past. AWS needs the default; emulators show at once what was written.
    #[arg(long, env = "IAMROLE_SETTLE", default_value = "30s", value_name = "DURATION", value_parser = duration, hide = true)]
    pub settle: Duration,

    /// Take part in leader election: of several replicas one works, the others stand by.
    #[arg(long, env = "IAMROLE_LEADER_ELECT", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub leader_elect: bool,

    /// How the lease is found and kept.
    #[command(flatten)]
    pub lease: LeaseArgs,
}

/// How the lease of the leader election is found and kept; names and defaults are those of Kubernetes' own components.
#[derive(Clone, Debug, clap::Args)]
pub struct LeaseArgs {
    /// Name of the lease; the same for all replicas of an installation.
    #[arg(long, env = "IAMROLE_LEADER_ELECT_RESOURCE_NAME", default_value = "iamrole-operator", value_name = "NAME", value_parser = lease_name)]
    pub leader_elect_resource_name: String,

    /// Namespace of the lease. Without it: that of the pod's service account.
    #[arg(long, env = "IAMROLE_LEADER_ELECT_RESOURCE_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    pub leader_elect_resource_namespace: Option<String>,

    /// How long the other replicas wait for a leader that has gone silent before one of them takes over.
    #[arg(long, env = "IAMROLE_LEADER_ELECT_LEASE_DURATION", default_value = "15s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_lease_duration: Duration,

    /// How long the leader tries to renew the lease before it ends itself. Shorter than the lease duration.
    #[arg(long, env = "IAMROLE_LEADER_ELECT_RENEW_DEADLINE", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_renew_deadline: Duration,

    /// Between two renewals, and between two looks at the lease of somebody else.
    #[arg(long, env = "IAMROLE_LEADER_ELECT_RETRY_PERIOD", default_value = "2s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_retry_period: Duration,
}

impl LeaseArgs {
    fn options(self) -> Result<ElectionOptions, TimingError> {
        let timing = Timing {
            lease_duration: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry_period: self.leader_elect_retry_period,
        };
        timing.check()?;
        Ok(ElectionOptions {
            name: self.leader_elect_resource_name,
            namespace: self.leader_elect_resource_namespace.filter(|namespace| !namespace.is_empty()),
            timing,
        })
    }
}

/// The operator could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The durations of the leader election.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// Logging.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The listener.
    #[error(transparent)]
    Listen(#[from] server::Error),
    /// The controllers.
    #[error(transparent)]
    Controller(#[from] controller::Error),
    /// The system.
    #[error("starting: {0}")]
    System(#[from] std::io::Error),
}

/// Runs until SIGTERM or SIGINT, then lets what is under way finish.
pub fn run(args: Args) -> Result<(), Error> {
    let election = if args.leader_elect { Some(args.lease.clone().options()?) } else { None };
    start_logs(&args.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(args, election));
    // A look-up of a name that hangs would hold up the end.
    runtime.shutdown_background();
    result
}

async fn serve(args: Args, election: Option<ElectionOptions>) -> Result<(), Error> {
    let listener = server::bind(args.listen).await?;
    let (stop, stopping) = watch::channel(false);
    let (ended, end) = watch::channel(false);
    let (metrics, health) = (Metrics::default(), Arc::new(Health::default()));
    tokio::spawn(on_signal(stop));
    let probes = tokio::spawn(server::serve(listener, health.clone(), metrics.clone(), async move {
        let mut end = end;
        // An error means that the sender is gone, which is the end as well.
        let _ = end.wait_for(|ended| *ended).await;
    }));
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let eks = EksCluster {
        arn: given(&args.cluster_arn),
        region: given(&args.cluster_region),
        name: given(&args.cluster_name),
    };
    let options = Options {
        concurrency: args.concurrency,
        cluster_name: args.cluster_name,
        // Each once: two controllers on one object would race.
        namespaces: args
            .watch_namespaces
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        controller: args.controller,
        oidc_issuer: args.oidc_issuer,
        settle: args.settle,
        eks,
        workload: WorkloadOptions {
            annotate: args.annotate_service_accounts,
            prefix: args.service_account_annotation_prefix,
            check_pods: args.check_pods,
        },
        election,
    };
    // At an error nothing is waited for: another replica may work by now.
    Box::pin(controller::run(options, metrics, health, stopping)).await?;
    // The probes answer until the last reconciliation is done.
    let _ = ended.send(true);
    if let Ok(Err(error)) = probes.await {
        tracing::warn!(%error, "serving probes and metrics");
    }
    Ok(())
}

async fn on_signal(stop: watch::Sender<bool>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("no signal handlers; stop the process with SIGKILL");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: what is under way is finished first");
    let _ = stop.send(true);
    // A second signal ends it at once.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    std::process::exit(1);
}

/// A namespace of the list; white space around it is no part of the name.
fn namespace(name: &str) -> Result<String, String> {
    let name = name.trim();
    let valid = name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if valid {
        Ok(name.to_owned())
    } else {
        Err("no name of a namespace: up to 63 of a-z, 0-9 and -, names separated by commas".to_owned())
    }
}

/// The prefix of an annotation, a DNS subdomain.
fn annotation_prefix(text: &str) -> Result<String, String> {
    lease_name(text).map_err(|_| "no prefix of annotations, such as eks.amazonaws.com".to_owned())
}

/// A duration as in `15s`, `1m30s` or `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.trim().parse::<SignedDuration>().map_err(|error| error.to_string());
    parsed.and_then(|parsed| Duration::try_from(parsed).map_err(|error| error.to_string()))
}

fn lease_name(name: &str) -> Result<String, String> {
    let valid = name.split('.').all(|part| namespace(part).is_ok_and(|part| !part.is_empty()));
    if valid && name.len() <= 253 {
        Ok(name.to_owned())
    } else {
        Err("no name of a Lease: up to 253 of a-z, 0-9, - and .".to_owned())
    }
}

fn cluster_name(name: &str) -> Result<String, String> {
    if name.is_empty() || (names::valid(name) && name.len() <= 32) {
        Ok(name.to_owned())
    } else {
        Err("1 to 32 of the characters A-Z a-z 0-9 _+=,.@-, since it becomes part of role names".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{cluster_name, duration, lease_name, namespace};
    use std::time::Duration;

    #[test]
    fn durations_are_written_as_for_kubernetes() {
        let expected = [("15s", 15_000), ("1m", 60_000), ("1m30s", 90_000), ("500ms", 500), (" 2s ", 2_000)];
        for (text, millis) in expected {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "15", "-1s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn leases_have_names() {
        assert!(lease_name("iamrole-operator").is_ok() && lease_name("iamrole.dev").is_ok());
        for wrong in ["", "a..b", "A", "a_b", &"a".repeat(254)] {
            assert!(lease_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn namespaces_are_names() {
        assert_eq!(namespace(" team-a "), Ok("team-a".to_owned()));
        assert_eq!(namespace(""), Ok(String::new()), "an empty variable names none");
        for wrong in ["Team", "a_b", "-a", "a-", "a b", &"a".repeat(64)] {
            assert!(namespace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_clusters_name_fits_into_role_names() {
        assert!(cluster_name("prod-eu.1").is_ok() && cluster_name("").is_ok());
        for wrong in ["a b", "a/b", &"a".repeat(33)] {
            assert!(cluster_name(wrong).is_err(), "{wrong}");
        }
    }
}
