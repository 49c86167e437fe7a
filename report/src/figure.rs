//! Figures over categories (f = 2, 4, 8, 16; the names of networks): points with deviations, a linear or logarithmic
//! axis, as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::chart::COLOURS;

/// A value with its deviation, where it was measured more than once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The value.
    pub value: f64,
    /// Its standard deviation; 0 where there is none.
    pub deviation: f64,
}

/// Points of the same kind, one for each category; absent where there is no result.
#[derive(Debug, Clone)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// The points.
    pub points: Vec<Option<Point>>,
}

/// A figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its file name, without extension.
    pub name: String,
    /// Title above it.
    pub title: String,
    /// Name of the horizontal axis.
    pub x_label: String,
    /// The categories.
    pub categories: Vec<String>,
    /// Name of the vertical axis.
    pub y_label: String,
    /// Whether the vertical axis is logarithmic; values that are not positive are left out then.
    pub is_logarithmic: bool,
    /// Whether neighbouring categories are joined by lines, which says that they have an order.
    pub is_ordered: bool,
    /// The points.
    pub series: Vec<Series>,
}

/// Height with names of one line; each further line adds to it.
const HEIGHT: u32 = 360;
/// Height of title and legend.
const HEAD: u32 = 50;
/// The narrowest figure, and the least width of a category.
const WIDTH: u32 = 520;
const CATEGORY_WIDTH: u32 = 64;
/// Size of the names below the axis, and the height of a line of them.
const NAME_SIZE: u32 = 12;
const LINE_HEIGHT: u32 = 15;
/// The most characters of a line of a category's name, unless a word is longer.
const LINE_CHARACTERS: usize = 14;

impl Figure {
    /// Whether there is a point to draw.
    pub fn has_points(&self) -> bool {
        self.drawn().next().is_some()
    }

    /// All points that can be drawn.
    fn drawn(&self) -> impl Iterator<Item = Point> + '_ {
        let fits = |p: &Point| p.value.is_finite() && (!self.is_logarithmic || p.value > 0.0);
        self.series.iter().flat_map(|s| s.points.iter().flatten()).copied().filter(fits)
    }

    fn size(&self) -> (u32, u32) {
        let names = self.categories.iter().flat_map(|name| wrapped(name));
        let widths = names.map(|line| text_width(&line, NAME_SIZE) + 10);
        let category = widths.fold(CATEGORY_WIDTH, u32::max);
        let width = WIDTH.max(self.categories.len() as u32 * category + 110);
        (width, HEIGHT + (self.name_lines() - 1) * LINE_HEIGHT)
    }

    /// Lines of the longest name of a category.
    fn name_lines(&self) -> u32 {
        self.categories.iter().map(|name| wrapped(name).len() as u32).fold(1, u32::max)
    }

    /// The figure as an `<svg>` element; empty without a point.
    pub fn to_svg(&self) -> String {
        let mut svg = String::new();
        if self.has_points() {
            let area = SVGBackend::with_string(&mut svg, self.size()).into_drawing_area();
            if self.draw(&area).is_none() {
                drop(area);
                return String::new();
            }
        }
        svg
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Option<()> {
        area.fill(&WHITE).ok()?;
        let x = -1..self.categories.len() as i32;
        let ends = |p: Point| [p.value - p.deviation, p.value, p.value + p.deviation];
        let values = self.drawn().flat_map(ends).filter(|v| !self.is_logarithmic || *v > 0.0);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (head, body) = area.split_vertically(HEAD);
        self.draw_head(&head)?;
        let mut builder = ChartBuilder::on(&body);
        let names = 40 + (self.name_lines() - 1) * LINE_HEIGHT;
        builder.margin(6).margin_right(14).x_label_area_size(names).y_label_area_size(64);
        if self.is_logarithmic {
            let (low, high) = (low / 1.3, high * 1.3);
            // Few powers of ten lie in a short range.
            let base = if high / low < 300.0 { 2.0 } else { 10.0 };
            self.draw_on(builder.build_cartesian_2d(x, (low..high).log_scale().base(base)).ok()?)?;
        } else {
            let margin = if high > low { 0.08 * (high - low) } else { high.abs().max(1e-3) * 0.1 };
            self.draw_on(builder.build_cartesian_2d(x, (low - margin)..(high + margin)).ok()?)?;
        }
        area.present().ok()
    }

    /// Title, and below it the names of the series in their colours.
    fn draw_head(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Option<()> {
        let centre = (self.size().0 / 2) as i32;
        let middle = Pos::new(HPos::Center, VPos::Center);
        let title = ("sans-serif", 16).into_text_style(area).pos(middle);
        area.draw(&Text::new(self.title.clone(), (centre, 16), title)).ok()?;
        if self.series.len() < 2 {
            return Some(());
        }
        let widths: Vec<i32> = self.series.iter().map(|s| text_width(&s.name, 12) as i32 + 34).collect();
        let mut x = centre - widths.iter().sum::<i32>() / 2;
        let left = ("sans-serif", 12).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        for (index, (series, width)) in self.series.iter().zip(widths).enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            area.draw(&Circle::new((x + 6, 38), 4, colour.filled())).ok()?;
            area.draw(&Text::new(series.name.clone(), (x + 16, 38), left.clone())).ok()?;
            x += width;
        }
        Some(())
    }

    fn draw_on<'a, Y>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<plotters::coord::types::RangedCoordi32, Y>>,
    ) -> Option<()>
    where
        Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .x_labels(self.categories.len() + 2)
            .y_labels(8)
            .x_label_formatter(&|_| String::new())
            .y_label_formatter(&|value| short(*value))
            .label_style(("sans-serif", 12))
            .axis_desc_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 228, 232))
            .draw()
            .ok()?;
        let area = chart.plotting_area();
        let bottom = area.get_y_range().start;
        let style = ("sans-serif", NAME_SIZE).into_text_style(area).pos(Pos::new(HPos::Center, VPos::Top));
        for (index, name) in (0..).zip(&self.categories) {
            for (line, text) in (0..).zip(wrapped(name)) {
                let place = EmptyElement::at((index, bottom));
                let below = (0, 8 + line * LINE_HEIGHT as i32);
                area.draw(&(place + Text::new(text, below, style.clone()))).ok()?;
            }
        }
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<(i32, Point)> =
                (0..).zip(&series.points).filter_map(|(x, p)| Some((x, (*p)?))).collect();
            let points = points
                .into_iter()
                .filter(|(_, p)| p.value.is_finite() && (!self.is_logarithmic || p.value > 0.0));
            let points: Vec<(i32, Point)> = points.collect();
            if self.is_ordered {
                let line = points.iter().map(|(x, p)| (*x, p.value));
                chart.draw_series(LineSeries::new(line, colour.stroke_width(2))).ok()?;
            }
            let bars = points
                .iter()
                .filter(|(_, p)| p.deviation > 0.0 && (!self.is_logarithmic || p.value > p.deviation));
            let bars = bars.map(|(x, p)| {
                PathElement::new(
                    [(*x, p.value - p.deviation), (*x, p.value + p.deviation)],
                    colour.stroke_width(1),
                )
            });
            chart.draw_series(bars).ok()?;
            let dots = points.iter().map(|(x, p)| Circle::new((*x, p.value), 4, colour.filled()));
            chart.draw_series(dots).ok()?;
        }
        Some(())
    }
}

