//! Prometheus' text format, for figures that are kept elsewhere and read when somebody looks.

use std::fmt::{Display, Write};

/// A figure's name, what it is, and what it says of itself.
#[derive(Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Label names and their values.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// What has been written so far.
pub(super) struct Text(String);

impl Text {
    /// Goes on after what somebody else has written.
    pub(super) fn after(written: String) -> Self {
        Self(written)
    }

    /// Writes a family, unless it has no samples.
    pub(super) fn family<'a, const N: usize, V: Display>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = (Labels<'a, N>, V)>,
    ) {
        let Family { name, kind, help } = family;
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let out = &mut self.0;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            out.push_str(name);
            for (i, (label, value)) in labels.iter().enumerate() {
                let _ = write!(out, "{}{label}=\"", if i == 0 { '{' } else { ',' });
                escape(out, value);
                out.push('"');
            }
            let _ = writeln!(out, "{} {value}", if N == 0 { "" } else { "}" });
        }
        out.push('\n');
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_so_that_they_end_where_they_end() {
        let mut text = Text::after("x 1\n".to_owned());
        let family = Family { name: "f", kind: Kind::Gauge, help: "Of something" };
        text.family(family, [([("a", "q\"\\\nz"), ("b", "")], 1.5), ([("a", "plain"), ("b", "c")], 2.0)]);
        text.family(Family { name: "g_total", kind: Kind::Counter, ..family }, [([], 3)]);
        text.family(Family { name: "none", ..family }, std::iter::empty::<(Labels<'_, 1>, u64)>());
        assert_eq!(
            text.finish(),
            "x 1\n# HELP f Of something\n# TYPE f gauge\nf{a=\"q\\\"\\\\\\nz\",b=\"\"} 1.5\nf{a=\"plain\",b=\"c\"} 2\n\n\
             # HELP g_total Of something\n# TYPE g_total counter\ng_total 3\n\n"
        );
    }
}
