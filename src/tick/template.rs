//! Payloads by a template of the user's.

mod facts;
mod functions;

use super::{Draws, Ticks};
use crate::kinesis::limits::MAX_RECORD_BYTES;
use crate::load::{MILLISECOND, Nanos, SECOND};
use facts::Facts;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};
use std::fmt;
use std::sync::Arc;

/// The text of a template and the name of the file it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateText {
    /// The file, for messages.
    pub file: String,
    /// What is in it.
    pub text: String,
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// The file.
    pub file: String,
    /// Line and column, from 1; the column in characters.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

/// Makes payloads by a template; each is a function of the seed, the record's number and its intended
/// start.
///
/// A record whose rendering fails is still made: its payload then says what failed, and the failure is
/// counted ([`Template::failures`]).
#[derive(Clone, Debug)]
pub struct Template {
    env: Arc<Environment<'static>>,
    file: Arc<str>,
    draws: Draws,
    /// The longest payload, in bytes.
    most: usize,
    scratch: Vec<u8>,
    failures: u64,
    first_failure: Option<TemplateError>,
}

/// The name of the template in its environment; the file's name stands in messages.
const NAME: &str = "payload";

/// What one rendering may cost. minijinja takes 1 for an instruction and 1 for 64 bytes made, so a loop
/// without end stops within some 20 ms, and no more than 32 MiB are made.
const FUEL: u64 = 500_000;

/// Records rendered before the run, to learn how long payloads get.
const SAMPLES: u64 = 1_000;

/// Bytes of a payload that says what failed, at most.
const FAILURE_BYTES: usize = 512;

/// The begin of the run that samples are rendered for: 2033, as long as any other in all its forms.
const SAMPLE_START: Nanos = 2_000_000_000 * SECOND;

impl Template {
    /// Compiles a template and renders the first of the run's `records` with `ticks`, 1,000 of them and
    /// some of far higher numbers.
    ///
    /// # Errors
    /// If it does not compile, names what is not there, or fails for one of these records.
    pub fn new(text: &TemplateText, seed: u64, ticks: &Ticks, records: u64) -> Result<Self, TemplateError> {
        let failed = |error: &Error| told(&text.file, &text.text, error);
        let mut env = environment();
        env.add_template_owned(NAME, text.text.clone()).map_err(|error| failed(&error))?;
        check_names(&env, text)?;
        let mut template = Self {
            env: Arc::new(env),
            file: text.file.as_str().into(),
            draws: Draws::new(seed, 12),
            most: MAX_RECORD_BYTES,
            scratch: Vec::new(),
            failures: 0,
            first_failure: None,
        };
        template.most = template.learn(ticks.clone(), records)?;
        Ok(template)
    }

    /// The most bytes of a payload: the longest of the samples, and as much more as they vary, or as
    /// their tickers do. What pads to a size always has that size.
    fn learn(&self, mut ticks: Ticks, records: u64) -> Result<usize, TemplateError> {
        ticks.starts_at(SAMPLE_START);
        let lengths: Vec<usize> = ticks.symbols().map(str::len).collect();
        let symbols = lengths.iter().max().unwrap_or(&0) - lengths.iter().min().unwrap_or(&0);
        let (mut shortest, mut longest, mut padded) = (usize::MAX, 0, true);
        let tens = (3..=19).map(|power| 10_u64.pow(power));
        for n in (0..SAMPLES).chain(tens).filter(|&n| n < records.max(1)) {
            // Uneven, so that times have all their digits; up to eleven years.
            let intended = (n.min(SECOND / 3) * MILLISECOND).saturating_add(1_234);
            let facts = Arc::new(Facts::new(n, intended, self.draws, &mut ticks));
            let text = self.render(&facts).map_err(|error| TemplateError {
                problem: format!("{} (record {n})", error.problem),
                ..error
            })?;
            padded &= facts.padding().is_some();
            (shortest, longest) = (shortest.min(text.len()), longest.max(text.len()));
        }
        let margin = if padded { 0 } else { longest - shortest + symbols };
        Ok((longest + margin).clamp(FAILURE_BYTES, MAX_RECORD_BYTES))
    }

