//! What the operator costs with many roles: calls to AWS by action, writes to Kubernetes, time against the least that
//! is possible (calls × latency / parallel calls), processor time and memory. `make bench` brings up what it needs:
//! a real API server and an emulated IAM that answers each call after 50 ms.
//!
//! Prints a table and ends with an error where something is not as promised. `BENCH_ONLY=create,slow` runs some of
//! the scenarios; `BENCH_ROLES` and `BENCH_MEMORY_ROLES` say how many "many" are.

#[path = "scale/judge.rs"]
mod judge;
#[path = "scale/machine.rs"]
mod machine;
#[path = "scale/setup.rs"]
mod setup;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "scale/table.rs"]
mod table;

use judge::Spent;
use setup::{Bench, LATENCY};
use std::time::Duration;
use support::stays;
use table::Row;

/// What `BENCH_ONLY` may name.
const SCENARIOS: [&str; 5] = ["create", "throttled", "many", "slow", "memory"];
/// Calls that AWS lets through in a second, where it throttles.
const RATE: f64 = 20.0;
/// The most calls that a restart or a steady check may take.
const HANDFUL: usize = 5;
/// How long each call takes where this machine shall not be what is measured.
const SLOW: Duration = Duration::from_millis(250);
/// How many times the least making many roles may take.
const TIMES_LEAST: f64 = 1.25;
/// A role is made in one go: among many, so many times the calls for others may come between its first and its last one
/// as among few, and so many more.
const SPAN: (usize, usize) = (2, 32);
/// The scenario with few roles.
const FEW: &str = "create-200";
/// The most resident memory, in KiB.
const MEMORY: u64 = 80 * 1024;

/// One role, then 200 more.
async fn create(rows: &mut Vec<Row>) -> Vec<String> {
    let mut bench = Bench::start("create", 900, LATENCY).await;
    let row = bench.measure("create-1", 1, async |bench| bench.create(0, 1).await).await;
    bench.must(row.calls.len() == 3, "a role is made with 3 calls");
    rows.push(row);
    bench.world.proxy.forget();
    let quiet = stays(Duration::from_secs(30), || async { bench.world.proxy.count() == 0 }).await;
    bench.must(quiet, "and none for 30 s");
    let row = bench.measure(FEW, 200, async |bench| bench.create(1, 201).await).await;
    bench.must(row.calls.len() == 600, "200 roles are made with 600 calls");
    let mut row = row.with_spans();
    bench.must_in_time(&mut row, TIMES_LEAST);
    bench.must_spend_little(&row, None);
    rows.push(row);
    bench.failed
}

/// Processor time for few roles, where that scenario was run.
fn spent_on_few(rows: &[Row]) -> Option<Spent> {
    rows.iter().find(|row| row.case == FEW).map(Row::spent)
}

/// Many roles: made, found again by a new process, checked, deleted.
async fn many(rows: &mut Vec<Row>) -> Vec<String> {
    let roles = number("BENCH_ROLES", 1000);
    let mut bench = Bench::start("many", 120, LATENCY).await;
    let case = format!("create-{roles}");
    let mut row = bench.measure(&case, roles, async |bench| bench.create(0, roles).await).await.with_spans();
    bench.must(row.calls.iter().filter(|call| call.writes()).count() == 3 * roles, "as many calls as roles make");
    bench.must_in_time(&mut row, TIMES_LEAST);
    bench.must_spend_little(&row, spent_on_few(rows));
    // Without the scenario of few roles: against as many as are under way.
    let few = rows.iter().find(|row| row.case == FEW).map_or((setup::ROLES, setup::ROLES), Row::others_between);
    let many = row.others_between();
    for (what, few, many) in [("in the median", few.0, many.0), ("at most", few.1, many.1)] {
        let grown =
            format!("{case}: {what} {many} calls for others come between those for a role, {few} among few roles");
        bench.must(many <= SPAN.0 * few + SPAN.1, &grown);
    }
    rows.push(row);
    // The first walk of all tells the class how drift is looked for.
    bench.world.proxy.forget();
    bench.walked().await;
    let case = format!("steady check of {roles}");
    let mut row = bench.measure(&case, roles, async |bench| bench.walked().await).await;
    bench.must(row.calls.len() <= HANDFUL, "a steady check takes 5 calls at most");
    let writes = row.writes + row.class_writes + row.events;
    bench.must(writes == 0, "a steady check writes nothing to Kubernetes");
    row.wall = row.between_calls() + LATENCY;
    rows.push(row);
    rows.push(restart(&mut bench, roles, 0).await);
    rows.push(bench.measure(&format!("delete-{roles}"), roles, async |bench| bench.delete_all().await).await);
    bench.failed
}

