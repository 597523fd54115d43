//! What the machine did meanwhile: how busy it was, and with what. Times are judged only where they are those of AWS and
//! of the operator.

use crate::judge::is_too_busy;
use crate::support::env;
use std::collections::BTreeMap;
use std::time::Duration;

/// Beyond so many times the latency of calls, in the mean, the machine is what is measured.
const LATE: f64 = 1.05;

/// The process that is measured.
pub const OPERATOR: &str = "operator";

/// Who works on the bench, by the process.
pub type Processes = Vec<(&'static str, u32)>;

/// The processor time so far, in seconds.
#[derive(Clone, Debug)]
pub struct Machine {
    busy: f64,
    all: f64,
    by: BTreeMap<&'static str, f64>,
}

/// The same of a while.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// The share of all processors that was at work.
    pub busy: f64,
    /// The share that was at work for the operator.
    pub operator: f64,
    /// Who was at work, in seconds of one processor.
    pub by: BTreeMap<&'static str, f64>,
    /// How long a call to AWS took in the mean.
    pub answer: Duration,
}

/// The API server and its store, this process, and those that come with a scenario.
pub fn processes(more: Processes) -> Processes {
    let of_rig = [("API server", "kube-apiserver"), ("etcd", "etcd"), ("controllers", "kube-controller-manager")];
    let of_rig = of_rig.into_iter().filter_map(|(name, file)| {
        let text = std::fs::read_to_string(format!("{}/run/{file}.pid", env("RIG_DIR"))).ok()?;
        Some((name, text.split_whitespace().next()?.parse().ok()?))
    });
    of_rig.chain([("bench", std::process::id())]).chain(more).collect()
}

impl Machine {
    pub fn now(processes: &Processes) -> Self {
        let stat = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
        let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<f64> = ticks.filter_map(|ticks| ticks.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; what guests take is in the first.
        let all: f64 = ticks.iter().take(8).sum();
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        let by = processes.iter().map(|(name, id)| (*name, of(*id))).collect();
        Self { busy: (all - idle) / 100.0, all: all / 100.0, by }
    }

    pub fn since(&self, before: &Self, answer: Duration) -> Load {
        let (busy, all) = (self.busy - before.busy, self.all - before.all);
        // Who began meanwhile began at nothing.
        let spent = |name: &str, now: f64| {
            let then = before.by.get(name).copied().unwrap_or_default();
            if now >= then { now - then } else { now }
        };
        let by: BTreeMap<_, _> = self.by.iter().map(|(name, now)| (*name, spent(name, *now))).collect();
        let operator = by.get(OPERATOR).copied().unwrap_or_default();
        Load { busy: busy / all.max(0.01), operator: operator / all.max(0.01), by, answer }
    }
}

impl Load {
    /// Processor time of the operator, in seconds.
    pub fn of_operator(&self) -> f64 {
        self.by.get(OPERATOR).copied().unwrap_or_default()
    }

    /// Why times of calls with this latency tell of the machine, if they do.
    pub fn reason(&self, latency: Duration) -> Option<String> {
        if is_too_busy(self.busy, self.operator) {
            let (busy, own) = (self.busy * 100.0, self.operator * 100.0);
            return Some(format!("its processors were {busy:.0} % busy, {own:.0} % for the operator ({self})"));
        }
        (self.answer > latency.mul_f64(LATE)).then(|| {
            format!(
                "the emulator took {:.0} ms for a call that takes {} ms",
                self.answer.as_secs_f64() * 1000.0,
                latency.as_millis()
            )
        })
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut by: Vec<_> = self.by.iter().collect();
        by.sort_by(|a, b| b.1.total_cmp(a.1));
        let by: Vec<String> = by.into_iter().map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect();
        f.write_str(&by.join(", "))
    }
}

/// Processor time of a process so far; none where there is no such process.
fn of(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // After the name, which may hold blanks; user and system time in hundredths of a second.
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
    rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
