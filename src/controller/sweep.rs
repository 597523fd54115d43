//! The walk over an account that finds drift: two or three calls a thousand roles, whatever their number.
//!
//! It writes nothing. A role that is as wanted needs no look of its own until the next walk; any other is woken and read
//! by itself. Pages are compared one by one, so that no account is held in memory.

use super::apply::facts;
use super::classes;
use super::context::{Context, RawRole};
use super::memory::{Basis, jitter};
use super::orphans::{self, Doubt, Stray};
use super::recover::kept;
use super::roles::{class_named, class_ref, period};
use super::status::find;
use super::subject::{Subject, version};
use super::sweeps::{Ended, Obstacle, UNSEEN, has_walks, is_walked, method};
use crate::api::iamrole::{Mode, PolicyRef};
use crate::api::iamroleclass::DriftMethod;
use crate::api::{ConditionType, IamRoleClass, TAG_CLUSTER};
use crate::aws::{Account, AwsError, Kind, RoleName, Ticket, Turn, Usage};
use crate::role::Record;
use crate::role::contest::Repairs;
use crate::role::desired::desired;
use crate::role::settings::settings;
use crate::role::sweep::{
    Detailed, Listed, ListedPolicy, Settled, cost_of_read, cost_of_walk, is_dearer, matches_policy,
};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// For so long those who ask for a walk are gathered.
const GATHER: Duration = Duration::from_millis(100);

/// Walks every account when it is due, for ever.
pub async fn run(ctx: Arc<Context>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        ctx.forget_gone_classes();
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
            Some(doubt) = under_way.next() => {
                // Apart from the walk, so that the next one comes in time.
                under_way.extend(doubt.map(|doubt| {
                    let confirmed = orphans::confirm(ctx.clone(), doubt).map(|()| None);
                    Ticket::new(Turn::Walk).scope(confirmed).boxed()
                }));
            }
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
    ways: Vec<Way>,
    interval: Duration,
    /// Those of its classes that have it walked.
    classes: Vec<Arc<IamRoleClass>>,
    /// A class wants the walk whatever it costs.
    is_forced: bool,
    /// A walk shows the drift of the roles of some class.
    is_covered: bool,
    /// It was walked when a class last said so, also by an earlier process.
    was_walked: bool,
}

/// An identity by which an account is reached.
#[derive(Clone)]
struct Way {
    account: Arc<Account>,
    /// The first class that leads there by it.
    class: Arc<IamRoleClass>,
}

fn accounts(ctx: &Context) -> BTreeMap<String, Swept> {
    let mut accounts: BTreeMap<String, Swept> = BTreeMap::new();
    let mut classes = ctx.classes.state();
    // So that the same identity walks each time.
    classes.sort_by_key(|class| class.name_any());
    for class in classes.iter().filter(|class| ctx.serves(class) && has_walks(&class.spec)) {
        let state = ctx.class_state(&class.name_any(), &class.uid().unwrap_or_default());
        let Some(account) = state.and_then(|state| state.account.ok()) else { continue };
        let is_walked = is_walked(&class.spec);
        let (is_forced, every) = (is_walked && method(&class.spec) == DriftMethod::Account, period(class));
        let swept = accounts.entry(account.account.id.clone()).or_insert_with(|| Swept {
            ways: Vec::new(),
            interval: every,
            classes: Vec::new(),
            is_forced,
            is_covered: is_walked,
            was_walked: false,
        });
        swept.classes.push(class.clone());
        swept.interval = swept.interval.min(every);
        swept.is_forced |= is_forced;
        swept.is_covered |= is_walked;
        let status = class.status.as_ref();
        swept.was_walked |= status.is_some_and(|status| status.drift_check_method == Some(DriftMethod::Account));
        if swept.ways.iter().all(|way| way.account.identity != account.identity) {
            swept.ways.push(Way { account, class: class.clone() });
        }
    }
    accounts
}

