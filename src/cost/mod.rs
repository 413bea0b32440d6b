//! What a run would cost at list price.
//!
//! A [`PriceList`] has the prices of regions, as AWS publishes them; [`Tariff`] is what applies to a run, and
//! turns what it used so far into a [`CostSummary`].

mod prices;
mod tariff;

pub use prices::{FanOutPrices, OnDemandPrices, PriceList, PriceListError, ProvisionedPrices, RegionPrices};
pub(crate) use tariff::dollars;
pub use tariff::{CapacityMode, CostSummary, Tariff, Usage};
