//! How amounts read.

/// `$1,240`, `-$0.85`, `$0.0042`.
pub(super) fn dollars(amount: f64) -> String {
    let (sign, amount) = if amount < 0.0 { ("-", -amount) } else { ("", amount) };
    match amount {
        0.0 => "$0".to_owned(),
        ..0.000_05 => format!("{sign}${amount:.9}"),
        ..0.1 => format!("{sign}${amount:.4}"),
        ..99.995 => format!("{sign}${amount:.2}"),
        _ => format!("{sign}${}", whole(amount)),
    }
}

/// `1,234,567`.
pub(super) fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        assert_eq!([0.0, 999.0, 1234.4, 1e6].map(whole), ["0", "999", "1,234", "1,000,000"]);
        let read = [0.0, 0.854, -12.0, 1239.6, 0.0042, 25e-9].map(dollars);
        assert_eq!(read, ["$0", "$0.85", "-$12.00", "$1,240", "$0.0042", "$0.000000025"]);
    }
}
