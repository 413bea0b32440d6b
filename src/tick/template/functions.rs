use super::facts::{Facts, SELF};
use crate::kinesis::limits::MAX_RECORD_BYTES;
use minijinja::value::Rest;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::fmt::Write as _;
use std::sync::Arc;

/// The functions of a template.
pub(super) const NAMES: [&str; 6] = [
    "uuid()",
    "choice(...)",
    "random_int(low, high)",
    "random_float(low, high, digits)",
    "hex(digits)",
    "pad(bytes)",
];

pub(super) fn add_to(env: &mut Environment<'_>) {
    env.add_function("uuid", uuid);
    env.add_function("choice", choice);
    env.add_function("random_int", random_int);
    env.add_function("random_float", random_float);
    env.add_function("hex", hex);
    env.add_function("pad", pad);
}

fn wrong(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}

fn facts(state: &State<'_, '_>) -> Result<Arc<Facts>, Error> {
    state
        .lookup(SELF)
        .and_then(|value| value.downcast_object::<Facts>())
        .ok_or_else(|| wrong("only in the payload of a record"))
}

/// A random UUID in the form of version 4 (RFC 9562).
fn uuid(state: &State<'_, '_>) -> Result<String, Error> {
    let facts = facts(state)?;
    let (high, low) = (facts.bits(), facts.bits());
    Ok(format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    ))
}

/// One of the arguments, or of the items of the only one.
fn choice(state: &State<'_, '_>, options: Rest<Value>) -> Result<Value, Error> {
    let facts = facts(state)?;
    let mut options = options.0;
    if let [only] = options.as_slice()
        && only.as_str().is_none()
    {
        options = only.try_iter()?.collect();
    }
    if options.is_empty() {
        return Err(wrong("nothing to choose from"));
    }
    Ok(options.swap_remove(facts.index(options.len())))
}

/// A whole number from `low` to `high`, both included.
fn random_int(state: &State<'_, '_>, low: i64, high: i64) -> Result<i64, Error> {
    let width = i128::from(high) - i128::from(low) + 1;
    if width < 1 {
        return Err(wrong(format!(
            "random_int({low}, {high}): the first must not be larger than the second"
        )));
    }
    let scaled = (i128::from(facts(state)?.bits()) * width) >> 64;
    i64::try_from(i128::from(low) + scaled).map_err(|error| wrong(error.to_string()))
}

/// A number from `low` to below `high`, rounded to `digits` after the point (2).
fn random_float(state: &State<'_, '_>, low: f64, high: f64, digits: Option<u32>) -> Result<f64, Error> {
    let digits = digits.unwrap_or(2);
    if !(low <= high && (high - low).is_finite() && digits <= 15) {
        return Err(wrong("random_float takes a low and a high end, and up to 15 digits"));
    }
    let scale = 10_f64.powi(digits.cast_signed());
    let value = low + (high - low) * facts(state)?.unit();
    let rounded = (value * scale).round() / scale;
    Ok(if rounded.is_finite() { rounded } else { value })
}

/// This many random hexadecimal digits.
fn hex(state: &State<'_, '_>, digits: usize) -> Result<String, Error> {
    if digits > MAX_RECORD_BYTES {
        return Err(wrong(format!("hex({digits}): at most {MAX_RECORD_BYTES} digits")));
    }
    let facts = facts(state)?;
    let mut text = String::with_capacity(digits + 16);
    while text.len() < digits {
        // Writing to a String cannot fail.
        let _ = write!(text, "{:016x}", facts.bits());
    }
    text.truncate(digits);
    Ok(text)
}

/// Stands for as many `x` as make the whole payload this long.
fn pad(state: &State<'_, '_>, bytes: u64) -> Result<String, Error> {
    if bytes > MAX_RECORD_BYTES as u64 {
        return Err(wrong(format!(
            "pad({bytes}): Kinesis takes at most {MAX_RECORD_BYTES} bytes in a record"
        )));
    }
    facts(state)?.ask_for_padding(bytes).map(String::from).map_err(wrong)
}
