//! The condition `IdentityBound`: all that was found about the ServiceAccounts of a role, in one.

use crate::api::{ConditionType, IamRoleStatus, Reason};
use crate::aws::{AwsError, Kind};
use crate::controller::roles::now;
use crate::controller::status::{Tri, find, shorten};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The reasons by weight: what keeps all pods from the role comes first.
const BY_WEIGHT: [Reason; 5] = [
    Reason::NoOidcProvider,
    Reason::AudienceNotRegistered,
    Reason::ServiceAccountConflict,
    Reason::ServiceAccountMissing,
    Reason::KubernetesError,
];
/// How many findings a message shows.
const SHOWN: usize = 10;

/// What stands in the way of the pods, or could not be found out.
#[derive(Clone, Debug, Default)]
pub struct Findings(Vec<Finding>);

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub reason: Reason,
    /// What it is and what to do.
    pub message: String,
    /// Whether it is certain; what could not be found out is not.
    pub certain: bool,
    /// Whether it only has to be known: new pods get the role all the same.
    pub harmless: bool,
    /// Whether it passes by itself.
    pub passes: Passes,
    /// The ServiceAccount that belongs to somebody else, if it is that.
    pub account: Option<String>,
}

/// Whether a finding passes by itself: what was found before stays until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// It does not.
    Never,
    /// In a while.
    ByItself,
    /// Within seconds.
    Soon,
}

impl Finding {
    fn passes(&self) -> bool {
        self.passes != Passes::Never
    }

    /// What stands in the way.
    pub fn certain(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, message, certain: true, harmless: false, passes: Passes::Never, account: None }
    }

    /// A `ServiceAccount` that belongs to somebody else.
    pub fn conflict(account: &str, message: impl Into<String>) -> Self {
        Self { account: Some(account.to_owned()), ..Self::certain(Reason::ServiceAccountConflict, message) }
    }

    /// What could not be found out.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { certain: false, ..Self::certain(reason, message) }
    }

    /// What could not be found out just now.
    pub fn passing(reason: Reason, message: impl Into<String>) -> Self {
        Self { passes: Passes::ByItself, ..Self::unknown(reason, message) }
    }

    /// What a moment will tell.
    pub fn soon(message: impl Into<String>) -> Self {
        Self { passes: Passes::Soon, ..Self::unknown(Reason::Busy, message) }
    }

    /// A call to AWS that failed.
    pub fn of_aws(error: &AwsError) -> Self {
        let passes = if matches!(error.kind, Kind::Busy | Kind::Transient) { Passes::ByItself } else { Passes::Never };
        Self { passes, ..Self::unknown(error.kind.reason(), error.to_string()) }
    }
}

/// The condition to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    status: Tri,
    /// Reason.
    pub reason: Reason,
    /// Message.
    pub message: String,
}

impl Verdict {
    /// Whether all is well.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.reason == Reason::Bound
    }
}

impl Findings {
    /// Adds what stands in the way.
    pub fn add(&mut self, reason: Reason, message: impl Into<String>) {
        self.extend(Some(Finding::certain(reason, message)));
    }

    /// Adds a `ServiceAccount` that belongs to somebody else.
    pub fn conflict(&mut self, account: &str, message: impl Into<String>) {
        self.extend(Some(Finding::conflict(account, message)));
    }

    /// Whether the `ServiceAccount` belongs to somebody else.
    pub fn is_in_conflict(&self, account: &str) -> bool {
        self.0.iter().any(|finding| finding.account.as_deref() == Some(account))
    }

    /// Whether ServiceAccounts are not read yet: until they are, what was found before stays as it is.
    pub fn is_starting(&self) -> bool {
        self.0.iter().any(|finding| finding.passes() && finding.reason == Reason::KubernetesError)
    }

    /// Adds what could not be found out.
    pub fn unknown(&mut self, reason: Reason, message: impl Into<String>) {
        self.extend(Some(Finding::unknown(reason, message)));
    }

