//! Logs (JSON, one object a line) and metrics (bounded labels: no object names).

mod metrics;
mod process;
mod underway;

pub use metrics::{Census, ClassLabels, Format, Metrics, RoleLabels};
pub use underway::{ActiveGuard, WaitingGuard};

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no filter.
    #[error("--log-level {level:?}: {source}; use error, warn, info, debug, trace or a filter such as info,kube=debug")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A logger is there already.
    #[error("starting the log: {0}")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts JSON logs on standard error at `level` (a level or a filter as of `tracing`). Panics are a line of them, too.
pub fn start_logs(level: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(level).map_err(|source| LogError::Level { level: level.to_owned(), source })?;
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(json).try_init()?;
    log_panics();
    Ok(())
}

fn log_panics() {
    let plain = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        if !tracing::enabled!(tracing::Level::ERROR) {
            return plain(panicked);
        }
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        let place = panicked.location().map(ToString::to_string);
        tracing::error!(
            place,
            trace,
            "panicked: {}",
            panicked.payload_as_str().unwrap_or("for no reason that is a text")
        );
    }));
}

/// An error with all that lies behind it: kube's own text ends where the connection did, and not with the certificate that
/// was the reason. What a text says already is not said again.
#[must_use]
pub fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Says why the program ends: as a line of the log, so that its last one can be read as all others, or as plain text
/// where no log was started or its filter would keep the reason from everybody.
pub fn fatal(error: &str) {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{error}");
    } else {
        eprintln!("iamrole: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::with_sources;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Level(&'static str, #[source] Option<Box<Level>>);

    #[test]
    fn what_lies_behind_an_error_is_told_once() {
        let deep = Level("invalid peer certificate: UnknownIssuer", None);
        let same = Level("client error (Connect)", Some(Box::new(deep)));
        let error = Level("ServiceError: client error (Connect)", Some(Box::new(same)));
        assert_eq!(
            with_sources(&error),
            "ServiceError: client error (Connect): invalid peer certificate: UnknownIssuer"
        );
        assert_eq!(with_sources(&Level("alone", None)), "alone");
    }
}
