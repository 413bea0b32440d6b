//! The integration tests: one binary, a file per capability, one harness.
#![allow(clippy::disallowed_methods, reason = "tests start servers and wait for processes")]

mod adaptive;
mod calibrate;
mod cli;
mod compose;
mod control;
mod crowd;
mod docs;
mod drill;
mod embedded;
mod faults;
mod harness;
mod index;
mod layout;
mod limits;
mod loads;
mod otlp;
mod peers;
mod prometheus;
mod prove;
mod proxy;
mod report;
mod reshard;
mod route;
mod search;
mod sidecar;
mod simulation;
mod streams;
mod terminal;
mod verify;