/// One walk, with all that follows from it but what is left in doubt.
async fn sweep(ctx: Arc<Context>, id: String, account: Swept) -> Option<Doubt> {
    let started = Instant::now();
    ctx.metrics.to_sweep(&id, account.interval);
    let mut walk = Walk::new(&ctx, &id, started);
    let walked = match walk.obstacle(&account) {
        // Nobody else would find roles of nobody.
        Some(obstacle) if !ctx.sweeps.may_hide_orphans(&id, started) => Err(Ended::Not(obstacle)),
        obstacle => match (walk.through(&account, obstacle).await, obstacle) {
            (Ok((by, strays)), obstacle) => Ok((by, strays, obstacle)),
            // For the roles themselves it was settled before; those of nobody are looked for again after an interval.
            (Err(Ended::Broken), Some(obstacle)) => {
                ctx.sweeps.missed(&id, Instant::now());
                Err(Ended::Not(obstacle))
            }
            (Err(ended), _) => Err(ended),
        },
    };
    let (ended, doubt) = match walked {
        Ok((by, strays, obstacle)) => {
            tracing::debug!(account = id, roles = walk.roles.len(), strays = strays.len(), "walked the account");
            ctx.metrics.swept(&id, started.elapsed());
            let (orphans, new) = orphans::sort(&ctx, &id, strays, started);
            let doubt =
                Doubt { account: id.clone(), by, strays: new, since: Instant::now(), classes: account.classes.clone() };
            (Ended::Complete { orphans, obstacle }, Some(doubt).filter(|doubt| !doubt.strays.is_empty()))
        }
        Err(ended) => (ended, None),
    };
    if matches!(ended, Ended::Complete { obstacle: Some(_), .. } | Ended::Not(_)) {
        ctx.metrics.not_swept(&id);
    }
    let before = ctx.sweeps.obstacle(&id);
    ctx.sweeps.end(&id, ended, Instant::now());
    let obstacle = ctx.sweeps.obstacle(&id);
    if obstacle != before {
        // Others have settled since the walk began.
        let roles = Walk::new(&ctx, &id, started);
        match obstacle {
            None => roles.take_over(account.interval),
            Some(obstacle) => {
                roles.leave_to_themselves(account.interval);
                tracing::info!(account = id, ?obstacle, "the account is not walked; each role is looked at by itself");
            }
        }
    }
    classes::tell(&ctx, &id, &account.classes);
    doubt
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
        let told = account.ways.iter().find_map(|way| way.account.usage);
        let usage = told.or_else(|| self.ctx.sweeps.size(self.account))?;
        let policies = self.owns_policies().then_some(usage.policies);
        let reads: usize = self.candidates().map(|candidate| candidate.cost).sum();
        let walk = cost_of_walk(usage.roles, policies);
        let dearer = !account.is_forced
            && is_dearer(walk, reads, self.ctx.sweeps.is_walked(self.account).unwrap_or(account.was_walked));
        dearer.then_some(Obstacle::Dearer)
    }

    fn owns_policies(&self) -> bool {
        self.candidates().any(|candidate| !candidate.own.is_empty())
    }

    /// Goes through the account by the first identity that may, beginning with the one that could the last time; returns it,
    /// with what belongs to no candidate.
    async fn through(
        &mut self,
        account: &Swept,
        obstacle: Option<Obstacle>,
    ) -> Result<(Arc<Account>, BTreeMap<String, Stray>), Ended> {
        let last = self.ctx.sweeps.walker(self.account);
        let (first, others): (Vec<&Way>, Vec<&Way>) =
            account.ways.iter().partition(|way| Some(&way.account.identity) == last.as_ref());
        let mut ended = Ended::Not(Obstacle::Denied);
        for Way { account: identity, class } in first.into_iter().chain(others) {
            match self.pages(identity).await {
                Ok(strays) => {
                    self.ctx.sweeps.walked_by(self.account, &identity.identity);
                    if obstacle.is_none() {
                        self.conclude(account.interval);
                    }
                    return Ok((identity.clone(), strays));
                }
                Err(error) if error.kind == Kind::Denied => {
                    tracing::warn!(account = self.account, %error, "may not walk the account; see docs/permissions.md");
                }
                Err(error) if error.kind == Kind::NoCredentials => {
                    tracing::info!(account = self.account, %error, "no walk over the account by this identity");
                    classes::doubt(self.ctx, class);
                    ended = Ended::Broken;
                }
                Err(error) => {
                    tracing::info!(account = self.account, %error, "the walk over the account did not end");
                    return Err(Ended::Broken);
                }
            }
        }
        Err(ended)
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
        let roles = account.walk_roles(&wanted, listed).await?;
        let of_interest =
            |role: &RoleName<'_>| wanted(role.name) || orphans::is_of(&ctx.cluster, role.tag(TAG_CLUSTER).as_deref());
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
                    None => strays.extend(orphans::stray(ctx, account, &seen).map(|stray| (seen.name, stray))),
                }
            }
        };
        account.walk_details(&of_interest, detailed).await?;
        let policies = self.policies(account).await?;
        self.ctx.sweeps.measured(self.account, Usage { roles, policies });
        Ok(strays)
    }

    /// Shows the account's policies to those who own some; returns how many there are.
    async fn policies(&mut self, account: &Account) -> Result<usize, AwsError> {
        if !self.owns_policies() {
            return Ok(0);
        }
        let known: BTreeSet<&str> = self.candidates().flat_map(|c| &c.own).map(|own| own.arn.as_str()).collect();
        let (mut seen, mut count) = (BTreeMap::new(), 0);
        let take = |page: Vec<ListedPolicy>| {
            count += page.len();
            let known = page.into_iter().filter(|policy| known.contains(policy.arn.as_str()));
            seen.extend(known.map(|policy| (policy.arn.clone(), policy)));
        };
        account.walk_policies(take).await?;
        for candidate in self.roles.values_mut().flatten() {
            let as_known = |own: &PolicyRef| seen.get(&own.arn).is_some_and(|seen| matches_policy(own, seen));
            candidate.differs |= !candidate.own.iter().all(as_known);
        }
        Ok(count)
    }

    /// Roles that are as wanted need no look until after the next walk; the others are looked at now.
    fn conclude(&self, interval: Duration) {
        for candidate in self.candidates() {
            let suspect = candidate.differs || !candidate.shown.listed || !candidate.shown.detailed;
            let Some(basis) = self.rests(&candidate.role, suspect) else { continue };
            let uid = candidate.role.metadata.uid.as_deref().unwrap_or_default();
            let now = Instant::now();
            let next = self.unseen(interval);
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

    /// When a role that the walk shows has not been shown for too long. The next walk may take as long as this one.
    fn unseen(&self, interval: Duration) -> Instant {
        Instant::now() + UNSEEN * jitter(interval) + self.started.elapsed()
    }

    /// What the role was made from, if nothing changed since before the first page, by us or in the object, and what is
    /// known of it is sure. One that is due for a look of its own needs none: the walk was that look. A `suspect` stays one whoever labels the object meanwhile: or that would put off its repair.
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
            let doubtful = entry.unsure || entry.repairs.1.unconfirmed();
            recently || doubtful || entry.written_version > version(role)
        });
        let (subject, class) = settled(self.ctx, role).filter(|_| !busy)?;
        Some((subject.generation, class_ref(&class)))
    }

    /// From now on walks are for the roles, also for those that were written too late for the first one.
    fn take_over(&self, interval: Duration) {
        for candidate in self.candidates() {
            let uid = candidate.role.metadata.uid.as_deref().unwrap_or_default();
            let (now, next) = (Instant::now(), self.unseen(interval));
            self.ctx.memory.with(uid, |entry| {
                // What is to be looked at soon is not sure.
                let rests = !entry.suspect && entry.next_check.is_some_and(|at| at > now + self.ctx.settle);
                entry.next_check = entry.next_check.map(|at| if rests { next.max(at) } else { at });
            });
        }
    }

    /// Nobody looks at the roles but they themselves, each at another time. Those that this process has not looked at yet
    /// find one when they do.
    fn leave_to_themselves(&self, interval: Duration) {
        for (i, candidate) in (0u32..).zip(self.candidates()) {
            let share = f64::from(i) / f64::from(u32::try_from(self.roles.len()).unwrap_or(u32::MAX));
            let at = Instant::now() + interval.mul_f64(share);
            let uid = candidate.role.metadata.uid.as_deref().unwrap_or_default();
            let sooner = self.ctx.memory.with(uid, |entry| {
                let sooner = entry.next_check.is_some_and(|next| next > at);
                // What is to be looked at sooner is not sure.
                entry.next_check = entry.next_check.map(|next| next.min(at));
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
    // The identity that walks may have been told less of the quotas than the one that serves the role.
    let state = ctx.class_state(&class.name_any(), &class.uid().unwrap_or_default());
    let own = state.and_then(|state| state.account.ok()).filter(|own| own.account == account.account);
    let account = own.as_deref().unwrap_or(account);
    let mut desired = desired(spec, &settings, facts(ctx, class, account, &owner)).ok()?;
    desired.exceptions.keep_found(kept(subject, class));
    let (record, unlisted) = (Record::from_status(&subject.status), subject.status.unlisted.clone());
    Some(Settled { desired, record, unlisted, attachments: account.quotas.attachments })
}
