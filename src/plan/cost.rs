use super::Target;
use super::reader::Reader;
use crate::cost::PriceList;
use crate::settings::Key;

/// What a run is charged by, and what it may cost.
#[derive(Clone, Debug)]
pub struct CostPlan {
    /// The prices.
    pub prices: PriceList,
    /// The region whose prices count in place of the stream's.
    pub region: Option<String>,
    /// What the run may cost in dollars.
    pub max_usd: Option<f64>,
}

impl Reader<'_> {
    pub(super) fn cost(&mut self, target: Option<&Target>) -> Option<CostPlan> {
        let prices = self.read_if_set(Key::Prices, price_list);
        let max_usd = self.read_if_set(Key::MaxCost, amount);
        if matches!(target, Some(Target::Lines(_))) && max_usd.is_some_and(|max| max.is_some()) {
            self.refuse(Key::MaxCost, "is for a stream; with --to the records go to none");
        }
        let region = self.text(Key::PriceRegion);
        let plan =
            CostPlan { prices: prices?.unwrap_or_else(PriceList::built_in), region, max_usd: max_usd? };
        if let Some(region) = plan.region.as_ref().filter(|region| !plan.prices.regions.contains_key(*region))
        {
            let known: Vec<&str> = plan.prices.regions.keys().map(String::as_str).collect();
            self.refuse(
                Key::PriceRegion,
                format!("{region} is not in the price list, which has {}; see --prices", known.join(", ")),
            );
        }
        Some(plan)
    }
}

fn price_list(file: &str) -> Result<PriceList, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    PriceList::parse(&text).map_err(|error| error.to_string())
}

/// `5` or `$5`: dollars above zero.
fn amount(text: &str) -> Result<f64, String> {
    let number = text.strip_prefix('$').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(usd) if usd > 0.0 && usd.is_finite() => Ok(usd),
        _ => Err("expected US dollars above 0, such as 5 or 0.25".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_dollars() {
        for (text, usd) in
            [("5", Some(5.0)), ("$0.25", Some(0.25)), ("0", None), ("-1", None), ("5 EUR", None)]
        {
            assert_eq!(amount(text).ok(), usd, "{text}");
        }
        assert!(amount("inf").is_err() && amount("NaN").is_err());
    }
}
