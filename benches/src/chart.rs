//! Curves as a picture.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::curves::Curve;

/// Pixels of each curve's part of the picture.
const PART: (u32, u32) = (420, 300);
/// Curves beside each other.
const COLUMNS: usize = 3;

/// Draws curves, each in its own part, with both axes in powers of ten.
pub(crate) fn draw(curves: &[Curve], file: &Path) -> anyhow::Result<()> {
    let rows = curves.len().div_ceil(COLUMNS);
    let (columns, down) = (u32::try_from(COLUMNS)?, u32::try_from(rows)?);
    let area = SVGBackend::new(file, (PART.0 * columns, PART.1 * down)).into_drawing_area();
    area.fill(&WHITE)?;
    for (part, curve) in area.split_evenly((rows, COLUMNS)).iter().zip(curves) {
        draw_one(curve, part).map_err(|error| anyhow!("{}: {error}", curve.title))?;
    }
    area.present()?;
    Ok(())
}

/// The powers of ten around these numbers, at least two apart.
fn bounds(numbers: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (mut low, mut high) = (f64::MAX, f64::MIN_POSITIVE);
    for number in numbers.filter(|number| *number > 0.0) {
        (low, high) = (low.min(number), high.max(number));
    }
    let (from, to) = (low.log10().floor(), high.log10().ceil());
    10_f64.powf(from)..10_f64.powf(to.max(from + 2.0))
}

/// A power of ten with a thousand as `k` and a million as `M`, so that there is room for the next.
fn short(number: f64) -> String {
    match number {
        number if number >= 1e6 => format!("{} M", number / 1e6),
        number if number >= 1e3 => format!("{} k", number / 1e3),
        number => number.to_string(),
    }
}

fn draw_one<'a, B: DrawingBackend + 'a>(
    curve: &Curve,
    part: &DrawingArea<B, plotters::coord::Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let xs = bounds(curve.points.iter().map(|point| point.0));
    let ys = bounds(curve.points.iter().map(|point| point.1));
    let mut chart = ChartBuilder::on(part)
        .caption(format!("{} ({})", curve.title, curve.y), ("sans-serif", 16))
        .margin(10)
        .margin_right(25)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(xs.log_scale(), ys.log_scale())?;
    chart
        .configure_mesh()
        .x_desc(curve.x)
        .x_label_formatter(&|number| short(*number))
        .y_label_formatter(&|number| short(*number))
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series(LineSeries::new(curve.points.iter().copied(), &BLUE))?;
    let dots = curve.points.iter().map(|point| Circle::new(*point, 3, BLUE.filled()));
    chart.draw_series(dots)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_begin_and_end_with_powers_of_ten() {
        assert_eq!(bounds([20.0, 30.0].into_iter()), 10.0..1000.0);
        assert_eq!(bounds([0.0, 1.0, 12_345.0].into_iter()), 1.0..100_000.0);
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.1, 1.0, 100.0, 1000.0, 1e5, 1e6, 1e8].map(short);
        assert_eq!(labels, ["0.1", "1", "100", "1 k", "100 k", "1 M", "100 M"]);
    }

    #[test]
    fn a_curve_becomes_a_picture() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("curves.svg");
        let points = vec![(1.0, 20.0), (10.0, 21.0), (100.0, 25.0)];
        let curve = Curve { title: "a select", x: "sessions", y: "µs", points };
        draw(&[curve], &file).unwrap();
        let picture = std::fs::read_to_string(&file).unwrap();
        assert!(picture.contains("a select (µs)") && picture.contains("sessions"));
        assert_eq!(picture.matches("<circle").count(), 3);
    }
}
