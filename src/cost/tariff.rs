use super::RegionPrices;
use crate::load::Nanos;
use crate::observe::{StoppedBy, ThresholdResult};
use crate::producer::Snapshot;
use serde::{Deserialize, Serialize};
use std::fmt;

const HOUR_S: f64 = 3600.0;
/// What the service counts as a GB: 2^30 bytes.
const GB: f64 = 1024.0 * 1024.0 * 1024.0;

/// How a stream is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CapacityMode {
    /// By its shards and what is put into them.
    Provisioned,
    /// By what is written and read.
    OnDemand,
}

/// What a run is charged by.
#[derive(Clone, Debug)]
pub struct Tariff {
    /// The region whose prices count.
    pub region: String,
    /// Its prices; `None`: the price list does not have the region.
    pub prices: Option<RegionPrices>,
    /// The day that the price list is of.
    pub prices_as_of: String,
    /// How the run's streams are paid for; of several, on-demand if one is.
    pub mode: CapacityMode,
    /// How many streams there are.
    pub streams: u64,
    /// How often what is written is read back by the run itself.
    pub readers: u64,
    /// Whether it is read by registered consumers, rather than by polling.
    pub fan_out: bool,
    /// What the run may cost in dollars.
    pub max_usd: Option<f64>,
}

/// What a run used of what is charged for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Usage {
    /// Open shards times hours of the run.
    pub shard_hours: f64,
    /// Streams times hours of the run.
    pub stream_hours: f64,
    /// Stored records in chunks of 25 KiB, each record rounded up.
    pub put_payload_units: u64,
    /// Bytes written in GiB, each stored record rounded up to a KiB.
    pub gb_in: f64,
    /// Bytes read back by polling, in GiB.
    pub gb_out: f64,
    /// Open shards times hours of the run, for each registered consumer (enhanced fan-out).
    #[serde(default)]
    pub consumer_shard_hours: f64,
    /// Bytes read back by registered consumers, in GiB.
    #[serde(default)]
    pub fan_out_gb: f64,
}

/// What a run would cost at list price, in US dollars without tax and without any free tier. Hours are those
/// of the run alone; a stream that stands longer costs longer.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct CostSummary {
    /// The region whose prices count.
    pub region: String,
    /// The day that the prices are of.
    pub prices_as_of: String,
    /// How the run's streams are paid for; of an embedded one, how they would be.
    pub mode: CapacityMode,
    /// What the run costs in that mode; absent where its prices are not known.
    pub usd: Option<f64>,
    /// What it costs with provisioned streams of as many shards.
    pub provisioned_usd: Option<f64>,
    /// What it costs with on-demand streams (On-demand Standard).
    pub on_demand_usd: Option<f64>,
    /// What it costs with on-demand streams in an account with On-demand Advantage, whose commitment of
    /// 25 MiB/s at least is not counted in.
    pub on_demand_advantage_usd: Option<f64>,
    /// What is charged for.
    pub usage: Usage,
    /// The prices that were taken; absent if they are not known.
    pub prices: Option<RegionPrices>,
    /// What the run might cost.
    pub max_usd: Option<f64>,
}

impl Usage {
    fn provisioned(&self, prices: &RegionPrices) -> Option<f64> {
        let prices = prices.provisioned.as_ref()?;
        let puts = self.put_payload_units as f64 / 1e6 * prices.million_put_payload_units;
        let fan_out = match &prices.fan_out {
            _ if !self.has_fan_out() => 0.0,
            None => return None,
            Some(prices) => {
                self.consumer_shard_hours * prices.consumer_shard_hour + self.fan_out_gb * prices.gb_out
            }
        };
        Some(self.shard_hours * prices.shard_hour + puts + fan_out)
    }

    fn on_demand(&self, prices: Option<&super::OnDemandPrices>) -> Option<f64> {
        let prices = prices?;
        let fan_out = if self.has_fan_out() { self.fan_out_gb * prices.fan_out_gb_out? } else { 0.0 };
        let polled = self.gb_out * prices.gb_out;
        Some(self.stream_hours * prices.stream_hour + self.gb_in * prices.gb_in + polled + fan_out)
    }

