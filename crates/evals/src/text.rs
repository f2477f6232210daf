//! How figures and outside words read, in pictures, pages and tables alike.

use unicode_width::UnicodeWidthChar;

use crate::quality::Estimate;

/// What stands for a label without any character.
const EMPTY: &str = "(empty)";
/// What stands for a figure that there is none of.
pub(crate) const NONE: &str = "–";

/// An outside text as it may be shown: no control characters, and none that turn the direction of what follows.
pub(crate) fn visible(text: &str) -> String {
    let is_shown = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            && !matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if is_shown(c) { c } else { '\u{fffd}' }).collect()
}

/// An outside name, which may be empty.
fn shown(name: &str) -> String {
    if name.trim().is_empty() { EMPTY.to_owned() } else { visible(name) }
}

/// An outside text in at most `columns` columns, both of its ends kept: labels often differ only in the last word.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    let text = shown(text);
    // Characters without a width count too, or a text of them would never end.
    let width = |c: char| c.width().unwrap_or(1).max(1);
    if text.chars().map(width).sum::<usize>() <= columns {
        return text;
    }
    let take = |chars: &mut dyn Iterator<Item = char>, columns: usize| {
        let mut used = 0;
        let fits = |c: &char| {
            used += width(*c);
            used <= columns
        };
        chars.take_while(fits).collect::<String>()
    };
    let tail_columns = columns.saturating_sub(1) / 2;
    let head = take(&mut text.chars(), columns.saturating_sub(1) - tail_columns);
    let tail: String = take(&mut text.chars().rev(), tail_columns).chars().rev().collect();
    format!("{head}…{tail}")
}

/// Columns of a text as shown.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(1)).sum()
}

/// For XML and HTML, in content and in quoted attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`.
pub(crate) fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// 0.934 as `93.4`. What is not quite nothing or not quite all never reads as if it were.
fn points(share: f64) -> String {
    let shown = if share > 0.0 && share < 0.0005 {
        0.1
    } else if share < 1.0 && share > 0.9995 {
        99.9
    } else {
        share * 100.0
    };
    format!("{shown:.1}").replace("100.0", "100")
}

/// 0.934 as `93.4%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{}%", points(share))
}

/// 0.95 as `95%`, 0.934 as `93.4%`: for shares that somebody chose.
pub(crate) fn round_percent(share: f64) -> String {
    percent(share).replace(".0%", "%")
}

/// As [`percent`], or a dash.
pub(crate) fn percent_or_none(share: Option<f64>) -> String {
    share.map_or_else(|| NONE.to_owned(), percent)
}

/// `93.4% [92.5, 94.3]`
pub(crate) fn estimate(estimate: &Estimate) -> String {
    format!("{} {}", percent(estimate.value), interval(estimate))
}

/// As [`estimate`], or a dash.
pub(crate) fn estimate_or_none(found: Option<&Estimate>) -> String {
    found.map_or_else(|| NONE.to_owned(), estimate)
}

/// `[92.5, 94.3]`
pub(crate) fn interval(estimate: &Estimate) -> String {
    format!("[{}, {}]", points(estimate.lower), points(estimate.upper))
}

/// A difference of shares in percentage points: `+1.2 [-0.3, +2.7]`.
pub(crate) fn difference(estimate: &Estimate) -> String {
    let signed = |share: f64| {
        let text = format!("{:+.1}", share * 100.0);
        if matches!(text.as_str(), "+0.0" | "-0.0") { "0.0".to_owned() } else { text.replace('-', "−") }
    };
    format!("{} [{}, {}]", signed(estimate.value), signed(estimate.lower), signed(estimate.upper))
}

/// Three significant digits and a unit: `850 µs`, `12.3 ms`, `1.20 s`, `2.5 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        0.0 => "0 s".to_owned(),
        ..0.999_5e-3 => format!("{} µs", significant(seconds * 1e6)),
        ..0.999_5 => format!("{} ms", significant(seconds * 1e3)),
        ..120.0 => format!("{} s", significant(seconds)),
        ..7200.0 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Three significant digits of what is not negative, and none of a fraction from 100 on.
pub(crate) fn significant(value: f64) -> String {
    match value {
        ..0.000_5 => "0".to_owned(),
        ..1.0 => format!("{value:.3}"),
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => count(value.round() as u64),
    }
}

/// `1.4 GB`, `320 MB`: powers of ten.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", significant(n as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", significant(n as f64 / 1e6)),
        _ => format!("{} GB", significant(n as f64 / 1e9)),
    }
}

/// `$1,240`, `$0.85`.
pub(crate) fn dollars(amount: f64) -> String {
    if amount < 100.0 { format!("${amount:.2}") } else { format!("${}", count(amount.round() as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let found = Estimate { value: 0.934, lower: 0.9253, upper: 0.94299 };
        assert_eq!(estimate(&found), "93.4% [92.5, 94.3]");
        assert_eq!([percent(1.0), percent(0.99999), percent(0.00001), percent(0.0)], ["100%", "99.9%", "0.1%", "0.0%"]);
        assert_eq!(difference(&Estimate { value: 0.012, lower: -0.003, upper: 0.00001 }), "+1.2 [−0.3, 0.0]");
        let times = [0.0, 12e-6, 0.85e-3, 0.012_34, 0.123_4, 1.2, 45.0, 150.0, 1e5].map(seconds);
        assert_eq!(times, ["0 s", "12.0 µs", "850 µs", "12.3 ms", "123 ms", "1.20 s", "45.0 s", "2.5 min", "27.8 h"]);
        assert_eq!([count(0_u64), count(999_u64), count(1_234_567_u64)], ["0", "999", "1,234,567"]);
        assert_eq!([bytes(999), bytes(320_000_000), bytes(1_440_000_000)], ["999 B", "320 MB", "1.44 GB"]);
        assert_eq!([dollars(0.854), dollars(1239.6)], ["$0.85", "$1,240"]);
        assert_eq!(counted(1, "row", "rows"), "1 row");
    }

    #[test]
    fn outside_texts_stay_in_their_place() {
        assert_eq!(shown("\u{202e}abc\u{0}\n"), "\u{fffd}abc\u{fffd}\u{fffd}");
        assert_eq!([shown(""), shown(" \u{a0}")], ["(empty)", "(empty)"]);
        assert_eq!(shortened("card_payment_fee_charged", 11), "card_…arged");
        assert_eq!(shortened("card", 4), "card");
        assert_eq!(shortened("請求書の支払い", 7), "請…い");
        assert!(shortened(&"a\u{301}".repeat(1000), 10).chars().count() <= 11);
        assert_eq!(escaped(r#"<a href="x">&'"#), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }
}
