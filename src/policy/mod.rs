//! IAM policy documents: read, checked, compared by meaning, and written in the form that AWS takes.
//!
//! Everything here is pure: no I/O, no clock, no Kubernetes and no AWS SDK.
//!
//! - [`Document`] is a trust or permission policy that was checked against IAM's grammar. Nothing that is not
//!   understood is ever dropped: it is a [`Finding`] that tells where, what, and what to write instead.
//! - [`Canonical`] is a document reduced to its meaning, for comparing what is wanted with what AWS returned.
//! - [`relation()`] tells what an update changes, [`bridge()`] makes the trust policy that stands in between.
//! - [`Limits`] are IAM's quotas for sizes, [`Pattern`] its globs, [`Arn`] its names, [`Tokens`] our own `$(name)`s.
//!
//! ```
//! use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Tokens};
//!
//! let account = AccountRef { partition: "aws".into(), id: "111122223333".into() };
//! let text = r#"{"Version": "2012-10-17", "Statement": {
//!     "Effect": "Allow", "Action": ["sts:AssumeRole"], "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}}"#;
//! let document = Document::from_json(Grammar::Trust, "trust", text, &Tokens::default()).unwrap();
//! let returned = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22\
//!     Principal%22%3A%7B%22AWS%22%3A%22123456789012%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%5D%7D";
//! assert_eq!(document.canonical(&account), Canonical::read(Grammar::Trust, returned, &account));
//! ```

mod action;
mod arn;
mod bridge;
mod canonical;
mod clause;
mod condition;
mod conditions;
mod difference;
mod document;
mod doors;
mod finding;
mod grants;
mod join;
mod json;
mod leaf;
mod lint;
mod operator;
mod parse;
mod pattern;
mod principal;
mod print;
mod reach;
mod relation;
mod resource;
mod set;
mod size;
mod statement;
mod surplus;
mod tokens;

pub use action::mistake_in_pattern;
pub use arn::{Arn, ArnError};
pub use bridge::{Bridge, bridge, closed};
pub use canonical::{AccountRef, Canonical};
pub use clause::Clause;
pub use difference::Difference;
pub use document::{Condition, Document, Effect, Grammar, PrincipalType, Principals, Statement, Terms, Version};
pub use doors::Door;
pub use finding::Finding;
pub use grants::Grant;
pub use lint::{Lint, Rule};
pub use pattern::Pattern;
pub use relation::{Relation, relation};
pub use size::{Limits, Usage};
pub use tokens::{TokenError, Tokens};
