//! tickgen offers a Kinesis stream a load, exactly as scheduled, and accounts for every record.
//!
//! The way of a record: [`load`] says when it is due and [`tick`] what it is; [`producer`] makes it,
//! packs it, waits for its shard, sends it and settles it exactly once; [`kinesis`] is where it goes;
//! [`observe`], [`terminal`] and [`admin`] show what became of it, [`verify`] reads it back, and [`cost`] says what it
//! would be charged. [`settings`], [`config`]
//! and [`plan`] lead from flags, variables and config.toml to a validated plan, and [`run`] carries one
//! out; [`search`] finds the highest rate that holds an objective, by one run after another.

pub mod admin;
pub mod cli;
pub mod config;
pub mod cost;
#[cfg(any(test, fuzzing))]
pub mod decoders;
pub mod draw;
pub mod kinesis;
pub mod load;
pub mod observe;
pub mod plan;
pub mod producer;
pub mod results;
pub mod run;
pub mod search;
pub mod settings;
pub mod terminal;
pub mod tick;
mod vectors;
pub mod verify;
