//! The plot of a run as SVG: how fast blocks reach the nodes, and how deep
//! reorganisations go.
//!
//! It draws from a [`Report`] alone. Text and lines are legible on a white and on a black
//! background, and have more contrast where a viewer knows which of the two the reader
//! prefers. Start reading at [`svg`].

use std::fmt::Write as _;

use crate::report::summary::Report;

/// Size of the picture, in the units of its view box, as all lengths here.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
/// Upper and lower edge of both panels.
const TOP: f64 = 70.0;
const BOTTOM: f64 = 350.0;
/// Left and right edge of the panel with the delays.
const DELAYS: (f64, f64) = (60.0, 590.0);
/// Left and right edge of the panel with the reorganisations.
const DEPTHS: (f64, f64) = (660.0, 880.0);
/// Points of the delay curve.
const CURVE_POINTS: usize = 200;
/// Depths of reorganisations with a bar of their own; greater depths share the last bar.
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

/// Draws the plot of a report.
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
    let title = Label {
        class: "title",
        ..Label::at(DELAYS.0, 24.0)
    };
    title.draw(
        &mut out,
        &format!(
            "{} nodes, {:.1} h, {}, a block every {} s: stale rate {:.2} %",
            settings.nodes,
            settings.secs as f64 / 3_600.0,
            settings.scenario.name(),
            settings.interval_secs,
            100.0 * report.stale_rate
        ),
    );
    draw_delays(&mut out, report);
    draw_depths(&mut out, report);
    out.push_str("</svg>\n");
    out
}

/// Where and how a text is drawn.
struct Label {
    x: f64,
    y: f64,
    class: &'static str,
    /// Which part of the text is at `x`: `start`, `middle` or `end`.
    anchor: &'static str,
}

impl Label {
    /// A plain text that starts at this point.
    fn at(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            class: "",
            anchor: "start",
        }
    }

    fn anchored(self, anchor: &'static str) -> Self {
        Self { anchor, ..self }
    }

    fn draw(&self, out: &mut String, text: &str) {
        let Self {
            x,
            y,
            class,
            anchor,
        } = self;
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// A round step that divides a range into about five.
fn step(range: f64) -> f64 {
    let rough = (range / 5.0).max(f64::MIN_POSITIVE);
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

/// The scale of the panel with the delays.
struct DelayScale {
    /// The delay at the right edge, milliseconds.
    end_ms: f64,
}

impl DelayScale {
    fn x(&self, ms: f64) -> f64 {
        DELAYS.0 + (DELAYS.1 - DELAYS.0) * ms / self.end_ms
    }

    /// `part` is the part of all pairs of a block and a node, between 0 and 1.
    fn y(&self, part: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * part
    }
}

/// Draws which part of all pairs of a block and a node the blocks have reached, over the
/// time since the block was found.
fn draw_delays(out: &mut String, report: &Report) {
    Label::at(DELAYS.0, 50.0).draw(
        out,
        "nodes that have validated a block, % by ms after its solution",
    );
    // The panel ends a little after the 99th percentile: the longest delays would leave
    // no room for the rest.
    let scale = DelayScale {
        end_ms: (f64::from(report.propagation.p99) * 1.25).max(1.0),
    };
    draw_delay_grid(out, &scale);
    let delays = &report.delays_ms;
    if delays.is_empty() {
        return;
    }
    let mut points = String::new();
    for number in 0..=CURVE_POINTS {
        let ms = scale.end_ms * number as f64 / CURVE_POINTS as f64;
        let reached = delays.partition_point(|delay| f64::from(*delay) <= ms);
        let part = reached as f64 / delays.len() as f64;
        let _ = write!(points, "{:.1},{:.1} ", scale.x(ms), scale.y(part));
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
        let at = scale.x(f64::from(ms));
        line(out, "mark", (at, BOTTOM), (at, scale.y(part)));
        let shift = if anchor == "start" { 6.0 } else { -6.0 };
        Label::at(at + shift, BOTTOM - 12.0)
            .anchored(anchor)
            .draw(out, &format!("{name} {ms} ms"));
    }
}

/// Draws the lines and numbers that the delay curve is read by.
fn draw_delay_grid(out: &mut String, scale: &DelayScale) {
    for percent in [0, 25, 50, 75, 100] {
        let level = scale.y(f64::from(percent) / 100.0);
        line(out, "grid", (DELAYS.0, level), (DELAYS.1, level));
        Label::at(DELAYS.0 - 8.0, level + 4.0)
            .anchored("end")
            .draw(out, &percent.to_string());
    }
    let step = step(scale.end_ms);
    let mut tick = 0.0;
    while tick <= scale.end_ms {
        let x = scale.x(tick);
        line(out, "axis", (x, BOTTOM), (x, BOTTOM + 5.0));
        Label::at(x, BOTTOM + 20.0)
            .anchored("middle")
            .draw(out, &format!("{tick:.0}"));
        tick += step;
    }
}

/// Draws how many reorganisations undid how many blocks, on a logarithmic scale.
fn draw_depths(out: &mut String, report: &Report) {
    Label::at(DEPTHS.0, 50.0).draw(out, "reorganisations by depth, blocks");
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
        Label::at(middle, BOTTOM + 20.0)
            .anchored("middle")
            .draw(out, &format!("{}{more}", index + 1));
        Label::at(middle, y - 6.0)
            .anchored("middle")
            .draw(out, &count.to_string());
    }
    Label::at(DEPTHS.0, BOTTOM + 42.0).draw(out, "(bars grow with the logarithm)");
}
