use super::ahead::{Ahead, small_price};
use super::event_time::write_decimal;
use super::market::Trades;
use super::walk::{self, MAX_CENTS, MAX_VOLUME};
use super::{Draws, EventTime, Market};
use crate::load::Nanos;
use std::fmt::Write as _;
use std::sync::Arc;

/// The article's record, as Python's `json.dumps` writes it:
/// `{"EVENT_TIME": "2026-11-22T18:54:00.123456", "TICKER": "AMZN", "PRICE": 4.2}`; with
/// [`Market::Walk`], `"VOLUME": 300` follows the price.
#[derive(Clone, Debug)]
pub struct Ticks {
    time: EventTime,
    tickers: Arc<[Ticker]>,
    market: Market,
    trades: Trades,
    ahead: Ahead,
    volumes: Draws,
    padded_to: Option<usize>,
    // Whether records have no more than time, ticker and price, and all names are short.
    is_short: bool,
}

#[derive(Clone, Debug)]
struct Ticker {
    symbol: String,
    json: Vec<u8>,
    // What stands between the time and the price, if it is no longer than this.
    middle: Option<([u8; MIDDLE], usize)>,
}

/// The longest middle that is copied whole, whatever its length: a copy of a length that the compiler knows
/// is a few instructions, any other a call.
const MIDDLE: usize = 48;

/// The bytes that a price is copied as.
const PRICE_LEN: usize = size_of::<u128>();

/// Room for a record that is put together in pieces.
pub const TICK_ROOM: usize = 128;
const _: () = assert!(TIME.len() + EventTime::MAX_LEN + MIDDLE + PRICE_LEN + END.len() <= TICK_ROOM);

/// Why a payload cannot be made as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PayloadError {
    /// No ticker to choose from.
    #[error("at least one ticker is needed")]
    NoTickers,
    /// The record is already as long as the size asked for.
    #[error("a record with its padding field takes at least {least} bytes")]
    TooSmall {
        /// The smallest size that can be padded to, in bytes.
        least: usize,
    },
}

const TIME: &[u8] = b"{\"EVENT_TIME\": \"";
const TICKER: &[u8] = b"\", \"TICKER\": ";
const PRICE: &[u8] = b", \"PRICE\": ";
const VOLUME: &[u8] = b", \"VOLUME\": ";
const PADDING: &[u8] = b", \"PADDING\": \"";
const PADDING_END: &[u8] = b"\"";
const END: &[u8] = b"}";
const FRAME: usize = TIME.len() + TICKER.len() + PRICE.len() + END.len();

/// The most bytes of `PRICE`, and of `VOLUME` with its name.
fn longest_trade(market: Market) -> usize {
    match market {
        Market::Random => "99.99".len(),
        Market::Walk => price_len(MAX_CENTS) + VOLUME.len() + digits(MAX_VOLUME),
    }
}

impl Ticks {
    /// Records of the run seeded with `seed`: trades in these `tickers`, most popular first where
    /// `market` has such, padded to `padded_to` bytes.
    ///
    /// # Errors
    /// If there is no ticker, or the padded size is too small for some record.
    pub fn new(
        seed: u64,
        market: Market,
        tickers: &[String],
        padded_to: Option<usize>,
        time: EventTime,
    ) -> Result<Self, PayloadError> {
        let tickers: Arc<[Ticker]> = tickers
            .iter()
            .map(|symbol| {
                let json = json_string(symbol);
                let mut middle = [TICKER, &json, PRICE].concat();
                let len = middle.len();
                middle.resize(len.max(MIDDLE), 0);
                let middle = middle.try_into().ok().map(|middle| (middle, len));
                Ticker { symbol: symbol.clone(), middle, json }
            })
            .collect();
        let longest = tickers.iter().map(|t| t.json.len()).max();
        let longest = longest.ok_or(PayloadError::NoTickers)?;
        let natural = FRAME + EventTime::MAX_LEN + longest + longest_trade(market);
        let least = natural + PADDING.len() + PADDING_END.len();
        if padded_to.is_some_and(|bytes| bytes < least) {
            return Err(PayloadError::TooSmall { least });
        }
        let is_short = market == Market::Random
            && padded_to.is_none()
            && tickers.iter().all(|ticker| ticker.middle.is_some());
        Ok(Self {
            is_short,
            time,
            trades: Trades::new(market, seed, tickers.len()),
            ahead: Ahead::new(),
            tickers,
            market,
            volumes: Draws::new(seed, 10),
            padded_to,
        })
    }

