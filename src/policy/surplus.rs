//! Whether one document may allow what another one does not.

use super::canonical::{Canonical, Meaning, Who};
use super::document::Effect;
use super::principal::is_unique_id;
use super::relation::{BUDGET, Rules};
use super::set::Set;
use std::borrow::Cow;

impl Canonical {
    /// Whether this document may allow what `wanted` does not, or may not deny what `wanted` denies, as one of several
    /// documents of a role: a lost denial counts also where nothing is allowed here, since another document may allow it.
    ///
    /// `false` is always right. What can't be proved is `true`: what is not understood, variables under different
    /// versions, very large documents. Ids that AWS shows for deleted principals let nobody in.
    #[must_use]
    pub fn may_allow_more_than(&self, wanted: &Self) -> bool {
        let (Some(found), Some(wanted)) = (Rules::of(self), Rules::of(wanted)) else {
            return self != wanted;
        };
        let mut budget = BUDGET;
        let mut allowed = found.of_effect(Effect::Allow).filter_map(living);
        let allows_no_more = allowed.all(|meaning| wanted.cover(&meaning, &found, &mut budget));
        let mut denied = wanted.of_effect(Effect::Deny);
        !(allows_no_more && denied.all(|meaning| found.cover(meaning, &wanted, &mut budget)))
    }
}

/// An `Allow` statement without deleted principals; `None` if nobody is left.
fn living(meaning: &Meaning) -> Option<Cow<'_, Meaning>> {
    let Some(who) = meaning.principal.as_ref().filter(|who| !who.negated) else {
        return Some(Cow::Borrowed(meaning));
    };
    if !who.entries.values().flatten().any(|value| is_unique_id(value)) {
        return Some(Cow::Borrowed(meaning));
    }
    let mut entries = who.entries.clone();
    for values in entries.values_mut() {
        *values = values.iter().filter(|value| !is_unique_id(value)).cloned().collect::<Set>();
    }
    entries.retain(|_, values| !values.is_empty());
    let somebody = !entries.is_empty();
    let principal = Some(Who { negated: false, entries });
    somebody.then(|| Cow::Owned(Meaning { principal, ..meaning.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::policy::{AccountRef, Canonical, Grammar};

    fn account() -> AccountRef {
        AccountRef { partition: "aws".into(), id: "111122223333".into() }
    }

    fn trust(principal: &str, action: &str, more: &str) -> Canonical {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":{action}{more}}}]}}"#
        );
        Canonical::read(Grammar::Trust, &text, &account())
    }

    #[test]
    fn what_a_trust_policy_lets_in() {
        let assume = r#""sts:AssumeRole""#;
        let root = r#"{"AWS":"111122223333"}"#;
        let wanted = trust(root, assume, "");
        for (principal, action, more) in [
            (root, r#"["STS:assumerole"]"#, ""),
            (r#"{"AWS":"AROAEXAMPLEEXAMPLE123"}"#, assume, ""),
            (r#"{"AWS":["AROAEXAMPLEEXAMPLE123","111122223333"]}"#, assume, ""),
            (root, assume, r#","Condition":{"Bool":{"aws:SecureTransport":"true"}}"#),
        ] {
            assert!(!trust(principal, action, more).may_allow_more_than(&wanted), "{principal} {action} {more}");
        }
        for (principal, action, more) in [
            (r#"{"AWS":"*"}"#, assume, ""),
            (r#"{"AWS":["111122223333","444455556666"]}"#, assume, ""),
            (r#"{"Service":"ec2.amazonaws.com"}"#, assume, ""),
            (root, r#"["sts:AssumeRole","sts:TagSession"]"#, ""),
            (root, assume, r#","Surprise":1"#),
        ] {
            assert!(trust(principal, action, more).may_allow_more_than(&wanted), "{principal} {action} {more}");
        }
        let strange = trust(root, assume, r#","Surprise":1"#);
        assert!(!strange.may_allow_more_than(&strange), "the same is no more");
    }

    #[test]
    fn what_permissions_a_document_adds_to_others() {
        let read = |statements: &str| {
            let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
            Canonical::read(Grammar::Permission, &text, &account())
        };
        let get = |resource: &str| format!(r#"{{"Effect":"Allow","Action":"s3:Get","Resource":"{resource}"}}"#);
        let deny = |action: &str| format!(r#"{{"Effect":"Deny","Action":"{action}","Resource":"*"}}"#);
        let both = format!("{},{}", get("a"), deny("s3:Put"));
        for (wanted, found, more) in [
            (both.clone(), both.clone(), false),
            (both.clone(), deny("s3:Put"), false),
            (both.clone(), get("a"), true),
            (get("a"), get("b"), true),
            (deny("s3:Put"), deny("s3:Get"), true),
            (format!("{},{}", deny("s3:Put"), deny("s3:Get")), deny("s3:Get"), true),
            (deny("s3:Put"), both, true),
        ] {
            assert_eq!(read(&found).may_allow_more_than(&read(&wanted)), more, "{found} for {wanted}");
        }
        assert!(Canonical::read(Grammar::Permission, "nonsense", &account()).may_allow_more_than(&read(&get("a"))));
    }
}
