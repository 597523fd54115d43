//! Roles and policies that we deleted a moment ago: IAM may go on showing them for a while, in a walk and also in the read
//! that is to confirm what the walk shows. What one of them carried says nothing of what has its name by now.

use std::collections::HashMap;
use std::time::Duration;

/// Roles and policies that are gone, as far as we know. Times are since the process started.
#[derive(Clone, Debug, Default)]
pub struct Departed {
    /// By account and lower-case name or ARN.
    roles: HashMap<(String, String), Vec<Departure>>,
    /// With so many it is time to forget some.
    most: usize,
}

#[derive(Clone, Debug)]
struct Departure {
    /// Unique id, as far as it was known.
    id: Option<String>,
    at: Duration,
}

impl Departed {
    /// Notes that a role or policy is gone, and forgets those that no read shows any more.
    pub fn note(&mut self, account: &str, name: &str, id: Option<&str>, now: Duration, settle: Duration) {
        let is_recent = |departure: &Departure| now.saturating_sub(departure.at) < settle;
        if self.roles.len() >= self.most {
            self.roles.retain(|_, departures| departures.iter().any(is_recent));
            // Twice as many, so that forgetting costs each departure next to nothing.
            self.most = 2 * self.roles.len() + 16;
        }
        let departures = self.roles.entry((account.to_owned(), name.to_lowercase())).or_default();
        let id = id.map(str::to_owned);
        departures.retain(|departure| is_recent(departure) && departure.id != id);
        departures.push(Departure { id, at: now });
    }

    /// Whether what a read shows under that name is from before we deleted it, as far as is known: of a departure without
    /// an id, anything is. A role of another id was made since.
    #[must_use]
    pub fn may_show_past(&self, account: &str, name: &str, id: &str, now: Duration, settle: Duration) -> bool {
        self.any(account, name, now, settle, |known| known.is_none_or(|known| known == id))
    }

    /// Whether what a read shows under that name is surely what we deleted.
    #[must_use]
    pub fn shows_past(&self, account: &str, name: &str, id: &str, now: Duration, settle: Duration) -> bool {
        self.any(account, name, now, settle, |known| known == Some(id))
    }

    fn any(
        &self,
        account: &str,
        name: &str,
        now: Duration,
        settle: Duration,
        is: impl Fn(Option<&str>) -> bool,
    ) -> bool {
        let departures = self.roles.get(&(account.to_owned(), name.to_lowercase()));
        departures
            .into_iter()
            .flatten()
            .any(|departure| now.saturating_sub(departure.at) < settle && is(departure.id.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::Departed;
    use std::time::Duration;

    const SETTLE: Duration = Duration::from_secs(30);
    const A: &str = "111122223333";

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn what_we_deleted_is_past_until_reads_have_settled_and_nothing_else_is() {
        let mut departed = Departed::default();
        departed.note(A, "App", Some("AROA1"), at(100), SETTLE);
        departed.note(A, "unknown", None, at(100), SETTLE);
        let cases = [
            ("a moment ago", A, "App", "AROA1", 101, true),
            ("in other case", A, "aPP", "AROA1", 129, true),
            ("long enough ago", A, "App", "AROA1", 130, false),
            ("made anew", A, "App", "AROA2", 101, false),
            ("another account", "444455556666", "App", "AROA1", 101, false),
            ("another role", A, "Apps", "AROA1", 101, false),
            ("of which no id was known", A, "unknown", "AROA7", 101, true),
        ];
        for (what, account, name, id, now, is_past) in cases {
            assert_eq!(departed.may_show_past(account, name, id, at(now), SETTLE), is_past, "{what}");
            let surely = is_past && name != "unknown";
            assert_eq!(departed.shows_past(account, name, id, at(now), SETTLE), surely, "{what}");
        }
    }

    #[test]
    fn it_is_not_remembered_for_ever_and_every_departure_of_a_name_is() {
        let mut departed = Departed::default();
        departed.note(A, "app", Some("AROA1"), at(0), SETTLE);
        departed.note(A, "app", Some("AROA2"), at(20), SETTLE);
        departed.note(A, "app", None, at(21), SETTLE);
        let shows = |departed: &Departed, id, now| departed.shows_past(A, "app", id, at(now), SETTLE);
        assert!(shows(&departed, "AROA1", 29) && !shows(&departed, "AROA1", 30));
        assert!(shows(&departed, "AROA2", 49) && !shows(&departed, "AROA2", 50));
        departed.note(A, "app", Some("AROA2"), at(40), SETTLE);
        assert!(shows(&departed, "AROA2", 69), "noted again");
        assert_eq!(departed.roles.values().next().unwrap().len(), 2);
        for i in 0..1000 {
            departed.note(A, &format!("role-{i}"), None, at(100 + i), SETTLE);
        }
        assert!(departed.roles.len() <= 2 * 30 + 16, "{}", departed.roles.len());
    }
}
