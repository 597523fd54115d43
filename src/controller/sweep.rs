//! The walk over an account that finds drift: two or three calls a thousand roles, whatever their number.
//!
//! It writes nothing. A role that is as wanted needs no look of its own until the next walk; any other is woken and read
//! by itself. Pages are compared one by one, so that no account is held in memory.

use super::apply::{count, facts};
use super::context::{Context, RawRole};
use super::events::Tone;
use super::memory::{Basis, jitter};
use super::recover::kept;
use super::roles::{class_named, class_ref, period};
use super::status::find;
use super::subject::{Subject, version};
use super::sweeps::{Ended, Obstacle, has_walks, is_walked, method};
use crate::api::iamrole::{Mode, PolicyRef};
use crate::api::iamroleclass::DriftMethod;
use crate::api::{ConditionType, IamRoleClass, Reason, TAG_CLUSTER, TAG_NAME, TAG_NAMESPACE};
use crate::aws::{Account, AwsError, Kind, RoleName, Ticket, Turn};
use crate::role::contest::Repairs;
use crate::role::desired::desired;
use crate::role::settings::settings;
use crate::role::sweep::{
    Detailed, Listed, ListedPolicy, Settled, cost_of_read, cost_of_walk, has_news, matches_policy,
};
use crate::role::{Cluster, Record};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// So many roles of nobody are named in an event, which holds 1024 characters.
const NAMED: usize = 10;
/// For so long those who ask for a walk are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// A role that no walk has shown for so many intervals is looked at by itself.
pub const UNSEEN: u32 = 2;

/// Walks every account when it is due, for ever.
pub async fn run(ctx: Arc<Context>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        let accounts = accounts(&ctx);
        ctx.metrics.sweep_only(|account| accounts.contains_key(account));
        let intervals = accounts.iter().map(|(id, account)| (id.clone(), account.interval)).collect();
        let (begins, next) = ctx.sweeps.begin(&intervals, Instant::now());
        for id in begins {
            let Some(account) = accounts.get(&id).cloned() else { continue };
            under_way.push(Ticket::new(Turn::Walk).scope(sweep(ctx.clone(), id, account)).boxed());
        }
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => futures::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = gathered(&ctx) => {}
            Some(()) = under_way.next() => {}
        }
    }
}

/// Something may be due sooner. Many roles and classes say so at once, and each time all classes are gone through.
async fn gathered(ctx: &Context) {
    ctx.sweeps.wake.notified().await;
    tokio::time::sleep(GATHER).await;
}

/// An account that classes lead to.
#[derive(Clone)]
struct Swept {
    /// The identities by which it is reached; one may be permitted more than another.
    identities: Vec<Arc<Account>>,
    interval: Duration,
    /// Its classes by name; the first tells what is of the account as a whole.
    classes: Vec<Arc<IamRoleClass>>,
    /// A class wants the walk whatever it costs.
    is_forced: bool,
    /// A walk shows the drift of the roles of some class.
    is_covered: bool,
}

fn accounts(ctx: &Context) -> BTreeMap<String, Swept> {
    let mut accounts: BTreeMap<String, Swept> = BTreeMap::new();
    let mut classes = ctx.classes.state();
    classes.sort_by_key(|class| class.name_any());
    for class in classes.iter().filter(|class| ctx.serves(class) && has_walks(&class.spec)) {
        let state = ctx.class_state(&class.name_any(), &class.uid().unwrap_or_default());
        let Some(account) = state.and_then(|state| state.account.ok()) else { continue };
        let is_walked = is_walked(&class.spec);
        let (is_forced, every) = (is_walked && method(&class.spec) == DriftMethod::Account, period(class));
        let swept = accounts.entry(account.account.id.clone()).or_insert_with(|| Swept {
            identities: Vec::new(),
            interval: every,
            classes: Vec::new(),
            is_forced,
            is_covered: is_walked,
        });
        swept.classes.push(class.clone());
        swept.interval = swept.interval.min(every);
        swept.is_forced |= is_forced;
        swept.is_covered |= is_walked;
        if swept.identities.iter().all(|known| known.identity != account.identity) {
            swept.identities.push(account);
        }
    }
    accounts
}

