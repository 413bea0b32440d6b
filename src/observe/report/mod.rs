//! The report: one HTML page that needs nothing else, made from a summary.
//!
//! Everything is drawn here as SVG; the page has no script, and a policy that lets it load nothing.

mod chart;
mod curve;
mod heat;
mod seconds;
mod tables;
mod text;

use super::{StoppedBy, Summary, WindowSummary};
use chart::{LineChart, Scale, Series, time_ticks};
use std::fmt::Write as _;
use text::{count, escaped, millis, number, percent, span};

/// The page of a summary. With its [`super::Times`] the percentile curve is exact.
#[must_use]
pub fn page(summary: &Summary) -> String {
    let mut html = head(summary);
    html.push_str(&verdict(summary));
    html.push_str(&tiles(summary));
    html.push_str(&tables::thresholds(summary));
    for section in [
        rate(summary),
        response(summary),
        percentiles(summary),
        trouble(summary),
        shards(summary),
        tables::ledger(summary),
        tables::loads(summary),
        tables::proof(summary),
        tables::drills(summary),
        tables::cost(summary),
        tables::merged(summary),
        tables::configuration(summary),
        tables::environment(summary),
    ] {
        html.push_str(&section);
    }
    let _ = write!(
        html,
        "<footer>Made by tickgen {} from the summary of run {}. Times are of records from their intended \
         start, so that a slow stream cannot hide them.</footer>\n</main>\n</body>\n</html>\n",
        escaped(&summary.tickgen_version),
        escaped(&summary.run_id)
    );
    html
}

fn head(summary: &Summary) -> String {
    let title = format!("tickgen: {} · {}", verdict_words(summary), summary.stream);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        escaped(&title),
        include_str!("style.css")
    )
}

fn verdict_words(summary: &Summary) -> String {
    let missed = summary.thresholds.iter().filter(|threshold| !threshold.passed).count();
    if summary.failed() {
        "Run failed".to_owned()
    } else if !summary.proved() {
        "Delivery not proved".to_owned()
    } else if missed > 0 {
        format!("{missed} of {} thresholds missed", summary.thresholds.len())
    } else {
        "Passed".to_owned()
    }
}

fn verdict(summary: &Summary) -> String {
    let good = !summary.failed() && summary.proved() && summary.passed();
    let (class, sign) = if good { ("good", "✓") } else { ("bad", "✗") };
    let figures = &summary.figures;
    let stopped = match summary.stopped_by {
        StoppedBy::Schedule => "",
        StoppedBy::Signal => ", stopped by a signal",
        StoppedBy::Threshold => ", ended by a missed threshold",
        StoppedBy::Gone => ", ended as the application was gone",
        StoppedBy::Told => ", drained by an order",
        StoppedBy::Cost => ", drained for its cost",
        StoppedBy::Error => ", ended by an error",
    };
    let mut html = format!(
        "<header>\n<p class=\"brand\">tickgen load test</p>\n<h1><span class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> {}</span></h1>\n\
         <p class=\"soft\">Stream <strong>{}</strong> · {} · {}{stopped} · run {}, seed {}</p>\n",
        verdict_words(summary),
        escaped(&summary.stream),
        escaped(&moment(&summary.started_at)),
        span(figures.elapsed_s),
        escaped(&summary.run_id),
        summary.seed
    );
    let remarks = summary.remarks();
    if !remarks.is_empty() {
        let mut paragraphs = String::new();
        for remark in &remarks {
            let _ = write!(paragraphs, "<p>{}</p>", escaped(remark));
        }
        let _ = writeln!(html, "<div class=\"notes\" role=\"note\">{paragraphs}</div>");
    }
    html.push_str("</header>\n");
    html
}

/// `2026-11-22 18:54:00 UTC` of RFC 3339 in UTC; anything else as it is.
fn moment(rfc: &str) -> String {
    match (rfc.get(..10), rfc.get(11..19)) {
        (Some(day), Some(time)) if rfc.ends_with('Z') => format!("{day} {time} UTC"),
        _ => rfc.to_owned(),
    }
}

fn tiles(summary: &Summary) -> String {
    let figures = &summary.figures;
    let response = figures.response_time_ms.percentiles;
    let target = figures.target_rps.map_or_else(
        || "as fast as answers allowed".to_owned(),
        |target| format!("of {} offered", number(target)),
    );
    let lost = figures.lost + figures.dropped;
    let mut tiles = vec![
        ("Acked per second", number(figures.achieved_rps), target),
        (
            "Response time, p99",
            millis(response.p99),
            format!("p50 {}, max {}", millis(response.p50), millis(response.max)),
        ),
        ("Acked", count(figures.acked), format!("of {} due", count(figures.scheduled))),
        ("Lost or dropped", count(lost), percent(lost as f64 / figures.scheduled.max(1) as f64)),
        (
            "Throttled entries",
            count(figures.throttled_entries),
            format!("{} sent again", count(figures.retried_entries)),
        ),
    ];
    if let Some(cost) = &summary.cost {
        let of = format!("list price, {}", escaped(&cost.region));
        tiles.push(("Would cost", crate::cost::dollars(cost.usd), of));
    }
    let mut html = "<dl class=\"tiles\">\n".to_owned();
    for (name, value, more) in tiles {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>");
    }
    html.push_str("</dl>\n");
    html
}

