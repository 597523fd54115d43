//! Any text at all: no panic, and what is understood survives being printed and read again.
#![no_main]

#[path = "../properties.rs"]
mod properties;

use iamrole_operator::policy::{Canonical, Grammar};

libfuzzer_sys::fuzz_target!(|text: &str| {
    // A text is tried against itself; the deterministic run tries it against others.
    let itself = Canonical::read(Grammar::Trust, text, &properties::account());
    let _ = properties::check(text, &itself);
});
