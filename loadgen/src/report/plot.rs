//! A plot as inline SVG. Colours are the page's (classes, for light and dark); every plot is drawn twice, wide and narrow, so
//! that its text keeps its size on a phone, and the page shows one of them.

use super::scale::{percent, Scale};
use super::text::{escape, tick_count, tick_time};
use std::fmt::Write;

/// What an axis counts in.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Unit {
    /// Microseconds.
    Time,
    Count,
    /// Seconds of the run.
    Second,
    /// A share of one core, as a percentage.
    Core,
    Percentile,
}

impl Unit {
    fn tick(self, value: f64) -> String {
        match self {
            Unit::Time => tick_time(value),
            Unit::Count => tick_count(value),
            Unit::Second => format!("{} s", tick_count(value)),
            Unit::Core => format!("{}%", tick_count(value * 100.0)),
            Unit::Percentile => percent(value),
        }
    }
}

pub struct Axis {
    pub scale: Scale,
    pub unit: Unit,
    pub label: String,
}

impl Axis {
    #[must_use]
    pub fn new(scale: Scale, unit: Unit, label: &str) -> Axis {
        Axis { scale, unit, label: label.to_owned() }
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    Solid,
    Dashed,
    Thin,
    /// Solid, with a dot at each point.
    Dots,
    /// Solid, and filled down to the axis.
    Area,
}

/// A line of a plot; a point without a place breaks it.
pub struct Line {
    pub name: String,
    /// Which of the page's colours, from 0.
    pub color: usize,
    pub style: Style,
    pub points: Vec<(f64, f64)>,
}

impl Line {
    #[must_use]
    pub fn new(name: &str, color: usize, style: Style, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.to_owned(), color, style, points }
    }
}

/// A cell of a heat map: from and to on both axes, and its shade, 1 to `SHADES`.
pub struct Cell {
    pub x: (f64, f64),
    pub y: (f64, f64),
    pub shade: usize,
}

/// How many colours there are, and shades of a heat map.
pub const COLORS: usize = 6;
pub const SHADES: usize = 9;
/// Above this many a plot has no texts to hover over: they would weigh more than the plot.
const HOVERS_MAX: usize = 400;

pub struct Plot {
    pub title: String,
    /// Below it, in small type.
    pub note: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    pub cells: Vec<Cell>,
    /// A vertical line and its name.
    pub mark: Option<(f64, String)>,
    /// A horizontal line and its name.
    pub level: Option<(f64, String)>,
    /// From, to, and what is said there.
    pub hovers: Vec<(f64, f64, String)>,
    /// In place of the lines' names.
    pub legend: Option<String>,
    pub is_low: bool,
}

impl Plot {
    #[must_use]
    pub fn new(title: &str, x: Axis, y: Axis) -> Plot {
        Plot {
            title: title.to_owned(),
            note: String::new(),
            x,
            y,
            lines: Vec::new(),
            cells: Vec::new(),
            mark: None,
            level: None,
            hovers: Vec::new(),
            legend: None,
            is_low: false,
        }
    }

    /// The whole figure: title, legend, both drawings, note.
    #[must_use]
    pub fn figure(&self) -> String {
        let mut out = format!("<figure><figcaption><h2>{}</h2>", escape(&self.title));
        match &self.legend {
            Some(legend) => out.push_str(legend),
            None if self.lines.len() > 1 => {
                out.push_str("<ul class=\"legend\">");
                for line in &self.lines {
                    let _ = write!(
                        out,
                        "<li><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"l c{} {}\" d=\"M1 5H25\"/></svg>{}</li>",
                        line.color % COLORS,
                        style(line.style),
                        escape(&line.name)
                    );
                }
                out.push_str("</ul>");
            }
            None => {}
        }
        out.push_str("</figcaption>");
        let (wide, narrow) = if self.is_low { (190.0, 180.0) } else { (320.0, 270.0) };
        self.draw(&mut out, "wide", 1040.0, wide);
        self.draw(&mut out, "narrow", 380.0, narrow);
        if !self.note.is_empty() {
            let _ = write!(out, "<p class=\"note\">{}</p>", escape(&self.note));
        }
        out.push_str("</figure>\n");
        out
    }

