use super::figures::Figures;
use super::{Summary, ThresholdResult, VerifySummary};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::sync::LazyLock;

/// A condition on a figure of the summary: `achieved_rps >= 99%`, `response_time_ms.p99 < 250`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    figure: String,
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

/// What is told of the cost, which need not be known.
const OF_COST: [&str; 4] =
    ["cost.usd", "cost.provisioned_usd", "cost.on_demand_usd", "cost.on_demand_advantage_usd"];

/// The largest of a list's numbers: of shards, and of drills.
const OF_LISTS: [&str; 7] = [
    "shards.max_acked",
    "shards.max_accepted",
    "shards.max_throttled",
    "drills.max_changed_after_s",
    "drills.max_settled_after_s",
    "drills.max_throttled_entries",
    "drills.max_misrouted",
];

/// All numbers of a summary, the largest of its lists, and a name for one more.
static FIGURES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let figures = Figures::with_every_count();
    let mut paths = vec!["shards.max_share".to_owned()];
    paths.extend(OF_COST.iter().chain(&OF_LISTS).map(|path| (*path).to_owned()));
    collect_numbers("", &serde_json::to_value(figures).unwrap_or_default(), &mut paths);
    collect_numbers(
        "verify",
        &serde_json::to_value(VerifySummary::default()).unwrap_or_default(),
        &mut paths,
    );
    paths.sort();
    paths
});

/// The figures that thresholds may name, as paths into the summary.
#[must_use]
pub fn figures() -> &'static [String] {
    &FIGURES
}

fn is_known(path: &str) -> bool {
    FIGURES.iter().any(|figure| figure == path)
}

/// The name of a load and the path within it, of a path that begins with `loads.`.
pub(super) fn of_a_load(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("loads.")?.split_once('.')
}

/// The path within the proof, of a path that begins with `verify.`.
pub(super) fn is_of_proof(path: &str) -> bool {
    path.starts_with("verify.")
}

/// Whether a path is of the run as a whole, so that no load has one of its own.
fn is_of_run(path: &str) -> bool {
    ["verify.", "cost.", "drills."].iter().any(|part| path.starts_with(part))
}

/// The largest number of a path such as `drills.max_settled_after_s`, where these are the drills. One that is
/// not known makes none known: what did not settle has no bound.
pub(super) fn largest<T: Serialize>(items: &[T], field: &str) -> Option<f64> {
    let numbers: Option<Vec<f64>> =
        items.iter().map(|item| serde_json::to_value(item).ok()?.get(field)?.as_f64()).collect();
    numbers?.into_iter().reduce(f64::max)
}

/// The figures that a name that is none may have meant.
fn like(name: &str) -> Vec<&'static str> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let alike = |figure: &&String| {
        !last.is_empty() && (figure.ends_with(last) || figure.starts_with(name) || name.ends_with(*figure))
    };
    FIGURES.iter().filter(alike).map(String::as_str).collect()
}

fn collect_numbers(path: &str, value: &Value, paths: &mut Vec<String>) {
    match value {
        Value::Number(_) => paths.push(path.to_owned()),
        Value::Object(parts) => {
            for (name, part) in parts {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect_numbers(&path, part, paths);
            }
        }
        _ => {}
    }
}

/// Whether a figure may be bounded by a percentage: a share of one, or a rate that has a target.
fn is_share(figure: &str) -> bool {
    figure == RATE || figure.ends_with("_ratio") || figure.ends_with("_share")
}

