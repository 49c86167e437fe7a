//! Line charts as inline SVG.

use plotters::prelude::*;

/// A named line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y); those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A line chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Title above the chart.
    pub title: String,
    /// Name of the x axis.
    pub x_label: String,
    /// Name of the y axis.
    pub y_label: String,
    /// The lines.
    pub lines: Vec<Line>,
}

/// Distinct, colour-blind-safe line colours (Okabe and Ito).
pub const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Smallest interval that holds all finite values, widened a little so that no line runs on the frame.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return None;
    }
    let margin = if high > low { 0.04 * (high - low) } else { low.abs().max(1.0) * 0.1 };
    Some((low - margin, high + margin))
}

impl Chart {
    /// The chart as an `<svg>` element; a chart without a finite point says so instead.
    pub fn to_svg(&self) -> String {
        self.draw().unwrap_or_else(|| String::from("<p>(no values to draw)</p>"))
    }

    fn draw(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let (x_low, x_high) = bounds(points().map(|point| point.0))?;
        let (y_low, y_high) = bounds(points().map(|point| point.1))?;
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (560, 320)).into_drawing_area();
            area.fill(&WHITE).ok()?;
            let mut chart = ChartBuilder::on(&area)
                .caption(&self.title, ("sans-serif", 17))
                .margin(10)
                .x_label_area_size(38)
                .y_label_area_size(58)
                .build_cartesian_2d(x_low..x_high, y_low..y_high)
                .ok()?;
            chart
                .configure_mesh()
                .x_desc(&self.x_label)
                .y_desc(&self.y_label)
                .light_line_style(WHITE)
                .bold_line_style(RGBColor(225, 228, 232))
                .draw()
                .ok()?;
            for (index, line) in self.lines.iter().enumerate() {
                let colour = COLOURS[index % COLOURS.len()];
                let finite = line.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
                chart
                    .draw_series(LineSeries::new(finite, colour.stroke_width(2)))
                    .ok()?
                    .label(&line.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .background_style(WHITE.mix(0.8))
                .border_style(RGBColor(208, 215, 222))
                .draw()
                .ok()?;
            area.present().ok()?;
        }
        Some(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "loss".into(),
            x_label: "step".into(),
            y_label: "loss".into(),
            lines: vec![Line { name: "train".into(), points }],
        }
    }

    #[test]
    fn a_chart_is_svg_and_leaves_out_what_is_not_finite() {
        let svg = chart(vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 0.5)]).to_svg();
        assert!(svg.starts_with("<svg") && svg.contains("train") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn empty_and_constant_charts_are_drawn_without_panicking() {
        assert!(chart(Vec::new()).to_svg().contains("no values"));
        assert!(chart(vec![(1.0, 3.0)]).to_svg().starts_with("<svg"));
    }
}