/// Room for a text of this size in any font that a reader may have, in units.
fn text_width(text: &str, size: u32) -> u32 {
    (text.chars().count() as f64 * 0.603 * f64::from(size)) as u32
}

/// A name in lines of at most [`LINE_CHARACTERS`], where its words allow.
fn wrapped(name: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in name.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LINE_CHARACTERS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A number on an axis: no more digits than it needs.
fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{:.1}M", value / 1e6)
    } else if size >= 1e4 {
        format!("{:.0}k", value / 1e3)
    } else if size >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.01 {
        format!("{value:.2}")
    } else {
        format!("{value:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(is_logarithmic: bool, values: &[Option<f64>]) -> Figure {
        let point = |value: &Option<f64>| value.map(|value| Point { value, deviation: 0.1 });
        Figure {
            name: "time".into(),
            title: "time".into(),
            x_label: "f".into(),
            categories: (1..=values.len()).map(|k| format!("f = {}", 1 << k)).collect(),
            y_label: "seconds".into(),
            is_logarithmic,
            is_ordered: true,
            series: vec![Series { name: "encrypted".into(), points: values.iter().map(point).collect() }],
        }
    }

    #[test]
    fn a_figure_shows_its_points() {
        for logarithmic in [false, true] {
            let figure = figure(logarithmic, &[Some(100.0), Some(10.0), None, Some(1.0)]);
            let svg = figure.to_svg();
            assert!(svg.starts_with("<svg") && svg.contains("f = 16"), "{svg}");
            assert_eq!(svg.matches("<circle").count(), 3, "a category without a result has no point");
            let png =
                image::load_from_memory(&crate::png::render(&svg).expect("a PNG")).expect("a PNG").to_rgb8();
            let is_blue = |p: &image::Rgb<u8>| p.0 == [0, 114, 178];
            assert!(png.pixels().filter(|p| is_blue(p)).count() > 300, "points and lines are there");
        }
    }

    #[test]
    fn long_names_are_broken_into_lines() {
        assert_eq!(wrapped("f = 16"), ["f = 16"]);
        assert_eq!(wrapped("polynomial, SE with cubic gate"), ["polynomial, SE", "with cubic", "gate"]);
        let mut figure = figure(false, &[Some(3.0), Some(4.0)]);
        let plain = figure.size();
        figure.categories[1] = "polynomial, SE with cubic gate".into();
        assert!(figure.size().1 > plain.1, "there is room for the lines");
        let svg = figure.to_svg();
        assert!(svg.contains("with cubic") && !svg.contains("cubic gate"), "{svg}");
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(figure(true, &[Some(0.0), Some(-1.0), Some(f64::NAN)]).to_svg().is_empty());
        assert!(figure(false, &[None, None]).to_svg().is_empty());
        assert!(!figure(false, &[Some(3.0), Some(3.0)]).to_svg().is_empty(), "a constant is drawn");
    }

    #[test]
    fn numbers_on_an_axis_are_short() {
        let shown = [0.0, 0.5, 12.3, 250.0, 12_000.0, 2_500_000.0, 1e-4].map(short);
        assert_eq!(shown, ["0", "0.50", "12.3", "250", "12k", "2.5M", "1e-4"]);
    }
}