    /// Adds what only has to be known.
    pub fn note(&mut self, reason: Reason, message: impl Into<String>) {
        self.0.push(Finding { harmless: true, ..Finding::certain(reason, message) });
    }

    /// Whether nothing stands in the way.
    pub fn is_clear(&self) -> bool {
        self.0.iter().all(|finding| finding.harmless)
    }

    /// Adds another one, if there is one; what was said already is not said again.
    pub fn extend(&mut self, finding: Option<Finding>) {
        self.0.extend(finding.filter(|finding| !self.0.contains(finding)));
    }

    /// Whether the only trouble is such that passes by itself.
    pub fn pass(&self) -> bool {
        let mut trouble = self.0.iter().filter(|finding| !finding.harmless).peekable();
        trouble.peek().is_some() && trouble.all(Finding::passes)
    }

    /// Whether a moment will tell more.
    pub fn is_soon(&self) -> bool {
        self.0.iter().any(|finding| finding.passes == Passes::Soon)
    }

    /// Whether it may change without a word to us.
    pub fn is_open(&self) -> bool {
        self.0.iter().any(|finding| finding.reason != Reason::BindingNotManaged)
    }

    /// What passes within seconds is left out where more stands in the way: it would be news twice.
    fn told(&self) -> Vec<&Finding> {
        let lasts = |finding: &&Finding| !finding.harmless && finding.passes != Passes::Soon;
        let has_more = self.0.iter().any(|finding| lasts(&finding));
        self.0.iter().filter(|finding| !has_more || finding.passes != Passes::Soon).collect()
    }

    /// What the condition says.
    pub fn verdict(&self, accounts: &[&str], arn: &str) -> Verdict {
        let weight = |finding: &&Finding| {
            let place = BY_WEIGHT.iter().position(|reason| *reason == finding.reason).unwrap_or(BY_WEIGHT.len());
            (finding.harmless, !finding.certain, place)
        };
        let told = self.told();
        let Some(first) = told.iter().copied().min_by_key(weight) else {
            let pods = accounts.join(", ");
            let message = format!("pods of {pods} get {arn}; those that were there before must be restarted");
            return Verdict { status: Tri::True, reason: Reason::Bound, message };
        };
        let mut messages: Vec<&str> = told.iter().take(SHOWN).map(|finding| finding.message.as_str()).collect();
        let more = told.len().saturating_sub(SHOWN);
        let more = format!("and {more} more");
        if told.len() > SHOWN {
            messages.push(&more);
        }
        let status = match first {
            Finding { harmless: true, .. } => Tri::True,
            Finding { certain: true, .. } => Tri::False,
            Finding { .. } => Tri::Unknown,
        };
        Verdict { status, reason: first.reason, message: messages.join("; ") }
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Whether the condition is there for this generation.
#[must_use]
pub fn is_current(status: &IamRoleStatus, generation: i64) -> bool {
    let bound = find(&status.conditions, ConditionType::IdentityBound);
    bound.is_some_and(|bound| bound.observed_generation == Some(generation))
}

/// Puts the condition into status, or takes it out. Returns what is news and worth an event.
pub fn write<'v>(status: &mut IamRoleStatus, verdict: Option<&'v Verdict>, generation: i64) -> Option<&'v Verdict> {
    let old = find(&status.conditions, ConditionType::IdentityBound).cloned();
    status.conditions.retain(|condition| condition.type_ != ConditionType::IdentityBound.as_str());
    let verdict = verdict?;
    let text = match verdict.status {
        Tri::True => "True",
        Tri::False => "False",
        Tri::Unknown => "Unknown",
    };
    let message = shorten(&verdict.message);
    let same = old.as_ref().is_some_and(|old| old.reason == verdict.reason.as_str() && old.message == message);
    let since = old.as_ref().filter(|old| old.status == text).map_or_else(now, |old| old.last_transition_time.clone());
    status.conditions.push(Condition {
        type_: ConditionType::IdentityBound.as_str().to_owned(),
        status: text.to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    });
    (!same).then_some(verdict)
}

