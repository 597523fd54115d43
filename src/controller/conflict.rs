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
    /// Lists may not show yet what was put on it a moment ago.
    pub lags: bool,
}

/// Why something of the role can't be deleted, and who uses it; `None` where nobody is in the way.
pub async fn conflict(
    account: &Account,
    view: View<'_>,
    action: &Action,
    error: &AwsError,
    way_out: &str,
) -> Option<Failure> {
    let View { role, stays, lags } = view;
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
    if users == [own.as_str()] && !stays {
        // It was detached a moment ago.
        return Some(Failure::wait(LAG, format!("{what} is on its way out of {own}")));
    }
    users.retain(|user| stays || *user != own);
    if users.is_empty() && lags && matches!(action, Action::DeleteRole) {
        return Some(Failure::wait(LAG, format!("AWS does not show yet all that is on {own}")));
    }
    let by = if users.is_empty() {
        error.message.trim_end_matches('.').to_owned()
    } else {
        format!("still used by {}", users.join(", "))
    };
    let force = if matches!(action, Action::DeleteRole) { ", or set deletionPolicy: ForceDelete" } else { "" };
    let message = format!("{what} can't be deleted: {by}. Remove that in AWS{force}; it goes on by itself");
    let message = if way_out.is_empty() { message } else { format!("{message}. {way_out}") };
    Some(Failure::slow(Reason::DeleteBlocked, message))
}
