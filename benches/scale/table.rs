//! The table that a run ends with.

use crate::setup::{PARALLEL, float};
use crate::support::proxy::Call;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A line of the table.
pub struct Row {
    pub case: String,
    pub calls: Vec<Call>,
    /// Requests to the API server that changed a role.
    pub writes: usize,
    /// Requests to the API server that told an event.
    pub events: usize,
    /// How long each call to AWS took at least.
    pub latency: Duration,
    pub wall: Duration,
    pub cpu: f64,
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

    pub fn between_calls(&self) -> Duration {
        let times = || self.calls.iter().map(|call| call.at);
        times().max().zip(times().min()).map(|(last, first)| last - first).unwrap_or_default()
    }

    /// With the time between the first and the last call for a role: its median, and the longest.
    pub fn with_spans(mut self) -> Self {
        let mut times: BTreeMap<&str, (Instant, Instant)> = BTreeMap::new();
        for call in &self.calls {
            let Some(role) = call.parameters.get("RoleName") else { continue };
            times.entry(role).or_insert((call.at, call.at)).1 = call.at;
        }
        let mut spans: Vec<Duration> = times.values().map(|(first, last)| *last - *first).collect();
        spans.sort();
        let [median, longest] = [spans.len() / 2, spans.len().saturating_sub(1)].map(|at| spans[at]);
        self.note = format!("from CreateRole to the last permission {median:.2?}, at most {longest:.2?}");
        self
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
            self.cpu,
            float(usize::try_from(self.peak).unwrap_or_default()) / 1024.0,
            self.note,
        );
    }
}

/// Prints the table as Markdown.
pub fn print(rows: &[Row]) {
    println!();
    println!(
        "| case | AWS calls | a role | by action | writes a role | events a role | wall | times the least | CPU | peak memory | |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    rows.iter().for_each(Row::print);
}
