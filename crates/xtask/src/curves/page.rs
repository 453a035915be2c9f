//! The page of the curves: tables between marks that the words around them survive, and the file and charts beside it.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;

use super::{Drawn, Line, lines, loads::CURVES};

/// A change of the slope, in powers of the number on the axis, that is a bend and not noise.
const BEND: f64 = 0.25;

/// Puts a curve into curves.json, its chart beside it, and its table into CURVES.md.
pub(super) fn keep(drawn: Drawn, folder: &Path) -> anyhow::Result<()> {
    let charts = folder.join("curves");
    std::fs::create_dir_all(&charts)?;
    let chart = charts.join(format!("{}.svg", drawn.name));
    std::fs::write(chart, lines::chart(&drawn))?;
    let page = folder.join("CURVES.md");
    let text = match page.exists() {
        true => std::fs::read_to_string(&page)?,
        false => "# Curves\n".to_owned(),
    };
    std::fs::write(page, placed(text, &drawn))?;

    let file = folder.join("curves.json");
    let mut all: Vec<Drawn> = match file.exists() {
        true => serde_json::from_str(&std::fs::read_to_string(&file)?)
            .with_context(|| format!("failed to read {}", file.display()))?,
        false => Vec::new(),
    };
    all.retain(|other| other.name != drawn.name);
    all.push(drawn);
    all.sort_by_key(|drawn| CURVES.iter().position(|curve| curve.name == drawn.name));
    std::fs::write(file, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}

/// The page with this curve's part in its place, or at the end.
fn placed(text: String, drawn: &Drawn) -> String {
    let (begin, end) = (
        format!("<!-- {} -->\n", drawn.name),
        format!("<!-- /{} -->\n", drawn.name),
    );
    let part = format!(
        "![{}](curves/{}.svg)\n\n{}\n{}\n",
        drawn.title,
        drawn.name,
        table(drawn),
        taken(drawn)
    );
    match text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    }) {
        Some((before, after)) => format!("{before}{begin}{part}{end}{after}"),
        None => format!("{text}\n## {}\n\n{begin}{part}{end}", drawn.title),
    }
}

/// How it was measured.
fn taken(drawn: &Drawn) -> String {
    format!(
        "{}, Linux {}; medians of {} runs of {} s{}; load before {}, after {}.",
        drawn.machine,
        drawn.kernel,
        drawn.rounds,
        drawn.seconds,
        if drawn.pinned {
            ", server and clients on one CPU"
        } else {
            ""
        },
        drawn.load_before,
        drawn.load_after
    )
}

/// The figures of a curve in Markdown.
pub(super) fn table(drawn: &Drawn) -> String {
    let mut out = format!(
        "| {} | messages a second | CPU us a message | bends | sleeps a message | syncs a message | disk reads a message | resident MiB |\n\
         |---|---|---|---|---|---|---|---|\n",
        drawn.axis
    );
    for line in &drawn.lines {
        writeln!(out, "| **{}** | | | | | | | |", line.name).ok();
        for (point, bend) in line.points.iter().zip(bends(line)) {
            writeln!(
                out,
                "| {} | {:.0} | {:.2} | {} | {:.3} | {:.3} | {:.3} | {} |",
                point.x,
                point.messages_a_second,
                point.cpu_us_a_message,
                bend,
                point.sleeps_a_message,
                point.syncs_a_message,
                point.reads_a_message,
                point.resident_mib
            )
            .ok();
        }
    }
    out
}

/// Where the cost of a message begins to rise faster, or to fall faster or rise no longer: by the slope between neighbours,
/// both axes logarithmic.
fn bends(line: &Line) -> Vec<&'static str> {
    let slopes: Vec<f64> = line
        .points
        .windows(2)
        .map(|pair| {
            let [a, b] = [0, 1].map(|at| (pair[at].x.max(1) as f64, pair[at].cpu_us_a_message));
            let wide = (b.0 / a.0).ln();
            if wide > 0.0 && a.1 > 0.0 && b.1 > 0.0 {
                (b.1 / a.1).ln() / wide
            } else {
                0.0
            }
        })
        .collect();
    let mut bends = vec![""; line.points.len()];
    for (at, pair) in slopes.windows(2).enumerate() {
        let change = pair[1] - pair[0];
        if change > BEND {
            bends[at + 1] = "up";
        } else if change < -BEND {
            bends[at + 1] = "down";
        }
    }
    bends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curves::Point;

    fn line(points: &[(u64, f64)]) -> Line {
        let point = |(x, cpu): &(u64, f64)| Point {
            x: *x,
            messages_a_second: 1.0,
            cpu_us_a_message: *cpu,
            sleeps_a_message: 0.0,
            syncs_a_message: 0.0,
            reads_a_message: 0.0,
            resident_mib: 1,
        };
        Line {
            name: "a line".to_owned(),
            points: points.iter().map(point).collect(),
        }
    }

    fn drawn(line: Line) -> Drawn {
        Drawn {
            name: "some".to_owned(),
            title: "Some".to_owned(),
            axis: "things".to_owned(),
            machine: "a machine".to_owned(),
            kernel: "6".to_owned(),
            version: "0".to_owned(),
            rounds: 1,
            seconds: 1,
            pinned: false,
            load_before: "0".to_owned(),
            load_after: "0".to_owned(),
            lines: vec![line],
        }
    }

    #[test]
    fn a_bend_is_where_the_slope_changes() {
        let flat_then_linear = line(&[(1, 2.0), (10, 2.1), (100, 20.0), (1_000, 200.0)]);
        assert_eq!(bends(&flat_then_linear), ["", "up", "", ""]);
        let falling_then_flat = line(&[(0, 100.0), (10, 10.0), (100, 10.0)]);
        assert_eq!(bends(&falling_then_flat), ["", "up", ""]);
        let rising_then_flat = line(&[(1, 1.0), (10, 10.0), (100, 10.0)]);
        assert_eq!(bends(&rising_then_flat), ["", "down", ""]);
        assert_eq!(
            bends(&line(&[(1, 1.0), (10, 1.1), (100, 1.0)])),
            ["", "", ""]
        );
    }

    #[test]
    fn what_is_written_around_a_table_stays() {
        let one = drawn(line(&[(1, 1.0)]));
        let page = placed("# Curves\n".to_owned(), &one);
        let page = page.replace("<!-- some -->", "why\n\n<!-- some -->") + "more\n";
        let other = drawn(line(&[(7, 1.0)]));
        let page = placed(page, &other);
        assert!(page.contains("why\n\n<!-- some -->"));
        assert!(page.ends_with("<!-- /some -->\nmore\n"));
        assert!(page.contains("| 7 | 1 |") && !page.contains("| 1 | 1 |"));
        assert_eq!(page.matches("<!-- some -->").count(), 1);
    }
}
