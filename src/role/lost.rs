//! Whether status lost what it knew of a role: whoever makes a role writes that down before.

use k8s_openapi::jiff::Timestamp;

/// When an object was there and had no role, as far as it is known. A role that is older was not made for it, or was and
/// status does not know any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looked {
    /// When the object was created; one that is restored is younger than its role.
    pub object_created: Option<Timestamp>,
    /// Since when status says that the role is not ready.
    pub not_ready_since: Option<Timestamp>,
    /// When it was looked at while its status had no role.
    pub without_role: Option<Timestamp>,
}

impl Looked {
    /// Whether a role is older, by its `CreateDate` in RFC 3339; a text that is no time is not.
    #[must_use]
    pub fn is_older(&self, create_date: &str) -> bool {
        let Ok(role) = create_date.parse::<Timestamp>() else { return false };
        // AWS tells whole seconds.
        let is_whole = role.subsec_nanosecond() == 0;
        let older = |than: Timestamp| if is_whole { role.as_second() < than.as_second() } else { role < than };
        [self.object_created, self.not_ready_since, self.without_role].into_iter().flatten().any(older)
    }
}

#[cfg(test)]
mod tests {
    use super::Looked;

    #[test]
    fn a_role_is_older_than_the_first_look_or_was_made_by_it() {
        let at = |text: &str| Some(text.parse().unwrap());
        let noon = "2026-01-02T12:00:00Z";
        let cases = [
            (Looked::default(), "2020-01-01T00:00:00Z", false, "nothing is known"),
            (Looked { object_created: at(noon), ..Looked::default() }, "2026-01-02T11:59:59Z", true, "restored"),
            (Looked { object_created: at(noon), ..Looked::default() }, noon, false, "in the same second"),
            (Looked { object_created: at(noon), ..Looked::default() }, "no time", false, "not told"),
            (Looked { not_ready_since: at(noon), ..Looked::default() }, "2026-01-02T11:00:00Z", true, "an earlier try"),
            (Looked { not_ready_since: at(noon), ..Looked::default() }, "2026-01-02T12:00:01Z", false, "made since"),
            (Looked { without_role: at("2026-01-02T12:00:00.9Z"), ..Looked::default() }, noon, false, "whole seconds"),
            (
                Looked { without_role: at("2026-01-02T12:00:00.9Z"), ..Looked::default() },
                "2026-01-02T12:00:00.5Z",
                true,
                "parts of them, where they are told",
            ),
            (
                Looked { object_created: at("2026-01-01T00:00:00Z"), without_role: at(noon), ..Looked::default() },
                "2026-01-01T10:00:00Z",
                true,
                "any of them counts",
            ),
        ];
        for (looked, role, older, why) in cases {
            assert_eq!(looked.is_older(role), older, "{why}");
        }
    }
}