/// The windows that charts show: a last one that is much shorter would show chance.
fn shown(summary: &Summary) -> Vec<&WindowSummary> {
    let widest = summary.windows.iter().map(|window| window.span_s).fold(0.0, f64::max);
    summary.windows.iter().filter(|window| window.span_s >= widest / 2.0 && window.span_s > 0.0).collect()
}

/// A chart over the time of the run.
fn over_time(
    summary: &Summary,
    id: &'static str,
    title: &str,
    unit: &'static str,
    series: Vec<Series>,
) -> LineChart {
    let ends = shown(summary).last().map_or(0.0, |window| window.at_s + window.span_s);
    let warmup = summary.figures.warmup_s;
    let marks = summary.drills.iter().filter_map(|drill| {
        Some((drill.started_s?, drill.change.clone().unwrap_or_else(|| drill.drill.clone())))
    });
    LineChart {
        id,
        title: title.to_owned(),
        description: String::new(),
        unit,
        x_name: "time since the start".to_owned(),
        x_end: ends,
        x_ticks: time_ticks,
        scale: Scale::linear(values(&series).fold(0.0, f64::max)),
        series,
        band: (warmup > 0.0).then_some((0.0, warmup.min(ends), "warmup")),
        marks: marks.collect(),
        named: false,
    }
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> + Clone {
    series.iter().flat_map(|series| series.points.iter().filter_map(|(_, value)| *value))
}

fn line(
    windows: &[&WindowSummary],
    name: &'static str,
    class: &'static str,
    of: impl Fn(&WindowSummary) -> Option<f64>,
) -> Series {
    let points = windows.iter().map(|window| (window.at_s + window.span_s / 2.0, of(window))).collect();
    Series { name, class, points }
}

fn per_second(count: u64, window: &WindowSummary) -> f64 {
    count as f64 / window.span_s
}

const TOO_SHORT: &str = "<p class=\"soft\">The run was too short for a chart.</p>\n";

fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{body}</section>\n")
}

fn rate(summary: &Summary) -> String {
    let windows = shown(summary);
    let mut series = Vec::new();
    if summary.figures.target_rps.is_some() {
        series.push(line(&windows, "target (fell due)", "ref", |w| Some(per_second(w.scheduled, w))));
    }
    series.push(line(&windows, "achieved (acked)", "c1", |w| Some(per_second(w.acked, w))));
    if windows.len() < 2 {
        return section("Rate", TOO_SHORT);
    }
    let mut chart = over_time(summary, "rate", "Rate over time", "records/s", series);
    let achieved = || windows.iter().map(|window| per_second(window.acked, window));
    chart.description = format!(
        "Between {} and {} records a second were acked; on the whole {} of {}.",
        number(achieved().fold(f64::INFINITY, f64::min)),
        number(achieved().fold(0.0, f64::max)),
        number(summary.figures.achieved_rps),
        summary.figures.target_rps.map_or_else(|| "as many as possible".to_owned(), number)
    );
    section("Rate", &(chart.figure() + &tables::windows(summary)))
}

fn response(summary: &Summary) -> String {
    let windows = shown(summary);
    let measured = |value: f64| (value > 0.0).then_some(value);
    let mut series = vec![
        line(&windows, "p99.9", "c3", |w| measured(w.response_time_ms.p999)),
        line(&windows, "p99", "c2", |w| measured(w.response_time_ms.p99)),
        line(&windows, "p90", "c4", |w| measured(w.response_time_ms.p90)),
        line(&windows, "p50", "c1", |w| measured(w.response_time_ms.p50)),
    ];
    if windows.len() < 2 || values(&series).next().is_none() {
        return section("Response time", TOO_SHORT);
    }
    // A window of many seconds would hide a short stall.
    if windows.iter().any(|window| window.span_s > 1.5)
        && !summary.seconds.is_empty()
        && summary.seconds.are_seconds()
    {
        let mut seconds = summary.seconds.iter().peekable();
        let highest = windows.iter().map(|w| (w.at_s + w.span_s / 2.0, seconds::highest(&mut seconds, w)));
        series.push(Series {
            name: "p99 of the slowest second",
            class: "c2 dash",
            points: highest.collect(),
        });
    }
    let scale = Scale::of(&values(&series));
    let mut chart = over_time(summary, "response", "Response time percentiles over time", "ms", series);
    chart.scale = scale;
    chart.named = true;
    let p99 = || windows.iter().filter_map(|window| measured(window.response_time_ms.p99));
    chart.description = format!(
        "The 99th percentile of a window lay between {} and {}.",
        millis(p99().fold(f64::INFINITY, f64::min)),
        millis(p99().fold(0.0, f64::max))
    );
    section("Response time", &(chart.figure() + &seconds::part(summary) + &tables::times(summary)))
}

