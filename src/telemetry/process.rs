//! What the kernel tells of this process, by the names that every Prometheus client gives it. Nothing where there is no
//! `/proc`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of `/proc/PID/stat`, in a second: what the kernel's interface has on every architecture that we build for.
const TICKS: f64 = 100.0;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub struct Process {
    since: f64,
}

impl Process {
    /// Of a process that was started at that time.
    pub fn since(started: SystemTime) -> Self {
        Self { since: started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(&mut encoder, "process_start_time_seconds", "When the process was started", Some(self.since))?;
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let help = "Processor time used, by the process and by the kernel for it";
            counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?)?;
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let bytes = |name| field(&status, name).map(|kilobytes| kilobytes * 1024.0);
        let files = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        let files = files.and_then(|files| u32::try_from(files).ok()).map(f64::from);
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use", bytes("VmRSS:")),
            ("process_virtual_memory_bytes", "Address space in use", bytes("VmSize:")),
            ("process_open_fds", "Open files and connections", files),
            ("process_max_fds", "How many of them there may be", field(&limits, "Max open files")),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

/// The first number of the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may hold blanks: fields 14 and 15 of proc(5).
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    (ticks.len() == 2).then(|| ticks.iter().sum::<f64>() / TICKS)
}