    pub(super) fn starts_at(&mut self, start_unix: Nanos) {
        self.time.starts_at(start_unix);
    }

    /// The symbols, in the order of [`Ticks::ticker`].
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.tickers.iter().map(|t| t.symbol.as_str())
    }

    /// Which ticker record `n` is of.
    #[must_use]
    pub fn ticker(&self, n: u64) -> usize {
        self.trades.ticker(n)
    }

    /// The share of each ticker in the records.
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> {
        self.trades.shares()
    }

    /// The longest payload that this run can make, in bytes.
    #[must_use]
    pub fn max_len(&self) -> usize {
        let longest = self.tickers.iter().map(|t| t.json.len()).max().unwrap_or(0);
        self.padded_to.unwrap_or(FRAME + EventTime::MAX_LEN + longest + longest_trade(self.market))
    }

    /// The length of record `n`'s payload in bytes, without making it.
    #[must_use]
    pub fn len(&mut self, n: u64, intended: Nanos) -> usize {
        if let Some(bytes) = self.padded_to {
            return bytes;
        }
        let (ticker, _, price_len) = self.told(n, intended);
        self.natural_len(ticker, price_len, self.volume(n, intended), intended)
    }

    fn natural_len(&self, ticker: usize, price_len: usize, volume: Option<u32>, intended: Nanos) -> usize {
        let volume = volume.map_or(0, |volume| VOLUME.len() + digits(volume));
        FRAME + self.time.len(intended) + self.tickers[ticker].json.len() + price_len + volume
    }

    /// Works out what up to [`LANES`](crate::kinesis::md5::LANES) records tell. They are to be asked for next, in
    /// this order; others may be, at their own price.
    pub fn ahead(&mut self, numbers: impl Iterator<Item = u64>) {
        // Of records of one length it is asked only to write them, which is hardly any of the time then.
        if self.padded_to.is_some() {
            return;
        }
        self.trades.ahead(numbers, &mut self.ahead);
    }

    /// The ticker of record `n`, and its price as [`price_text`].
    #[inline]
    fn told(&mut self, n: u64, intended: Nanos) -> (usize, u128, usize) {
        if let Some((ticker, price, len)) = self.ahead.take(n) {
            return (ticker, price.into(), len);
        }
        let trade = self.trades.trade(n, intended);
        let (price, len) = price_text(trade.cents);
        (trade.ticker, price, len)
    }

    /// The volume of record `n`, if the record tells it.
    fn volume(&self, n: u64, intended: Nanos) -> Option<u32> {
        (self.market == Market::Walk).then(|| walk::volume(self.volumes, n, intended))
    }

    /// Puts record `n`'s payload into room for it and tells its length, if it has no more than time, ticker and price,
    /// and the ticker's name is short.
    ///
    /// Pieces of lengths that the compiler knows, each over the end of the one before: half of the time of appending
    /// one after another.
    #[inline]
    pub fn write_short(&mut self, n: u64, intended: Nanos, room: &mut [u8; TICK_ROOM]) -> Option<usize> {
        if !self.is_short {
            return None;
        }
        let (ticker, price, price_len) = self.told(n, intended);
        let (middle, middle_len) = self.tickers[ticker].middle.as_ref()?;
        let (time, time_len) = self.time.text(intended);
        room[..TIME.len()].copy_from_slice(TIME);
        room[TIME.len()..][..EventTime::PADDED].copy_from_slice(time);
        let at = TIME.len() + time_len.min(EventTime::MAX_LEN);
        room[at..][..MIDDLE].copy_from_slice(middle);
        let at = at + (*middle_len).min(MIDDLE);
        room[at..][..PRICE_LEN].copy_from_slice(&price.to_le_bytes());
        let at = at + price_len.min(PRICE_LEN);
        room[at] = END[0];
        Some(at + END.len())
    }

    /// Appends record `n`'s payload.
    pub fn write(&mut self, n: u64, intended: Nanos, out: &mut Vec<u8>) {
        let (ticker, price, price_len) = self.told(n, intended);
        let volume = self.volume(n, intended);
        out.extend_from_slice(TIME);
        self.time.write(intended, out);
        out.extend_from_slice(TICKER);
        out.extend_from_slice(&self.tickers[ticker].json);
        out.extend_from_slice(PRICE);
        out.extend_from_slice(&price.to_le_bytes()[..price_len]);
        if let Some(volume) = volume {
            let mut text = [0; 10];
            let text = &mut text[..digits(volume)];
            write_decimal(text, u64::from(volume));
            out.extend_from_slice(VOLUME);
            out.extend_from_slice(text);
        }
        if let Some(bytes) = self.padded_to {
            let frame = PADDING.len() + PADDING_END.len();
            let filler = bytes - frame - self.natural_len(ticker, price_len, volume, intended);
            out.extend_from_slice(PADDING);
            out.resize(out.len() + filler, b'x');
            out.extend_from_slice(PADDING_END);
        }
        out.extend_from_slice(END);
    }

    /// What record `n` tells, for a template.
    pub(super) fn facts(&mut self, n: u64, intended: Nanos) -> TickFacts<'_> {
        let trade = self.trades.trade(n, intended);
        let mut event_time = Vec::with_capacity(EventTime::MAX_LEN);
        self.time.write(intended, &mut event_time);
        TickFacts {
            unix: self.time.unix(intended),
            event_time,
            ticker: &self.tickers[trade.ticker].symbol,
            cents: trade.cents,
            volume: walk::volume(self.volumes, n, intended),
        }
    }
}