    fn has_fan_out(&self) -> bool {
        self.consumer_shard_hours > 0.0
    }

    /// Adds bytes that are read back.
    fn read(&mut self, gb: f64, fan_out: bool) {
        *(if fan_out { &mut self.fan_out_gb } else { &mut self.gb_out }) += gb;
    }
}

impl Tariff {
    /// Whether the prices of the run's mode are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let consumer_shard_hours = if self.fan_out { 1.0 } else { 0.0 };
        self.price(&Usage { consumer_shard_hours, ..Usage::default() }).usd.is_some()
    }

    /// What a run has cost so far.
    #[must_use]
    pub fn cost(&self, now: &Snapshot) -> CostSummary {
        self.price(&self.usage(now))
    }

    /// The least that a run under way will cost if it is drained at once and nothing more falls due for
    /// `ahead`: what it has cost, and what is on its way like what was stored so far.
    #[must_use]
    pub fn committed_usd(&self, now: &Snapshot, ahead: Nanos) -> Option<f64> {
        let mut usage = self.usage(now);
        let ledger = &now.account.ledger;
        let due = now.target_rps.unwrap_or_else(|| now.achieved_rps()) * ahead as f64 / 1e9;
        let coming = now.unsettled as f64 + due;
        // Before the first answer nothing is known of sizes: a record is a KiB, and an entry.
        let acked = ledger.acked.max(1) as f64;
        let more = if ledger.acked == 0 { coming } else { coming / acked };
        let (units, gb_in) = if ledger.acked == 0 {
            (1.0, 1024.0 / GB)
        } else {
            (usage.put_payload_units as f64, usage.gb_in)
        };
        usage.put_payload_units += rounded_up(units * more);
        usage.gb_in += gb_in * more;
        usage.read(gb_in * more * self.readers as f64, self.fan_out);
        let hours = ahead as f64 / 1e9 / HOUR_S;
        usage.stream_hours += hours * self.streams as f64;
        let shard_hours = hours * now.account.shard_time.len().max(1) as f64;
        usage.shard_hours += shard_hours;
        if self.fan_out {
            usage.consumer_shard_hours += shard_hours;
        }
        self.price(&usage).usd
    }

    fn usage(&self, now: &Snapshot) -> Usage {
        let account = &now.account;
        let hours = |nanos: Nanos| nanos as f64 / 1e9 / HOUR_S;
        let shard_hours = hours(account.shard_time.iter().map(|(_, time)| time).sum());
        let mut usage = Usage {
            shard_hours,
            stream_hours: hours(now.elapsed) * self.streams as f64,
            put_payload_units: account.billed.put_units,
            gb_in: account.billed.kib as f64 * 1024.0 / GB,
            consumer_shard_hours: if self.fan_out { shard_hours } else { 0.0 },
            ..Usage::default()
        };
        usage.read(account.accepted_bytes as f64 * self.readers as f64 / GB, self.fan_out);
        usage
    }

    fn price(&self, usage: &Usage) -> CostSummary {
        let mut cost = CostSummary {
            region: self.region.clone(),
            prices_as_of: self.prices_as_of.clone(),
            mode: self.mode,
            usd: None,
            provisioned_usd: None,
            on_demand_usd: None,
            on_demand_advantage_usd: None,
            usage: *usage,
            prices: self.prices.clone(),
            max_usd: self.max_usd,
        };
        cost.calculate();
        cost
    }
}

impl CostSummary {
    /// What the usage costs at the prices.
    fn calculate(&mut self) {
        let (usage, prices) = (&self.usage, self.prices.as_ref());
        self.provisioned_usd = prices.and_then(|prices| usage.provisioned(prices));
        self.on_demand_usd = prices.and_then(|prices| usage.on_demand(prices.on_demand.as_ref()));
        self.on_demand_advantage_usd =
            prices.and_then(|prices| usage.on_demand(prices.on_demand_advantage.as_ref()));
        self.usd = match self.mode {
            CapacityMode::Provisioned => self.provisioned_usd,
            CapacityMode::OnDemand => self.on_demand_usd,
        };
    }

