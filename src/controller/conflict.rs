//! `DeleteConflict`: what can't be deleted since it is still used, and by whom.

use super::failure::Failure;
use crate::api::Reason;
use crate::aws::{Account, AwsError, Kind};
use crate::role::Action;
use std::time::Duration;

/// How long to wait for AWS to show what was written just before.
const LAG: Duration = Duration::from_secs(5);

/// How far what is known of a role can be relied on.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Its name.
    pub role: &'a str,
    /// It keeps what is to be deleted.
    pub stays: bool,
    /// IAM may not know everywhere yet what was written a moment ago: lists do not show what was put on it, and what was
    /// taken off still counts.
    pub lags: bool,
    /// Its permissions boundary. IAM lists the role among those who use that policy, and does not tell in what way it does.
    pub boundary: Option<&'a str>,
}

/// Why something of the role can't be deleted, and who uses it; `None` where nobody is in the way.
pub async fn conflict(
    account: &Account,
    view: View<'_>,
    action: &Action,
    error: &AwsError,
    way_out: &str,
) -> Option<Failure> {
    let View { role, stays, lags, boundary } = view;
    if error.kind != Kind::DeleteConflict {
        return None;
    }
    let (what, users) = match action {
        Action::DeletePolicy(arn) => (format!("policy {arn}"), account.users_of(arn).await),
        Action::DeleteProfile(name) => {
            let found = account.profiles(std::iter::once(name.as_str())).await;
            let roles = found.map(|found| found.into_values().flat_map(|profile| profile.roles));
            let named = roles.map(|roles| roles.map(|role| format!("role {role}")).collect());
            (format!("instance profile {name}"), named)
        }
        _ => {
            let profiles = account.profiles_of(role).await;
            let named = |names: Vec<String>| names.into_iter().map(|name| format!("instance profile {name}")).collect();
            (format!("role {role}"), profiles.map(named))
        }
    };
    let mut users: Vec<String> = users.unwrap_or_default();
    let own = format!("role {role}");
    // Of what was on the role a moment ago only that is told which lasts.
    let bounds = matches!(action, Action::DeletePolicy(arn) if boundary == Some(arn));
    users.retain(|user| *user != own || stays || !(lags || bounds));
    // Instance profiles of others were looked for before anything was taken off it.
    let unsure = users.is_empty() || matches!(action, Action::DeleteRole);
    if lags && unsure {
        let message = match action {
            Action::DeleteRole => format!("AWS does not show yet all that is on {own}"),
            _ => format!("{what} is on its way out of {own}"),
        };
        return Some(Failure::wait(LAG, message));
    }
    let by = match (users.join(", ").as_str(), bounds) {
        ("", true) => format!("it is the permissions boundary of {own}"),
        (users, true) => format!("it is the permissions boundary of {own}, and still used by {users}"),
        ("", false) => error.message.trim_end_matches('.').to_owned(),
        (users, false) => format!("still used by {users}"),
    };
    let remedy = match action {
        Action::DeleteRole => "Remove that in AWS, or set deletionPolicy: ForceDelete",
        _ if bounds => "Set another spec.permissionsBoundary or, where the spec has none, take it off in AWS",
        _ => "Remove that in AWS",
    };
    let message = format!("{what} can't be deleted: {by}. {remedy}; it goes on by itself");
    let message = if way_out.is_empty() { message } else { format!("{message}. {way_out}") };
    Some(Failure::slow(Reason::DeleteBlocked, message))
}
