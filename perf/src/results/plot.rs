//! Line charts as SVG.

use crate::summary::short;
use anyhow::{Result, anyhow};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::fs;
use std::path::Path;

const SIZE: (u32, u32) = (760, 420);
/// Colours that differ in brightness too, for those who see them alike.
const COLOURS: [RGBColor; 3] =
    [RGBColor(0, 90, 181), RGBColor(140, 140, 140), RGBColor(220, 110, 0)];

/// What an axis shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// With its unit.
    pub(crate) name: &'static str,
    /// Each step is a factor.
    pub(crate) log: bool,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Series {
    /// In the legend.
    pub(crate) name: &'static str,
    /// Ascending in x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A picture.
#[derive(Debug)]
pub(crate) struct Chart {
    /// Above it.
    pub(crate) title: &'static str,
    /// To the right.
    pub(crate) x: Axis,
    /// Upwards.
    pub(crate) y: Axis,
    /// Lines; without points there are axes only.
    pub(crate) series: Vec<Series>,
}

/// Writes `path`.svg.
///
/// Axes are linear in what is drawn; a logarithmic one takes logarithms before and shows powers.
pub(crate) fn draw(path: &Path, chart: &Chart) -> Result<()> {
    let place = |axis: Axis, value: f64| if axis.log { value.max(1e-3).log10() } else { value };
    let places: Vec<Vec<(f64, f64)>> = chart
        .series
        .iter()
        .map(|s| s.points.iter().map(|&(x, y)| (place(chart.x, x), place(chart.y, y))).collect())
        .collect();
    let all = || places.iter().flatten();
    let x = range(chart.x, all().map(|point| point.0));
    let y = range(chart.y, all().map(|point| point.1));
    let mut svg = String::new();
    render(&mut svg, chart, (x, y), &places).map_err(|error| anyhow!("drawing: {error}"))?;
    // No renderer needs more than a tenth of a point.
    fs::write(path.with_extension("svg"), svg)?;
    Ok(())
}

/// From the smallest to the largest value, rounded outwards; linear axes begin at zero.
fn range(axis: Axis, values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if !low.is_finite() {
        return 0.0..1.0;
    }
    if axis.log { low.floor()..(high + 0.05).ceil() } else { 0.0..(high * 1.1).max(1e-9) }
}

type Plane = (std::ops::Range<f64>, std::ops::Range<f64>);

fn render(
    svg: &mut String,
    chart: &Chart,
    (x, y): Plane,
    places: &[Vec<(f64, f64)>],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let decades = |axis: Axis, range: &std::ops::Range<f64>| {
        if axis.log { whole(range.end - range.start) + 1 } else { 8 }
    };
    let (x_labels, y_labels) = (decades(chart.x, &x), decades(chart.y, &y));
    let mut context = ChartBuilder::on(&root)
        .caption(chart.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(RangedCoordf64::from(x), RangedCoordf64::from(y))?;
    let label = |axis: Axis| {
        move |value: &f64| readable(if axis.log { 10_f64.powf(*value) } else { *value })
    };
    context
        .configure_mesh()
        .x_desc(chart.x.name)
        .y_desc(chart.y.name)
        .x_labels(x_labels)
        .y_labels(y_labels)
        .x_label_formatter(&label(chart.x))
        .y_label_formatter(&label(chart.y))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .draw()?;
    for ((series, points), colour) in chart.series.iter().zip(places).zip(COLOURS) {
        if points.is_empty() {
            continue;
        }
        let style = colour.stroke_width(2);
        context
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        let dots = points.iter().map(|&point| Circle::new(point, 4, colour.filled()));
        context.draw_series(dots)?;
    }
    if places.iter().any(|points| !points.is_empty()) {
        context
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .legend_area_size(32)
            .label_font(("sans-serif", 15))
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK.mix(0.2))
            .draw()?;
    }
    root.present()?;
    drop(context);
    drop(root);
    Ok(())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few decades")]
fn whole(value: f64) -> usize {
    value.round().clamp(0.0, 20.0) as usize
}

/// A number on an axis.
fn readable(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let digits = short(value);
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        &digits
    };
    format!("{digits}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_readable() {
        let texts = [0.0, 0.5, 10.0, 1000.0, 18_000.0, 2.5e6].map(readable);
        assert_eq!(texts, ["0", "0.5", "10", "1 k", "18 k", "2.5 M"]);
    }

    #[test]
    fn ranges_hold_all_values() {
        let log = Axis { name: "", log: true };
        assert_eq!(range(log, [1.2, 2.7].into_iter()), 1.0..3.0);
        assert_eq!(range(log, std::iter::empty()), 0.0..1.0);
    }
}
