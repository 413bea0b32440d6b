//! The integration tests: one binary, a file per capability, one harness.
#![allow(clippy::disallowed_methods, reason = "tests start servers and wait for processes")]

mod adaptive;
mod cli;
mod docs;
mod drill;
mod embedded;
mod faults;
mod harness;
mod layout;
mod loads;
mod peers;
mod prometheus;
mod reshard;
mod search;
mod sidecar;
mod simulation;
mod verify;
