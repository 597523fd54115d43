//! The only place that knows the AWS SDK: reads a role, executes one action, says whose account it is,
//! and turns every SDK error once into what the operator does next.

pub mod account;
mod associations;
pub mod error;
mod execute;
mod fence;
mod identify;
mod identity_provider;
mod kept;
mod limit;
mod look;
mod observe;
mod pace;
mod preflight;
#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod stand_in;
mod summary;
mod throttle;
mod ticket;
mod transport;
mod walk;

pub use account::{Account, Aws, Session, retries, time_limits};
pub use associations::{Association, Place};
pub use error::{AwsError, Kind};
pub use execute::Done;
pub use observe::RoleState;
pub use pace::PATIENCE;
pub use preflight::PROBE;
pub use summary::{Quotas, Usage};
pub use ticket::{Ticket, Turn};
pub use transport::TransportError;
pub use walk::RoleName;
