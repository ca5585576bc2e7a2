//! The `exuvia` program: parse, run, exit.

fn main() {}
