//! The integration tests: one binary, a file per capability, one harness.

mod cli;
mod docs;
mod embedded;
mod faults;
mod harness;
mod layout;
// mod peers;
mod reshard;
mod simulation;
