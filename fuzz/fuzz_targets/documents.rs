//! Any text at all: no panic, and what is understood survives being printed and read again.
#![no_main]

use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Tokens, bridge, relation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let account = AccountRef { partition: "aws".into(), id: "123456789012".into() };
    for grammar in [Grammar::Trust, Grammar::Permission] {
        let returned = Canonical::read(grammar, text, &account);
        assert_eq!(returned, Canonical::read(grammar, text, &account));
        let _ = returned.dead_principals();
        if let Ok(document) = Document::from_json(grammar, "d", text, &Tokens::default()) {
            let canonical = document.canonical(&account);
            assert_eq!(canonical, Canonical::read(grammar, &document.to_json(), &account));
            let _ = relation(&returned, &canonical);
            if matches!(grammar, Grammar::Trust) {
                let _ = bridge(&returned, &document, &account);
            }
        }
    }
});
