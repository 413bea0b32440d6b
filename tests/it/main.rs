//! The integration tests: one binary, a file per capability, one harness.
#![allow(clippy::disallowed_methods, reason = "tests start servers and wait for processes")]

mod adaptive;
mod calibrate;
mod cli;
mod compose;
mod control;
mod docs;
mod drill;
mod embedded;
mod faults;
mod harness;
mod index;
mod layout;
mod loads;
mod otlp;
mod peers;
mod prometheus;
mod prove;
mod report;
mod reshard;
mod search;
mod sidecar;
mod simulation;
mod terminal;
mod verify;
