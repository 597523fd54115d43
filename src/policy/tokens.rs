//! Tokens such as `$(account)` in the texts of a document.

use std::collections::BTreeMap;

/// The tokens that may be used, each with its value.
///
/// `$(name)` is replaced by the value of `name`, `$$(` stands for a literal `$(`, and everything else, IAM's own
/// `${…}` variables included, stays as it is. Values are not expanded again.
///
/// ```
/// # use iamrole_operator::policy::Tokens;
/// let mut tokens = Tokens::default();
/// tokens.set("account", "123456789012");
/// assert_eq!(tokens.expand("$(account)/${aws:username}/$$(x)").unwrap(), "123456789012/${aws:username}/$(x)");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    values: BTreeMap<String, String>,
}

/// Why a text's tokens could not be replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no token of this name.
    #[error("unknown token `$({name})`; known are {known}; write `$$(` for a literal `$(`")]
    Unknown {
        /// The name, at most 64 characters of it.
        name: String,
        /// The tokens there are, as `$(a)`, `$(b)`.
        known: String,
    },
    /// `$(` without a closing parenthesis.
    #[error("`$(` without `)`; write `$$(` for a literal `$(`")]
    Unclosed,
}

impl Tokens {
    /// Sets the value of a token; the last one wins.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.values.insert(name.into(), value.into());
        self
    }

    /// Replaces the tokens of a text.
    ///
    /// # Errors
    /// An unknown token, or one that is not closed.
    pub fn expand(&self, text: &str) -> Result<String, TokenError> {
        if !text.as_bytes().contains(&b'$') {
            return Ok(text.to_owned());
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            let (before, after) = rest.split_at(dollar);
            out.push_str(before);
            if let Some(tail) = after.strip_prefix("$$(") {
                out.push_str("$(");
                rest = tail;
            } else if let Some(tail) = after.strip_prefix("$(") {
                let (name, tail) = tail.split_once(')').ok_or(TokenError::Unclosed)?;
                out.push_str(self.values.get(name).ok_or_else(|| self.unknown(name))?);
                rest = tail;
            } else {
                out.push('$');
                rest = after.get(1..).unwrap_or_default();
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn unknown(&self, name: &str) -> TokenError {
        let known: Vec<String> = self.values.keys().map(|known| format!("`$({known})`")).collect();
        TokenError::Unknown {
            name: name.chars().take(64).flat_map(char::escape_debug).collect(),
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let mut tokens = Tokens::default();
        tokens.set("name", "web").set("namespace", "shop").set("odd", "$(name)$$(");
        tokens
    }

    #[test]
    fn replaces() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(namespace)-$(name)", "shop-web"),
            ("$$(name)", "$(name)"),
            ("$$$(name)", "$$(name)"),
            ("$$$$(name)", "$$$(name)"),
            ("${aws:username}$", "${aws:username}$"),
            ("$$ $x (name)", "$$ $x (name)"),
            ("$(odd)", "$(name)$$("),
            ("é$(name)é", "éwebé"),
        ] {
            assert_eq!(tokens().expand(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses() {
        let error = tokens().expand("$(Name)").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown token `$(Name)`; known are `$(name)`, `$(namespace)`, `$(odd)`; write `$$(` for a literal `$(`"
        );
        assert_eq!(tokens().expand("$(name"), Err(TokenError::Unclosed));
        assert!(Tokens::default().expand("$()").unwrap_err().to_string().contains("known are none"));
    }
}