fn percentiles(summary: &Summary) -> String {
    let Some(chart) = curve::chart(summary, summary.times.as_ref()) else { return String::new() };
    let note = if summary.times.is_some() {
        ""
    } else {
        "<p class=\"soft\">Drawn through the five percentiles of the summary; with the run's histogram log it is exact.</p>\n"
    };
    section("Percentile curve", &(note.to_owned() + &chart.figure()))
}

fn trouble(summary: &Summary) -> String {
    let windows = shown(summary);
    let all = [
        line(&windows, "entries throttled", "c2", |w| Some(per_second(w.throttled_entries, w))),
        line(&windows, "entries sent again", "c1 dash", |w| Some(per_second(w.retried_entries, w))),
        line(&windows, "records lost", "c3", |w| Some(per_second(w.lost, w))),
        line(&windows, "records dropped", "c4", |w| Some(per_second(w.dropped, w))),
    ];
    let occurs = |series: &Series| series.points.iter().any(|(_, value)| value.is_some_and(|v| v > 0.0));
    let series: Vec<Series> = all.into_iter().filter(occurs).collect();
    let title = "Throttles, retries and losses";
    if series.is_empty() || windows.len() < 2 {
        return section(
            title,
            "<p>None: no entry was throttled or sent again, no record lost or dropped.</p>\n",
        );
    }
    let mut chart =
        over_time(summary, "trouble", "Throttles, retries and losses over time", "per second", series);
    let figures = &summary.figures;
    chart.description = format!(
        "{} entries were throttled, {} sent again; {} records were lost, {} dropped.",
        count(figures.throttled_entries),
        count(figures.retried_entries),
        count(figures.lost),
        count(figures.dropped)
    );
    section(title, &chart.figure())
}

fn shards(summary: &Summary) -> String {
    let mut body = String::new();
    if let Some(heat) = summary.shard_heat.as_ref().filter(|heat| !heat.shards.is_empty()) {
        if heat.left_out > 0 {
            let _ = writeln!(
                body,
                "<p class=\"soft\">The first {} shards; {} more are left out.</p>",
                heat.shards.len(),
                count(heat.left_out)
            );
        }
        body.push_str(&heat::figure(heat));
    }
    body.push_str(&tables::shards(summary));
    section("Shards", &body)
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::judge;
    use super::*;
    use crate::observe::ShardSummary;
    use crate::producer::Snapshot;
    use std::sync::Arc;

    fn summary() -> Summary {
        judge(&["lost == 0"], &[""]).summary(&[Arc::new(Snapshot::empty())], StoppedBy::Schedule, None, None)
    }

    #[test]
    fn a_run_without_a_record_has_a_page() {
        let html = page(&summary());
        assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
        assert!(html.contains("too short") && !html.contains("NaN") && !html.contains("inf"), "{html}");
    }

    #[test]
    fn names_do_not_break_out_of_the_page() {
        let evil = "</title><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>";
        let mut summary = summary();
        summary.stream = evil.into();
        summary.run_id = evil.into();
        summary.started_at = evil.into();
        summary.error = Some(evil.into());
        summary.tickgen_version = evil.into();
        summary.figures.lost_by_cause.insert(evil.into(), 5);
        summary.thresholds[0].expr = evil.into();
        summary.configuration.insert(evil.into(), evil.into());
        summary.figures.hot_keys.push(crate::observe::HotKey { key: evil.into(), records: 5 });
        summary.figures.shards.push(ShardSummary {
            stream: Some(evil.into()),
            id: evil.into(),
            acked: 5,
            accepted: 5,
            throttled: 0,
            limit_rps: None,
            expected: None,
        });
        summary.shard_heat = Some(super::super::ShardHeat {
            span_s: 1.0,
            shards: vec![super::super::ShardHeatRow {
                stream: Some(evil.into()),
                id: evil.into(),
                accepted: vec![5],
                throttled: vec![1],
            }],
            left_out: 0,
        });
        let html = page(&summary);
        for broken in ["<script", "<img", "</title><script", "onerror=alert(1)>"] {
            assert!(!html.contains(broken), "{broken}");
        }
        assert!(html.matches("&lt;script&gt;").count() >= 10);
    }
}
