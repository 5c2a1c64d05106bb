//! crashdmesg: the shell around the core.
fn main() {}