#[cfg(test)]
mod tests {
    use super::{Finding, Findings, write};
    use crate::api::{IamRoleStatus, Reason};
    use crate::controller::status::Tri;

    #[test]
    fn what_keeps_all_pods_away_comes_first_and_what_is_certain_before_what_is_not() {
        let mut findings = Findings::default();
        findings.unknown(Reason::BindingNotManaged, "a");
        assert!(!findings.is_open());
        assert_eq!(findings.verdict(&["x"], "arn").reason, Reason::BindingNotManaged);
        findings.add(Reason::ServiceAccountMissing, "b");
        findings.add(Reason::NoOidcProvider, "c");
        let verdict = findings.verdict(&["x"], "arn");
        assert_eq!((verdict.reason, verdict.message.as_str()), (Reason::NoOidcProvider, "a; b; c"));
        assert!(findings.is_open() && !verdict.is_bound());
    }

    #[test]
    fn what_only_has_to_be_known_does_not_make_it_false() {
        let mut findings = Findings::default();
        findings.note(Reason::PodsWithoutCredentials, "2 pods");
        let verdict = findings.verdict(&["x"], "arn");
        assert_eq!((verdict.status, verdict.reason), (Tri::True, Reason::PodsWithoutCredentials));
        assert!(findings.is_clear() && findings.is_open() && !verdict.is_bound(), "looked for again, and warned of");
        findings.add(Reason::ServiceAccountMissing, "b");
        assert_eq!(findings.verdict(&["x"], "arn").status, Tri::False);
    }

    #[test]
    fn what_passes_within_seconds_is_told_only_where_nothing_else_stands_in_the_way() {
        let mut findings = Findings::default();
        findings.note(Reason::PodsWithoutCredentials, "a");
        findings.extend(Some(Finding::soon("b")));
        let verdict = findings.verdict(&["x"], "arn");
        assert_eq!((verdict.status, verdict.message.as_str()), (Tri::Unknown, "a; b"));
        findings.unknown(Reason::BindingNotManaged, "c");
        let verdict = findings.verdict(&["x"], "arn");
        assert_eq!((verdict.reason, verdict.message.as_str()), (Reason::BindingNotManaged, "a; c"));
        assert!(findings.is_soon() && findings.is_open(), "it is looked for again all the same");
    }

    #[test]
    fn what_passes_by_itself_changes_nothing_unless_there_is_more() {
        let mut findings = Findings::default();
        assert!(!findings.pass(), "nothing is no trouble");
        findings.extend(Some(Finding::passing(Reason::Busy, "a")));
        findings.note(Reason::PodsWithoutCredentials, "b");
        assert!(findings.pass() && findings.is_open() && !findings.is_clear());
        findings.unknown(Reason::AccessDenied, "c");
        assert!(!findings.pass());
    }

    #[test]
    fn the_condition_is_written_once_and_goes_with_the_list() {
        let (mut status, bound) = (IamRoleStatus::default(), Findings::default().verdict(&["x"], "arn"));
        assert!(write(&mut status, Some(&bound), 1).is_some());
        let first = status.clone();
        assert!(write(&mut status, Some(&bound), 1).is_none());
        assert_eq!(status, first, "nothing new, nothing to write");
        assert!(write(&mut status, None, 1).is_none() && status.conditions.is_empty());
    }

    #[test]
    fn a_message_is_never_longer_than_the_api_server_takes_and_still_written_once() {
        let (mut status, mut findings) = (IamRoleStatus::default(), Findings::default());
        findings.add(Reason::ServiceAccountConflict, "é".repeat(250_000));
        let verdict = findings.verdict(&["x"], "arn");
        assert!(write(&mut status, Some(&verdict), 1).is_some());
        assert!(status.conditions[0].message.len() < 32_768, "{}", status.conditions[0].message.len());
        assert!(write(&mut status, Some(&verdict), 1).is_none());
    }
}
