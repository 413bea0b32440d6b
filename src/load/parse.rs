//! Shapes and arrivals as settings: a name, then its parts.

use super::{Arrivals, Curve, Nanos, Piece, Rate, Shape, Thousandths};

/// What a shape may be, for error messages.
const SHAPES: &str = "expected constant, stages:START,RATE/TIME,..., sine:mean=,amplitude=,period=, \
                      spike:base=,peak=,rise=,hold=,fall=,period=, sawtooth:from=,to=,period=, or replay:FILE";

/// Reads a shape other than `constant` and `replay`; `read_time` reads a time with its unit.
///
/// # Errors
/// In a sentence for the user.
pub fn parse_shape(text: &str, read_time: impl Fn(&str) -> Result<Nanos, String>) -> Result<Shape, String> {
    let (name, rest) = text.split_once(':').ok_or(SHAPES)?;
    let shape = match name {
        "stages" => stages(rest, &read_time)?,
        "sine" => {
            let [mean, amplitude, period] = parts(rest, ["mean", "amplitude", "period"])?;
            let (mean, amplitude) = (rate(mean)?, rate(amplitude)?);
            if amplitude > mean {
                return Err("amplitude: more than the mean, so the rate would fall below zero".to_owned());
            }
            Shape::repeating(vec![Piece {
                curve: Curve::Sine { mean, amplitude },
                span: span(period, &read_time)?,
            }])
        }
        "sawtooth" => {
            let [from, to, period] = parts(rest, ["from", "to", "period"])?;
            let curve = Curve::Ramp(rate(from)?, rate(to)?);
            Shape::repeating(vec![Piece { curve, span: span(period, &read_time)? }])
        }
        "spike" => spike(rest, &read_time)?,
        _ => return Err(SHAPES.to_owned()),
    };
    if shape.peak() == 0.0 || shape.start(0).is_none() {
        return Err("offers no record at any time".to_owned());
    }
    Ok(shape)
}

/// `START,RATE/TIME,RATE/TIME,...`: each stage goes evenly from the rate before to its own; one of no
/// time is a step.
fn stages(text: &str, read_time: impl Fn(&str) -> Result<Nanos, String>) -> Result<Shape, String> {
    let mut texts = text.split(',').map(str::trim);
    let mut at = rate(texts.next().unwrap_or_default())?;
    let mut pieces = Vec::new();
    for text in texts {
        let wrong = || format!("stage {text:?}: expected RATE/TIME, such as 5000/30s");
        let (to, time) = text.split_once('/').ok_or_else(wrong)?;
        let (to, span) = (rate(to)?, read_time(time.trim())?);
        longest(span)?;
        let curve = if at == to { Curve::Hold(to) } else { Curve::Ramp(at, to) };
        if span > 0 {
            pieces.push(Piece { curve, span });
        }
        at = to;
    }
    if pieces.is_empty() {
        return Err(
            "stages need at least one RATE/TIME that takes time, such as stages:0,5000/30s".to_owned()
        );
    }
    Ok(Shape::once(pieces))
}

/// Base, rise to the peak, hold, fall back; once in each period, at its end.
fn spike(text: &str, read_time: impl Fn(&str) -> Result<Nanos, String>) -> Result<Shape, String> {
    let [base, peak, rise, hold, fall, period] =
        parts(text, ["base", "peak", "rise", "hold", "fall", "period"])?;
    let (base, peak) = (rate(base)?, rate(peak)?);
    let (rise, hold, fall) = (read_time(rise)?, read_time(hold)?, read_time(fall)?);
    let period = span(period, &read_time)?;
    let busy = rise.saturating_add(hold).saturating_add(fall);
    let Some(quiet) = period.checked_sub(busy) else {
        return Err("period: shorter than rise, hold and fall together".to_owned());
    };
    let pieces = [
        (Curve::Hold(base), quiet),
        (Curve::Ramp(base, peak), rise),
        (Curve::Hold(peak), hold),
        (Curve::Ramp(peak, base), fall),
    ];
    let pieces = pieces.into_iter().filter(|(_, span)| *span > 0);
    Ok(Shape::repeating(pieces.map(|(curve, span)| Piece { curve, span }).collect()))
}

/// Reads `even`, `poisson`, or `hawkes:excitation=0.5,decay=200ms`.
///
/// # Errors
/// In a sentence for the user.
pub fn parse_arrivals(
    text: &str,
    read_time: impl Fn(&str) -> Result<Nanos, String>,
) -> Result<Arrivals, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("even", "") => Ok(Arrivals::Even),
        ("poisson", "") => Ok(Arrivals::Poisson),
        ("hawkes", rest) => {
            let [excitation, decay] = parts(rest, ["excitation", "decay"])?;
            let excitation = excitation.parse().ok().filter(|share| (0.0..=0.95).contains(share));
            Ok(Arrivals::Hawkes {
                excitation: excitation.ok_or("excitation: expected a number from 0 to 0.95")?,
                decay: span(decay, read_time)?,
            })
        }
        _ => Err("expected even, poisson or hawkes:excitation=0.5,decay=200ms".to_owned()),
    }
}

