//! Numbers as the view writes them.

/// A count with its thousands apart: `12,345`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number per second: whole, or with a decimal place below ten.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 9.95 && (per_second - per_second.round()).abs() >= 0.05 {
        format!("{per_second:.1}")
    } else {
        count(whole(per_second))
    }
}

/// A count of at most five characters: `999`, `12.3k`, `1.2M`.
pub(super) fn short(n: f64) -> String {
    for (unit, sign) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        // 999,950 would be rounded to 1000.0k.
        if n >= unit * 0.99995 && n >= 1000.0 {
            let n = n / unit;
            return if n < 99.95 { format!("{n:.1}{sign}") } else { format!("{n:.0}{sign}") };
        }
    }
    format!("{n:.0}")
}

/// Milliseconds to three digits: `7.61`, `12.4`, `1,234`.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ..9.995 => format!("{ms:.2}"),
        ..99.95 => format!("{ms:.1}"),
        _ => count(whole(ms)),
    }
}

/// A time to the second: `0:48`, `1:02:03`, `3d 01:02:03`.
pub(super) fn clock(seconds: f64) -> String {
    let seconds = whole(seconds);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let seconds = seconds % 60;
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Bytes in binary units.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..=1023 => format!("{n} B"),
        1024..=1_048_575 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

/// A share in percent; what is not quite all is never written as 100 %.
pub(super) fn percent(share: f64) -> String {
    let share = if share < 1.0 { share.min(0.999) } else { share };
    format!("{:.1} %", share * 100.0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // what is negative or no number is 0
fn whole(n: f64) -> u64 {
    n.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.5, 3.0, 9.96, 4987.4].map(rate), ["0", "0.5", "3", "10", "4,987"]);
        assert_eq!(
            [7.0, 999.0, 1000.0, 12_345.0, 999_949.0, 999_951.0, 2.5e6].map(short),
            ["7", "999", "1.0k", "12.3k", "1000k", "1.0M", "2.5M"]
        );
        assert_eq!(
            [0.0, 7.605, 9.999, 12.42, 141.3, 1234.5].map(millis),
            ["0.00", "7.61", "10.0", "12.4", "141", "1,235"]
        );
        assert_eq!([48.0, 3723.0, 262_923.0].map(clock), ["0:48", "1:02:03", "3d 01:02:03"]);
        assert_eq!([512, 2048, 3_145_728].map(bytes), ["512 B", "2.0 KiB", "3.0 MiB"]);
        assert_eq!([0.9996, 1.0, 0.5].map(percent), ["99.9 %", "100.0 %", "50.0 %"]);
        assert_eq!((rate(f64::NAN), clock(-1.0)), ("0".to_owned(), "0:00".to_owned()));
    }
}
