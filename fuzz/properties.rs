//! What has to hold for every text: the body of the fuzz target and of the short deterministic run in
//! `tests/policy_fuzz.rs`, so that the compiler and every test run see it, and the target itself is only a wrapper.

use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Pattern, Relation, Tokens, bridge, relation};

/// The account of all documents.
pub fn account() -> AccountRef {
    AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() }
}

/// What has to hold for every text.
pub fn check(text: &str, other: &Canonical) -> Canonical {
    let mut tokens = Tokens::default();
    tokens.set("name", "web");
    let read = Canonical::read(Grammar::Trust, text, &account());
    let _ = (read.dead_principals(), format!("{read:?}"));
    for grammar in [Grammar::Trust, Grammar::Permission] {
        let read = Canonical::read(grammar, text, &account());
        if read.to_json().starts_with('{') {
            let again = Canonical::read(grammar, &read.to_json(), &account());
            assert!(again == read || format!("{read:?}").contains("no policy"), "{text}");
        }
        match Document::from_json(grammar, "d", text, &tokens) {
            Ok(document) => {
                let sent = document.to_json();
                let again = Document::from_json(grammar, "d", &sent.replace("$(", "$$("), &tokens).unwrap();
                assert_eq!(again.to_json(), sent);
                let canonical = document.canonical(&account());
                assert!(canonical == again.canonical(&account()));
                assert!(text.contains("$(") || canonical == read, "{text}");
                let _ = (document.lint(&account()), document.size(), document.actions_among(&[Pattern::new("i*")]));
                let _ = (document.beyond_partition(&account()), document.actions_beyond(&[Pattern::new("s3:*")]));
                let buckets = [Pattern::new("arn:aws:s3:::*")];
                let _ = (document.resources_among(&buckets), document.resources_beyond(&buckets));
                assert!(!canonical.may_allow_more_than(&canonical), "{text}");
                if grammar == Grammar::Trust {
                    let between = bridge(other, &document, &account(), 0).document.canonical(&account());
                    let narrows = matches!(relation(other, &between), Relation::Same | Relation::Narrows);
                    assert!(narrows || format!("{other:?}").contains("no policy") || !is_plain(other), "{text}");
                }
            }
            Err(findings) => {
                assert!((1..=21).contains(&findings.len()));
                for finding in &findings {
                    let line = finding.to_string();
                    assert!(line.starts_with('d') && line.len() < 4000 && !line.contains('\n'), "{line}");
                }
            }
        }
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(text) {
            let _ = Document::from_value(grammar, "d", &value, &tokens);
        }
    }
    read
}

/// Whether everything in a document is understood: only then something narrows it.
fn is_plain(canonical: &Canonical) -> bool {
    Document::from_json(Grammar::Trust, "d", &canonical.to_json(), &Tokens::default()).is_ok()
}
