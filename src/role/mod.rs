//! What a role should be, is, and what is to be done: pure functions and data.
//!
//! ```text
//! spec + class ──desired──▶ Desired ┐
//! status ─────────record──▶ Record  ├──plan──▶ Plan (ordered steps) ──▶ executed by the controller
//! AWS ───────────observed─▶ Observed┘
//! ```
//! No I/O, no clock, no SDK, no Kubernetes client. Whoever wants to know what the operator would do in a
//! situation calls [`plan::update`], [`plan::create`] or [`deletion::plan`] with it.

pub mod advice;
pub mod contest;
pub mod deletion;
pub mod departed;
pub mod desired;
pub mod found;
pub mod guard;
pub mod lost;
pub mod names;
pub mod observed;
pub mod owner;
pub mod plan;
pub mod recent;
pub mod record;
pub mod settings;
pub mod sweep;
pub mod urgency;
pub mod workload;

pub use desired::{Desired, OwnPolicy, Problem};
pub use observed::{Asked, Observed, ObservedPolicy, ObservedProfile};
pub use owner::{Cluster, Owner, Ownership};
pub use plan::{Action, Phase, Plan, Progress, Step};
pub use record::Record;
pub use settings::Settings;
pub use workload::{EksCluster, Workload};
