//! Roles that carry this cluster's tags and belong to no object. A walk over their account finds them; they are told, and
//! never deleted.

use super::apply::count;
use super::classes;
use super::context::{Context, RawRole};
use super::events::Tone;
use crate::api::{IamRoleClass, Reason, TAG_CLUSTER, TAG_NAME, TAG_NAMESPACE};
use crate::aws::{Account, Kind};
use crate::role::Cluster;
use crate::role::sweep::{Detailed, has_news};
use kube::Resource as _;
use kube::runtime::reflector::ObjectRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// So many roles of nobody are named in an event, which holds 1024 characters.
const NAMED: usize = 10;

/// No more are asked for by name at once; another walk takes two calls for a thousand.
const ASKED: usize = 50;

/// A role that carries this cluster's tags and that no object has.
pub struct Stray {
    id: String,
    /// An earlier walk has shown it, and that long ago that this one does not show the past.
    is_sure: bool,
    /// The object that its tags tell of.
    object: (String, String),
}

/// The role, if it is one. What lies in a namespace that is not watched nobody here knows.
pub fn stray(ctx: &Context, account: &Account, seen: &Detailed) -> Option<Stray> {
    let object = (seen.tags.get(TAG_NAMESPACE)?.clone(), seen.tags.get(TAG_NAME)?.clone());
    let is_watched = ctx.scopes.iter().any(|scope| scope.namespace.as_ref().is_none_or(|only| *only == object.0));
    let is_here = is_of(&ctx.cluster, seen.tags.get(TAG_CLUSTER).map(String::as_str)) && is_watched;
    let stray = Stray { id: seen.id.clone(), is_sure: false, object };
    (is_here && stray.is_free(ctx, account, &seen.name)).then_some(stray)
}

/// Whether the tag names this cluster.
pub fn is_of(cluster: &Cluster, tag: Option<&str>) -> bool {
    tag.is_some_and(|tag| cluster.is_named_by(tag))
}

impl Stray {
    fn is_free(&self, ctx: &Context, account: &Account, role: &str) -> bool {
        let is_another = |object: Arc<RawRole>| {
            let elsewhere = object.said.account.as_deref().is_some_and(|id| id != account.account.id);
            object.said.role_name.as_deref().is_some_and(|known| elsewhere || !known.eq_ignore_ascii_case(role))
        };
        ctx.cached_role(&self.object.0, &self.object.1).is_none_or(is_another)
    }

    fn is_past(&self, ctx: &Context, account: &str, role: &str) -> bool {
        let (now, settle) = (ctx.started.elapsed(), ctx.settle);
        ctx.sweeps.departed(|departed| departed.may_show_past(account, role, &self.id, now, settle))
    }
}

/// Those that were told already. Before this process has looked: by the one before, as far as class status names them, and
/// how many that told of.
fn known(ctx: &Context, account: &str) -> (BTreeSet<String>, Option<usize>) {
    if let Some(known) = ctx.sweeps.orphans(account) {
        return (known, None);
    }
    let classes = ctx.classes.state();
    let served = classes.iter().filter(|class| ctx.serves(class));
    let status = served.filter_map(|class| class.status.as_ref());
    let (mut known, mut told) = (BTreeSet::new(), 0);
    for status in status.filter(|status| status.account_id.as_deref() == Some(account)) {
        known.extend(status.orphaned_roles.iter().cloned());
        told = told.max(status.orphaned_role_count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0));
    }
    (known, Some(told))
}

