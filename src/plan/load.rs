use super::parse;
use super::reader::Reader;
use crate::config::{ConfigError, Raw, Settings, Source};
use crate::kinesis::protocol::StreamRef;
use crate::load::{Arrivals, Nanos, Schedule, Shape, parse_arrivals, parse_shape};
use crate::producer::{BatchBounds, RetryPolicy, ShardLimiting};
use crate::settings::Key;
use crate::tick::{KeyKind, Market, StampPlace, TemplateText, TimeZone};
use crate::verify::ManifestLoad;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One load of a run: what is offered to which stream, and how.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Its name; empty if it is the run's only load.
    pub name: String,
    /// The stream's name or ARN; `None`: the embedded Kinesis, or no stream at all.
    pub stream: Option<StreamRef>,
    /// When records fall due.
    pub offer: Offer,
    /// When generating ends.
    pub duration: Option<Nanos>,
    /// After how many records generating ends.
    pub records: Option<u64>,
    /// Records meant to start before this are offered but not measured.
    pub warmup: Nanos,
    /// The seed of the records.
    pub seed: u64,
    /// How tickers, prices and volumes come about.
    pub market: Market,
    /// The ticker symbols.
    pub tickers: Vec<String>,
    /// What payloads are made by, if not the ticker record.
    pub template: Option<TemplateText>,
    /// The size to which payloads are padded, in bytes.
    pub payload_bytes: Option<usize>,
    /// How partition keys are chosen.
    pub keys: KeyKind,
    /// Where records say which they are.
    pub stamps: StampPlace,
    /// The settings that payloads and keys are made by, as they were given.
    pub content: BTreeMap<String, String>,
    /// The zone of `EVENT_TIME`.
    pub zone: TimeZone,
    /// The size at which an aggregate is full, if records are aggregated.
    pub aggregate_bytes: Option<usize>,
    /// When a batch leaves.
    pub batch: BatchBounds,
    /// What limits the load on each shard.
    pub shard_limit: ShardLimiting,
    /// When failed records are sent again.
    pub retry: RetryPolicy,
}

/// When records fall due.
#[derive(Clone, Debug)]
pub enum Offer {
    /// As fast as answers allow.
    Max,
    /// By a schedule.
    Open(Shape, Arrivals),
    /// As the records of a file.
    Replay(ReplayPlan),
}

/// A file to replay.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayPlan {
    /// The file, NDJSON or (by its name) CSV.
    pub file: PathBuf,
    /// How many times as fast as it was recorded.
    pub speed: f64,
    /// The field or column of the time.
    pub time: String,
    /// Nanoseconds in a unit of times that are numbers; `None`: as the first one's size says.
    pub unit: Option<u32>,
    /// The field or column of the payload; `None`: the line, or the row as JSON.
    pub payload: Option<String>,
    /// The field or column of the partition key; `None`: as [`LoadPlan::keys`] says.
    pub key: Option<String>,
    /// Bytes of records kept until they are settled.
    pub max_bytes: usize,
}

/// What says nothing about a load that is not replayed.
const FOR_REPLAY_ALONE: [Key; 6] =
    [Key::Speed, Key::ReplayTime, Key::ReplayUnit, Key::ReplayPayload, Key::ReplayKey, Key::MaxReplayBytes];

/// What says nothing about a load that is.
const REPLAY_HAS_ITS_OWN: [Key; 5] =
    [Key::Arrivals, Key::Market, Key::Tickers, Key::Template, Key::PayloadBytes];

/// The settings that payloads and keys are made by, besides seed, template and stamp.
const OF_CONTENT: [Key; 6] =
    [Key::Market, Key::Tickers, Key::PayloadBytes, Key::Keys, Key::LocalTime, Key::Records];

impl LoadPlan {
    /// The load that made the records of a run, as far as it is needed to make them again.
    ///
    /// # Errors
    /// If this tickgen does not understand its settings.
    pub fn remade(of: &ManifestLoad) -> Result<Self, Vec<ConfigError>> {
        let raw = |text: &String| Raw { texts: vec![text.clone()], source: Source::Flag };
        let given = of.settings.iter().filter(|(_, text)| !text.is_empty());
        let flags = given.filter_map(|(name, text)| Some((Key::named(name)?, raw(text)))).collect();
        let (settings, mut errors) = Settings::layer(None, [], flags);
        let mut reader = Reader { settings: &settings, errors: Vec::new() };
        let load = reader.load(of.name.clone(), of.seed);
        errors.append(&mut reader.errors);
        let template = of.template.clone().map(|text| TemplateText { file: "template".to_owned(), text });
        let stream = of.stream.as_deref().map(StreamRef::parse);
        let load = load.map(|load| Self { template, stream, stamps: of.stamp, ..load });
        load.filter(|_| errors.is_empty()).ok_or(errors)
    }