/// The figure that has a target.
const RATE: &str = "achieved_rps";

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
        let end = rest.find(|c: char| c.is_whitespace() || "<>=".contains(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let figure = of_a_load(name).map_or(name, |(_, path)| if is_of_run(path) { name } else { path });
        if !is_known(figure) {
            let like = like(figure);
            let problem = if like.is_empty() {
                format!("unknown figure; known are {}", FIGURES.join(", "))
            } else {
                format!("unknown figure; did you mean {}?", like.join(", "))
            };
            return Err(fail(rest, problem));
        }
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
        if percent && !is_share(figure) {
            let sign = &value[value.len() - 1..];
            let problem = "a percentage is of a ratio, a share, or achieved_rps (of its target); this figure is \
                           a count, a time or a sum of its own";
            return Err(fail(&text[text.trim_end().len() - sign.len()..], problem.to_owned()));
        }
        let bound = if percent { Bound::Percent(number / 100.0) } else { Bound::Number(number) };
        Ok(Self { text: text.trim().to_owned(), figure: name.to_owned(), operator, bound })
    }

    /// Reads conditions joined by the word `and`.
    ///
    /// # Errors
    /// With the place at which the whole text goes wrong.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, ThresholdError> {
        let is_apart = |c: Option<char>| c.is_none_or(char::is_whitespace);
        let joins = text.match_indices("and").map(|(at, word)| (at, at + word.len())).filter(|(at, end)| {
            is_apart(text[..*at].chars().next_back()) && is_apart(text[*end..].chars().next())
        });
        let mut start = 0;
        let mut conditions = Vec::new();
        for (end, next) in joins.chain([(text.len(), text.len())]) {
            let condition = Self::parse(&text[start..end]).map_err(|error| ThresholdError {
                text: text.to_owned(),
                at: start + error.at,
                ..error
            })?;
            conditions.push(condition);
            start = next;
        }
        Ok(conditions)
    }

    /// The thresholds of a run: those given, and of those that always apply the ones that are not replaced
    /// by one on the same figure. `open_loops`: the names of the loads that have a target rate. Each of
    /// several has to hold its own; one on the rate of all together replaces those.
    #[must_use]
    pub fn with_defaults<'a>(given: &[Self], open_loops: impl Iterator<Item = &'a str>) -> Vec<Self> {
        let rates = open_loops.map(|name| match name {
            "" => "achieved_rps >= 99%".to_owned(),
            name => format!("loads.{name}.achieved_rps >= 99%"),
        });
        let standing = rates.chain(["lost == 0".to_owned()]);
        let standing = standing.filter_map(|text| Self::parse(&text).ok());
        let replaced = |one: &Self| {
            let by_sum =
                |other: &Self| one.figure.ends_with("achieved_rps") && other.figure == "achieved_rps";
            given.iter().any(|other| other.figure == one.figure || by_sum(other))
        };
        standing.filter(|one| !replaced(one)).chain(given.iter().cloned()).collect()
    }

    /// Whether it is a share of the target rate, which a closed loop does not have.
    #[must_use]
    pub fn needs_target(&self) -> bool {
        self.is_of_rate() && matches!(self.bound, Bound::Percent(_))
    }

    /// Whether its figure is the rate of all loads together or of one.
    fn is_of_rate(&self) -> bool {
        of_a_load(&self.figure).map_or(self.figure.as_str(), |(_, path)| path) == RATE
    }

    /// The load that its figure is of; `None`: all together.
    #[must_use]
    pub fn load(&self) -> Option<&str> {
        of_a_load(&self.figure).map(|(load, _)| load)
    }

    /// Whether its figure is one of the proof.
    #[must_use]
    pub fn is_of_proof(&self) -> bool {
        is_of_proof(&self.figure)
    }

    /// Whether its figure is one of drills.
    #[must_use]
    pub fn is_of_drills(&self) -> bool {
        self.figure.starts_with("drills.")
    }

    /// Whether only the end of a run can tell that it is missed: it asks for a count that has to grow, for
    /// what is proved, or for what is measured at the end.
    #[must_use]
    pub fn is_for_the_end(&self) -> bool {
        if self.is_of_proof() || self.is_of_drills() || self.figure.contains("processor_share") {
            return true;
        }
        let grows = !self.is_of_rate();
        grows
            && matches!(self.operator, Operator::Greater | Operator::GreaterOrEqual | Operator::Equal)
            && self.bound != Bound::Number(0.0)
    }

    /// Whether its figure is one of all loads together, or of one of these.
    #[must_use]
    pub fn is_of<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        of_a_load(&self.figure).is_none_or(|(load, _)| names.any(|name| name == load))
    }

    /// How it stands in a summary.
    #[must_use]
    pub fn judge(&self, summary: &Summary) -> ThresholdResult {
        self.judge_by(|path| summary.figure(path))
    }

    /// How it stands in a run that is under way, of whose records this share fell due so long ago that they
    /// should be acked: what is on its way is no shortfall of a rate. Nothing is asked of a rate while nothing
    /// should be acked.
    #[must_use]
    pub fn judge_running(&self, summary: &Summary, overdue_share: f64) -> ThresholdResult {
        let least = matches!(self.operator, Operator::Greater | Operator::GreaterOrEqual);
        if !self.is_of_rate() || !least {
            return self.judge(summary);
        }
        let (value, passed) = self.evaluate(overdue_share, |path| summary.figure(path));
        ThresholdResult { expr: self.text.clone(), value, passed: passed || overdue_share <= 0.0 }
    }

    /// How it stands where figures are looked up so.
    #[must_use]
    pub fn judge_by(&self, figure: impl Fn(&str) -> Option<f64>) -> ThresholdResult {
        let (value, passed) = self.evaluate(1.0, figure);
        ThresholdResult { expr: self.text.clone(), value, passed }
    }

    /// The text it was read from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The figure's value in a summary, and whether the condition holds for this share of the bound.
    fn evaluate(&self, of_bound: f64, figure: impl Fn(&str) -> Option<f64>) -> (f64, bool) {
        let value = figure(&self.figure).unwrap_or(f64::NAN);
        let bound = match self.bound {
            Bound::Number(number) => number,
            Bound::Percent(share) if self.needs_target() => {
                let target = format!("{}target_rps", self.figure.trim_end_matches(RATE));
                // Nothing was offered: no share of it is held.
                let target = figure(&target).filter(|target| *target > 0.0);
                share * target.unwrap_or(f64::NAN)
            }
            Bound::Percent(share) => share,
        } * of_bound;
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
    fn a_percentage_is_of_a_ratio_or_of_a_target() {
        for text in [
            "achieved_rps >= 99%",
            "loads.a.achieved_rps >= 99 %",
            "error_ratio < 0.1%",
            "shards.max_share < 30%",
            "limit.in_flight_share < 5%",
            "loads.a.throttled_ratio < 2%",
        ] {
            assert!(Threshold::parse(text).is_ok(), "{text}");
        }
        for (text, at) in [
            ("acked >= 9900%", 13),
            ("response_time_ms.p99 < 5% ", 24),
            ("loads.a.lost < 1%", 16),
            ("target_rps > 5%", 14),
            ("cost.usd < 5%", 12),
        ] {
            let error = Threshold::parse(text).unwrap_err();
            assert!(error.at == at && error.problem.starts_with("a percentage is of a ratio"), "{error}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_told_what_it_may_have_meant() {
        let problem = |text: &str| Threshold::parse(text).unwrap_err().problem;
        let meant = problem("response.p99 < 5");
        assert!(meant.starts_with("unknown figure; did you mean ") && meant.contains("response_time_ms.p99"));
        assert!(!meant.contains("p999") && !meant.contains("misrouted"), "{meant}");
        assert!(problem("nonsense < 5").contains("known are "));
        // Cost and drills are of the run, whose loads have none of their own.
        assert!(Threshold::parse("loads.a.cost.usd < 5").is_err());
    }

    #[test]
    fn conditions_are_joined_by_and() {
        let texts = |text: &str| -> Vec<String> {
            Threshold::parse_all(text).unwrap().iter().map(|one| one.text().to_owned()).collect()
        };
        assert_eq!(texts(" lost==0 "), ["lost==0"]);
        assert_eq!(
            texts("response_time_ms.p99 < 200 and error_ratio < 0.01%\nand lost == 0"),
            ["response_time_ms.p99 < 200", "error_ratio < 0.01%", "lost == 0"]
        );
        for (text, at) in [
            ("lost == 0 and p99 < 5", 14),
            ("lost == 0 and", 13),
            ("and lost == 0", 0),
            ("lost == 0 and lost == x and lost == 0", 22),
            ("lost == 0 or lost == 1", 8),
            ("lost == 0and lost == 1", 8),
            ("  ", 2),
        ] {
            let error = Threshold::parse_all(text).unwrap_err();
            assert_eq!((error.at, error.text.as_str()), (at, text), "{error}");
        }
    }

    #[test]
    fn a_given_threshold_replaces_the_standing_one_on_its_figure() {
        let texts = |given: &[&str], open: &[&str]| -> Vec<String> {
            let given: Vec<_> = given.iter().map(|t| Threshold::parse(t).unwrap()).collect();
            Threshold::with_defaults(&given, open.iter().copied())
                .iter()
                .map(|t| t.text().to_owned())
                .collect()
        };
        assert_eq!(texts(&[], &[""]), ["achieved_rps >= 99%", "lost == 0"]);
        assert_eq!(texts(&[], &[]), ["lost == 0"]);
        assert_eq!(texts(&["lost < 5"], &[""]), ["achieved_rps >= 99%", "lost < 5"]);
        // Each of several loads holds its own rate, unless that of all together is to be judged.
        assert_eq!(
            texts(&["loads.b.achieved_rps > 5"], &["a", "b"]),
            ["loads.a.achieved_rps >= 99%", "lost == 0", "loads.b.achieved_rps > 5"]
        );
        assert_eq!(texts(&["achieved_rps > 5"], &["a", "b"]), ["lost == 0", "achieved_rps > 5"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}") {
            if let Err(error) = Threshold::parse_all(&text) {
                let _ = error.to_string();
            }
        }
    }
}
