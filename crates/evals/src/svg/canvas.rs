use std::fmt::{self, Display, Write};

use crate::text::{columns, escaped};

/// A document under construction. Coordinates are in pixels from the upper left corner.
pub(super) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

/// A coordinate: two decimals at most, so that documents are small and the same everywhere.
pub(super) struct Px(pub(super) f64);

impl Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) anchor: Anchor,
    pub(super) size: f64,
    /// 0 is invisible.
    pub(super) opacity: f64,
    pub(super) fill: &'static str,
    pub(super) weight: u32,
    /// Degrees, clockwise.
    pub(super) turned: f64,
}

impl Type {
    /// Text that is read.
    pub(super) const BODY: Type =
        Type { anchor: Anchor::Start, size: 12.0, opacity: 1.0, fill: "currentColor", weight: 400, turned: 0.0 };
    /// Numbers at axes and notes.
    pub(super) const SOFT: Type = Type { size: 11.0, opacity: 0.7, ..Type::BODY };

    pub(super) const fn at(self, anchor: Anchor) -> Type {
        Type { anchor, ..self }
    }
}

/// About how wide a text of this size is. Fonts differ: leave some room.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    columns(text) as f64 * size * 0.6
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A text; what it says is escaped.
    pub(super) fn text(&mut self, (x, y): (f64, f64), style: Type, text: &str) {
        let mut attributes = String::new();
        match style.anchor {
            Anchor::Start => {}
            Anchor::Middle => attributes.push_str(" text-anchor=\"middle\""),
            Anchor::End => attributes.push_str(" text-anchor=\"end\""),
        }
        if style.opacity < 1.0 {
            let _ = write!(attributes, " fill-opacity=\"{}\"", Px(style.opacity));
        }
        if style.weight != 400 {
            let _ = write!(attributes, " font-weight=\"{}\"", style.weight);
        }
        if style.turned != 0.0 {
            let _ = write!(attributes, " transform=\"rotate({} {} {})\"", Px(style.turned), Px(x), Px(y));
        }
        let (size, fill, text) = (Px(style.size), style.fill, escaped(text));
        let (x, y) = (Px(x), Px(y));
        self.line(format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{fill}\"{attributes}>{text}</text>"
        ));
    }

    /// A rectangle; what it says when pointed at is escaped.
    pub(super) fn rect(&mut self, [x, y, width, height]: [f64; 4], attributes: impl Display, title: Option<&str>) {
        let [x, y, width, height] = [Px(x), Px(y), Px(width.max(0.0)), Px(height.max(0.0))];
        let start =
            format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {attributes}").to_string();
        match title {
            None => self.line(format_args!("{start}/>")),
            Some(title) => self.line(format_args!("{start}><title>{}</title></rect>", escaped(title))),
        }
    }

    pub(super) fn stroke(&mut self, from: (f64, f64), to: (f64, f64), attributes: impl Display) {
        let [x1, y1, x2, y2] = [Px(from.0), Px(from.1), Px(to.0), Px(to.1)];
        self.line(format_args!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" {attributes}/>"));
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, attributes: impl Display) {
        self.line(format_args!("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" {attributes}/>", Px(x), Px(y), Px(radius)));
    }

    pub(super) fn path(&mut self, points: impl Iterator<Item = (f64, f64)>, attributes: impl Display) {
        let mut line = String::new();
        for (x, y) in points {
            let _ = write!(line, "{}{} {}", if line.is_empty() { 'M' } else { 'L' }, Px(x), Px(y));
        }
        self.line(format_args!("<path d=\"{line}\" fill=\"none\" {attributes}/>"));
    }

    fn line(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// The document. Title and description are for those who cannot see it, and are escaped.
    pub(super) fn finish(self, title: &str, description: &str) -> String {
        let (width, height, title) = (Px(self.width), Px(self.height), escaped(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\" font-family=\"system-ui, -apple-system, 'Segoe UI', \
             Roboto, 'Helvetica Neue', sans-serif\">\n<title>{title}</title>\n<desc>{}</desc>\n{}</svg>\n",
            escaped(description),
            self.body,
        )
    }
}