    /// The schedule; `None` in a closed loop and for a replayed file.
    #[must_use]
    pub fn schedule(&self) -> Option<Schedule> {
        let Offer::Open(shape, arrivals) = &self.offer else { return None };
        let schedule = Schedule::new(shape.clone(), *arrivals, self.seed);
        let schedule = schedule.records(self.records.unwrap_or(u64::MAX));
        Some(self.duration.map_or(schedule.clone(), |span| schedule.until(span)))
    }

    /// How long it lasts, where that is known beforehand.
    #[must_use]
    pub fn span(&self) -> Option<Nanos> {
        match self.offer {
            Offer::Open(..) => self.schedule().and_then(|schedule| schedule.span()),
            Offer::Max | Offer::Replay(_) => self.duration,
        }
    }

    /// The one rate that it offers throughout, in records per second, if there is one.
    #[must_use]
    pub fn constant_rate(&self) -> Option<f64> {
        match &self.offer {
            // Random arrivals come to it only in the long run.
            Offer::Open(shape, Arrivals::Even) => shape.constant_rate().map(crate::load::Rate::per_second),
            _ => None,
        }
    }

    /// The highest rate of small records that it comes to, in records per second; `None` where either is not known
    /// beforehand.
    pub(super) fn small_peak(&self) -> Option<f64> {
        const SMALL: usize = 128;
        match &self.offer {
            Offer::Open(shape, _) if self.template.is_none() && self.payload_bytes.unwrap_or(0) <= SMALL => {
                Some(shape.peak())
            }
            _ => None,
        }
    }

    /// Whether records fall due whatever becomes of them.
    #[must_use]
    pub fn is_open_loop(&self) -> bool {
        !matches!(self.offer, Offer::Max)
    }
}