    /// The most bytes of a payload.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.most
    }

    /// How many records could not be rendered, of those asked for by [`Template::len`].
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Why the first of them could not.
    #[must_use]
    pub fn first_failure(&self) -> Option<&TemplateError> {
        self.first_failure.as_ref()
    }

    /// The length of record `n`'s payload in bytes: it is rendered, and a failure is counted.
    pub fn len(&mut self, n: u64, intended: Nanos, ticks: &mut Ticks) -> usize {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        if let Err(error) = self.try_write(n, intended, ticks, &mut scratch) {
            self.failures += 1;
            self.first_failure.get_or_insert(error);
        }
        let len = scratch.len();
        self.scratch = scratch;
        len
    }

    /// Appends record `n`'s payload.
    pub fn write(&self, n: u64, intended: Nanos, ticks: &mut Ticks, out: &mut Vec<u8>) {
        // What fails is counted where the record is made; it is written as often as it is sent.
        let _ = self.try_write(n, intended, ticks, out);
    }

    fn try_write(
        &self,
        n: u64,
        intended: Nanos,
        ticks: &mut Ticks,
        out: &mut Vec<u8>,
    ) -> Result<(), TemplateError> {
        let facts = Arc::new(Facts::new(n, intended, self.draws, ticks));
        let rendered = self.render(&facts);
        match &rendered {
            Ok(text) => out.extend_from_slice(text.as_bytes()),
            Err(error) => out.extend_from_slice(&failure_payload(n, error)),
        }
        rendered.map(drop)
    }

    fn render(&self, facts: &Arc<Facts>) -> Result<String, TemplateError> {
        let plain = |problem| TemplateError { file: self.file.to_string(), place: None, problem };
        let template = self.env.get_template(NAME).map_err(|error| told(&self.file, "", &error))?;
        let text = template.render(Value::from_dyn_object(Arc::clone(facts)));
        let text = text.map_err(|error| told(&self.file, template.source(), &error))?;
        let text = facts.pad(text).map_err(plain)?;
        if text.len() > self.most {
            return Err(plain(format!("{} bytes, where at most {} were expected", text.len(), self.most)));
        }
        Ok(text)
    }
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    // Errors then say where in the text they arose.
    env.set_debug(true);
    functions::add_to(&mut env);
    env
}

/// Refuses a name that nothing bears, even where only some records would come to it.
fn check_names(env: &Environment<'static>, text: &TemplateText) -> Result<(), TemplateError> {
    let Ok(template) = env.get_template(NAME) else { return Ok(()) };
    let known = |name: &str| facts::NAMES.contains(&name) || env.globals().any(|(global, _)| global == name);
    let unknown = template.undeclared_variables(false).into_iter().filter(|name| !known(name));
    // The first in the text is told.
    let first = unknown.map(|name| (offset_of(&name, &text.text), name)).min();
    let Some((offset, name)) = first else { return Ok(()) };
    Err(TemplateError {
        file: text.file.clone(),
        place: Some(place(&text.text, offset)),
        problem: format!(
            "unknown name {name}; there are {} and {}",
            facts::NAMES.join(", "),
            functions::NAMES.join(", ")
        ),
    })
}

/// What minijinja says of a mistake, and where it was.
fn told(file: &str, text: &str, error: &Error) -> TemplateError {
    let place = error.range().map(|range| place(text, range.start)).or(error.line().map(|line| (line, 1)));
    let problem = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    TemplateError { file: file.to_owned(), place, problem }
}

/// Where a name first stands in the code of a template, not in what is around it.
fn offset_of(name: &str, text: &str) -> usize {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let in_code = |&(at, _): &(usize, &str)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        let opened = before.rfind("{{").max(before.rfind("{%"));
        let closed = before.rfind("}}").max(before.rfind("%}"));
        opened > closed && !before.ends_with(part_of_word) && !after.starts_with(part_of_word)
    };
    text.match_indices(name).find(in_code).map_or(0, |(at, _)| at)
}

