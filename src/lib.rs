//! AWS IAM roles from Kubernetes.
//!
//! An [`api::IamRole`] says what an IAM role should be, an [`api::IamRoleClass`] under which rules and in
//! which account. The operator makes AWS match:
//!
//! ```text
//! watch ──▶ desired (spec + class) ──▶ observed (AWS) ──▶ plan ──▶ intent in status ──▶ execute ──▶ status
//! ```
//!
//! - [`api`]: the two kinds and every name that users see; data only.
//! - [`policy`]: IAM documents: parse, check, compare by meaning, print. Pure.
//! - [`role`]: what should be, what is, what is to be done. Pure.
//! - [`power`]: the least policy for the operator's own AWS identity. Pure.
//! - [`aws`]: the only place that knows the AWS SDK.
//! - [`controller`]: watches, the steps of a reconciliation, status, events, backoff.
//! - [`lease`]: which of several replicas works.
//! - [`cli`], [`server`], [`telemetry`]: the process around it.

// Here and not in Cargo.toml: the helpers of the tests may.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
pub mod aws;
pub mod cli;
pub mod controller;
pub mod lease;
pub mod policy;
pub mod power;
pub mod role;
pub mod server;
pub mod telemetry;
