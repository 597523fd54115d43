//! The fenced blocks of the documentation, and the commands in them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Fence {
    /// File, from the repository's root.
    pub file: String,
    /// Line of its first fence.
    pub line: usize,
    /// What stands behind the first fence.
    pub language: String,
    /// What stands between the fences, without the indentation that it has in a list.
    pub text: String,
}

impl Fence {
    /// Where it stands.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// The file that it is to be written to: its first line tells it as a comment, or else the name of the object does.
    pub fn name(&self) -> Option<String> {
        let told = self.text.lines().next()?.strip_prefix("# ").filter(|name| is_file(name)).map(str::to_owned);
        let mut lines = self.text.lines().skip_while(|line| *line != "metadata:");
        let object = || lines.nth(1)?.strip_prefix("  name: ").map(|name| format!("{name}.yaml"));
        if self.language == "yaml" { told.or_else(object) } else { None }
    }
}

fn is_file(name: &str) -> bool {
    name.strip_suffix(".yaml").is_some_and(|name| !name.contains(' '))
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every document that people read, so that none is forgotten here.
pub fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs", "charts", "integrations"] {
        collect(&root().join(folder), folder.is_empty(), &mut found);
    }
    let mut found: Vec<String> = found
        .iter()
        .map(|path| path.strip_prefix(root()).expect("within the repository").to_str().expect("UTF-8").to_owned())
        .collect();
    found.sort();
    assert!(found.len() > 15, "{found:?}");
    found
}

fn collect(folder: &Path, flat: bool, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !flat {
            collect(&path, flat, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// All fenced blocks of a document.
pub fn fences(file: &str) -> Vec<Fence> {
    let mut found = Vec::new();
    let mut open: Option<(Fence, usize)> = None;
    for (number, line) in read(file).lines().enumerate() {
        let marker = line.trim_start();
        match &mut open {
            Some(_) if marker.starts_with("```") => found.extend(open.take().map(|(fence, _)| fence)),
            Some((fence, indent)) => {
                let line = line.get((*indent).min(line.len() - marker.len())..).unwrap_or_default();
                fence.text += line;
                fence.text.push('\n');
            }
            None if marker.starts_with("```") => {
                let language = marker.trim_start_matches('`').trim().to_owned();
                let fence = Fence { file: file.to_owned(), line: number + 1, language, text: String::new() };
                open = Some((fence, line.len() - marker.len()));
            }
            None => {}
        }
    }
    assert!(open.is_none(), "{file}: a fence is not closed");
    found
}

/// Words in capitals, which the reader replaces.
const PLACEHOLDERS: [(&str, &str); 18] = [
    ("ACCOUNT", "111122223333"),
    ("ARN", "arn:aws:iam::111122223333:policy/orders"),
    ("CLUSTER", "prod"),
    ("EXTERNAL_ID", "agreed-upon"),
    ("GROUP", "developers"),
    ("ISSUER", "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"),
    ("NAME", "orders"),
    ("NAMESPACE", "shop"),
    ("REGION", "eu-central-1"),
    ("REGISTRY", "registry.example.com"),
    ("REVISION", "1"),
    ("ROLE", "orders-prod"),
    ("ROLE_ARN", "arn:aws:iam::111122223333:role/orders-prod"),
    ("TAG", "v0.1.0"),
    ("TEAM", "payments"),
    ("TOKEN", "2026-01-31T12:00:00Z"),
    ("UID", "0f6c1a52-5d0b-4a3c-9b61-5f1c8b1d2a10"),
    ("VERSION", "0.1.0"),
];

/// The text with its placeholders replaced.
pub fn filled(text: &str) -> String {
    let mut filled = String::new();
    let mut word = String::new();
    for sign in text.chars().chain(['\n']) {
        if sign.is_ascii_alphanumeric() || sign == '_' {
            word.push(sign);
            continue;
        }
        let meant = PLACEHOLDERS.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        filled += meant.unwrap_or(&word);
        word.clear();
        filled.push(sign);
    }
    filled.pop();
    filled
}

/// The commands of a block for the shell, one a line, as words.
pub fn commands(fence: &Fence) -> Vec<Vec<String>> {
    let text = filled(&fence.text).replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| words(line).unwrap_or_else(|| panic!("{}: {line}", fence.place()))).collect()
}

/// Splits as a shell does, up to a comment, a redirection or what is done with the result; `None` where a quote is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for sign in line.chars() {
        let is_bare = quote.is_none();
        match sign {
            _ if quote == Some(sign) => quote = None,
            '"' | '\'' if is_bare => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            _ if is_bare && sign.is_whitespace() => all.extend(word.take()),
            '#' | '>' | '|' if is_bare && word.is_none() => return Some(all),
            _ => word.get_or_insert_default().push(sign),
        }
    }
    all.extend(word);
    quote.is_none().then_some(all)
}
