//! Reads a file to replay, ahead of time in a thread of its own.

use crate::load::Nanos;
use crate::plan::{LoadPlan, ReplayPlan};
use crate::tick::{Fed, Feed, MAX_REPLAYED_BYTES, Replayed};
use chrono::{DateTime, NaiveDateTime};
use serde_json::Value;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Records handed over at a time, and bytes after which a lot is handed over early.
const LOT_RECORDS: usize = 512;
const LOT_BYTES: usize = 256 * 1024;

/// The longest line or row: a payload of the largest size, escaped, with its fields around it.
const LONGEST_LINE: u64 = 8 << 20;

/// Lots that wait to be taken.
const LOTS: usize = 8;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Replay {
    lots: Receiver<Vec<Fed>>,
    lot: VecDeque<Fed>,
}

impl Replay {
    /// Begins to read the file of a load, and waits for its first records.
    ///
    /// # Errors
    /// If it cannot be opened, or its first record is none.
    pub(super) fn open(load: &LoadPlan, plan: &ReplayPlan) -> Result<Self, String> {
        let file = File::open(&plan.file).map_err(|error| format!("{}: {error}", plan.file.display()))?;
        let (sender, lots) = sync_channel(LOTS);
        let reader = Reader {
            plan: plan.clone(),
            until: load.duration.unwrap_or(Nanos::MAX),
            left: load.records.unwrap_or(u64::MAX),
            first: None,
            last: 0,
            count: 0,
            backwards: 0,
            lot: Lot { sender, fed: Vec::new(), bytes: 0 },
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "files are read without Tokio; it ends with its receiver"
        )]
        std::thread::spawn(move || reader.run(file));
        let replay = Self { lot: lots.recv().unwrap_or_default().into(), lots };
        match replay.lot.front() {
            Some(Fed::Failed(problem)) => Err(problem.clone()),
            Some(Fed::End(_)) | None => Err(format!("{}: holds no record", plan.file.display())),
            Some(_) => Ok(replay),
        }
    }
}

/// All that a file of this name and content gives.
#[cfg(any(test, fuzzing))]
pub(crate) fn read(name: &str, content: &[u8]) -> Vec<Fed> {
    let (file, time) = (name.into(), "timestamp".to_owned());
    let key = Some("k".to_owned());
    let plan = ReplayPlan { file, speed: 1.0, time, unit: None, payload: None, key, max_bytes: 0 };
    let (sender, lots) = sync_channel(content.len() + 2);
    let lot = Lot { sender, fed: Vec::new(), bytes: 0 };
    let (until, left) = (Nanos::MAX, u64::MAX);
    Reader { plan, until, left, first: None, last: 0, count: 0, backwards: 0, lot }.run(content);
    lots.into_iter().flatten().collect()
}

impl Feed for Replay {
    fn next(&mut self) -> Fed {
        if self.lot.is_empty() {
            match self.lots.try_recv() {
                Ok(lot) => self.lot = lot.into(),
                Err(TryRecvError::Empty) => return Fed::NotYet,
                Err(TryRecvError::Disconnected) => {
                    return Fed::Failed("the file's reader broke off".to_owned());
                }
            }
        }
        self.lot.pop_front().unwrap_or(Fed::NotYet)
    }
}

/// What is handed over at once.
struct Lot {
    sender: SyncSender<Vec<Fed>>,
    fed: Vec<Fed>,
    bytes: usize,
}

impl Lot {
    /// Tells whether there is still a use for more.
    fn push(&mut self, fed: Fed) -> bool {
        self.bytes += if let Fed::Record(record) = &fed { record.payload.len() } else { LOT_BYTES };
        self.fed.push(fed);
        if self.fed.len() < LOT_RECORDS && self.bytes < LOT_BYTES {
            return true;
        }
        self.bytes = 0;
        self.sender.send(std::mem::take(&mut self.fed)).is_ok()
    }
}

/// A file that may be read so far, until it is let go on: a row of any length would take any memory.
struct Leashed<R> {
    file: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Leashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.get() == 0 {
            return Err(std::io::Error::other(format!("a row of over {LONGEST_LINE} bytes")));
        }
        let read = self.file.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

struct Reader {
    plan: ReplayPlan,
    until: Nanos,
    left: u64,
    // The file's time of the first record.
    first: Option<i128>,
    last: Nanos,
    count: u64,
    // Records whose times were before those of the records above them.
    backwards: u64,
    lot: Lot,
}

impl Reader {
    fn run(mut self, file: impl Read) {
        let is_csv = self.plan.file.extension().is_some_and(|name| name.eq_ignore_ascii_case("csv"));
        let read = if is_csv { self.read_csv(file) } else { self.read_lines(file) };
        if self.backwards > 0 {
            let (file, records) = (self.plan.file.display(), self.backwards);
            tracing::warn!(%file, records, "times go back; these records start with the ones above them");
        }
        match read {
            Ok(()) => {
                let span = self.span();
                self.lot.push(Fed::End(span));
            }
            Err((line, problem)) => {
                let problem = format!("{}:{line}: {problem}", self.plan.file.display());
                self.lot.push(Fed::Failed(problem));
            }
        }
    }

