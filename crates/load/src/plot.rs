//! Latency by percentile as an SVG picture. The percentiles' axis is logarithmic, so that each nine more takes as much
//! room; what the slowest calls wait is what one looks for.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::report::{LoadReport, human_time, micros};

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 44.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 58.0;
/// Nines to show, at most: a millionth.
const MAX_NINES: u32 = 6;
/// Points of the curve for each halving of what is still slower.
const POINTS: u32 = 10;
/// Lines across, about.
const LINES: f64 = 6.0;

/// Draws the latencies of that result.
pub fn draw(report: &LoadReport, latency: &Histogram<u64>) -> String {
    let nines = nines(latency.len());
    let step = line_distance(report.latency_micros.max);
    let lines = (report.latency_micros.max / step).ceil().max(1.0);
    let x = |quantile: f64| LEFT + (WIDTH - LEFT - RIGHT) * place(quantile, nines) / f64::from(nines);
    let y = |micros: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * micros / (lines * step);
    let mut svg = String::new();
    // A string takes all that is written to it.
    let _ = draw_frame(&mut svg, report);
    let _ = draw_axes(&mut svg, nines, (step, lines), x, y);
    let _ = draw_curve(&mut svg, report, latency, x, y);
    svg.push_str("</svg>\n");
    svg
}

/// The number of nines that `count` requests can resolve, at least two.
fn nines(count: u64) -> u32 {
    (2..MAX_NINES).find(|nines| 10_u64.pow(*nines) >= count).unwrap_or(MAX_NINES)
}

/// How many nines a quantile has: 0.9 has one. The last place is for all that have more than are shown.
fn place(quantile: f64, nines: u32) -> f64 {
    (-(1.0 - quantile).max(0.0).log10()).min(f64::from(nines))
}

/// A round distance of the lines across.
fn line_distance(max_micros: f64) -> f64 {
    let wanted = max_micros.max(1.0) / LINES;
    let power = 10_f64.powf(wanted.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= wanted).unwrap_or(10.0 * power)
}

fn line_label(micros: f64) -> String {
    if micros > 0.0 { human_time(micros).replacen(".00 ", " ", 1).replacen(".0 ", " ", 1) } else { "0".to_owned() }
}

/// Colours that can be read on white and on black.
fn draw_frame(svg: &mut String, report: &LoadReport) -> std::fmt::Result {
    let LoadReport { mode, connections, requests, requests_per_second, duration_seconds, .. } = report;
    let loop_mode = match report.target_rate {
        Some(rate) => format!("{rate} requests/s due, {requests_per_second:.0} answered"),
        None => format!("{requests_per_second:.0} requests/s"),
    };
    write!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="13" fill="#76808c">
<title>Latency by percentile</title>
<text x="{LEFT}" y="28" font-size="17" font-weight="600">Latency by percentile</text>
<text x="{LEFT}" y="50">{mode} loop, {connections} connections, {loop_mode}; {requests} requests in {duration_seconds:.1} s</text>
"##
    )
}

fn draw_axes(
    svg: &mut String,
    nines: u32,
    (step, lines): (f64, f64),
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
) -> std::fmt::Result {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut line = 0.0;
    while line <= lines {
        let at = y(line * step);
        writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}" stroke="#76808c" stroke-opacity=".3"/>"##
        )?;
        writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            at + 4.5,
            line_label(line * step)
        )?;
        line += 1.0;
    }
    for count in 0..=nines {
        let slower = 10_f64.powi(-i32::try_from(count).unwrap_or(0));
        let at = x(1.0 - slower);
        writeln!(
            svg,
            r##"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{bottom}" stroke="#76808c" stroke-opacity=".3"/>"##
        )?;
        let label = match (count, count == nines) {
            (_, true) => "max".to_owned(),
            (0, _) => "0%".to_owned(),
            (1, _) => "90%".to_owned(),
            (count, _) => {
                format!("99{}%", ".9999".get(..count as usize - 1).filter(|tail| tail.len() > 1).unwrap_or(""))
            }
        };
        writeln!(svg, r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, bottom + 20.0)?;
    }
    let middle = f64::midpoint(LEFT, right);
    writeln!(
        svg,
        r#"<text x="{middle}" y="{:.1}" text-anchor="middle">share of the requests that took no longer</text>"#,
        bottom + 44.0
    )
}

fn draw_curve(
    svg: &mut String,
    report: &LoadReport,
    latency: &Histogram<u64>,
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
) -> std::fmt::Result {
    svg.push_str(r##"<polyline fill="none" stroke="#2f81f7" stroke-width="2" stroke-linejoin="round" points=""##);
    for point in latency.iter_quantiles(POINTS) {
        write!(svg, "{:.1},{:.1} ", x(point.quantile_iterated_to()), y(micros(point.value_iterated_to())))?;
    }
    svg.push_str("\"/>\n");
    let shown = report.latency_micros;
    let named =
        [("p50", 0.5, shown.p50), ("p90", 0.9, shown.p90), ("p99", 0.99, shown.p99), ("p99.9", 0.999, shown.p999)];
    // A name at the right edge would collide with the longest.
    let inner = named.into_iter().filter(|(_, quantile, _)| x(*quantile) < WIDTH - RIGHT - 1.0);
    for (name, quantile, value) in inner.chain([("max", 1.0, shown.max)]) {
        let (x, y) = (x(quantile), y(value));
        writeln!(svg, r##"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="#2f81f7"/>"##)?;
        let label = human_time(value);
        // The first is close to the labels of the lines.
        let anchor = if name == "p50" { "middle" } else { "end" };
        writeln!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}">{name} {label}</text>"#, x - 4.0, y - 9.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::test_report;

    #[test]
    fn the_curve_rises_to_the_longest_and_stays_in_the_picture() {
        let (report, latency) = test_report(&["--rate", "1000"]);
        let svg = draw(&report, &latency);
        let points = svg.split_once("points=\"").unwrap().1.split_once('"').unwrap().0;
        let points: Vec<(f64, f64)> = points
            .split_whitespace()
            .map(|point| point.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
            .collect();
        assert!(points.len() > 20, "{svg}");
        for pair in points.windows(2) {
            assert!(pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1, "{pair:?}");
        }
        let ((first_x, first_y), (last_x, last_y)) = (points[0], points[points.len() - 1]);
        assert!(first_x >= LEFT && first_y <= HEIGHT - BOTTOM, "{first_x} {first_y}");
        assert!((last_x - (WIDTH - RIGHT)).abs() < 0.2 && last_y >= TOP - 1.0, "{last_x} {last_y}");
        for text in ["p50 500 µs", "p99 990 µs", "max 1.00 ms", ">99%<", ">90%<", ">max<", "open loop, 64 connections"]
        {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_picture_of_nothing_is_one_too() {
        let (mut report, mut latency) = test_report(&[]);
        latency.reset();
        report.latency_micros = Default::default();
        let svg = draw(&report, &latency);
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn lines_are_a_round_distance_apart() {
        for (max, distance) in [(1.0, 0.2), (6.0, 1.0), (7.0, 2.0), (950.0, 200.0), (61_000.0, 20_000.0)] {
            assert!((line_distance(max) - distance).abs() < 1e-9, "{max}: {}", line_distance(max));
        }
        assert_eq!([0.0, 2.0, 20.0, 5_000.0, 2.5e6].map(line_label), ["0", "2 µs", "20 µs", "5 ms", "2.50 s"]);
        assert_eq!((nines(0), nines(100), nines(101), nines(10_000), nines(u64::MAX)), (2, 2, 3, 4, 6));
    }
}
