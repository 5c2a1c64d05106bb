//! crashdmesg: the shell around the core.

// Wired in by the command line; until then only their tests use them.
#[allow(dead_code)]
mod config;
#[allow(dead_code)]
mod deadline;
#[allow(dead_code)]
mod sink;
#[allow(dead_code, unsafe_code)]
mod sys;

fn main() {}
