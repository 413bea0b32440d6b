use super::compare::{Change, Judgement};
use serde::Serialize;

/// How much worse a figure may become: `response_time_ms.p99 5%` or `lost 0`.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxRegression {
    text: String,
    /// The figure.
    pub(super) figure: String,
    limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// A share of the figure's value in the base.
    Share(f64),
    /// A difference in the figure's own unit.
    Difference(f64),
}

/// Whether a figure became worse by more than it may.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegressionResult {
    /// The limit.
    pub expr: String,
    /// The change for the worse, in the limit's unit: of a percentage a share of the base.
    pub worse_by: f64,
    /// Whether it is more than the limit and no noise.
    pub exceeded: bool,
    /// Whether it is more than the limit and may be noise.
    pub uncertain: bool,
}

impl MaxRegression {
    /// Reads `FIGURE NUMBER[%]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text}: expected a figure and a limit, such as 'response_time_ms.p99 5%' or 'lost 0'")
        };
        let (figure, limit) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        if !Change::is_known(figure) {
            return Err(format!("{text}: unknown figure; known are {}", Change::known().join(", ")));
        }
        let limit = limit.trim();
        let (number, share) =
            limit.strip_suffix('%').map_or((limit, false), |number| (number.trim_end(), true));
        let number: f64 =
            number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0).ok_or_else(wrong)?;
        let limit = if share { Limit::Share(number / 100.0) } else { Limit::Difference(number) };
        Ok(Self { text: text.trim().to_owned(), figure: figure.to_owned(), limit })
    }

    /// How it stands with the figure's change.
    pub(super) fn judge(&self, change: &Change) -> RegressionResult {
        let worse = change.worse_by();
        let (worse_by, over) = match self.limit {
            Limit::Difference(limit) => (worse, worse > limit),
            Limit::Share(limit) if change.base == 0.0 => {
                (if worse > 0.0 { f64::INFINITY } else { limit }, worse > 0.0)
            }
            Limit::Share(limit) => (worse / change.base.abs(), worse / change.base.abs() > limit),
        };
        let noise = change.judgement == Judgement::NoDifference;
        RegressionResult {
            expr: self.text.clone(),
            worse_by,
            exceeded: over && !noise,
            uncertain: over && noise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        for text in ["response_time_ms.p99 5%", " achieved_rps 0.5 %", "lost 0", "service_time_ms.max 20"] {
            assert!(MaxRegression::parse(text).is_ok(), "{text}");
        }
        for (text, problem) in [
            ("lost", "expected a figure and a limit"),
            ("p99 5%", "unknown figure; known are"),
            ("lost -1", "expected a figure and a limit"),
            ("lost 5x", "expected a figure and a limit"),
            ("lost inf", "expected a figure and a limit"),
        ] {
            let error = MaxRegression::parse(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_limit_is_exceeded_by_more_than_noise() {
        let limit = MaxRegression::parse("response_time_ms.p99 5%").unwrap();
        let change = |new: f64, judgement| Change {
            figure: "response_time_ms.p99".into(),
            base: 100.0,
            new,
            interval: None,
            judgement,
        };
        let judged = |new, judgement| limit.judge(&change(new, judgement)).exceeded;
        assert!(judged(106.0, Judgement::Worse) && !judged(104.0, Judgement::Worse));
        assert!(!judged(106.0, Judgement::NoDifference) && judged(106.0, Judgement::Unknown));
        assert!(limit.judge(&change(106.0, Judgement::NoDifference)).uncertain);
        // Of a rate less is worse.
        let rate = Change {
            figure: "achieved_rps".into(),
            base: 100.0,
            new: 90.0,
            interval: None,
            judgement: Judgement::Worse,
        };
        assert!(MaxRegression::parse("achieved_rps 5%").unwrap().judge(&rate).exceeded);
        // Of nothing any more is too much.
        let lost = Change {
            figure: "lost".into(),
            base: 0.0,
            new: 3.0,
            interval: None,
            judgement: Judgement::Unknown,
        };
        assert!(MaxRegression::parse("lost 5%").unwrap().judge(&lost).exceeded);
        assert!(!MaxRegression::parse("lost 3").unwrap().judge(&lost).exceeded);
    }
}
