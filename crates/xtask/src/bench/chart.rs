//! The pairs as a picture: CPU a message, on a logarithmic scale, in SVG that is read on light and on dark ground.

use std::fmt::Write as _;

use super::pairs::Report;

const WIDTH: f64 = 1040.0;
/// Where the bars begin.
const LEFT: f64 = 300.0;
/// What a factor of ten is wide.
const DECADE: f64 = 105.0;
/// The left end of the scale, as a power of ten: 0.1 us.
const LEAST: f64 = -1.0;
const ROW: f64 = 17.0;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn len(us: f64) -> f64 {
    ((us.max(0.1).log10() - LEAST) * DECADE).max(2.0)
}

/// Draws them, by workload.
pub(super) fn bars(report: &Report) -> String {
    let mut names: Vec<&str> = Vec::new();
    for pair in &report.pairs {
        if !names.contains(&pair.workload.as_str()) {
            names.push(&pair.workload);
        }
    }
    let mut rows = String::new();
    let mut y = 62.0;
    for name in names {
        let of = || report.pairs.iter().filter(|pair| pair.workload == name);
        let mut ours: Vec<_> = of().map(|pair| &pair.ours).collect();
        ours.sort_by(|a, b| a.cpu_us_a_message.total_cmp(&b.cpu_us_a_message));
        let middle = ours[ours.len() / 2];
        y += 8.0;
        text(&mut rows, 8.0, y + 12.0, "font-weight=\"bold\"", name);
        y += ROW;
        let figures =
            std::iter::once((middle, "#d9822b")).chain(of().map(|pair| (&pair.peer, "#7a869a")));
        for (figure, colour) in figures {
            let us = figure.cpu_us_a_message;
            let end = format!("text-anchor=\"end\" x=\"{}\"", LEFT - 8.0);
            writeln!(
                rows,
                "<text {end} y=\"{}\">{}</text>",
                y + 12.0,
                escaped(&figure.who)
            )
            .ok();
            writeln!(
                rows,
                "<rect x=\"{LEFT}\" y=\"{}\" width=\"{:.0}\" height=\"13\" fill=\"{colour}\"/>",
                y + 1.0,
                len(us)
            )
            .ok();
            let said = format!(
                "{us:.2} us, {:.0}/s, {}",
                figure.messages_a_second, figure.durability
            );
            text(&mut rows, LEFT + len(us) + 6.0, y + 12.0, "", &said);
            y += ROW;
        }
    }
    let height = y + 14.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#808690\">\n"
    );
    let title =
        "CPU of the broker in microseconds a delivered message, logarithmic: shorter is better";
    text(&mut out, 8.0, 18.0, "font-size=\"14\"", title);
    let pinned = if report.pinned {
        ", all on one CPU"
    } else {
        ""
    };
    let how = format!(
        "{}, Linux {}; medians of {} rounds of {} s{pinned}; shared machine, load {}",
        report.machine, report.kernel, report.rounds, report.seconds, report.load_before
    );
    text(&mut out, 8.0, 36.0, "", &how);
    for (power, mark) in ["0.1", "1", "10", "100", "1000"].iter().enumerate() {
        let x = LEFT + power as f64 * DECADE;
        writeln!(
            out,
            "<path d=\"M{x} 58V{height}\" stroke=\"#808690\" stroke-opacity=\"0.3\"/>"
        )
        .ok();
        text(&mut out, x - 6.0, 54.0, "", mark);
    }
    out + &rows + "</svg>\n"
}

/// Appends a text at that place; `how` is more attributes.
pub(crate) fn text(out: &mut String, x: f64, y: f64, how: &str, what: &str) {
    writeln!(
        out,
        "<text x=\"{x:.0}\" y=\"{y}\" {how}>{}</text>",
        escaped(what)
    )
    .ok();
}