    fn draw(&self, out: &mut String, class: &str, width: f64, height: f64) {
        let rows = self.y.scale.ticks(if self.is_low { 4 } else { 7 });
        let names: Vec<String> = rows.iter().map(|value| self.y.unit.tick(*value)).collect();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as f64;
        let frame =
            Frame { left: longest * 7.0 + 14.0, right: width - 14.0, top: 26.0, bottom: height - 44.0 };
        let _ = write!(
            out,
            "<svg class=\"plot {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        let _ = write!(out, "<text class=\"label\" x=\"0\" y=\"12\">{}</text>", escape(&self.y.label));
        for (value, name) in rows.iter().zip(&names) {
            let Some(at) = self.y.scale.at(*value) else { continue };
            let y = frame.y(at);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{:.1} {y:.1}H{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                frame.left,
                frame.right,
                frame.left - 8.0,
                y + 4.0,
                escape(name)
            );
        }
        self.columns(out, &frame, width);
        self.cells(out, &frame);
        let _ = write!(
            out,
            "<path class=\"axis\" d=\"M{:.1} {:.1}H{:.1}\"/><text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            frame.left,
            frame.bottom,
            frame.right,
            (frame.left + frame.right) / 2.0,
            height - 6.0,
            escape(&self.x.label)
        );
        self.marks(out, &frame);
        for line in &self.lines {
            self.line(out, &frame, line);
        }
        if self.hovers.len() <= HOVERS_MAX {
            for (from, to, text) in &self.hovers {
                if let (Some(from), Some(to)) = (self.x.scale.at(*from), self.x.scale.at(*to)) {
                    let (x, end) = (frame.x(from), frame.x(to));
                    let _ = write!(
                        out,
                        "<rect class=\"hover\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                        frame.top,
                        (end - x).max(1.0),
                        frame.bottom - frame.top,
                        escape(text)
                    );
                }
            }
        }
        out.push_str("</svg>");
    }

