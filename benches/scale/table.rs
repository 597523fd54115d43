//! The table that a run ends with.

use crate::judge::Spent;
use crate::machine::Load;
use crate::setup::{PARALLEL, float};
use crate::support::proxy::Call;
use std::collections::BTreeMap;
use std::time::Duration;

/// A line of the table.
pub struct Row {
    pub case: String,
    pub calls: Vec<Call>,
    /// Requests to the API server that changed a role.
    pub writes: usize,
    /// Requests to the API server that told an event.
    pub events: usize,
    /// Writes of classes.
    pub class_writes: usize,
    /// How long each call to AWS took at least.
    pub latency: Duration,
    pub wall: Duration,
    /// What the machine did meanwhile.
    pub load: Load,
    /// The most resident memory of the process so far, in KiB.
    pub peak: u64,
    /// By how many the calls are divided.
    pub roles: usize,
    pub note: String,
}

impl Row {
    /// The wall time, in units of the least that is possible.
    pub fn ratio(&self) -> f64 {
        let least = float(self.calls.len()) * self.latency.as_secs_f64() / float(PARALLEL);
        self.wall.as_secs_f64() / least.max(0.001)
    }

    /// The operator's processor time.
    pub fn spent(&self) -> Spent {
        Spent { seconds: self.load.of_operator(), roles: float(self.roles) }
    }

    pub fn between_calls(&self) -> Duration {
        let times = || self.calls.iter().map(|call| call.at);
        times().max().zip(times().min()).map(|(last, first)| last - first).unwrap_or_default()
    }

    /// For each role, the time between its first and its last call, and how many calls for other roles were made
    /// between them; sorted.
    fn spans(&self) -> (Vec<Duration>, Vec<usize>) {
        let mut ends: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
        for (i, call) in self.calls.iter().enumerate() {
            let Some(role) = call.parameters.get("RoleName") else { continue };
            let (_, last, own) = ends.entry(role).or_insert((i, i, 0));
            (*last, *own) = (i, *own + 1);
        }
        let mut times: Vec<Duration> =
            ends.values().map(|(first, last, _)| self.calls[*last].at - self.calls[*first].at).collect();
        let mut others: Vec<usize> = ends.values().map(|(first, last, own)| last + 1 - first - own).collect();
        times.sort();
        others.sort_unstable();
        (times, others)
    }

    /// How many calls for other roles are made between the first and the last call for a role: their median, and the
    /// most. That does not depend on how fast the machine is.
    pub fn others_between(&self) -> (usize, usize) {
        middle_and_last(&self.spans().1)
    }

    /// Tells the spans, too.
    pub fn with_spans(mut self) -> Self {
        let ((median, longest), (between, most)) = (middle_and_last(&self.spans().0), self.others_between());
        self.add(&format!(
            "from CreateRole to the last permission {median:.2?}, at most {longest:.2?}, with {between} calls for other \
             roles between, at most {most}"
        ));
        self
    }

    pub fn add(&mut self, note: &str) {
        let separator = if self.note.is_empty() { "" } else { "; " };
        self.note = format!("{}{separator}{note}", self.note);
    }

    fn print(&self) {
        let mut actions: BTreeMap<&str, usize> = BTreeMap::new();
        self.calls.iter().for_each(|call| *actions.entry(&call.action).or_default() += 1);
        let actions: Vec<String> = actions.iter().map(|(action, count)| format!("{action} {count}")).collect();
        let per_role = |count: usize| float(count) / float(self.roles.max(1));
        println!(
            "| {} | {} | {:.3} | {} | {:.2} | {:.2} | {:.1} s | {} | {:.1} s | {:.0} MiB | {} |",
            self.case,
            self.calls.len(),
            per_role(self.calls.len()),
            actions.join(", "),
            per_role(self.writes),
            per_role(self.events),
            self.wall.as_secs_f64(),
            if self.calls.len() < 100 || self.latency.is_zero() {
                "-".to_owned()
            } else {
                format!("{:.2}", self.ratio())
            },
            self.load.of_operator(),
            float(usize::try_from(self.peak).unwrap_or_default()) / 1024.0,
            self.note,
        );
    }
}

fn middle_and_last<T: Copy + Default>(sorted: &[T]) -> (T, T) {
    (sorted.get(sorted.len() / 2).copied().unwrap_or_default(), sorted.last().copied().unwrap_or_default())
}

/// Prints the table as Markdown.
pub fn print(rows: &[Row]) {
    println!();
    println!(
        "| case | AWS calls | a role | by action | writes a role | events a role | wall | times the least | CPU | peak memory | |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    rows.iter().for_each(Row::print);
    println!("\n| case | processors at work | on what | a call took |\n| --- | --- | --- | --- |");
    for Row { case, load, .. } in rows {
        let answer = load.answer.as_secs_f64() * 1000.0;
        println!("| {case} | {:.0} % | {load} | {answer:.0} ms |", load.busy * 100.0);
    }
}