/// One walk, with all that follows from it.
async fn sweep(ctx: Arc<Context>, id: String, account: Swept) {
    let started = Instant::now();
    ctx.metrics.to_sweep(&id, account.interval);
    let mut walk = Walk::new(&ctx, &id, started);
    let ended = match walk.obstacle(&account) {
        // Nobody else would find roles of nobody.
        Some(obstacle) if !ctx.sweeps.may_hide_orphans(&id, started) => Ended::Not(obstacle),
        obstacle => walk.through(&account, obstacle).await,
    };
    if let Ended::Complete { orphans, .. } = &ended {
        tracing::debug!(account = id, roles = walk.roles.len(), orphans = orphans.len(), "walked the account");
        ctx.metrics.swept(&id, started.elapsed(), orphans.len());
        if walk.is_news(orphans) {
            let note = orphans_note(&id, orphans);
            if let Some(class) = account.classes.first() {
                let reference = class.object_ref(&());
                ctx.events.publish(&reference, Tone::Warning, Reason::OrphanedRoles, "Sweep", &note).await;
            }
        }
    }
    match &ended {
        Ended::Complete { obstacle: Some(obstacle), .. } | Ended::Not(obstacle) => {
            ctx.metrics.not_swept(&id);
            let is_new = ctx.sweeps.obstacle(&id) != Some(*obstacle);
            if is_new {
                walk.leave_to_themselves(account.interval);
                tracing::info!(account = id, ?obstacle, "the account is not walked; each role is looked at by itself");
            }
        }
        Ended::Complete { obstacle: None, .. } | Ended::Broken => {}
    }
    ctx.sweeps.end(&id, ended, Instant::now());
    for class in &account.classes {
        let class = ctx.classes.get(&ObjectRef::from_obj(class.as_ref()));
        let tells = |class: &Arc<IamRoleClass>| {
            let mut status = class.status.clone().unwrap_or_default();
            super::classes::tell_of_walks(class, &ctx, &id, &mut status);
            class.status.as_ref() == Some(&status)
        };
        if let Some(class) = class.filter(|class| !tells(class)) {
            // The receiver lives as long as the controller.
            let _ = ctx.wake_class.unbounded_send(ObjectRef::from_obj(class.as_ref()));
        }
    }
}

/// What to do about roles that belong to nobody.
fn orphans_note(account: &str, orphans: &BTreeSet<String>) -> String {
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

/// A role of ours, while the pages pass.
struct Candidate {
    role: Arc<RawRole>,
    /// Policies that it owns, as status has them.
    own: Vec<PolicyRef>,
    /// Calls that it takes to read it by itself.
    cost: usize,
    /// It has what no walk shows: the tags of own policies and instance profiles.
    has_hidden: bool,
    shown: Shown,
    differs: bool,
}

/// Which of the calls have shown it.
#[derive(Default)]
struct Shown {
    listed: bool,
    detailed: bool,
}

struct Walk<'a> {
    ctx: &'a Context,
    account: &'a str,
    started: Instant,
    /// By lower-case name. Status may be forged, so several objects may say that a role is theirs.
    roles: HashMap<String, Vec<Candidate>>,
}

impl<'a> Walk<'a> {
    fn new(ctx: &'a Context, account: &'a str, started: Instant) -> Self {
        let roles = ctx.scopes.iter().flat_map(|scope| scope.store.state());
        let mut by_name: HashMap<String, Vec<Candidate>> = HashMap::new();
        for (name, candidate) in roles.filter_map(|role| candidate(ctx, account, role)) {
            by_name.entry(name).or_default().push(candidate);
        }
        Self { ctx, account, started, roles: by_name }
    }

    fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.roles.values().flatten()
    }

    fn obstacle(&self, account: &Swept) -> Option<Obstacle> {
        if !account.is_covered {
            return Some(Obstacle::Dearer);
        }
        // One identity may be permitted to ask for it, and another not.
        let usage = account.identities.iter().find_map(|identity| identity.usage)?;
        let policies = self.owns_policies().then_some(usage.policies);
        let reads: usize = self.candidates().map(|candidate| candidate.cost).sum();
        let dearer = !account.is_forced && cost_of_walk(usage.roles, policies) > reads;
        dearer.then_some(Obstacle::Dearer)
    }

    fn owns_policies(&self) -> bool {
        self.candidates().any(|candidate| !candidate.own.is_empty())
    }

    async fn through(&mut self, account: &Swept, obstacle: Option<Obstacle>) -> Ended {
        for identity in &account.identities {
            let walked = match self.pages(identity).await {
                Ok(strays) => {
                    if obstacle.is_none() {
                        // Roles of nobody may take long to confirm, and the others must not wait for that.
                        self.conclude(account.interval);
                    }
                    self.confirm(identity, strays).await
                }
                Err(error) => Err(error),
            };
            match walked {
                Ok(orphans) => return Ended::Complete { orphans, obstacle },
                Err(error) if error.kind == Kind::Denied => {
                    tracing::warn!(account = self.account, %error, "may not walk the account; see docs/permissions.md");
                }
                Err(error) => {
                    tracing::info!(account = self.account, %error, "the walk over the account did not end");
                    return Ended::Broken;
                }
            }
        }
        Ended::Not(Obstacle::Denied)
    }

    /// Shows the account to all candidates; returns what has our tags and is no candidate's.
    async fn pages(&mut self, account: &Arc<Account>) -> Result<BTreeMap<String, Stray>, AwsError> {
        let ctx = self.ctx;
        let names: BTreeSet<String> = self.roles.keys().cloned().collect();
        let wanted = |name: &str| names.contains(&name.to_lowercase());
        let listed = |page: Vec<Listed>| {
            for seen in page {
                for candidate in self.roles.get_mut(&seen.name.to_lowercase()).into_iter().flatten() {
                    candidate.shown.listed = true;
                    candidate.compare(ctx, account, |settled| settled.matches_listed(&seen));
                }
            }
        };
        account.walk_roles(&wanted, listed).await?;
        let of_interest =
            |role: &RoleName<'_>| wanted(role.name) || is_of(&ctx.cluster, role.tag(TAG_CLUSTER).as_deref());
        let mut strays = BTreeMap::new();
        let detailed = |page: Vec<Detailed>| {
            for seen in page {
                match self.roles.get_mut(&seen.name.to_lowercase()) {
                    Some(candidates) => {
                        for candidate in candidates {
                            candidate.shown.detailed = true;
                            candidate.compare(ctx, account, |settled| settled.matches_detailed(&seen));
                        }
                    }
                    None => strays.extend(stray(ctx, account, &seen).map(|stray| (seen.name, stray))),
                }
            }
        };
        account.walk_details(&of_interest, detailed).await?;
        self.policies(account).await?;
        Ok(strays)
    }

    async fn policies(&mut self, account: &Account) -> Result<(), AwsError> {
        if !self.owns_policies() {
            return Ok(());
        }
        let known: BTreeSet<&str> = self.candidates().flat_map(|c| &c.own).map(|own| own.arn.as_str()).collect();
        let mut seen = BTreeMap::new();
        let take = |page: Vec<ListedPolicy>| {
            let known = page.into_iter().filter(|policy| known.contains(policy.arn.as_str()));
            seen.extend(known.map(|policy| (policy.arn.clone(), policy)));
        };
        account.walk_policies(take).await?;
        for candidate in self.roles.values_mut().flatten() {
            let as_known = |own: &PolicyRef| seen.get(&own.arn).is_some_and(|seen| matches_policy(own, seen));
            candidate.differs |= !candidate.own.iter().all(as_known);
        }
        Ok(())
    }

    /// Those that were told already, by this process or the one before, and how many the classes tell of.
    fn known_orphans(&self) -> (BTreeSet<String>, usize) {
        let classes = self.ctx.classes.state();
        let served = classes.iter().filter(|class| self.ctx.serves(class));
        let status = served.filter_map(|class| class.status.as_ref());
        let of_account = status.filter(|status| status.account_id.as_deref() == Some(self.account));
        let mut known = self.ctx.sweeps.orphans(self.account);
        let mut told = 0;
        for status in of_account {
            known.extend(status.orphaned_roles.iter().cloned());
            told = told.max(status.orphaned_role_count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0));
        }
        (known, told)
    }

    fn is_news(&self, orphans: &BTreeSet<String>) -> bool {
        let (known, told) = self.known_orphans();
        has_news(orphans, &known, (!self.ctx.sweeps.is_decided(self.account)).then_some(told))
    }

    /// A page may be from before a deletion, so what is there is asked for by name. That read may be late as well: what
    /// we deleted a moment ago is known, and what the process before this one deleted at its end is waited for.
    async fn confirm(&self, account: &Account, strays: BTreeMap<String, Stray>) -> Result<BTreeSet<String>, AwsError> {
        let (known, told) = self.known_orphans();
        // Class status names some of many. As many as the process before this one told of are the same ones.
        let names: BTreeSet<String> = strays.keys().cloned().collect();
        if !self.ctx.sweeps.is_decided(self.account) && told == names.len() && known.is_subset(&names) {
            return Ok(names);
        }
        let (old, mut new): (Vec<_>, Vec<_>) = strays.into_iter().partition(|(name, _)| known.contains(name));
        let mut orphans: BTreeSet<String> = old.into_iter().map(|(name, _)| name).collect();
        new.retain(|(name, stray)| !self.is_past(name, stray));
        if !new.is_empty() {
            tokio::time::sleep_until(self.ctx.started + self.ctx.settle).await;
        }
        for (name, stray) in new {
            // One that nobody may read is told by a later walk, or never; that is no reason to stop here.
            match account.role_id(&name).await {
                Ok(found) if found.as_ref() == Some(&stray.id) && stray.is_free(self.ctx, account, &name) => {
                    orphans.insert(name);
                }
                Ok(_) => {}
                Err(error) => tracing::info!(%error, "a role that seems to belong to nobody can't be read"),
            }
        }
        Ok(orphans)
    }

    fn is_past(&self, name: &str, stray: &Stray) -> bool {
        let (now, settle) = (self.ctx.started.elapsed(), self.ctx.settle);
        self.ctx.sweeps.departed(|departed| departed.may_show_past(self.account, name, &stray.id, now, settle))
    }

    /// Roles that are as wanted need no look until after the next walk; the others are looked at now.
    fn conclude(&self, interval: Duration) {
        for candidate in self.candidates() {
            let suspect = candidate.differs || !candidate.shown.listed || !candidate.shown.detailed;
            let Some(basis) = self.rests(&candidate.role, suspect) else { continue };
            let uid = candidate.role.metadata.uid.as_deref().unwrap_or_default();
            let now = Instant::now();
            let next = now + UNSEEN * jitter(interval);
            let looks = self.ctx.memory.with(uid, |entry| {
                let looks = suspect || (candidate.has_hidden && entry.hidden_is_due(now));
                entry.suspect = looks;
                entry.next_check = Some(next);
                entry.recent.tidy(self.ctx.started.elapsed(), self.ctx.settle);
                if !suspect {
                    if entry.repairs.0 != basis {
                        entry.repairs = (basis, Repairs::default());
                    }
                    // What differs from now on was made by somebody, and is no wording of AWS.
                    entry.repairs.1.seen_as_wanted();
                }
                looks
            });
            if suspect {
                self.ctx.metrics.suspected();
            }
            if looks {
                self.ctx.wake_role(&candidate.role);
            }
        }
    }

    /// What the role was made from, if nothing changed since before the first page, by us or in the object, and no look
    /// of its own is due. A `suspect` stays one whoever labels the object meanwhile: or that would put off its repair.
    fn rests(&self, role: &RawRole, suspect: bool) -> Option<Basis> {
        let (namespace, name) = (role.namespace().unwrap_or_default(), role.name_any());
        let now = self.ctx.cached_role(&namespace, &name)?;
        let same_spec = now.metadata.uid == role.metadata.uid && now.metadata.generation == role.metadata.generation;
        if !same_spec || (!suspect && version(&now) != version(role)) {
            return None;
        }
        let since = self.ctx.settle + self.started.elapsed();
        let uid = role.metadata.uid.as_deref().unwrap_or_default();
        let busy = self.ctx.memory.with(uid, |entry| {
            let recently = entry.recent.wrote_within(since, self.ctx.started.elapsed());
            let is_due = entry.next_check.is_some_and(|at| at <= Instant::now());
            let doubtful = entry.unsure || entry.repairs.1.unconfirmed();
            recently || is_due || doubtful || entry.written_version > version(role)
        });
        let (subject, class) = settled(self.ctx, role).filter(|_| !busy)?;
        Some((subject.generation, class_ref(&class)))
    }

    /// Nobody looks at the roles but they themselves, each at another time.
    fn leave_to_themselves(&self, interval: Duration) {
        for (i, candidate) in (0u32..).zip(self.candidates()) {
            let share = f64::from(i) / f64::from(u32::try_from(self.roles.len()).unwrap_or(u32::MAX));
            let at = Instant::now() + interval.mul_f64(share);
            let uid = candidate.role.metadata.uid.as_deref().unwrap_or_default();
            let sooner = self.ctx.memory.with(uid, |entry| {
                let sooner = entry.next_check.is_some_and(|next| next > at);
                entry.next_check = entry.next_check.map(|_| at);
                sooner
            });
            if sooner {
                self.ctx.wake_role(&candidate.role);
            }
        }
    }
}