    /// The load lasts one mean gap longer than to its last record, as if another followed.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below 2^63
    fn span(&self) -> Nanos {
        if self.until != Nanos::MAX && self.left > 0 {
            return self.until;
        }
        let gaps = self.count.saturating_sub(1).max(1) as f64;
        self.last.saturating_add((self.last as f64 / gaps) as Nanos)
    }

    fn read_lines(&mut self, file: impl Read) -> Result<(), (u64, String)> {
        let (mut file, mut line, mut number) = (BufReader::with_capacity(1 << 16, file), Vec::new(), 0);
        loop {
            line.clear();
            number += 1;
            let bounded = &mut file.by_ref().take(LONGEST_LINE + 1);
            let read = bounded.read_until(b'\n', &mut line).map_err(|error| (number, error.to_string()))?;
            if read == 0 {
                return Ok(());
            }
            if read as u64 > LONGEST_LINE {
                return Err((number, format!("a line of over {LONGEST_LINE} bytes")));
            }
            // Some editors begin a file with a byte order mark.
            let text = if number == 1 { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line) } else { &line };
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let record = self.of_line(text).map_err(|problem| (number, problem))?;
            if !self.give(record).map_err(|problem| (number, problem))? {
                return Ok(());
            }
        }
    }

    fn of_line(&self, text: &[u8]) -> Result<Row, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
        let field = |name: &str| value.get(name).ok_or_else(|| format!("no field {name}"));
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let payload = match &self.plan.payload {
            Some(name) => plain(field(name)?).into_bytes(),
            None => text.to_vec(),
        };
        let key = self.plan.key.as_ref().map(|name| field(name).map(plain)).transpose()?;
        Ok(Row { time: plain(field(&self.plan.time)?), payload, key })
    }

    fn read_csv(&mut self, file: impl Read) -> Result<(), (u64, String)> {
        let leash = Rc::new(Cell::new(LONGEST_LINE));
        let file = Leashed { file, left: Rc::clone(&leash) };
        let mut rows = csv::Reader::from_reader(BufReader::with_capacity(1 << 16, file));
        let columns = rows.headers().map_err(|error| (1, error.to_string()))?.clone();
        let place = |name: &str| {
            let place = columns.iter().position(|column| column == name);
            place.ok_or_else(|| {
                (1, format!("no column {name}; there are {}", columns.iter().collect::<Vec<_>>().join(", ")))
            })
        };
        let time = place(&self.plan.time)?;
        let payload = self.plan.payload.as_deref().map(place).transpose()?;
        let key = self.plan.key.as_deref().map(place).transpose()?;
        let mut row = csv::StringRecord::new();
        loop {
            let line = rows.position().line();
            leash.set(LONGEST_LINE);
            if !rows.read_record(&mut row).map_err(|error| (line, error.to_string()))? {
                return Ok(());
            }
            let line = row.position().map_or(line, csv::Position::line);
            let cell = |place: usize| row.get(place).unwrap_or_default();
            let payload = payload.map_or_else(
                || {
                    let cells = columns.iter().zip(&row).map(|(name, cell)| (name.to_owned(), cell.into()));
                    Value::Object(cells.collect()).to_string()
                },
                |place| cell(place).to_owned(),
            );
            let key = key.map(|place| cell(place).to_owned());
            let record = Row { time: cell(time).to_owned(), payload: payload.into_bytes(), key };
            if !self.give(record).map_err(|problem| (line, problem))? {
                return Ok(());
            }
        }
    }

    /// Hands a record over; tells whether there is a use for more.
    fn give(&mut self, row: Row) -> Result<bool, String> {
        if row.key.as_ref().is_some_and(|key| !(1..=256).contains(&key.chars().count())) {
            return Err("a partition key has 1 to 256 characters".to_owned());
        }
        let bytes = row.payload.len() + row.key.as_ref().map_or(256, String::len);
        if bytes > MAX_REPLAYED_BYTES {
            return Err(format!(
                "a record of {bytes} bytes with its key, over the {MAX_REPLAYED_BYTES} that are replayed"
            ));
        }
        let time = nanos(&row.time, &mut self.plan.unit).ok_or_else(|| {
            format!(
                "{} {:?}: expected RFC 3339, or seconds, ms, us or ns since 1970",
                self.plan.time, row.time
            )
        })?;
        let at = self.start(time);
        if at >= self.until || self.left == 0 {
            return Ok(false);
        }
        (self.last, self.count, self.left) = (at, self.count + 1, self.left - 1);
        let record = Replayed { at, payload: row.payload, key: row.key.map(String::into_bytes) };
        Ok(self.lot.push(Fed::Record(record)) && self.left > 0)
    }

    /// When a record of that time starts; one that is out of order, with the one before.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative; what is too long saturates
    fn start(&mut self, time: i128) -> Nanos {
        let first = *self.first.get_or_insert(time);
        let since = (time - first).max(0) as f64 / self.plan.speed;
        let start = since as Nanos;
        self.backwards += u64::from(start < self.last || time < first);
        start.max(self.last)
    }
}