/// Line and column of a place in a text.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The payload of a record that could not be rendered.
fn failure_payload(n: u64, error: &TemplateError) -> Vec<u8> {
    let mut problem = error.to_string();
    loop {
        let payload = serde_json::json!({ "TEMPLATE_ERROR": problem, "RECORD": n }).to_string();
        if payload.len() <= FAILURE_BYTES {
            return payload.into_bytes();
        }
        let half = problem.chars().count() / 2;
        problem = problem.chars().take(half).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::{EventTime, Market, TimeZone};
    use proptest::prelude::*;
    use serde_json::Value as Json;

    fn ticks() -> Ticks {
        let time = EventTime::new(1_795_373_640 * SECOND, TimeZone::Utc);
        Ticks::new(1, Market::Walk, &["AAPL".to_owned(), "AMZN".to_owned()], None, time).unwrap()
    }

    fn template(text: &str) -> Result<Template, TemplateError> {
        Template::new(&TemplateText { file: "t.json".into(), text: text.into() }, 9, &ticks(), u64::MAX)
    }

    fn payload(text: &str, n: u64) -> String {
        let mut out = Vec::new();
        template(text).unwrap().write(n, 123_456_789, &mut ticks(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn refusal(text: &str) -> String {
        template(text).unwrap_err().to_string()
    }

    #[test]
    fn variables_are_the_records() {
        let text = "{{ n }} {{ event_time }} {{ unix_s }} {{ unix_ms }} {{ unix_us }} {{ unix_ns }}";
        assert_eq!(
            payload(text, 7),
            "7 2026-11-22T18:54:00.123456 1795373640 1795373640123 1795373640123456 1795373640123456789"
        );
        let mut record = Vec::new();
        ticks().write(7, 123_456_789, &mut record);
        let record: Json = serde_json::from_slice(&record).unwrap();
        let own: Json =
            serde_json::from_str(&payload("[{{ ticker|tojson }}, {{ price }}, {{ volume }}]", 7)).unwrap();
        assert_eq!(own, serde_json::json!([record["TICKER"], record["PRICE"], record["VOLUME"]]));
    }

    #[test]
    fn the_readme_names_every_variable_and_function() {
        let readme = include_str!("../../README.md");
        for name in facts::NAMES.iter().chain(&functions::NAMES) {
            let name = name.replace("choice(...)", "choice(list)");
            assert!(readme.contains(&format!("`{name}`")), "{name} is not in README.md");
        }
    }

    #[test]
    fn functions_draw_within_their_bounds() {
        for n in 0..200 {
            let drawn = payload(
                "{{ uuid() }} {{ hex(5) }} {{ random_int(-3, 3) }} {{ random_float(1, 2) }} \
                 {{ random_float(0, 1, 4) }} {{ choice('a', 'b') }} {{ choice([1, 2]) }} {{ choice('xyz') }}",
                n,
            );
            let parts: Vec<&str> = drawn.split(' ').collect();
            let uuid: Vec<&str> = parts[0].split('-').collect();
            assert_eq!(uuid.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{drawn}");
            assert!(uuid[2].starts_with('4') && uuid[3].starts_with(['8', '9', 'a', 'b']), "{drawn}");
            assert!(u64::from_str_radix(&uuid.concat()[16..], 16).is_ok());
            assert!(parts[1].len() == 5 && u32::from_str_radix(parts[1], 16).is_ok());
            assert!((-3..=3).contains(&parts[2].parse::<i32>().unwrap()));
            assert!((1.0..=2.0).contains(&parts[3].parse::<f64>().unwrap()) && parts[3].len() <= 4);
            assert!((0.0..=1.0).contains(&parts[4].parse::<f64>().unwrap()) && parts[4].len() <= 6);
            assert!(["a", "b"].contains(&parts[5]) && ["1", "2"].contains(&parts[6]));
            assert_eq!(parts[7], "xyz");
        }
    }

    #[test]
    fn draws_of_one_record_differ() {
        let drawn = payload("{{ uuid() }} {{ uuid() }}", 0);
        let (one, other) = drawn.split_once(' ').unwrap();
        assert_ne!(one, other);
    }

    #[test]
    fn padding_fills_the_payload() {
        for text in [
            "{\"a\": \"{{ n }}\", \"p\": \"{{ pad(600) }}\"}",
            "{% set p = pad(600) %}日{{ 'x' ~ p }}{{ n }}",
        ] {
            assert_eq!(payload(text, 5).len(), 600);
            assert_eq!(template(text).unwrap().max_len(), 600);
        }
        assert_eq!(refusal("12345{{ pad(4) }}"), "t.json: 5 bytes, more than pad(4) asks for (record 0)");
        assert!(refusal("{{ pad(9) }}{{ pad(9) }}").contains("once in a record"));
        assert!(refusal("{{ pad(9)[:0] }}").contains("must be written once"));
        assert!(refusal("{{ pad(99999999) }}").contains("10485760 bytes in a record"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, start) in [
            ("{\n  {{ n", "t.json:2:"),
            ("a\n日 {{ n + }}", "t.json:2:"),
            ("a\n {% if n %}", "t.json:2:"),
            ("a\n{{ n|sparkle }}", "t.json:2:6: unknown filter: "),
            (
                "{# tick #}\n tick {{ ticker }} {{ tick }}",
                "t.json:2:23: unknown name tick; there are n, event_time",
            ),
            ("{% if n == 77777 %}\n{{ uid() }}{% endif %}", "t.json:2:4: unknown name uid; there are"),
            ("{{ n.there }}", "t.json:1:4: undefined value"),
            ("{{ 1 / 0 }}", "t.json:1:4: "),
            ("{{ choice([]) }}", "t.json:1:4: invalid operation: nothing to choose from"),
            ("{{ random_int(2, 1) }}", "t.json:1:4: invalid operation: random_int(2, 1)"),
            ("{{ hex(99999999) }}", "t.json:1:4: invalid operation: hex(99999999)"),
            ("{% include 'x' %}", "t.json:1:"),
            ("{{ [1, 2, 3][n] }}", "t.json:1:"),
        ] {
            let told = refusal(text);
            assert!(told.starts_with(start), "{text}: {told}");
        }
        assert!(refusal("{{ 1 / (5 - n) }}").ends_with("(record 5)"));
    }

    #[test]
    fn only_records_of_the_run_are_tried() {
        let text = TemplateText { file: "t".into(), text: "{{ [1, 2, 3][n] }}".into() };
        assert!(Template::new(&text, 1, &ticks(), 3).is_ok());
        assert!(Template::new(&text, 1, &ticks(), 4).is_err());
    }

    #[test]
    fn what_never_ends_or_takes_all_memory_is_stopped() {
        for text in [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% for a in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
            "{{ 'x' * 99999999 }}",
            "{% set g = namespace(s='x') %}{% for a in range(99) %}{% set g.s = g.s ~ g.s %}{% endfor %}",
        ] {
            assert!(refusal(text).contains("ran out of fuel"), "{}", refusal(text));
        }
        let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(template(&format!("{{{{ {deep} }}}}")).is_err());
        assert!(refusal("{{ 'x' * 10485761 }}").contains("10485761 bytes, where at most 10485760"));
    }

    #[test]
    fn a_record_that_fails_says_so_and_is_counted() {
        let mut template = template("{\n\"a\": {{ 1 / (123456 - n) }}}").unwrap();
        let mut ticks = ticks();
        let mut out = Vec::new();
        assert_eq!(template.len(123_455, 0, &mut ticks), "{\n\"a\": 1.0}".len());
        assert_eq!((template.failures(), template.first_failure()), (0, None));
        for count in 1..=2 {
            let len = template.len(123_456, 0, &mut ticks);
            out.clear();
            template.write(123_456, 0, &mut ticks, &mut out);
            assert_eq!((out.len(), template.failures()), (len, count));
        }
        let value: Json = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["RECORD"], 123_456);
        assert!(value["TEMPLATE_ERROR"].as_str().unwrap().starts_with("t.json:2:9: "), "{value}");
        assert_eq!(template.first_failure().unwrap().to_string(), value["TEMPLATE_ERROR"]);
    }

    #[test]
    fn a_record_far_larger_than_the_samples_fails() {
        let mut template = template("{{ 'x' * (900 if n == 123456 else 600) }}").unwrap();
        assert_eq!(template.max_len(), 600);
        assert!(template.len(123_456, 0, &mut ticks()) <= 512);
        let told = template.first_failure().unwrap().to_string();
        assert_eq!(told, "t.json: 900 bytes, where at most 600 were expected");
        // A long message is cut, as the payload that carries it is bounded.
        let error = TemplateError { file: "é".repeat(5_000), place: None, problem: String::new() };
        let cut = failure_payload(u64::MAX, &error);
        assert!(cut.len() <= FAILURE_BYTES && serde_json::from_slice::<Json>(&cut).is_ok());
    }

    proptest! {
        #[test]
        fn a_payload_is_a_function_of_seed_and_record(asked in prop::collection::vec((any::<u64>(), 0_u64..1 << 60), 1..20)) {
            let text = "{{ uuid() }} {{ choice(1, 2, 3) }} {{ price }} {{ volume }} {{ event_time }} {{ hex(n % 9) }}";
            let (mut one, other) = (template(text).unwrap(), template(text).unwrap());
            let (mut its, mut others) = (ticks(), ticks());
            let mut first = Vec::new();
            for &(n, intended) in &asked {
                let mut out = Vec::new();
                one.write(n, intended, &mut its, &mut out);
                prop_assert_eq!(one.len(n, intended, &mut its), out.len());
                prop_assert!(out.len() <= one.max_len());
                first.push(out);
            }
            for (&(n, intended), expected) in asked.iter().zip(&first).rev() {
                let mut out = Vec::new();
                other.write(n, intended, &mut others, &mut out);
                prop_assert_eq!(&out, expected);
            }
            prop_assert_eq!((one.failures(), other.failures()), (0, 0));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[{}%# a-z0-9|()'\\[\\].~*+\n\u{fdd0}-]{0,60}") {
            if let Ok(mut template) = template(&text) {
                template.len(5, 0, &mut ticks());
            }
        }
    }
}