/// Many roles where each call takes so long that it is AWS that is waited for, and not this machine.
async fn slow(rows: &mut Vec<Row>) -> Vec<String> {
    let roles = number("BENCH_ROLES", 1000);
    let mut bench = Bench::start("slow", 900, SLOW).await;
    let case = format!("create-{roles} at {} ms", SLOW.as_millis());
    let mut row = bench.measure(&case, roles, async |bench| bench.create(0, roles).await).await.with_spans();
    bench.must_in_time(&mut row, TIMES_LEAST);
    // It takes longer in any case, with what goes on all the time.
    bench.must_spend_little(&row, None);
    rows.push(row);
    bench.failed
}

/// A new process finds the roles as they are, and writes to the class at most so often.
async fn restart(bench: &mut Bench, roles: usize, class_writes: usize) -> Row {
    bench.world.operator.kill().await;
    let case = format!("restart with {roles}");
    let row = bench
        .measure(&case, roles, async |bench| {
            bench.world.operator.start().await;
            bench.walked().await;
        })
        .await;
    // Two walks with a page for each thousand.
    let most = HANDFUL + 2 * (roles.saturating_sub(1) / 1000);
    bench.must(row.calls.len() <= most, &format!("{case} takes {most} calls at most"));
    bench.must(row.writes + row.events == 0, &format!("{case} writes nothing to Kubernetes"));
    bench.must(row.class_writes <= class_writes, &format!("{case}: the class is written {} times", row.class_writes));
    row
}

/// An account that lets through 20 calls a second.
async fn throttled(rows: &mut Vec<Row>) -> Vec<String> {
    let mut bench = Bench::start("throttled", 900, LATENCY).await;
    bench.world.proxy.limit(RATE);
    let mut row = bench.measure("throttled-100", 100, async |bench| bench.create(0, 100).await).await.with_spans();
    let refused = bench.world.proxy.throttled();
    let share = setup::share(refused, row.calls.len() + refused);
    // The bucket was full at the start, and the last calls left it as it was.
    let used = (setup::float(row.calls.len()) - RATE) / (RATE * (row.between_calls() + LATENCY).as_secs_f64());
    row.note =
        format!("{:.0} % of the bucket used, {:.1} % of the calls refused; {}", used * 100.0, share * 100.0, row.note);
    bench.must(used >= 0.9, &format!("of the bucket 90 % is used, not {:.1} %", used * 100.0));
    bench.must(share <= 0.05, &format!("5 % of the calls are refused at most, not {:.1} %", share * 100.0));
    bench.must_spend_little(&row, None);
    rows.push(row);
    bench.failed
}

/// The most roles there are, in memory.
async fn memory(rows: &mut Vec<Row>) -> Vec<String> {
    let roles = number("BENCH_MEMORY_ROLES", 5000);
    let mut bench = Bench::start("memory", 900, Duration::ZERO).await;
    let row = bench.measure(&format!("create-{roles}"), roles, async |bench| bench.create(0, roles).await).await;
    bench.must_spend_little(&row, spent_on_few(rows));
    rows.push(row);
    let resident = bench.world.operator.resident();
    // Its first walk is the first of all, and tells the class how drift is looked for.
    rows.push(restart(&mut bench, roles, 1).await);
    let again = bench.world.operator.resident();
    let (before, after) = (resident / 1024, again / 1024);
    if let Some(row) = rows.last_mut() {
        row.note = format!("resident {after} MiB; {before} MiB after they were made");
    }
    let peak = rows.iter().rev().take(2).map(|row| row.peak).max().unwrap_or_default();
    bench.must(peak <= MEMORY, &format!("{roles} roles in less than 80 MiB at any time, not {}", peak / 1024));
    bench.must(resident <= MEMORY, &format!("{roles} roles made in less than 80 MiB, not {before}"));
    bench.must(again <= MEMORY, &format!("{roles} roles found again in less than 80 MiB, not {after}"));
    bench.failed
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` only sees that it compiles.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let unknown: Vec<&str> = only.split(',').filter(|one| !one.is_empty() && !SCENARIOS.contains(one)).collect();
    assert!(unknown.is_empty(), "BENCH_ONLY: no scenario {unknown:?}; there are {SCENARIOS:?}");
    let wanted = |scenario: &str| only.is_empty() || only.split(',').any(|one| one == scenario);
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    if wanted("create") {
        failed.extend(create(&mut rows).await);
    }
    if wanted("throttled") {
        failed.extend(throttled(&mut rows).await);
    }
    if wanted("many") {
        failed.extend(many(&mut rows).await);
    }
    if wanted("slow") {
        failed.extend(slow(&mut rows).await);
    }
    if wanted("memory") {
        failed.extend(memory(&mut rows).await);
    }
    table::print(&rows);
    if !failed.is_empty() {
        eprintln!("not as promised: {failed:#?}");
        std::process::exit(1);
    }
}