/// What one record tells.
pub(super) struct TickFacts<'a> {
    /// The intended start in nanoseconds since 1970-01-01 UTC.
    pub(super) unix: Nanos,
    /// The same as `EVENT_TIME` has it.
    pub(super) event_time: Vec<u8>,
    pub(super) ticker: &'a str,
    pub(super) cents: u32,
    pub(super) volume: u32,
}

/// The length of `value` in decimal.
fn digits(value: u32) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}

/// A price as Python prints the float, and its length; see [`small_price`].
fn price_text(cents: u32) -> (u128, usize) {
    if cents <= 10_000 {
        let (text, len) = small_price(cents.into());
        return (text.into(), usize::try_from(len).unwrap_or(0));
    }
    let (mut whole, fraction) = (cents / 100, cents % 100);
    let mut text = u128::from(
        u32::from_le_bytes([b'.', b'0', b'0', 0]) + ((fraction / 10) << 8 | (fraction % 10) << 16),
    );
    while whole > 0 {
        text = text << 8 | u128::from(u32::from(b'0') + whole % 10);
        whole /= 10;
    }
    (text, price_len(cents))
}

/// The length of a price above 100: the digits before the point, the point, and one or two after it.
fn price_len(cents: u32) -> usize {
    digits(cents / 100) + if cents.is_multiple_of(10) { 2 } else { 3 }
}

