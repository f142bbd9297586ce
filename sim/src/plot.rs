//! The plot of a run, as SVG: how fast blocks reach nodes, and how deep
//! reorganisations go. Text and lines are legible on white and on black; viewers
//! that know the reader's scheme get the right contrast for it.

use std::fmt::Write as _;

use crate::report::Report;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 350.0;
/// Left and right edge of the first panel.
const DELAYS: (f64, f64) = (60.0, 590.0);
/// Left and right edge of the second panel.
const DEPTHS: (f64, f64) = (660.0, 880.0);
/// Points of the curve.
const CURVE_POINTS: usize = 200;
/// Depths that have a bar; deeper ones share the last.
const BARS: usize = 6;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#6e7681}\
.title{font-size:15px;font-weight:600}\
.grid{stroke:#8b949e;stroke-opacity:.35}\
.axis{stroke:#8b949e}\
.curve{fill:none;stroke:#2f81f7;stroke-width:2.5}\
.mark{stroke:#d9822b;stroke-dasharray:4 4}\
.bar{fill:#2f81f7}\
@media (prefers-color-scheme:dark){text{fill:#b1bac4}}\
@media (prefers-color-scheme:light){text{fill:#424a53}}";

/// Draws a report.
#[must_use]
pub fn svg(report: &Report) -> String {
    let mut out = String::new();
    let settings = &report.settings;
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" aria-label=\"How fast blocks reach nodes, and how deep reorganisations \
         go\">\n<style>{STYLE}</style>\n"
    );
    text(
        &mut out,
        DELAYS.0,
        24.0,
        "title",
        "start",
        &format!(
            "{} nodes, {:.1} h, {}, a block every {} s: stale rate {:.2} %",
            settings.nodes,
            settings.secs as f64 / 3_600.0,
            settings.scenario.name(),
            settings.interval_secs,
            100.0 * report.stale_rate
        ),
    );
    delays(&mut out, report);
    depths(&mut out, report);
    out.push_str("</svg>\n");
    out
}

fn text(out: &mut String, x: f64, y: f64, class: &str, anchor: &str, what: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{what}</text>"
    );
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// A round step that divides a range in some five.
fn step(range: f64) -> f64 {
    let rough = (range / 5.0).max(f64::MIN_POSITIVE);
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

/// The part of (block, node) pairs that a block has reached after so long.
fn delays(out: &mut String, report: &Report) {
    let delays = &report.delays_ms;
    text(
        out,
        DELAYS.0,
        50.0,
        "",
        "start",
        "nodes that have validated a block, % by ms after its solution",
    );
    // A little beyond the 99th in a hundred: the tail would hide the rest.
    let end = (f64::from(report.propagation.p99) * 1.25).max(1.0);
    let x = |ms: f64| DELAYS.0 + (DELAYS.1 - DELAYS.0) * ms / end;
    let y = |part: f64| BOTTOM - (BOTTOM - TOP) * part;
    for percent in [0, 25, 50, 75, 100] {
        let level = y(f64::from(percent) / 100.0);
        line(out, "grid", (DELAYS.0, level), (DELAYS.1, level));
        text(
            out,
            DELAYS.0 - 8.0,
            level + 4.0,
            "",
            "end",
            &percent.to_string(),
        );
    }
    let step = step(end);
    let mut tick = 0.0;
    while tick <= end {
        line(out, "axis", (x(tick), BOTTOM), (x(tick), BOTTOM + 5.0));
        text(
            out,
            x(tick),
            BOTTOM + 20.0,
            "",
            "middle",
            &format!("{tick:.0}"),
        );
        tick += step;
    }
    if delays.is_empty() {
        return;
    }
    let mut points = String::new();
    for place in 0..=CURVE_POINTS {
        let ms = end * place as f64 / CURVE_POINTS as f64;
        let reached = delays.partition_point(|delay| f64::from(*delay) <= ms);
        let part = reached as f64 / delays.len() as f64;
        let _ = write!(points, "{:.1},{:.1} ", x(ms), y(part));
    }
    let _ = writeln!(
        out,
        "<polyline class=\"curve\" points=\"{}\"/>",
        points.trim()
    );
    let marks = [
        ("p50", report.propagation.p50, 0.5, "start"),
        ("p99", report.propagation.p99, 0.99, "end"),
    ];
    for (name, ms, part, anchor) in marks {
        let at = x(f64::from(ms));
        line(out, "mark", (at, BOTTOM), (at, y(part)));
        let shift = if anchor == "start" { 6.0 } else { -6.0 };
        let label = format!("{name} {ms} ms");
        text(out, at + shift, BOTTOM - 12.0, "", anchor, &label);
    }
}

/// How many reorganisations undid so many blocks, on a logarithmic scale.
fn depths(out: &mut String, report: &Report) {
    text(
        out,
        DEPTHS.0,
        50.0,
        "",
        "start",
        "reorganisations by depth, blocks",
    );
    let mut counts = [0_u64; BARS];
    for (depth, count) in report.reorganisations.iter().enumerate().skip(1) {
        counts[(depth - 1).min(BARS - 1)] += count;
    }
    let height = |count: u64| libm::log10(1.0 + count as f64);
    let most = counts.iter().copied().map(height).fold(1.0, f64::max);
    let slot = (DEPTHS.1 - DEPTHS.0) / BARS as f64;
    line(out, "axis", (DEPTHS.0, BOTTOM), (DEPTHS.1, BOTTOM));
    for (index, count) in counts.into_iter().enumerate() {
        let left = DEPTHS.0 + slot * index as f64;
        let tall = (BOTTOM - TOP - 20.0) * height(count) / most;
        let (x, y, width) = (left + slot * 0.15, BOTTOM - tall, slot * 0.7);
        let _ = writeln!(
            out,
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{tall:.1}\"/>"
        );
        let middle = left + slot / 2.0;
        let more = if index + 1 == BARS { "+" } else { "" };
        let name = format!("{}{more}", index + 1);
        text(out, middle, BOTTOM + 20.0, "", "middle", &name);
        text(out, middle, y - 6.0, "", "middle", &count.to_string());
    }
    text(
        out,
        DEPTHS.0,
        BOTTOM + 42.0,
        "",
        "start",
        "(bars grow with the logarithm)",
    );
}