impl Reader<'_> {
    pub(super) fn load(&mut self, name: String, random_seed: u64) -> Option<LoadPlan> {
        // Everything is read before anything is required, so that all mistakes are found.
        let offer = self.offer();
        let duration = self.read_if_set(Key::Duration, parse::positive_time);
        let records = self.read_if_set(Key::Records, parse::positive);
        let warmup = self.read(Key::Warmup, parse::time);
        let seed = self.read_if_set(Key::Seed, parse::number);
        let market = self.read(Key::Market, str::parse);
        let tickers = self.tickers();
        let template = self.read_if_set(Key::Template, parse::template);
        let payload_bytes = self.read_if_set(Key::PayloadBytes, parse::size);
        let keys =
            self.read(Key::Keys, |text| text.parse().map_err(parse::told::<crate::tick::ParseKeysError>));
        let stamps = self.stamps();
        let local = self.read(Key::LocalTime, parse::switch);
        let aggregate = self.read(Key::Aggregate, parse::switch);
        let aggregate_bytes = self.read(Key::AggregateBytes, parse::size);
        let retry = self.retry();
        let batch = self.batch(aggregate == Some(true), offer.as_ref(), retry);
        let shard_limit = self.read(Key::ShardLimit, parse::shard_limit);
        let aggregate_bytes = aggregate_bytes.filter(|_| aggregate == Some(true));
        self.check_retry(retry, batch, aggregate_bytes.is_some());
        self.check_load_sizes(batch, aggregate_bytes);
        if let (Some(market), Some(tickers), Some(payload_bytes)) = (market, &tickers, payload_bytes) {
            let seed = seed.flatten().unwrap_or(random_seed);
            let ticks = self.check_payload(seed, market, tickers, payload_bytes);
            if let (Some(ticks), Some(Some(text))) = (ticks, &template) {
                self.check_template(text, seed, &ticks, records.flatten());
            }
        }
        let load = LoadPlan {
            name,
            stream: self.text(Key::Stream).map(|stream| StreamRef::parse(&stream)),
            offer: offer?,
            duration: duration?,
            records: records?,
            warmup: warmup?,
            seed: seed?.unwrap_or(random_seed),
            market: market?,
            tickers: tickers?,
            template: template?,
            payload_bytes: payload_bytes?,
            stamps: StampPlace::None,
            keys: keys?,
            content: OF_CONTENT
                .map(|key| (key.setting().name.to_owned(), self.raw(key).texts.join(",")))
                .into(),
            zone: if local? { TimeZone::Local } else { TimeZone::Utc },
            aggregate_bytes,
            batch: batch?,
            shard_limit: shard_limit?,
            retry: retry?,
        };
        self.check_warmup(&load);
        let stamps = self.check_stamps(&load, stamps?);
        Some(LoadPlan { stamps, ..load })
    }

    /// Where stamps are asked for; `None`: where they fit.
    #[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is said")]
    fn stamps(&mut self) -> Option<Option<StampPlace>> {
        self.read(Key::Stamp, |text| match text {
            "auto" => Ok(None),
            "none" => Ok(Some(StampPlace::None)),
            "key" => Ok(Some(StampPlace::Key)),
            "body" => Ok(Some(StampPlace::Body)),
            _ => Err("expected auto, key, body or none".to_owned()),
        })
    }

    /// Where the stamps of a load go. Keys that place a record stay what they are; a payload that is the
    /// user's own is not added to.
    fn check_stamps(&mut self, load: &LoadPlan, asked: Option<StampPlace>) -> StampPlace {
        let replays = matches!(load.offer, Offer::Replay(_));
        let own_payload = load.template.is_some() || replays;
        let free_keys = matches!(load.keys, KeyKind::Uniform | KeyKind::PerShard);
        let verify = self.text(Key::Verify).as_deref() == Some("true");
        match asked {
            _ if verify && replays => {
                self.refuse(Key::Verify, "records of a file cannot be made again to compare; replay without it");
            }
            Some(StampPlace::None) if verify => {
                self.refuse(Key::Stamp, "--verify needs records that say which they are");
            }
            None if free_keys && !replays => return StampPlace::Key,
            None if !verify => {}
            None if !own_payload => return StampPlace::Body,
            None => self.refuse(
                Key::Verify,
                "needs --keys uniform or per-shard with a template: nothing else can carry the record's stamp",
            ),
            Some(StampPlace::Key) if !free_keys => {
                self.refuse(Key::Stamp, "needs --keys uniform or per-shard, which do not mean anything else");
            }
            Some(StampPlace::Body) if own_payload => {
                self.refuse(Key::Stamp, "is for the ticker record; a payload of your own is not added to");
            }
            Some(place) => return place,
        }
        StampPlace::None
    }

    fn offer(&mut self) -> Option<Offer> {
        let rate = self.read(Key::Rps, parse::rate);
        let arrivals = self.read(Key::Arrivals, |text| parse_arrivals(text, parse::time));
        let replay = self.replay();
        let shape = self.text(Key::Shape).unwrap_or_default();
        let file = shape.strip_prefix("replay:");
        let idle = if file.is_some() { &REPLAY_HAS_ITS_OWN[..] } else { &FOR_REPLAY_ALONE[..] };
        for key in idle {
            if self.is_set_beside(*key, Key::Shape) {
                let why =
                    if file.is_some() { "a replayed file has its own" } else { "is for --shape replay:FILE" };
                self.refuse(*key, why);
            }
        }
        if shape == "constant" {
            return Some(match (rate?, arrivals?) {
                (Some(rate), arrivals) => Offer::Open(Shape::constant(rate), arrivals),
                (None, Arrivals::Even) => Offer::Max,
                (None, _) => {
                    self.refuse(
                        Key::Arrivals,
                        "needs a rate; with --rps max records arrive as answers allow",
                    );
                    return None;
                }
            });
        }
        if self.is_set_beside(Key::Rps, Key::Shape) {
            self.refuse(Key::Rps, "the --shape has its own rates; set one of the two");
        }
        if let Some(file) = file {
            return Some(Offer::Replay(ReplayPlan { file: file.into(), ..replay? }));
        }
        let shape = self.read(Key::Shape, |text| parse_shape(text, parse::time));
        Some(Offer::Open(shape?, arrivals?))
    }

    /// How a file is replayed; which one, the shape says.
    fn replay(&mut self) -> Option<ReplayPlan> {
        let speed = self.read(Key::Speed, parse::factor);
        let max_bytes = self.read(Key::MaxReplayBytes, parse::size);
        let unit = self.read(Key::ReplayUnit, parse::unit);
        Some(ReplayPlan {
            file: PathBuf::new(),
            speed: speed?,
            time: self.text(Key::ReplayTime).unwrap_or_default(),
            unit: unit?,
            payload: self.text(Key::ReplayPayload),
            key: self.text(Key::ReplayKey),
            max_bytes: max_bytes?,
        })
    }

    fn check_warmup(&mut self, load: &LoadPlan) {
        if load.warmup > 0 && load.span().is_some_and(|span| span <= load.warmup) {
            self.refuse(Key::Warmup, "must be shorter than the load, or nothing is measured");
        }
    }
}