impl Candidate {
    fn compare(&mut self, ctx: &Context, account: &Account, matches: impl FnOnce(&Settled) -> bool) {
        if self.differs {
            return;
        }
        // What is not settled is not judged in the end.
        let Some((subject, class)) = settled(ctx, &self.role) else { return };
        // A class or an account that has changed since makes a look necessary.
        let settled = as_settled(ctx, &subject, &class, account);
        self.differs = settled.is_none_or(|settled| settled.record.has_rests(&settled.desired) || !matches(&settled));
    }
}

/// The role of an object, by lower-case name, if walks over the account are for it.
fn candidate(ctx: &Context, account: &str, role: Arc<RawRole>) -> Option<(String, Candidate)> {
    let here = role.said.account.as_deref() == Some(account) && role.said.has_role;
    let class = role.said.class.as_deref().filter(|_| here)?;
    let class = ctx.classes.get(&ObjectRef::new(class))?;
    if !ctx.serves(&class) || !is_walked(&class.spec) || role.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let name = role.said.role_name.as_deref()?.to_lowercase();
    let status = Subject::new(role.as_ref().clone()).status;
    // For a suspended role AWS is not asked, and one that observes asks for itself.
    let is_suspended = find(&status.conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "Unknown");
    let enforces = status.effective.as_ref().is_some_and(|effective| effective.mode == Mode::Enforce);
    if is_suspended || !enforces {
        return None;
    }
    let record = Record::from_status(&status);
    let has_hidden = !record.own.is_empty() || record.profile.is_some();
    let (cost, own) = (cost_of_read(&record), record.own);
    Some((name, Candidate { role, own, cost, has_hidden, shown: Shown::default(), differs: false }))
}

