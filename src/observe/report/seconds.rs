//! The response times of single seconds: the slowest as a table, and all as a file that comes with the page.

use super::super::{Second, Seconds, Summary, WindowSummary};
use super::tables::{Cell, table};
use super::text::{count, number, span};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fmt::Write as _;
use std::io::Write as _;

/// How many of the slowest are named.
const SLOWEST: usize = 5;

const HEAD: &str = "at_s,span_s,records,p50_ms,p90_ms,p99_ms,p999_ms,max_ms\n";

/// The slowest seconds by their 99th percentile, and a link to all of them.
pub(super) fn part(summary: &Summary) -> String {
    let seconds = &summary.seconds;
    let mut slowest: Vec<&Second> = seconds.iter().filter(|second| second.records() > 0).collect();
    if slowest.len() <= SLOWEST {
        return String::new();
    }
    slowest.sort_by(|a, b| b.response_time_ms().p99.total_cmp(&a.response_time_ms().p99));
    let row = |second: &&Second| {
        let times = second.response_time_ms();
        let mut row = vec![Cell::Text(span(second.at_s())), Cell::Number(count(second.records()))];
        row.extend([times.p50, times.p99, times.p999, times.max].map(|ms| Cell::Number(number(ms))));
        row
    };
    let rows: Vec<Vec<Cell>> = slowest.iter().take(SLOWEST).map(row).collect();
    let heads = ["From", "#Acked", "#p50 ms", "#p99 ms", "#p99.9 ms", "#max ms"];
    let title = if seconds.are_seconds() { "The slowest seconds" } else { "The slowest intervals" };
    table(title, &heads, &rows) + &link(seconds)
}

/// The highest 99th percentile of the seconds whose middle is in a window; `None` without one. `seconds` are by
/// rising time, those before the window are taken from them.
pub(super) fn highest<'a>(
    seconds: &mut std::iter::Peekable<impl Iterator<Item = &'a Second>>,
    window: &WindowSummary,
) -> Option<f64> {
    let middle = |second: &&Second| second.at_s() + second.span_s() / 2.0;
    let mut highest = None;
    while let Some(second) = seconds.next_if(|second| middle(second) < window.at_s + window.span_s) {
        if middle(&second) >= window.at_s && second.records() > 0 {
            highest = Some(second.response_time_ms().p99.max(highest.unwrap_or(0.0)));
        }
    }
    highest
}

/// A link to all seconds, in the page itself.
fn link(seconds: &Seconds) -> String {
    let file = base64_simd::STANDARD.encode_to_string(packed(&csv(seconds)));
    let forgotten = match seconds.forgotten() {
        0 => String::new(),
        n => format!("; the {} before them are not kept", count(n)),
    };
    format!(
        "<p class=\"soft\"><a download=\"seconds.csv.gz\" href=\"data:application/gzip;base64,{file}\">Percentiles of \
         every {}</a>, {} of them as CSV{forgotten}</p>\n",
        if seconds.are_seconds() { "second" } else { "interval" },
        count(seconds.len() as u64)
    )
}

/// A line for each second.
fn csv(seconds: &Seconds) -> String {
    let mut csv = HEAD.to_owned();
    for second in seconds.iter() {
        let _ = write!(csv, "{},{},{}", second.at_s(), second.span_s(), second.records());
        let times = second.response_time_ms();
        for ms in [times.p50, times.p90, times.p99, times.p999, times.max] {
            let _ = write!(csv, ",{ms}");
        }
        csv.push('\n');
    }
    csv
}

fn packed(text: &str) -> Vec<u8> {
    let mut packing = GzEncoder::new(Vec::new(), Compression::default());
    // A vector takes whatever is written.
    let _ = packing.write_all(text.as_bytes());
    packing.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{MILLISECOND, SECOND};
    use crate::observe::judge::tests::judge;
    use crate::observe::report::page;
    use crate::observe::{SecondCutter, StoppedBy};
    use crate::producer::Snapshot;
    use std::io::Read as _;
    use std::sync::Arc;

    /// An hour at 10/s with answers in 20 ms, but for one second of 3 s, in windows of 16 s.
    fn hour() -> Summary {
        let (mut seen, mut cutter) = (Snapshot::empty(), SecondCutter::default());
        for second in 0..3600 {
            let millis = if second == 1234 { 3000 } else { 20 };
            seen.account.response_time.record(millis * MILLISECOND, 10);
            seen.elapsed = (second + 1) * SECOND;
            cutter.cut(&[Arc::new(seen.clone())]);
        }
        let mut summary = judge(&[], &[""]).summary(&[Arc::new(seen)], StoppedBy::Schedule, None, None);
        let window = |at: u32| WindowSummary {
            at_s: f64::from(at * 16),
            span_s: 16.0,
            acked: 160,
            response_time_ms: crate::observe::Percentiles {
                p99: 20.0,
                ..crate::observe::Percentiles::default()
            },
            ..WindowSummary::default()
        };
        summary.windows = (0..225).map(window).collect();
        summary.seconds = cutter.take();
        summary
    }

    #[test]
    fn a_stall_of_a_second_is_seen_in_windows_of_many() {
        let summary = hour();
        let mut seconds = summary.seconds.iter().peekable();
        let highest: Vec<f64> =
            summary.windows.iter().map(|window| highest(&mut seconds, window).unwrap().round()).collect();
        let stalled: Vec<usize> = (0..225).filter(|place| highest[*place] > 20.0).collect();
        assert_eq!((highest.len(), stalled, highest[77], highest[0]), (225, vec![77], 3000.0, 20.0));
        let html = page(&summary);
        assert!(html.contains("p99 of the slowest second"));
        let table = &html[html.find("The slowest seconds").unwrap()..];
        let first = &table[..table.find("</tr>\n<tr>").unwrap()];
        assert!(first.contains("20 min 34 s"), "{first}");
    }

    #[test]
    fn the_page_brings_every_second() {
        let html = page(&hour());
        let from =
            html.find("data:application/gzip;base64,").unwrap() + "data:application/gzip;base64,".len();
        let file = &html[from..from + html[from..].find('"').unwrap()];
        let mut csv = String::new();
        let packed = base64_simd::STANDARD.decode_to_vec(file).unwrap();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut csv).unwrap();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!((lines.len(), lines[0]), (3601, HEAD.trim_end()));
        assert_eq!(lines[1], "0,1,10,20.015,20.015,20.015,20.015,20.015");
        assert_eq!(lines[1235], "1234,1,10,3000.319,3000.319,3000.319,3000.319,3000.319");
        assert!(html.len() < 200_000, "{} bytes", html.len());
    }
}
