//! `iamrole run`: the operator.

use crate::api::DEFAULT_CONTROLLER;
use crate::controller::{self, Options};
use crate::role::names;
use crate::server::{self, Health};
use crate::telemetry::{LogError, Metrics, start_logs};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Arguments of `iamrole run`. The cluster comes from KUBECONFIG or the pod's service account, the AWS
/// identity from AWS's own variables.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "IAMROLE_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// How many roles are worked on at once.
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

    /// Issuer of this cluster's ServiceAccount tokens (https://…). Without it the API server is asked.
    #[arg(long, env = "IAMROLE_OIDC_ISSUER", value_name = "URL")]
    pub oidc_issuer: Option<String>,

    /// error, warn, info, debug, trace, or a filter such as info,kube=debug.
    #[arg(long, env = "IAMROLE_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// Take part in leader election. Not available in this version: run one replica.
    #[arg(long, env = "IAMROLE_LEADER_ELECT", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub leader_elect: bool,
}

/// The operator could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Leader election was asked for.
    #[error(
        "--leader-elect: leader election is not available in this version; run one replica, with strategy Recreate"
    )]
    LeaderElection,
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
    if args.leader_elect {
        return Err(Error::LeaderElection);
    }
    start_logs(&args.log_level)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(args))
}

async fn serve(args: Args) -> Result<(), Error> {
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
    };
    let result = controller::run(options, metrics, health, stopping).await;
    // The probes answer until the last reconciliation is done.
    let _ = ended.send(true);
    if let Ok(Err(error)) = probes.await {
        tracing::warn!(%error, "serving probes and metrics");
    }
    Ok(result?)
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

fn cluster_name(name: &str) -> Result<String, String> {
    if name.is_empty() || (names::valid(name) && name.len() <= 32) {
        Ok(name.to_owned())
    } else {
        Err("1 to 32 of the characters A-Z a-z 0-9 _+=,.@-, since it becomes part of role names".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{cluster_name, namespace};

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
