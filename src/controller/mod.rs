//! Watches, the steps of a reconciliation, status, events, backoff, classes.
//!
//! [`roles`] is the story of one role: [`resolve`] its class, then [`apply`] or [`removal`], both of which
//! carry plans out. What decides is in [`crate::role`]; here are the order of the steps and the writes to
//! Kubernetes.

pub mod adopting;
mod advise;
pub mod api_server;
pub mod apply;
mod begun;
pub mod carry;
mod census;
pub mod claims;
pub mod classes;
mod conflict;
pub mod contested;
pub mod context;
pub mod crds;
pub mod events;
pub mod failure;
mod fence;
pub mod finalizer;
pub mod identity;
pub mod index;
pub mod intent;
pub mod issuer;
pub mod judge;
pub mod lanes;
pub mod memory;
mod orphans;
pub mod preview;
mod queue;
pub mod raw;
pub mod recover;
pub mod refused;
pub mod removal;
mod requests;
pub mod resolve;
pub mod roles;
pub mod run;
pub mod states;
pub mod status;
pub mod subject;
pub mod sweep;
pub mod sweeps;
pub mod unread;
pub mod watch;
pub mod workload;

pub use run::{ElectionOptions, Error, Options, run};
