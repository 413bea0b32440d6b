use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Prices of Kinesis Data Streams by region, in US dollars without tax.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceList {
    /// The day that it is of, YYYY-MM-DD.
    pub as_of: String,
    /// What there is to know of it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The prices of each region.
    pub regions: BTreeMap<String, RegionPrices>,
}

/// The prices of one region. A mode whose prices are not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegionPrices {
    /// Of streams with a fixed number of shards.
    #[serde(default)]
    pub provisioned: Option<ProvisionedPrices>,
    /// Of on-demand streams (On-demand Standard).
    #[serde(default)]
    pub on_demand: Option<OnDemandPrices>,
    /// Of on-demand streams of an account in On-demand Advantage mode.
    #[serde(default)]
    pub on_demand_advantage: Option<OnDemandPrices>,
}

/// Prices of provisioned streams. Reading by polling costs nothing.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProvisionedPrices {
    /// A shard for an hour.
    pub shard_hour: f64,
    /// A million PUT payload units: each record in chunks of 25 KiB.
    pub million_put_payload_units: f64,
    /// What registered consumers cost, if it is known.
    #[serde(default)]
    pub fan_out: Option<FanOutPrices>,
    /// Where these prices were published.
    pub source: String,
}

/// Prices of reading provisioned streams as a registered consumer (enhanced fan-out).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FanOutPrices {
    /// A shard for an hour, for each consumer.
    pub consumer_shard_hour: f64,
    /// A GiB read.
    pub gb_out: f64,
}

/// Prices of on-demand streams.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OnDemandPrices {
    /// A stream for an hour.
    pub stream_hour: f64,
    /// A GiB written, each record rounded up to a KiB.
    pub gb_in: f64,
    /// A GiB read by polling.
    pub gb_out: f64,
    /// A GiB read by registered consumers (enhanced fan-out), if it is known.
    #[serde(default)]
    pub fan_out_gb_out: Option<f64>,
    /// Where these prices were published.
    pub source: String,
}

/// Why a text is no price list.
#[derive(Debug, thiserror::Error)]
pub enum PriceListError {
    /// It is no JSON of this form.
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    /// A price is below zero or no number.
    #[error("{region}: {price} is not a price")]
    Price {
        /// The region.
        region: String,
        /// The number.
        price: f64,
    },
}

impl PriceList {
    /// The list that is part of this build.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test reads the list")]
    pub fn built_in() -> Self {
        Self::parse(include_str!("prices.json")).expect("the price list of this build")
    }

    /// Reads a list of the form of src/cost/prices.json.
    ///
    /// # Errors
    /// If it is of another form, or a price is below zero.
    pub fn parse(text: &str) -> Result<Self, PriceListError> {
        let list: Self = serde_json::from_str(text)?;
        for (region, prices) in &list.regions {
            if let Some(price) = prices.all().into_iter().find(|price| !(0.0..1e6).contains(price)) {
                return Err(PriceListError::Price { region: region.clone(), price });
            }
        }
        Ok(list)
    }
}

impl RegionPrices {
    fn all(&self) -> Vec<f64> {
        let provisioned = self.provisioned.iter().flat_map(|p| {
            let fan_out = p.fan_out.iter().flat_map(|f| [f.consumer_shard_hour, f.gb_out]);
            [p.shard_hour, p.million_put_payload_units].into_iter().chain(fan_out)
        });
        let on_demand = [&self.on_demand, &self.on_demand_advantage].into_iter().flatten();
        let on_demand =
            on_demand.flat_map(|p| [p.stream_hour, p.gb_in, p.gb_out].into_iter().chain(p.fan_out_gb_out));
        provisioned.chain(on_demand).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_price_of_this_build_has_its_source() {
        let list = PriceList::built_in();
        assert!(list.regions.contains_key("us-east-1"));
        for (region, prices) in &list.regions {
            let sources = [
                prices.provisioned.as_ref().map(|p| &p.source),
                prices.on_demand.as_ref().map(|p| &p.source),
                prices.on_demand_advantage.as_ref().map(|p| &p.source),
            ];
            assert!(sources.iter().flatten().all(|source| source.len() > 20), "{region}");
            assert!(sources.iter().any(Option::is_some), "{region} has no prices: leave it out");
        }
    }

    #[test]
    fn what_is_no_price_list_is_refused() {
        for (text, start) in [
            ("{}", "missing field"),
            ("{", "EOF"),
            (r#"{"as_of": "2026-01-01", "regions": {"x": {"on-demand": null}}}"#, "unknown field"),
            (
                r#"{"as_of": "2026-01-01", "regions": {"x": {"on_demand": {"stream_hour": -1, "gb_in": 0,
                   "gb_out": 0, "source": ""}}}}"#,
                "x: -1 is not a price",
            ),
        ] {
            let error = PriceList::parse(text).unwrap_err().to_string();
            assert!(error.contains(start), "{error}");
        }
    }
}