    /// The x axis' ticks, leaving out what would touch its neighbour.
    fn columns(&self, out: &mut String, frame: &Frame, width: f64) {
        let mut end = f64::MIN;
        for value in self.x.scale.ticks((width / 95.0) as usize) {
            let Some(at) = self.x.scale.at(value) else { continue };
            let x = frame.x(at);
            let name = self.x.unit.tick(value);
            let half = name.chars().count() as f64 * 3.6;
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} {:.1}V{:.1}\"/>",
                frame.top,
                frame.bottom + 4.0
            );
            if x - half < end + 6.0 {
                continue;
            }
            end = x + half;
            let anchor = if end > width { "end" } else { "middle" };
            let x = x.min(width);
            let _ = write!(
                out,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                frame.bottom + 18.0,
                escape(&name)
            );
        }
    }

    fn marks(&self, out: &mut String, frame: &Frame) {
        if let Some((x, name)) = &self.mark {
            if let Some(at) = self.x.scale.at(*x) {
                let x = frame.x(at);
                let (anchor, text) = if at > 0.5 { ("end", x - 7.0) } else { ("start", x + 7.0) };
                let _ = write!(
                    out,
                    "<path class=\"mark\" d=\"M{x:.1} {:.1}V{:.1}\"/><text class=\"marked\" x=\"{text:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                    frame.top,
                    frame.bottom,
                    frame.top + 12.0,
                    escape(name)
                );
            }
        }
        if let Some((y, name)) = &self.level {
            if let Some(at) = self.y.scale.at(*y) {
                let y = frame.y(at);
                let text = if at > 0.85 { y + 15.0 } else { y - 6.0 };
                let _ = write!(
                    out,
                    "<path class=\"mark\" d=\"M{:.1} {y:.1}H{:.1}\"/><text class=\"marked\" x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>",
                    frame.left,
                    frame.right,
                    frame.right - 4.0,
                    escape(name)
                );
            }
        }
    }

    fn line(&self, out: &mut String, frame: &Frame, line: &Line) {
        let (mut path, mut area, mut dots) = (String::new(), String::new(), String::new());
        let color = line.color % COLORS;
        let mut last: Option<f64> = None;
        for (x, y) in &line.points {
            let (Some(x), Some(y)) = (self.x.scale.at(*x), self.y.scale.at(*y)) else {
                if let Some(x) = last.take() {
                    let _ = write!(area, "L{x:.1} {:.1}Z", frame.bottom);
                }
                continue;
            };
            let (x, y) = (frame.x(x), frame.y(y));
            if last.is_none() {
                let _ = write!(area, "M{x:.1} {:.1}L{x:.1} {y:.1}", frame.bottom);
                // A point alone shows as the round cap of a line without length.
                let _ = write!(path, "M{x:.1} {y:.1}L{x:.1} {y:.1}");
            } else {
                let _ = write!(area, "L{x:.1} {y:.1}");
                let _ = write!(path, "L{x:.1} {y:.1}");
            }
            last = Some(x);
            if line.style == Style::Dots {
                let _ =
                    write!(dots, "<circle class=\"dot c{color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
            }
        }
        if let Some(x) = last {
            let _ = write!(area, "L{x:.1} {:.1}Z", frame.bottom);
        }
        if line.style == Style::Area {
            let _ = write!(out, "<path class=\"area c{color}\" d=\"{area}\"/>");
        }
        let _ = write!(out, "<path class=\"l c{color} {}\" d=\"{path}\"/>{dots}", style(line.style));
    }

    /// One path a shade, whatever the number of cells.
    fn cells(&self, out: &mut String, frame: &Frame) {
        let mut paths = vec![String::new(); SHADES + 1];
        for cell in &self.cells {
            let (x, y) = (&self.x.scale, &self.y.scale);
            let places = (x.at(cell.x.0), x.at(cell.x.1), y.at(cell.y.0), y.at(cell.y.1));
            let (Some(left), Some(right), Some(low), Some(high)) = places else { continue };
            let (left, right, low, high) = (frame.x(left), frame.x(right), frame.y(low), frame.y(high));
            let path = &mut paths[cell.shade.clamp(1, SHADES)];
            let _ = write!(path, "M{left:.1} {low:.1}H{right:.1}V{high:.1}H{left:.1}Z");
        }
        for (shade, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            let _ = write!(out, "<path class=\"heat h{shade}\" d=\"{path}\"/>");
        }
    }
}

/// The plot's inside, in the drawing's units.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, at: f64) -> f64 {
        self.left + at * (self.right - self.left)
    }

    fn y(&self, at: f64) -> f64 {
        self.bottom - at * (self.bottom - self.top)
    }
}

fn style(style: Style) -> &'static str {
    match style {
        Style::Dashed => "dashed",
        Style::Thin => "thin",
        Style::Solid | Style::Dots | Style::Area => "solid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>) -> Plot {
        let x = Axis::new(Scale::Linear(0.0, 10.0), Unit::Second, "time");
        let y = Axis::new(Scale::Log(10.0, 1_000.0), Unit::Time, "latency");
        let mut plot = Plot::new("a <b> title", x, y);
        plot.lines.push(Line::new("p99 & more", 1, Style::Solid, points));
        plot
    }

    #[test]
    fn a_point_without_a_place_breaks_the_line() {
        let points = vec![(1.0, 100.0), (2.0, 0.0), (3.0, f64::NAN), (4.0, 100.0), (5.0, 200.0)];
        let svg = plot(points).figure();
        let path =
            svg.split("<path class=\"l c1 solid\" d=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(path.map(|path| path.matches('M').count()), Some(2), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.contains("a &lt;b&gt; title"));
    }

    #[test]
    fn what_is_outside_stays_in_the_frame() {
        let svg = plot(vec![(-5.0, 1.0), (50.0, 1e9)]).figure();
        assert!(svg.contains("H1026.0") && !svg.contains("\"-"), "{svg}");
    }
}
