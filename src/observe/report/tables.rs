//! The report's tables.

use super::super::{Figures, Named, Summary, TimeSummary};
use super::text::{bytes, count, escaped, millis, number, percent, span};
use super::{moment, section};
use crate::cost::{CapacityMode, dollars};
use std::fmt::Write as _;

/// A cell: text, already escaped, and whether it is a number.
pub(super) enum Cell {
    Text(String),
    Number(String),
    /// Of a class of its own.
    Marked(&'static str, String),
}

use Cell::{Marked, Number, Text};

/// A table; the first cell of each row names it. `heads` that begin with `#` are over numbers. With more than
/// two columns its rows become cards where the screen is narrow, each cell with the head of its column.
pub(super) fn table(caption: &str, heads: &[&str], rows: &[Vec<Cell>]) -> String {
    // Two far columns are hard to read across.
    let slim = rows.iter().all(|row| row.len() == 2 && matches!(row[1], Number(_)));
    let form = if slim { " slim" } else { "" };
    let cards = heads.len() > 2;
    let mut html =
        format!("<div class=\"scroll{form}\"><table{}>", if cards { " class=\"cards\"" } else { "" });
    if !caption.is_empty() {
        let _ = write!(html, "<caption>{caption}</caption>");
    }
    if !heads.is_empty() {
        html.push_str("<thead><tr>");
        for head in heads {
            let _ = match head.strip_prefix('#') {
                Some(head) => write!(html, "<th scope=\"col\" class=\"n\">{head}</th>"),
                None => write!(html, "<th scope=\"col\">{head}</th>"),
            };
        }
        html.push_str("</tr></thead>");
    }
    html.push_str("<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (place, cell) in row.iter().enumerate() {
            let head = heads.get(place).filter(|_| cards).map_or("", |head| head.trim_start_matches('#'));
            let head = if head.is_empty() { String::new() } else { format!(" data-head=\"{head}\"") };
            let _ = match (place, cell) {
                (0, Text(text) | Number(text) | Marked(_, text)) => {
                    write!(html, "<th scope=\"row\">{text}</th>")
                }
                (_, Text(text)) => write!(html, "<td class=\"t\"{head}>{text}</td>"),
                (_, Number(text)) => write!(html, "<td class=\"n\"{head}>{text}</td>"),
                (_, Marked(class, text)) => write!(html, "<td class=\"{class}\"{head}>{text}</td>"),
            };
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

fn named(name: &str, value: String) -> Vec<Cell> {
    vec![Text(name.to_owned()), Number(value)]
}

pub(super) fn thresholds(summary: &Summary) -> String {
    if summary.thresholds.is_empty() {
        return section("Thresholds", "<p>None were set.</p>\n");
    }
    let rows: Vec<Vec<Cell>> = summary
        .thresholds
        .iter()
        .map(|threshold| {
            let (class, word) =
                if threshold.passed { ("held", "✓ held") } else { ("missed", "✗ missed") };
            vec![Text(code(&threshold.expr)), Number(number(threshold.value)), Marked(class, word.to_owned())]
        })
        .collect();
    section("Thresholds", &table("", &["What had to hold", "#Value", "Verdict"], &rows))
}

/// All windows, behind a line to open them: the charts over time as text.
pub(super) fn windows(summary: &Summary) -> String {
    let rows: Vec<Vec<Cell>> = summary
        .windows
        .iter()
        .map(|window| {
            let response = window.response_time_ms;
            let mut row = vec![Text(span(window.at_s))];
            for n in [window.scheduled, window.acked, window.lost, window.dropped, window.throttled_entries] {
                row.push(Number(count(n)));
            }
            row.extend([response.p50, response.p99, response.p999].map(|ms| Number(number(ms))));
            row
        })
        .collect();
    let heads =
        ["From", "#Due", "#Acked", "#Lost", "#Dropped", "#Throttled", "#p50 ms", "#p99 ms", "#p99.9 ms"];
    format!(
        "<details class=\"long\"><summary>The charts over time as a table</summary>\n{}</details>\n",
        table("", &heads, &rows)
    )
}

/// What a response time is made of.
pub(super) fn times(summary: &Summary) -> String {
    let figures = &summary.figures;
    let row = |name: &str, times: &TimeSummary| {
        let all = times.percentiles;
        let mut row = vec![Text(name.to_owned())];
        row.extend([all.p50, all.p90, all.p99, all.p999, all.max, times.mean].map(|ms| Number(number(ms))));
        row
    };
    let rows = [
        row("Response time", &figures.response_time_ms),
        row("= schedule lag", &figures.schedule_lag_ms),
        row("+ queue time", &figures.queue_time_ms),
        row("+ service time", &figures.service_time_ms),
    ];
    table(
        "Where the time went, in milliseconds",
        &["", "#p50", "#p90", "#p99", "#p99.9", "#max", "#mean"],
        &rows,
    )
}

pub(super) fn shards(summary: &Summary) -> String {
    /// More would hide the rest of the page; the summary has them all.
    const MOST: usize = 40;
    let shards = &summary.figures.shards;
    let acked: u64 = shards.iter().map(|shard| shard.acked).sum();
    let mut hottest: Vec<_> = shards.iter().collect();
    let rest = hottest.len().saturating_sub(MOST);
    if rest > 0 {
        hottest.sort_by_key(|shard| std::cmp::Reverse(shard.acked));
        hottest.truncate(MOST);
    }
    let rows: Vec<Vec<Cell>> = hottest
        .into_iter()
        .map(|shard| {
            let stream = shard.stream.as_ref().map_or_else(String::new, |stream| format!("{stream} "));
            vec![
                Text(escaped(&format!("{stream}{}", shard.id))),
                Number(count(shard.accepted)),
                Number(count(shard.throttled)),
                Number(count(shard.acked)),
                Number(percent(shard.acked as f64 / acked.max(1) as f64)),
                Number(shard.expected.map_or_else(|| "–".to_owned(), number)),
            ]
        })
        .collect();
    let heads = ["Shard", "#Kinesis records", "#Throttled", "#User records", "#Share", "#Expected"];
    let caption =
        if rest > 0 { format!("The {MOST} hottest of {} shards", shards.len()) } else { String::new() };
    let mut html = if rows.is_empty() { String::new() } else { table(&caption, &heads, &rows) };
    let keys: Vec<Vec<Cell>> = summary
        .figures
        .hot_keys
        .iter()
        .map(|hot| vec![Text(code(&hot.key)), Number(count(hot.records))])
        .collect();
    if !keys.is_empty() {
        html.push_str(&table("Hottest partition keys", &["Key", "#Records made"], &keys));
    }
    html
}

fn counts(caption: &str, counts: &Named) -> String {
    if counts.values().all(|n| *n == 0) {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> =
        counts.iter().map(|(name, n)| named(&escaped(&name.replace('_', " ")), count(*n))).collect();
    table(caption, &[], &rows)
}

fn books(figures: &Figures) -> String {
    let rows = [
        named("Fell due", count(figures.scheduled)),
        named("= made", count(figures.generated)),
        named("+ dropped, for want of room", count(figures.dropped)),
        named("Made", count(figures.generated)),
        named("= acked", count(figures.acked)),
        named("+ failed", count(figures.failed)),
        named("+ expired", count(figures.expired)),
    ];
    table("User records", &[], &rows)
}

pub(super) fn ledger(summary: &Summary) -> String {
    let figures = &summary.figures;
    let balance = if figures.balanced {
        "<p>Every record is accounted for: the counts add up.</p>\n"
    } else {
        "<p class=\"missed\">The counts do not add up.</p>\n"
    };
    let wire = [
        named("Kinesis records stored", count(figures.kinesis_records)),
        named("Bytes stored", bytes(figures.bytes)),
        named("Requests answered", count(figures.requests)),
        named("Entries sent again", count(figures.retried_entries)),
        named("Possible duplicates", count(figures.possible_duplicates)),
        named("Misrouted", count(figures.misrouted)),
    ];
    let left = books(figures) + &counts("Lost, by cause", &figures.lost_by_cause);
    let right = table("On the wire", &[], &wire)
        + &counts("Entries, by answer", &figures.entries_by_code)
        + &counts("Requests, by outcome", &figures.requests_by_outcome)
        + &counts("Batches, by why they left", &figures.flushes);
    section("Ledger", &format!("{balance}<div class=\"pair\"><div>{left}</div><div>{right}</div></div>\n"))
}

pub(super) fn loads(summary: &Summary) -> String {
    if summary.loads.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = summary
        .loads
        .iter()
        .map(|(name, load)| {
            let (figures, response) = (&load.figures, load.figures.response_time_ms.percentiles);
            vec![
                Text(escaped(name)),
                Text(escaped(&load.stream)),
                Number(figures.target_rps.map_or_else(|| "max".to_owned(), number)),
                Number(number(figures.achieved_rps)),
                Number(count(figures.lost + figures.dropped)),
                Number(millis(response.p50)),
                Number(millis(response.p99)),
            ]
        })
        .collect();
    let heads = ["Load", "Stream", "#Target/s", "#Acked/s", "#Lost or dropped", "#p50", "#p99"];
    section("Loads", &table("", &heads, &rows))
}

pub(super) fn proof(summary: &Summary) -> String {
    let Some(verify) = &summary.verify else { return String::new() };
    let rows = [
        named("Acked", count(verify.acked)),
        named("Delivered", count(verify.delivered)),
        named("Acked and lost", count(verify.lost)),
        named("Acked and not read", count(verify.unread)),
        named("Copies beyond the first", count(verify.duplicated)),
        named("Out of order within their key", count(verify.out_of_order)),
        named("Corrupted", count(verify.corrupted)),
        named("Of others", count(verify.foreign)),
    ];
    let told = if verify.proves() {
        "<p>The stream was read back: every acked record arrived as it was sent.</p>\n".to_owned()
    } else {
        let error = verify.error.as_deref().map_or_else(String::new, |error| format!(": {}", escaped(error)));
        format!("<p class=\"missed\">The stream was read back, and delivery is not proved{error}.</p>\n")
    };
    section("Delivery", &(told + &table("", &[], &rows)))
}

pub(super) fn drills(summary: &Summary) -> String {
    if summary.drills.is_empty() {
        return String::new();
    }
    let mut items = String::new();
    for drill in &summary.drills {
        let _ = writeln!(items, "<li>{}</li>", escaped(&drill.to_string()));
    }
    section("Drills", &format!("<ul>\n{items}</ul>\n"))
}

pub(super) fn cost(summary: &Summary) -> String {
    let Some(cost) = &summary.cost else { return String::new() };
    let mine = |mode: CapacityMode| if cost.mode == mode { " (this run's)" } else { "" };
    let usage = &cost.usage;
    let mut put = format!(
        "{} shard-hours, {} PUT payload units",
        number(usage.shard_hours),
        count(usage.put_payload_units)
    );
    let mut moved = format!("{} GB in, {} GB out", number(usage.gb_in), number(usage.gb_out));
    if usage.consumer_shard_hours > 0.0 {
        let fan_out = format!(", {} GB out by fan-out", number(usage.fan_out_gb));
        let _ = write!(put, ", {} consumer-shard-hours{fan_out}", number(usage.consumer_shard_hours));
        moved.push_str(&fan_out);
    }
    let mut rows = vec![
        vec![
            Text(format!("Provisioned{}", mine(CapacityMode::Provisioned))),
            Text(put),
            Number(dollars(cost.provisioned_usd)),
        ],
        vec![
            Text(format!("On-demand{}", mine(CapacityMode::OnDemand))),
            Text(format!("{} stream-hours, {moved}", number(usage.stream_hours))),
            Number(dollars(cost.on_demand_usd)),
        ],
    ];
    if cost.on_demand_advantage_usd.is_some() {
        let advantage = Number(dollars(cost.on_demand_advantage_usd));
        rows.push(vec![Text("On-demand Advantage, at most".to_owned()), Text(moved), advantage]);
    }
    let budget = cost
        .max_usd
        .map_or_else(String::new, |max| format!(" It was to cost {} at most.", dollars(Some(max))));
    let told = format!(
        "<p>What the run would cost at list price in {}, prices of {}, without tax and free tier; hours are \
         those of the run alone.{budget}</p>\n",
        escaped(&cost.region),
        escaped(&cost.prices_as_of)
    );
    section("Cost", &(told + &table("", &["Capacity mode", "Charged for", "#US dollars"], &rows)))
}

pub(super) fn merged(summary: &Summary) -> String {
    if summary.merged_from.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = summary
        .merged_from
        .iter()
        .map(|run| {
            vec![
                Text(escaped(&run.run_id)),
                Text(escaped(&moment(&run.started_at))),
                Text(escaped(&run.file)),
                Number(count(run.acked)),
                Number(number(run.achieved_rps)),
            ]
        })
        .collect();
    section("Runs added", &table("", &["Run", "Began", "File", "#Acked", "#Acked/s"], &rows))
}

pub(super) fn configuration(summary: &Summary) -> String {
    let rows: Vec<Vec<Cell>> =
        summary.configuration.iter().map(|(name, value)| vec![Text(code(name)), Text(code(value))]).collect();
    if rows.is_empty() {
        return section("Configuration", "<p>Every setting had its default.</p>\n");
    }
    section(
        "Configuration",
        &(table("", &["Setting", "Value"], &rows)
            + "<p class=\"soft\">All other settings had their defaults.</p>\n"),
    )
}

pub(super) fn environment(summary: &Summary) -> String {
    let Some(environment) = &summary.environment else { return String::new() };
    let kernel = environment.kernel.as_deref().unwrap_or("");
    let mut rows = vec![
        vec![Text("tickgen".to_owned()), Text(escaped(&summary.tickgen_version))],
        vec![
            Text("System".to_owned()),
            Text(escaped(&format!("{} {kernel} {}", environment.os, environment.arch))),
        ],
        vec![Text("Processors".to_owned()), Text(environment.processors.to_string())],
    ];
    if let Some(memory) = environment.memory_bytes {
        rows.push(vec![Text("Memory".to_owned()), Text(bytes(memory))]);
    }
    for stream in &environment.streams {
        let place = stream.endpoint.as_ref().or(stream.region.as_ref());
        let place = place.map_or_else(String::new, |place| format!(", {place}"));
        let shards =
            if stream.shards == 1 { "1 shard".to_owned() } else { format!("{} shards", stream.shards) };
        let told =
            format!("{}: {}, {shards} at the start{place}", stream.stream, stream.mode.replace('_', "-"));
        rows.push(vec![Text("Stream".to_owned()), Text(escaped(&told))]);
    }
    section("Environment", &table("", &[], &rows))
}
