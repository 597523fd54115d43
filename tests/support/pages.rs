//! Cuts long lists into pages as AWS does: the emulators put everything on one page.

use std::collections::BTreeMap;
use std::ops::Range;

/// The most that IAM puts on a page.
const MOST: usize = 1000;

/// The list that an action answers with.
fn list(action: &str) -> Option<&'static str> {
    Some(match action {
        "ListRoles" => "Roles",
        "GetAccountAuthorizationDetails" => "RoleDetailList",
        "ListPolicies" => "Policies",
        _ => return None,
    })
}

/// The page that the call asks for; `None` where the answer is one already.
pub fn cut(action: &str, parameters: &BTreeMap<String, String>, answer: &[u8]) -> Option<String> {
    let list = list(action)?;
    let answer = std::str::from_utf8(answer).ok()?;
    let (open, close) = (format!("<{list}>"), format!("</{list}>"));
    let (start, end) = (answer.find(&open)? + open.len(), answer.rfind(&close)?);
    let members = members(answer.get(start..end)?);
    let number = |name: &str| parameters.get(name).and_then(|value| value.parse::<usize>().ok());
    let size = number("MaxItems").unwrap_or(100).min(MOST);
    let from = number("Marker").unwrap_or(0);
    let to = (from + size).min(members.len());
    if from == 0 && to == members.len() {
        return None;
    }
    let page = members.get(from..to).unwrap_or_default();
    let page: String = page.iter().filter_map(|range| answer.get(start + range.start..start + range.end)).collect();
    let (before, after) = (&answer[..start], &answer[end..]);
    if to == members.len() {
        return Some(format!("{before}{page}{after}"));
    }
    // The mark is before the list, or behind it.
    let [before, after] = [before, after].map(|part| {
        part.replace(
            "<IsTruncated>false</IsTruncated>",
            &format!("<IsTruncated>true</IsTruncated><Marker>{to}</Marker>"),
        )
    });
    Some(format!("{before}{page}{after}"))
}

/// The outermost members; lists lie within lists.
fn members(list: &str) -> Vec<Range<usize>> {
    const OPEN: &str = "<member>";
    const CLOSE: &str = "</member>";
    let mut found = Vec::new();
    let (mut depth, mut start, mut at) = (0_usize, 0, 0);
    while let Some(next) = list[at..].find('<').map(|next| at + next) {
        if list[next..].starts_with(OPEN) {
            if depth == 0 {
                start = next;
            }
            depth += 1;
        } else if list[next..].starts_with(CLOSE) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                found.push(start..next + CLOSE.len());
            }
        }
        at = next + 1;
    }
    found
}
