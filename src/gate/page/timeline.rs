//! The timeline: a bar of the last phases, as SVG, and the whole history beneath it.

use std::fmt::Write as _;

use super::Look;
use crate::{
    gate::status::{self, Phase, Status},
    html::Text,
};

const WIDTH: f64 = 720.0;

/// Phases in the bar. With more of them none could be read.
const SHOWN: usize = 10;

/// What a character of a label is wide, at the most.
const CHARACTER: f64 = 7.5;

/// Writes the section.
pub(super) fn put(page: &mut String, status: &Status) {
    let phases = status.phases();
    page.push_str("<section>\n<h2>Timeline</h2>\n");
    let first = phases.len().saturating_sub(SHOWN);
    put_bar(page, phases.get(first..).unwrap_or_default());
    page.push_str("<table class=\"history\">\n");
    for phase in phases.iter().rev() {
        let _ = writeln!(
            page,
            "<tr class=\"{}\"><td><time datetime=\"{}\">{}</time></td><th scope=\"row\">{}</th>\
             <td class=\"lasted\">{}</td><td class=\"why\">{}</td></tr>",
            Look::of_state(phase.state).tone,
            humantime::format_rfc3339_millis(phase.began),
            status::clock(status.at, phase.began),
            phase.state.name(),
            status::brief(phase.lasted),
            Text(phase.reason),
        );
    }
    page.push_str("</table>\n</section>\n");
}

/// Widths are logarithmic: a gate that has been open for days shows still how it came to open.
fn put_bar(page: &mut String, phases: &[Phase<'_>]) {
    let weight = |phase: &Phase<'_>| (1.5 + phase.lasted.as_secs_f64()).ln() + 0.6;
    let total: f64 = phases.iter().map(weight).sum();
    let _ = write!(
        page,
        "<svg class=\"bar\" viewBox=\"0 0 {WIDTH} 56\" role=\"img\" \
         aria-label=\"the phases in a row\">"
    );
    let mut x = 0.0;
    for phase in phases {
        let width = weight(phase) / total * WIDTH;
        let (name, lasted) = (phase.state.name(), status::brief(phase.lasted));
        let _ = write!(
            page,
            "<g class=\"{}\"><title>{name} for {lasted}: {}</title><rect x=\"{x:.1}\" y=\"0\" \
             width=\"{:.1}\" height=\"34\" rx=\"4\"/>",
            Look::of_state(phase.state).tone,
            Text(phase.reason),
            width - 3.0,
        );
        for (text, y) in [(name, 22), (&lasted, 51)] {
            let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
            if f64::from(characters) * CHARACTER < width - 8.0 {
                let class = if y == 22 { "name" } else { "lasted" };
                let _ = write!(
                    page,
                    "<text class=\"{class}\" x=\"{:.1}\" y=\"{y}\">{text}</text>",
                    x + 7.0
                );
            }
        }
        page.push_str("</g>");
        x += width;
    }
    page.push_str("</svg>\n<p class=\"scale\">Widths on a logarithmic scale.</p>\n");
}