/// A JSON string as Python's `json.dumps` writes it: non-ASCII characters as `\uXXXX`.
pub(super) fn json_string(text: &str) -> Vec<u8> {
    let quoted = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        // json.dumps escapes all but space to tilde; serde_json has done the control characters.
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;
    use crate::tick::TimeZone;
    use proptest::prelude::*;

    const ARTICLE: [&str; 5] = ["AAPL", "AMZN", "MSFT", "INTC", "TBV"];

    fn ticks(seed: u64, tickers: &[&str], padded_to: Option<usize>) -> Ticks {
        in_market(Market::Random, seed, tickers, padded_to)
    }

    fn in_market(market: Market, seed: u64, tickers: &[&str], padded_to: Option<usize>) -> Ticks {
        let tickers: Vec<String> = tickers.iter().map(ToString::to_string).collect();
        let time = EventTime::new(1_795_373_640 * SECOND, TimeZone::Utc);
        Ticks::new(seed, market, &tickers, padded_to, time).unwrap()
    }

    fn payload(ticks: &mut Ticks, n: u64, intended: Nanos) -> String {
        let mut out = Vec::new();
        ticks.write(n, intended, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prices_print_as_python_prints_them() {
        let text = |cents| {
            let (text, len) = price_text(cents);
            String::from_utf8(text.to_le_bytes()[..len].to_vec()).unwrap()
        };
        assert_eq!(text(420), "4.2");
        assert_eq!(text(425), "4.25");
        assert_eq!(text(405), "4.05");
        assert_eq!(text(5), "0.05");
        assert_eq!(text(0), "0.0");
        assert_eq!(text(1200), "12.0");
        assert_eq!(text(10_000), "100.0");
        // Every price against the float's own shortest form, which is Python's.
        for cents in (0..=10_000).chain([10_001, 12_345, 99_999, 123_450, 1_000_000, 12_345_678, MAX_CENTS]) {
            assert_eq!(text(cents).len(), price_len(cents));
            assert_eq!(text(cents), format!("{:?}", f64::from(cents) / 100.0));
        }
    }

    #[test]
    fn the_default_record_is_the_articles() {
        let text = payload(&mut ticks(1, &["AMZN"], None), 0, 123_456_000);
        let price = text
            .strip_prefix(r#"{"EVENT_TIME": "2026-11-22T18:54:00.123456", "TICKER": "AMZN", "PRICE": "#)
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap();
        assert!((0.0..=100.0).contains(&price.parse::<f64>().unwrap()));
    }

    #[test]
    fn the_walks_record_adds_the_volume() {
        let mut ticks = in_market(Market::Walk, 1, &["AMZN"], None);
        let text = payload(&mut ticks, 0, 123_456_000);
        let rest = text
            .strip_prefix(r#"{"EVENT_TIME": "2026-11-22T18:54:00.123456", "TICKER": "AMZN", "PRICE": "#)
            .and_then(|rest| rest.strip_suffix('}'));
        let (price, volume) = rest.unwrap().split_once(r#", "VOLUME": "#).unwrap();
        assert!((5.0..=500.0).contains(&price.parse::<f64>().unwrap()), "{price}");
        assert_eq!(volume.parse::<u32>().unwrap() % 100, 0);
    }

    /// The records of a seed are a promise over versions.
    #[test]
    fn records_are_fixed_for_ever() {
        let mut random = in_market(Market::Random, 42, &ARTICLE, None);
        assert_eq!(
            payload(&mut random, 7, 1_000),
            r#"{"EVENT_TIME": "2026-11-22T18:54:00.000001", "TICKER": "TBV", "PRICE": 15.42}"#
        );
        let mut walk = in_market(Market::Walk, 42, &ARTICLE, None);
        assert_eq!(
            payload(&mut walk, 7, 60 * SECOND),
            r#"{"EVENT_TIME": "2026-11-22T18:55:00", "TICKER": "TBV", "PRICE": 9.98, "VOLUME": 200}"#
        );
    }

    #[test]
    fn tickers_are_escaped_as_json_dumps_does() {
        assert_eq!(json_string("a\"b\\c\n"), br#""a\"b\\c\n""#);
        assert_eq!(json_string("日😀"), br#""\u65e5\ud83d\ude00""#);
        assert_eq!(json_string("\u{7f}\u{1}"), br#""\u007f\u0001""#);
    }

    #[test]
    fn a_size_too_small_to_pad_to_is_refused() {
        let time = EventTime::new(0, TimeZone::Utc);
        let error = Ticks::new(1, Market::Random, &["AAPL".into()], Some(40), time.clone()).unwrap_err();
        let PayloadError::TooSmall { least } = error else { panic!("{error}") };
        assert!(Ticks::new(1, Market::Random, &["AAPL".into()], Some(least), time.clone()).is_ok());
        assert!(Ticks::new(1, Market::Random, &["AAPL".into()], Some(least - 1), time).is_err());
    }

    proptest! {
        #[test]
        fn len_is_the_length_written(seed: u64, walk: bool, n: u64, intended in 0_u64..1 << 60, padded in prop::option::of(150_usize..4000)) {
            let market = if walk { Market::Walk } else { Market::Random };
            let mut ticks = in_market(market, seed, &ARTICLE, padded);
            let len = ticks.len(n, intended);
            let text = payload(&mut ticks, n, intended);
            prop_assert_eq!(text.len(), len);
            prop_assert!(text.len() <= ticks.max_len());
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert!(ARTICLE.contains(&value["TICKER"].as_str().unwrap()));
            prop_assert!(value["PRICE"].is_f64());
            prop_assert_eq!(value["VOLUME"].is_u64(), walk);
        }

        #[test]
        fn a_record_is_a_function_of_seed_and_number(seed: u64, walk: bool, ns in prop::collection::vec(0_u64..1000, 1..50)) {
            let market = if walk { Market::Walk } else { Market::Random };
            let mut one = in_market(market, seed, &ARTICLE, None);
            let all: Vec<String> = (0..1000).map(|n| payload(&mut one, n, n * 1000)).collect();
            let mut other = in_market(market, seed, &ARTICLE, None);
            for n in ns {
                prop_assert_eq!(&payload(&mut other, n, n * 1000), &all[usize::try_from(n).unwrap()]);
            }
        }
    }
}
