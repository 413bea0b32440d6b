use super::Summary;
use std::fmt;

/// A condition on a figure of the summary: `achieved_rps >= 99%`, `response_time_ms.p99 < 250`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    figure: &'static str,
    operator: Operator,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Number(f64),
    /// Of the target rate for a rate, of 1 for anything else; as a share (1 = 100 %).
    Percent(f64),
}

/// The figures that thresholds may name, as paths into the summary.
pub const FIGURES: &[&str] = &[
    "achieved_rps",
    "acked",
    "acked_late",
    "bytes",
    "dropped",
    "dropped_ratio",
    "elapsed_s",
    "error_ratio",
    "expired",
    "failed",
    "generated",
    "kinesis_records",
    "lost",
    "misrouted",
    "possible_duplicates",
    "requests",
    "response_time_ms.max",
    "response_time_ms.p50",
    "response_time_ms.p90",
    "response_time_ms.p99",
    "response_time_ms.p999",
    "retried_entries",
    "scheduled",
    "service_time_ms.max",
    "service_time_ms.p50",
    "service_time_ms.p90",
    "service_time_ms.p99",
    "service_time_ms.p999",
    "shards.max_share",
    "throttled_entries",
    "throttled_ratio",
];

/// What is wrong with a threshold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThresholdError {
    text: String,
    at: usize,
    problem: String,
}

impl fmt::Display for ThresholdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.problem)?;
        writeln!(f, "    {}", self.text)?;
        write!(f, "    {:>width$}", '^', width = self.text[..self.at].chars().count() + 1)
    }
}

impl std::error::Error for ThresholdError {}

impl Threshold {
    /// Reads `FIGURE OPERATOR NUMBER[%]`.
    ///
    /// # Errors
    /// With the place at which the text goes wrong.
    pub fn parse(text: &str) -> Result<Self, ThresholdError> {
        let fail = |rest: &str, problem: String| ThresholdError {
            text: text.to_owned(),
            at: text.len() - rest.len(),
            problem,
        };
        let rest = text.trim_start();
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let figure = FIGURES
            .iter()
            .find(|f| **f == name)
            .ok_or_else(|| fail(rest, format!("unknown figure; known are {}", FIGURES.join(", "))))?;
        let after = after.trim_start();
        let (operator, after_operator) =
            read_operator(after).ok_or_else(|| fail(after, "expected <, <=, ==, >= or >".to_owned()))?;
        let number = after_operator.trim_start();
        let value = number.trim_end();
        let (digits, percent) =
            value.strip_suffix('%').map_or((value, false), |digits| (digits.trim_end(), true));
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = digits
            .parse()
            .ok()
            .filter(|_| plain)
            .ok_or_else(|| fail(number, "expected a number, such as 250 or 0.1%".to_owned()))?;
        let bound = if percent { Bound::Percent(number / 100.0) } else { Bound::Number(number) };
        Ok(Self { text: text.trim().to_owned(), figure, operator, bound })
    }

    /// The thresholds of a run: those given, and of the two that always apply those not replaced by
    /// one on the same figure. `open_loop`: the run has a target rate.
    #[must_use]
    pub fn with_defaults(given: &[Self], open_loop: bool) -> Vec<Self> {
        let standing = ["achieved_rps >= 99%", "lost == 0"];
        let standing = standing.iter().filter_map(|text| Self::parse(text).ok());
        standing
            .filter(|one| open_loop || !one.needs_target())
            .filter(|one| given.iter().all(|other| other.figure != one.figure))
            .chain(given.iter().cloned())
            .collect()
    }

    /// Whether it is a share of the target rate, which a closed loop does not have.
    #[must_use]
    pub fn needs_target(&self) -> bool {
        self.figure == "achieved_rps" && matches!(self.bound, Bound::Percent(_))
    }

    /// The text it was read from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The figure's value in a summary, and whether the condition holds.
    #[must_use]
    pub fn evaluate(&self, summary: &Summary) -> (f64, bool) {
        let value = summary.figure(self.figure).unwrap_or(f64::NAN);
        let bound = match self.bound {
            Bound::Number(number) => number,
            Bound::Percent(share) if self.needs_target() => share * summary.target_rps.unwrap_or(f64::NAN),
            Bound::Percent(share) => share,
        };
        let passed = match self.operator {
            Operator::Less => value < bound,
            Operator::LessOrEqual => value <= bound,
            Operator::Equal => (value - bound).abs() < f64::EPSILON * bound.abs().max(1.0),
            Operator::GreaterOrEqual => value >= bound,
            Operator::Greater => value > bound,
        };
        (value, passed)
    }
}

fn read_operator(text: &str) -> Option<(Operator, &str)> {
    let operators = [
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("==", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    operators.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mistakes_are_pointed_at() {
        let error = Threshold::parse("response_time_ms.p99 << 5").unwrap_err().to_string();
        assert_eq!(
            error,
            "expected a number, such as 250 or 0.1%\n    response_time_ms.p99 << 5\n                          ^"
        );
        for (text, at) in
            [("", 0), ("p99 < 5", 0), ("lost", 4), ("lost = 0", 5), ("lost < x", 7), ("lost < 5 %%", 7)]
        {
            assert_eq!(Threshold::parse(text).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn a_given_threshold_replaces_the_standing_one_on_its_figure() {
        let texts = |given: &[&str], open| -> Vec<String> {
            let given: Vec<_> = given.iter().map(|t| Threshold::parse(t).unwrap()).collect();
            Threshold::with_defaults(&given, open).iter().map(|t| t.text().to_owned()).collect()
        };
        assert_eq!(texts(&[], true), ["achieved_rps >= 99%", "lost == 0"]);
        assert_eq!(texts(&[], false), ["lost == 0"]);
        assert_eq!(texts(&["lost < 5"], true), ["achieved_rps >= 99%", "lost < 5"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}") {
            if let Err(error) = Threshold::parse(&text) {
                let _ = error.to_string();
            }
        }
    }
}