/// Of what a walk that began then has found, the roles that were told before, and those that it is the first to show.
pub fn sort(
    ctx: &Context,
    account: &str,
    strays: BTreeMap<String, Stray>,
    begun: Instant,
) -> (BTreeSet<String>, BTreeMap<String, Stray>) {
    let (now, (known, told)) = (Instant::now(), known(ctx, account));
    let names: BTreeSet<String> = strays.keys().cloned().collect();
    // Class status names some of many. As many as the process before this one told of are the same ones.
    if told == Some(names.len()) && known.is_subset(&names) {
        ctx.sweeps.appear(account, BTreeMap::new(), now);
        return (names, BTreeMap::new());
    }
    let (old, mut new): (BTreeMap<_, _>, BTreeMap<_, _>) =
        strays.into_iter().partition(|(name, _)| known.contains(name));
    new.retain(|name, stray| !stray.is_past(ctx, account, name));
    let again = ctx.sweeps.shown_again(account, &ids(&new), begun);
    let first = ctx.sweeps.appear(account, ids(&new), now);
    let are_many = first.len() > ASKED;
    if are_many {
        let many = ids(&new).into_iter().filter(|(name, _)| first.contains(name)).collect();
        ctx.sweeps.put_off(account, many, now + ctx.settle);
    }
    new.retain(|name, stray| {
        stray.is_sure = again.contains(name);
        stray.is_sure || (!are_many && first.contains(name))
    });
    (old.into_keys().collect(), new)
}

fn ids(strays: &BTreeMap<String, Stray>) -> BTreeMap<String, String> {
    strays.iter().map(|(name, stray)| (name.clone(), stray.id.clone())).collect()
}

/// Roles that a walk was the first to show as nobody's.
pub struct Doubt {
    /// Where they are.
    pub account: String,
    /// By which identity they were found.
    pub by: Arc<Account>,
    /// They themselves, by name.
    pub strays: BTreeMap<String, Stray>,
    /// When they were found.
    pub since: Instant,
    /// The classes of the account.
    pub classes: Vec<Arc<IamRoleClass>>,
}

/// Tells the roles that are nobody's indeed. The page may have been from before a deletion, by this process, by the one
/// before or by another installation, so each is asked for by name, and not before that read can be late no more.
pub async fn confirm(ctx: Arc<Context>, doubt: Doubt) {
    let Doubt { account, by, strays, since, classes } = doubt;
    if strays.values().any(|stray| !stray.is_sure) {
        tokio::time::sleep_until(since + ctx.settle).await;
    }
    let (mut free, mut missed) = (BTreeSet::new(), false);
    for (name, stray) in &strays {
        if stray.is_sure {
            free.extend(Some(name.clone()).filter(|name| stray.is_free(&ctx, &by, name)));
            continue;
        }
        // One that nobody may read is not told; that is no reason to stop here.
        match by.role_id(name).await {
            Ok(found) if found.as_ref() == Some(&stray.id) && stray.is_free(&ctx, &by, name) => {
                free.insert(name.clone());
            }
            Ok(_) => {}
            Err(error) => {
                missed |= matches!(error.kind, Kind::Busy | Kind::Transient);
                if error.kind == Kind::Denied {
                    ctx.sweeps.refused(&account, name.clone(), stray.id.clone(), Instant::now());
                }
                tracing::info!(%error, "a role that seems to belong to nobody can't be read");
            }
        }
    }
    let (known, told) = known(&ctx, &account);
    let orphans = ctx.sweeps.confirm(&account, &ids(&strays), &free);
    if missed {
        ctx.sweeps.missed(&account, Instant::now());
    }
    let Some(orphans) = orphans else { return };
    let first = ctx.first_class(&account).and_then(|name| ctx.classes.get(&ObjectRef::new(&name)));
    let now_first = first.clone();
    if has_news(&orphans, &known, told)
        && let Some(class) = first
    {
        let (reference, note) = (class.object_ref(&()), note(&account, &orphans));
        ctx.events.publish(&reference, Tone::Warning, Reason::OrphanedRoles, "Sweep", &note).await;
    }
    // Another one may be the first by now.
    let classes: Vec<_> = classes.into_iter().chain(now_first).collect();
    classes::tell(&ctx, &account, &classes);
}

/// What to do about them.
fn note(account: &str, orphans: &BTreeSet<String>) -> String {
    let names: Vec<&str> = orphans.iter().take(NAMED).map(String::as_str).collect();
    let more = orphans.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "owner tags of this cluster, and no IamRole to which it belongs: {} in account {account} ({}{more}). Delete it in \
         AWS, or apply an IamRole of the namespace and name that its tags tell",
        count(orphans.len(), "role"),
        names.join(", "),
    )
}
