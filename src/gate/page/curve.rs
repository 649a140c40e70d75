//! The latency curve of the warm-up, as SVG: p95 of each window on a logarithmic scale, since a
//! cold app may be a hundred times as slow as a warm one.

use std::fmt::Write as _;

use crate::gate::status::{self, WarmupStatus};

const WIDTH: f64 = 720.0;

const HEIGHT: f64 = 220.0;

/// Room for the labels.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 64.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 28.0;

/// Lines are drawn at these times a power of ten, in microseconds.
const STEPS: [u64; 3] = [1, 2, 5];

/// Where a value stands on the canvas.
struct Scale {
    low: f64,
    high: f64,
    points: f64,
}

/// Writes the curve, or nothing before there is one.
pub(super) fn put(page: &mut String, warmup: &WarmupStatus) {
    let numbers = &warmup.numbers;
    let values: Vec<u64> = numbers
        .cold_p95_us
        .into_iter()
        .chain(numbers.windows_us.iter().copied())
        .map(|micros| micros.max(1))
        .collect();
    if values.len() < 2 {
        return;
    }
    let scale = Scale::new(&values, warmup.target_p95_us);
    let _ = write!(
        page,
        "<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"p95 of each window of the warm-up\">"
    );
    put_grid(page, &scale);
    if let Some(target) = warmup.target_p95_us {
        put_target(page, &scale, target);
    }
    put_line(page, &scale, &values, numbers.cold_p95_us.is_some());
    let foot = HEIGHT - 6.0;
    let _ = writeln!(
        page,
        "<text x=\"{LEFT}\" y=\"{foot}\">cold</text><text class=\"end\" x=\"{}\" \
         y=\"{foot}\">window {}</text></svg>",
        WIDTH - RIGHT,
        numbers.windows_us.len(),
    );
}

fn put_grid(page: &mut String, scale: &Scale) {
    let powers = (0..8).map(|power| 10_u64.pow(power));
    let lines = powers.flat_map(|power| STEPS.map(|step| step * power));
    for value in lines.filter(|value| scale.holds(*value)) {
        let y = scale.y(value);
        let _ = write!(
            page,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/>\
             <text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            status::latency(value),
        );
    }
}

fn put_target(page: &mut String, scale: &Scale, target: u64) {
    let (y, end) = (scale.y(target), WIDTH - RIGHT);
    let _ = write!(
        page,
        "<path class=\"target\" d=\"M{LEFT} {y:.1}H{end}\"/>\
         <text class=\"target\" x=\"{:.1}\" y=\"{:.1}\">target {}</text>",
        LEFT + 6.0,
        y - 5.0,
        status::latency(target),
    );
}

/// `from_cold`: the first value is that of the first pass, before the windows.
fn put_line(page: &mut String, scale: &Scale, values: &[u64], from_cold: bool) {
    let places = || {
        (0_u32..)
            .zip(values)
            .map(|(at, p95)| (scale.x(at), scale.y(*p95), *p95))
    };
    let line: Vec<_> = places().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
    let _ = write!(page, "<polyline points=\"{}\"/>", line.join(" "));
    for (window, (x, y, p95)) in places().enumerate() {
        let what = if window == 0 && from_cold {
            "cold".to_owned()
        } else {
            format!("window {}", window + usize::from(!from_cold))
        };
        let _ = write!(
            page,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{what}: {}</title></circle>",
            status::latency(p95)
        );
    }
    if let Some((x, y, p95)) = places().last() {
        let _ = write!(
            page,
            "<text class=\"last\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 8.0,
            y + 4.0,
            status::latency(p95)
        );
    }
}

// === impl Scale ===

impl Scale {
    fn new(values: &[u64], target: Option<u64>) -> Self {
        let all = || values.iter().copied().chain(target);
        let low = all().min().unwrap_or(1).max(1);
        let high = all().max().unwrap_or(1).max(1);
        Self {
            low: float(low).ln() - 0.4,
            high: float(high).ln() + 0.2,
            points: float(u64::try_from(values.len()).unwrap_or(u64::MAX)),
        }
    }

    fn x(&self, point: u32) -> f64 {
        let share = f64::from(point) / (self.points - 1.0);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, micros: u64) -> f64 {
        let share = (float(micros.max(1)).ln() - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn holds(&self, micros: u64) -> bool {
        (self.low..=self.high).contains(&float(micros).ln())
    }
}

/// More than 71 minutes is drawn as 71 minutes.
fn float(micros: u64) -> f64 {
    f64::from(u32::try_from(micros).unwrap_or(u32::MAX))
}