/// A row of the file.
struct Row {
    time: String,
    payload: Vec<u8>,
    key: Option<String>,
}

/// A time in nanoseconds since 1970. Numbers are in a unit of so many nanoseconds; where it is not known yet,
/// of seconds, milliseconds, microseconds and nanoseconds the one that makes a time between 1973 and 5138 of
/// the number, of smaller ones seconds. All of a file are in one.
fn nanos(text: &str, unit: &mut Option<u32>) -> Option<i128> {
    let text = text.trim();
    if let Some(number) = decimal(text) {
        let by_size = match number.0 {
            0..100_000_000_000 => 1_000_000_000,
            100_000_000_000..100_000_000_000_000 => 1_000_000,
            100_000_000_000_000..100_000_000_000_000_000 => 1_000,
            _ => 1,
        };
        let unit = i128::from(*unit.get_or_insert(by_size));
        return Some(i128::from(number.0) * unit + i128::from(number.1) * unit / 1_000_000_000);
    }
    let utc = |time: DateTime<chrono::Utc>| time.timestamp_nanos_opt().map(i128::from);
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return utc(time.to_utc());
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let naive = naive.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    naive.and_then(|time| utc(time.and_utc()))
}

/// A number that is not negative: its whole part, and billionths.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let billionths = format!("{fraction:0<9}");
    Some((whole.parse().ok()?, billionths[..9].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    #[test]
    fn times_are_read_in_every_unit() {
        let expected = Some(1_795_373_640_123_000_000);
        for text in [
            "1795373640.123",
            "1795373640123",
            "1795373640123000",
            "1795373640123000000",
            "2026-11-22T18:54:00.123Z",
            "2026-11-22T19:54:00.123+01:00",
            "2026-11-22T18:54:00.123",
            "2026-11-22 18:54:00.123",
        ] {
            assert_eq!(nanos(text, &mut None), expected, "{text}");
        }
        assert_eq!(nanos("0.5", &mut None), Some(500_000_000));
        for wrong in ["", "-5", "x", "1e9", "2026-13-01T00:00:00Z", "1.", ".5"] {
            assert_eq!(nanos(wrong, &mut None), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_has_one_unit() {
        // Each by itself the first would be seconds, and the second milliseconds.
        let mut unit = None;
        let times = ["99999999999", "100000000001"].map(|text| nanos(text, &mut unit).unwrap());
        assert_eq!((times[1] - times[0], unit), (2_000_000_000, Some(1_000_000_000)));
        let mut unit = Some(1_000_000);
        let times = ["99999999999", "100000000001"].map(|text| nanos(text, &mut unit).unwrap());
        assert_eq!(times[1] - times[0], 2_000_000);
    }

    #[test]
    fn records_keep_their_spacing_at_any_speed() {
        for (speed, expected) in
            [(1.0, [0, 1_000, 1_000, 5_500]), (10.0, [0, 100, 100, 550]), (0.5, [0, 2_000, 2_000, 11_000])]
        {
            let (sender, _lots) = sync_channel(1);
            let file = PathBuf::new();
            let plan = ReplayPlan {
                file,
                speed,
                time: String::new(),
                unit: None,
                payload: None,
                key: None,
                max_bytes: 0,
            };
            let lot = Lot { sender, fed: Vec::new(), bytes: 0 };
            let mut reader =
                Reader { plan, until: 0, left: 0, first: None, last: 0, count: 0, backwards: 0, lot };
            // Milliseconds; the third goes back, and starts with the one before.
            let starts = [7_000, 8_000, 7_500, 12_500].map(|ms: i128| {
                reader.last = reader.start(ms * 1_000_000);
                reader.last / 1_000_000
            });
            assert_eq!((starts, reader.backwards), (expected, 1), "{speed}");
        }
    }

    proptest! {
        #[test]
        fn any_time_is_read_without_panic(text in "[0-9T:.Z+ -]{0,30}|\\PC{0,10}") {
            let _ = nanos(&text, &mut None);
        }
    }
}
