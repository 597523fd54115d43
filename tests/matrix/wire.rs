//! IAM's query protocol, as far as the operator speaks it.

use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The parameters of a call.
#[derive(Debug)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    pub fn parse(body: &str) -> Self {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().expect("UTF-8").into_owned();
        let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (decode(key), decode(value)));
        Self(body.split('&').filter_map(pair).collect())
    }

    pub fn opt(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn get(&self, key: &str) -> &str {
        self.opt(key).unwrap_or_else(|| panic!("{key} is missing in {self:?}"))
    }

    pub fn tags(&self) -> BTreeMap<String, String> {
        let keys = self.0.iter().filter(|(name, _)| name.starts_with("Tags.member.") && name.ends_with(".Key"));
        keys.map(|(name, key)| (key.clone(), self.get(&name.replace(".Key", ".Value")).to_owned())).collect()
    }

    pub fn list(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}.member.");
        self.0.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, value)| value.clone()).collect()
    }

    /// What the call is about, for people.
    pub fn target(&self) -> &str {
        let keys = ["InstanceProfileName", "PolicyArn", "PermissionsBoundary", "PolicyName", "RoleName"];
        keys.iter().find_map(|key| self.opt(key)).unwrap_or_default()
    }
}

/// An element with text.
pub fn text(name: &str, value: &str) -> String {
    let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<{name}>{value}</{name}>")
}

/// A list of members.
pub fn list(name: &str, members: impl IntoIterator<Item = String>) -> String {
    let mut all = String::new();
    for member in members {
        write!(all, "<member>{member}</member>").expect("a String");
    }
    format!("<{name}>{all}</{name}>")
}

/// A whole page of a list.
pub fn page(name: &str, members: impl IntoIterator<Item = String>) -> String {
    format!("<IsTruncated>false</IsTruncated>{}", list(name, members))
}

pub fn tags(tags: &BTreeMap<String, String>) -> String {
    list("Tags", tags.iter().map(|(key, value)| text("Key", key) + &text("Value", value)))
}

/// Documents come percent-encoded.
pub fn document(name: &str, json: &str) -> String {
    text(name, &percent_encoding::utf8_percent_encode(json, percent_encoding::NON_ALPHANUMERIC).to_string())
}

pub fn answer(action: &str, result: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
    )
}

pub fn refusal(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><Error><Type>Sender</Type>{}{}</Error>\
         <RequestId>1</RequestId></ErrorResponse>",
        text("Code", code),
        text("Message", message)
    )
}
