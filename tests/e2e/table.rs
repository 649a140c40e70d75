//! How tables show what clients saw.

use super::report::Summary;

/// A row: its name, and what stands in it.
pub type Row = (&'static str, fn(&Summary) -> String);

/// What every table says.
pub const ROWS: [Row; 6] = [
    ("requests", |all| all.sent.to_string()),
    ("failed", |all| all.failed.to_string()),
    ("slower than 250 ms", |all| all.slow.to_string()),
    ("p50 of good answers", |all| show(all.p50_ms)),
    ("p99 of good answers", |all| show(all.p99_ms)),
    ("slowest good answer", |all| show(all.max_ms)),
];

/// Milliseconds, as people read them.
pub fn show(ms: Option<f64>) -> String {
    match ms {
        None => "never".to_owned(),
        Some(ms) if ms < 1000.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}