    /// What several runs cost together. `shared`: they used the same streams at the same time, so that the
    /// hours of these are paid for once.
    #[must_use]
    pub(crate) fn sum(parts: &[&Self], shared: bool) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        let mut sum = (*first).clone();
        let hours = |mine: f64, theirs: f64| if shared { mine.max(theirs) } else { mine + theirs };
        for other in rest {
            let (mine, theirs) = (&mut sum.usage, &other.usage);
            mine.shard_hours = hours(mine.shard_hours, theirs.shard_hours);
            mine.stream_hours = hours(mine.stream_hours, theirs.stream_hours);
            mine.put_payload_units += theirs.put_payload_units;
            mine.gb_in += theirs.gb_in;
            mine.gb_out += theirs.gb_out;
            // Each run has consumers of its own.
            mine.consumer_shard_hours += theirs.consumer_shard_hours;
            mine.fan_out_gb += theirs.fan_out_gb;
            sum.max_usd = sum.max_usd.zip(other.max_usd).map(|(mine, theirs)| mine + theirs);
            if (&sum.region, &sum.prices) != (&other.region, &other.prices) {
                // Of two regions or lists there is no one price.
                sum.prices = None;
            }
        }
        sum.calculate();
        Some(sum)
    }

    /// Whether the budget was kept, if there was one.
    #[must_use]
    pub(crate) fn budget(&self, stopped_by: StoppedBy) -> Option<ThresholdResult> {
        let (max, usd) = (self.max_usd?, self.usd?);
        let passed = usd <= max && stopped_by != StoppedBy::Cost;
        Some(ThresholdResult { expr: format!("cost.usd <= {max}"), value: usd, passed })
    }

    /// Why a run was drained for its cost.
    pub(crate) fn drained(&self) -> String {
        format!(
            "The run was drained for --max-cost: it has cost {} of {}, and more records would have passed that.",
            dollars(self.usd),
            dollars(self.max_usd)
        )
    }
}

impl fmt::Display for CostSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, prices_as_of, .. } = self;
        if self.provisioned_usd.is_none() && self.on_demand_usd.is_none() {
            let what = if self.prices.is_some() && self.usage.has_fan_out() { "fan-out in " } else { "" };
            return write!(f, "unknown: no prices of {what}{region} (--prices FILE, --price-region NAME)");
        }
        write!(
            f,
            "{} provisioned ({:.3} shard-hours), {} on-demand; list price, {region}, {prices_as_of}",
            dollars(self.provisioned_usd),
            self.usage.shard_hours,
            dollars(self.on_demand_usd),
        )
    }
}

