//! Figures as people read them.

use std::fmt::Write;
use std::time::Duration;

use bantam_ledger::Timestamp;
use bantam_types::NanoDollars;

/// Dollars: cents for what is more than one, three digits that say something for what is less.
pub(super) fn money(amount: NanoDollars) -> String {
    let dollars = amount.dollars().abs();
    let sign = if amount.0 < 0 { "-" } else { "" };
    let text = if amount.0 == 0 {
        "0".to_owned()
    } else if dollars >= 1.0 {
        return format!("{sign}${}.{:02}", count(dollars as u64), ((dollars.fract() * 100.0) as u64).min(99));
    } else {
        // The power of ten of the first digit that is not zero.
        let decimals = (2 - dollars.log10().floor() as i32).clamp(2, 9);
        let text = format!("{dollars:.*}", decimals as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    format!("{sign}${text}")
}

/// A time in the unit that suits it.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0..=999 => format!("{micros} µs"),
        1_000..=9_999 => format!("{:.1} ms", micros as f64 / 1e3),
        10_000..=999_999 => format!("{:.0} ms", micros as f64 / 1e3),
        1_000_000..=9_999_999 => format!("{:.2} s", micros as f64 / 1e6),
        10_000_000..=59_999_999 => format!("{:.1} s", micros as f64 / 1e6),
        _ => seconds(Duration::from_micros(micros)),
    }
}

/// A time that is long.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3_599 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..=86_399 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// A time in two units, or in one where there is nothing of the other.
fn two(large: u64, of: &str, small: u64, unit: &str) -> String {
    if small == 0 { format!("{large} {of}") } else { format!("{large} {of} {small} {unit}") }
}

/// Text as it is spelt: what would be invisible or turn the direction of what comes after it is named.
pub(super) fn visible(text: &str) -> String {
    let hidden = |c: char| match c {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => true,
        c => c.is_control(),
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "[U+{:04X}]", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// With thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole; a dash where there is no whole.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { percent(part as f64 / whole as f64) }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent.abs() >= 10.0 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}

/// A saving: an amount, and what part of the amount without it that is.
pub(super) fn saving(saved: NanoDollars, of: NanoDollars) -> String {
    match of.0 {
        0 => money(saved),
        _ => format!("{} ({})", money(saved), percent(saved.dollars() / of.dollars())),
    }
}

/// Day and time of day, to the second, UTC.
pub(super) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).map_or(text.clone(), |text| text.replace('T', " "))
}

/// The time of day, to the second, UTC.
pub(super) fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(11..19).map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_that_say_something() {
        for (nanos, expected) in [
            (0, "$0"),
            (1, "$0.000000001"),
            (12_345, "$0.0000123"),
            (200_000, "$0.0002"),
            (123_456_789, "$0.123"),
            (-500_000_000, "-$0.5"),
            (999_999_999, "$1"),
            (1_234_567_890_123, "$1,234.56"),
        ] {
            assert_eq!(money(NanoDollars(nanos)), expected);
        }
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        for (time, expected) in [
            (0, "0 µs"),
            (1_500, "1.5 ms"),
            (340_400, "340 ms"),
            (2_310_000, "2.31 s"),
            (65_000_000, "1 min 5 s"),
            (300_000_000, "5 min"),
            (3_700_000_000, "1 h 1 min"),
        ] {
            assert_eq!(micros(time), expected);
        }
        assert_eq!(moment(Timestamp(1_709_164_800_000_000)), "2024-02-29 00:00:00");
        assert_eq!(clock(Timestamp(1_709_164_861_500_000)), "00:01:01");
    }

    #[test]
    fn text_that_would_deceive_is_spelt_out() {
        assert_eq!(visible("gpt\u{202e}evil\0 \u{2066}a"), "gpt[U+202E]evil[U+0000] [U+2066]a");
        let plain = "two\nlines\tof مرحبا 👩\u{200d}👧 <b>";
        assert_eq!(visible(plain), plain);
    }

    #[test]
    fn counts_and_shares() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            (share(0, 0), share(1, 3), share(1, 50), share(0, 4)),
            ("–".into(), "33%".into(), "2.0%".into(), "0%".into())
        );
        assert_eq!(saving(NanoDollars(750_000_000), NanoDollars(1_000_000_000)), "$0.75 (75%)");
    }
}
