//! What concerns the whole run and its stream: drills, and the proof of delivery.

use super::reader::Reader;
use super::{Drill, LoadPlan, ReadBack, Target, parse};
use crate::load::{Nanos, SECOND};
use crate::settings::Key;
use std::time::Duration;

impl Reader<'_> {
    #[expect(
        clippy::option_option,
        reason = "outside: whether it could be read; inside: whether it is asked for"
    )]
    pub(super) fn verify(&mut self, loads: &[LoadPlan], target: Option<&Target>) -> Option<Option<ReadBack>> {
        let verify = self.read(Key::Verify, parse::switch)?;
        let read_back = self.read_back()?;
        if verify && matches!(target, Some(Target::Lines(_))) {
            self.refuse(Key::Verify, "reads a stream back; with --to the records go to none");
        }
        if verify && loads.len() > 1 + usize::from(u8::MAX) {
            self.refuse(Key::Verify, "tells at most 256 loads apart");
        }
        Some(verify.then_some(read_back))
    }

    pub(super) fn read_back(&mut self) -> Option<ReadBack> {
        let wait = self.read(Key::VerifyWait, parse::time);
        let fan_out = self.read(Key::Consumer, |text| match text {
            "polling" => Ok(false),
            "fan-out" => Ok(true),
            _ => Err("expected polling or fan-out".to_owned()),
        });
        Some(ReadBack { wait: Duration::from_nanos(wait?), fan_out: fan_out? })
    }

    pub(super) fn drills(&mut self, loads: &[LoadPlan], target: Option<&Target>) -> Option<Vec<Drill>> {
        let drills = self.read_all(Key::Drill, Drill::parse);
        let allowed = self.read(Key::AllowDrill, parse::switch);
        let (mut drills, allowed) = (drills?, allowed?);
        if drills.is_empty() {
            return Some(drills);
        }
        if !allowed {
            self.refuse(Key::Drill, "changes the stream itself: allow that with --allow-drill");
        }
        if matches!(target, Some(Target::Lines(_))) || loads.iter().any(|load| load.stream != loads[0].stream)
        {
            self.refuse(Key::Drill, "needs one stream that all loads go to");
        }
        let ends = loads.iter().map(|load| load.span().unwrap_or(Nanos::MAX)).max().unwrap_or(Nanos::MAX);
        if let Some(late) = drills.iter().find(|drill| drill.at >= ends) {
            let seconds = ends as f64 / SECOND as f64;
            self.refuse(Key::Drill, format!("{late} comes after the end of the load at {seconds}s"));
        }
        drills.sort_by_key(|drill| drill.at);
        Some(drills)
    }
}