/// An amount: cents from a dollar on, four significant digits below.
pub(crate) fn dollars(usd: Option<f64>) -> String {
    match usd {
        None => "unknown".to_owned(),
        Some(usd) if usd >= 1.0 || usd == 0.0 => format!("${usd:.2}"),
        Some(usd) if usd >= 0.01 => format!("${usd:.4}"),
        Some(usd) => format!("${usd:.6}"),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of what is to be sent")]
fn rounded_up(count: f64) -> u64 {
    count.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::PriceList;
    use crate::load::SECOND;

    fn tariff(mode: CapacityMode) -> Tariff {
        let list = PriceList::built_in();
        Tariff {
            region: "us-east-1".into(),
            prices: list.regions.get("us-east-1").cloned(),
            prices_as_of: list.as_of,
            mode,
            streams: 1,
            readers: 1,
            fan_out: false,
            max_usd: Some(5.0),
        }
    }

    /// An hour of 1000 records a second of 3 KiB each into four shards.
    fn hour() -> Snapshot {
        let mut hour = Snapshot::empty();
        hour.elapsed = 3600 * SECOND;
        let account = &mut hour.account;
        account.shard_time = vec![(0, 4 * 3600 * SECOND)];
        account.ledger.acked = 3_600_000;
        account.accepted_bytes = 3_600_000 * 3 * 1024;
        account.billed = crate::producer::Billed { put_units: 3_600_000, kib: 3 * 3_600_000 };
        hour
    }

    #[test]
    fn an_hour_costs_what_the_price_page_says() {
        let cost = tariff(CapacityMode::Provisioned).cost(&hour());
        let near = |seen: Option<f64>, expected: f64| (seen.unwrap() - expected).abs() < 1e-6;
        // 4 shard-hours at 0.015 and 3.6 million units at 0.014 a million.
        assert!(near(cost.provisioned_usd, 4.0 * 0.015 + 3.6 * 0.014), "{cost:?}");
        // A stream-hour, 10.3 GiB in at 0.08 and out at 0.04.
        let gib = 3_600_000.0 * 3.0 / 1024.0 / 1024.0;
        assert!(near(cost.on_demand_usd, 0.04 + gib * 0.12), "{cost:?}");
        assert_eq!(cost.usd, cost.provisioned_usd);
        assert_eq!(tariff(CapacityMode::OnDemand).cost(&hour()).usd, cost.on_demand_usd);
    }

    #[test]
    fn registered_consumers_cost_extra_or_the_cost_is_unknown() {
        let of = |mode| Tariff { fan_out: true, ..tariff(mode) };
        let (mut hour, polled) = (hour(), tariff(CapacityMode::Provisioned).cost(&hour()));
        let cost = of(CapacityMode::Provisioned).cost(&hour);
        let gib = 3_600_000.0 * 3.0 / 1024.0 / 1024.0;
        let more = |a: Option<f64>, b: Option<f64>| a.unwrap() - b.unwrap();
        // 4 consumer-shard-hours at 0.015, and 10.3 GiB at 0.013; on demand at 0.05 in place of 0.04.
        let extra = more(cost.provisioned_usd, polled.provisioned_usd);
        assert!((extra - (4.0 * 0.015 + gib * 0.013)).abs() < 1e-9, "{cost:?}");
        assert!((more(cost.on_demand_usd, polled.on_demand_usd) - gib * 0.01).abs() < 1e-9, "{cost:?}");
        assert_eq!((cost.usage.gb_out, polled.usage.fan_out_gb), (0.0, 0.0));
        // It is part of what is on its way, too.
        hour.target_rps = Some(0.0);
        let committed = |tariff: Tariff| tariff.committed_usd(&hour, SECOND).unwrap();
        let ahead = committed(of(CapacityMode::Provisioned)) - committed(tariff(CapacityMode::Provisioned));
        assert!(ahead > extra, "{ahead} {extra}");
        let mut unpriced = of(CapacityMode::Provisioned);
        unpriced.prices.as_mut().unwrap().provisioned.as_mut().unwrap().fan_out = None;
        assert!(!unpriced.is_known());
        unpriced.prices.as_mut().unwrap().on_demand = None;
        let told = unpriced.cost(&hour).to_string();
        assert!(told.starts_with("unknown: no prices of fan-out in us-east-1"), "{told}");
    }

    #[test]
    fn what_is_on_its_way_is_committed() {
        let mut hour = hour();
        let tariff = tariff(CapacityMode::Provisioned);
        let now = tariff.cost(&hour).usd.unwrap();
        hour.target_rps = Some(0.0);
        hour.unsettled = 1_000_000;
        let committed = tariff.committed_usd(&hour, 0).unwrap();
        assert!((committed - now - 0.014).abs() < 1e-6, "{committed} after {now}");
        assert!(tariff.committed_usd(&hour, SECOND).unwrap() > committed);
    }

    #[test]
    fn a_region_without_prices_says_so() {
        let mut unknown = tariff(CapacityMode::OnDemand);
        unknown.prices = None;
        assert!(!unknown.is_known());
        let cost = unknown.cost(&hour());
        assert_eq!((cost.usd, cost.provisioned_usd), (None, None));
        assert!(cost.to_string().starts_with("unknown: no prices of us-east-1"), "{cost}");
    }

    #[test]
    fn a_run_that_was_drained_for_its_cost_missed_its_budget() {
        let cost = tariff(CapacityMode::Provisioned).cost(&hour());
        let passed = |stopped_by| cost.budget(stopped_by).unwrap().passed;
        assert!(passed(StoppedBy::Schedule) && !passed(StoppedBy::Cost));
    }
}
