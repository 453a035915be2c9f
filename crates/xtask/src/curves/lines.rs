//! A curve as a picture: CPU a message above, messages a second below, all axes logarithmic.

use std::fmt::Write as _;

use super::{Drawn, Point};
use crate::bench::chart::text;

const COLOURS: [&str; 4] = ["#d9822b", "#3b7dd8", "#3f9142", "#9b59b6"];
const LEFT: f64 = 62.0;
const WIDE: f64 = 640.0;
const HIGH: f64 = 190.0;

/// From numbers to places on an axis.
struct Scale {
    /// Powers of ten at its ends.
    from: f64,
    to: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
            let power = value.max(1e-3).log10();
            (least.min(power), most.max(power))
        });
        let from = least.floor();
        Self {
            from,
            to: most.ceil().max(from + 1.0),
        }
    }

    /// Between 0 and 1.
    fn place(&self, value: f64) -> f64 {
        (value.max(1e-3).log10() - self.from) / (self.to - self.from)
    }

    /// The powers of ten on it.
    fn marks(&self) -> impl Iterator<Item = f64> {
        let from = self.from;
        (0..=(self.to - from) as i32).map(move |step| 10f64.powf(from + f64::from(step)))
    }
}

/// Zero has a place of its own at the left end.
fn x(point: &Point) -> f64 {
    point.x.max(1) as f64
}

/// Draws it.
pub(super) fn chart(drawn: &Drawn) -> String {
    let points = || drawn.lines.iter().flat_map(|line| &line.points);
    let across = Scale::of(points().map(x));
    let legend = 30.0 + 15.0 * drawn.lines.len() as f64;
    let height = legend + 2.0 * (HIGH + 46.0) + 8.0;
    let width = LEFT + WIDE + 24.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#808690\">\n"
    );
    text(&mut out, 8.0, 18.0, "font-size=\"14\"", &drawn.title);
    for (at, (line, colour)) in drawn.lines.iter().zip(COLOURS).enumerate() {
        let y = 36.0 + 15.0 * at as f64;
        writeln!(
            out,
            "<path d=\"M8 {}H32\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            y - 4.0
        )
        .ok();
        text(&mut out, 38.0, y, "", &line.name);
    }
    type Of = fn(&Point) -> f64;
    let panels: [(&str, Of); 2] = [
        ("CPU of the server in microseconds a message", |point| {
            point.cpu_us_a_message
        }),
        ("messages a second", |point| point.messages_a_second),
    ];
    for (at, (name, of)) in panels.into_iter().enumerate() {
        let top = legend + 24.0 + at as f64 * (HIGH + 46.0);
        let up = Scale::of(points().map(of));
        text(&mut out, LEFT, top - 6.0, "", name);
        let to_x = |value: f64| LEFT + across.place(value) * WIDE;
        let to_y = |value: f64| top + HIGH - up.place(value) * HIGH;
        for mark in up.marks() {
            let y = to_y(mark);
            grid(&mut out, &format!("M{LEFT} {y:.1}h{WIDE}"));
            let end = format!("text-anchor=\"end\" dx=\"-6\" dy=\"{:.1}\"", 4.0);
            text(&mut out, LEFT, y.round(), &end, &said(mark));
        }
        for mark in across.marks() {
            let place = to_x(mark);
            grid(&mut out, &format!("M{place:.1} {top}v{HIGH}"));
            let name = if mark <= 1.0 && points().any(|point| point.x == 0) {
                "0".to_owned()
            } else {
                said(mark)
            };
            text(
                &mut out,
                place,
                top + HIGH + 14.0,
                "text-anchor=\"middle\"",
                &name,
            );
        }
        for (line, colour) in drawn.lines.iter().zip(COLOURS) {
            let places: Vec<String> = line
                .points
                .iter()
                .map(|point| format!("{:.1},{:.1}", to_x(x(point)), to_y(of(point))))
                .collect();
            writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                places.join(" ")
            )
            .ok();
            for place in places {
                let (x, y) = place.split_once(',').expect("two numbers");
                writeln!(
                    out,
                    "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>"
                )
                .ok();
            }
        }
    }
    let foot = height - 8.0;
    text(
        &mut out,
        LEFT + WIDE / 2.0,
        foot,
        "text-anchor=\"middle\"",
        &drawn.axis,
    );
    out + "</svg>\n"
}

fn grid(out: &mut String, path: &str) {
    writeln!(
        out,
        "<path d=\"{path}\" stroke=\"#808690\" stroke-opacity=\"0.3\"/>"
    )
    .ok();
}

/// A power of ten, short.
fn said(mark: f64) -> String {
    match mark {
        mark if mark >= 1e6 => format!("{:.0}M", mark / 1e6),
        mark if mark >= 1e3 => format!("{:.0}k", mark / 1e3),
        mark if mark >= 1.0 => format!("{mark:.0}"),
        mark => format!("{mark}"),
    }
}
