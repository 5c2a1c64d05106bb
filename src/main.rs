//! crashdmesg: the shell around the core.

// Wired in by the command line; until then only its tests use it.
#[allow(dead_code)]
mod deadline;
#[allow(dead_code)]
mod sink;

fn main() {}