/// The object with its class, if it is at rest: applied, and nobody has asked for anything since. One that only observes
/// looks for itself, since its status tells more than a walk shows.
fn settled(ctx: &Context, role: &RawRole) -> Option<(Subject, Arc<IamRoleClass>)> {
    let subject = Subject::new(role.clone());
    let class = class_named(&subject, ctx)?;
    let rests = subject.is_settled(&class) && subject.requested().is_none();
    let effective = subject.status.effective.as_ref();
    let enforces = effective.is_some_and(|effective| effective.mode == Mode::Enforce);
    (rests && enforces && !subject.is_deleted()).then_some((subject, class))
}

/// The role as it should be; `None` where the spec can't be carried out (any more).
fn as_settled(ctx: &Context, subject: &Subject, class: &IamRoleClass, account: &Account) -> Option<Settled> {
    let spec = subject.spec.as_ref().ok()?;
    let origin = subject.status.role.as_ref().and_then(|role| role.origin);
    let settings = settings(spec, Some(&class.spec), origin, subject.suspend_annotation());
    if settings.mode != Mode::Enforce || settings.suspended_by.is_some() {
        return None;
    }
    let owner = subject.owner(ctx, class);
    let mut desired = desired(spec, &settings, facts(ctx, class, account, &owner)).ok()?;
    desired.exceptions.keep_found(kept(subject, class));
    let (record, unlisted) = (Record::from_status(&subject.status), subject.status.unlisted.clone());
    Some(Settled { desired, record, unlisted, attachments: account.quotas.attachments })
}

fn is_of(cluster: &Cluster, tag: Option<&str>) -> bool {
    tag.is_some_and(|tag| cluster.is_named_by(tag))
}

/// A role that carries this cluster's tags and that no object has.
struct Stray {
    id: String,
    /// The object that its tags tell of.
    object: (String, String),
}

/// The role, if it is one. What lies in a namespace that is not watched nobody here knows.
fn stray(ctx: &Context, account: &Account, seen: &Detailed) -> Option<Stray> {
    let object = (seen.tags.get(TAG_NAMESPACE)?.clone(), seen.tags.get(TAG_NAME)?.clone());
    let is_watched = ctx.scopes.iter().any(|scope| scope.namespace.as_ref().is_none_or(|only| *only == object.0));
    let is_here = is_of(&ctx.cluster, seen.tags.get(TAG_CLUSTER).map(String::as_str)) && is_watched;
    let stray = Stray { id: seen.id.clone(), object };
    (is_here && stray.is_free(ctx, account, &seen.name)).then_some(stray)
}

impl Stray {
    fn is_free(&self, ctx: &Context, account: &Account, role: &str) -> bool {
        let is_another = |object: Arc<RawRole>| {
            let elsewhere = object.said.account.as_deref().is_some_and(|id| id != account.account.id);
            object.said.role_name.as_deref().is_some_and(|known| elsewhere || !known.eq_ignore_ascii_case(role))
        };
        ctx.cached_role(&self.object.0, &self.object.1).is_none_or(is_another)
    }
}