/// The values of `NAME=VALUE,...`, every name once, in any order.
fn parts<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Result<[&'a str; N], String> {
    let mut values = [None; N];
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?}: expected NAME=VALUE"))?;
        let place = names.iter().position(|known| *known == name.trim());
        let place = place.ok_or_else(|| format!("unknown part {name:?}; known are {}", names.join(", ")))?;
        if values[place].replace(value.trim()).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    let missing: Vec<&str> = names.iter().zip(values).filter(|(_, v)| v.is_none()).map(|(n, _)| *n).collect();
    if missing.is_empty() {
        Ok(values.map(Option::unwrap_or_default))
    } else {
        Err(format!("needs {}", missing.join(", ")))
    }
}

/// A rate that may be zero.
fn rate(text: &str) -> Result<Thousandths, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(0);
    }
    text.parse::<Rate>().map(Rate::thousandths).map_err(|error| format!("rate {text:?}: {error}"))
}

fn span(text: &str, read_time: impl Fn(&str) -> Result<Nanos, String>) -> Result<Nanos, String> {
    match read_time(text)? {
        0 => Err("must take time".to_owned()),
        span => longest(span),
    }
}

fn longest(span: Nanos) -> Result<Nanos, String> {
    if span > Shape::LONGEST_PIECE { Err("longer than 31 days".to_owned()) } else { Ok(span) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;
    use proptest::prelude::*;

    /// Whole seconds, as `30s`.
    fn time(text: &str) -> Result<Nanos, String> {
        let seconds: Option<u64> = text.strip_suffix('s').and_then(|n| n.parse().ok());
        seconds.and_then(|n| n.checked_mul(SECOND)).ok_or_else(|| "a time".to_owned())
    }

    fn shape(text: &str) -> Result<Shape, String> {
        parse_shape(text, time)
    }

    #[test]
    fn stages_ramp_and_step() {
        let stages = shape("stages: 0, 1000/10s, 1000/10s, 3000/0s, 3000/10s").unwrap();
        assert_eq!(stages.ends(), Some(30 * SECOND));
        assert_eq!(
            [5, 15, 25].map(|second| format!("{:.0}", stages.rate_at(second * SECOND))),
            ["500", "1000", "3000"]
        );
        // 5,000 + 10,000 + 30,000.
        assert_eq!((stages.due(30 * SECOND), stages.start(45_000)), (45_000, None));
    }

    #[test]
    fn periodic_shapes_come_again() {
        let spike = shape("spike:base=100,peak=1000,rise=2s,hold=3s,fall=1s,period=60s").unwrap();
        assert_eq!(
            [0, 53, 55, 57, 59, 60].map(|second| format!("{:.0}", spike.rate_at(second * SECOND))),
            ["100", "100", "550", "1000", "1000", "100"]
        );
        let sine = shape("sine:mean=1000,amplitude=500,period=40s").unwrap();
        assert_eq!(
            [10, 30, 50].map(|second| format!("{:.0}", sine.rate_at(second * SECOND))),
            ["1500", "500", "1500"]
        );
        assert_eq!(sine.due(400 * SECOND), 400_001);
        let saw = shape("sawtooth:from=0,to=1000,period=10s").unwrap();
        assert_eq!(
            (saw.due(100 * SECOND), format!("{:.0}", saw.rate_at(12 * SECOND))),
            (50_001, "200".to_owned())
        );
    }

    #[test]
    fn mistakes_are_told() {
        for (text, start) in [
            ("wave", "expected constant, stages:"),
            ("wave:a=1", "expected constant, stages:"),
            ("stages:", "rate \"\""),
            ("stages:5", "stages need at least one"),
            ("stages:0,5000", "stage \"5000\": expected RATE/TIME"),
            ("stages:0,5000/x", "a time"),
            ("stages:0,0/5s", "offers no record"),
            ("sine:mean=1,amplitude=2,period=1s", "amplitude: more than"),
            ("sine:mean=1,amplitude=1", "needs period"),
            ("sine:mean=1,mean=1", "mean is given twice"),
            ("sine:men=1", "unknown part \"men\""),
            ("sine:mean", "\"mean\": expected NAME=VALUE"),
            ("sawtooth:from=0,to=0,period=5s", "offers no record"),
            ("sawtooth:from=0,to=5,period=0s", "must take time"),
            ("sawtooth:from=0,to=5,period=9999999s", "longer than 31 days"),
            ("spike:base=1,peak=2,rise=2s,hold=2s,fall=2s,period=5s", "period: shorter"),
        ] {
            let error = shape(text).unwrap_err();
            assert!(error.starts_with(start), "{text}: {error}");
        }
    }

    #[test]
    fn arrivals_are_read() {
        assert_eq!(parse_arrivals("even", time), Ok(Arrivals::Even));
        assert_eq!(parse_arrivals("poisson", time), Ok(Arrivals::Poisson));
        assert_eq!(
            parse_arrivals("hawkes:excitation=0.5,decay=2s", time),
            Ok(Arrivals::Hawkes { excitation: 0.5, decay: 2 * SECOND })
        );
        for wrong in [
            "",
            "odd",
            "poisson:5",
            "hawkes",
            "hawkes:excitation=1,decay=1s",
            "hawkes:excitation=NaN,decay=1s",
        ] {
            assert!(parse_arrivals(wrong, time).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(name in "(stages|sine|spike|sawtooth|hawkes|[a-z]{0,5})", rest in "[0-9a-z=,:/. ]{0,40}") {
            let _ = (shape(&format!("{name}:{rest}")), parse_arrivals(&format!("{name}:{rest}"), time));
        }
    }
}
