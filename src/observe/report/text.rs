//! Texts and numbers as the report shows them.

/// A text that stands for itself in HTML, in an element or an attribute. Control characters, which HTML
/// forbids, become U+FFFD.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A count with its thousands parted: `12,345`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with three significant digits or more: `0.0123`, `4.57`, `98.6`, `12,345`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^53 and not below 0")]
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let sign = if value < 0.0 { "−" } else { "" };
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size >= 1000.0 {
        return format!("{sign}{}", count(size.round().min(9e15) as u64));
    }
    let digits = match size {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        0.0 => 0,
        _ => 4,
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{sign}{text}")
}

/// A number short enough for an axis: `250`, `1.5k`, `20M`.
pub(super) fn short(value: f64) -> String {
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= unit {
            return format!("{}{name}", number(value / unit));
        }
    }
    number(value)
}

/// A share as a percentage: `99.9 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

/// A time in milliseconds with its unit.
pub(super) fn millis(ms: f64) -> String {
    if ms >= 10_000.0 { format!("{} s", number(ms / 1000.0)) } else { format!("{} ms", number(ms)) }
}

/// A span: `45 s`, `2 min 30 s`, `1 h 5 min`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "spans of runs")]
pub(super) fn span(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{} s", number(seconds));
    }
    let whole = seconds.round() as u64;
    let (h, min, s) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (h, min, s) {
        (0, min, 0) => format!("{min} min"),
        (0, min, s) => format!("{min} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, min, _) => format!("{h} h {min} min"),
    }
}

/// Bytes with their binary unit.
pub(super) fn bytes(n: u64) -> String {
    for (unit, name) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if n >= unit {
            return format!("{} {name}", number(n as f64 / unit as f64));
        }
    }
    format!("{n} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (4.566, "4.57"),
            (98.61, "98.6"),
            (250.4, "250"),
            (12_345.6, "12,346"),
            (-2.5, "−2.5"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!((short(1500.0).as_str(), short(20_000_000.0).as_str()), ("1.5k", "20M"));
        assert_eq!((percent(0.9995).as_str(), millis(12_000.0).as_str()), ("100 %", "12 s"));
        assert_eq!(
            (span(45.0).as_str(), span(150.0).as_str(), span(3900.0).as_str()),
            ("45 s", "2 min 30 s", "1 h 5 min")
        );
        assert_eq!((bytes(935).as_str(), bytes(935_985).as_str()), ("935 B", "914 KiB"));
    }

    #[test]
    fn nothing_breaks_out_of_a_text() {
        assert_eq!(
            escaped("<script>alert('x')</script> & \"q\"\u{0}"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;q&quot;\u{fffd}"
        );
    }
}
