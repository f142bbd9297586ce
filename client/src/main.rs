//! The `pithead` command.

fn main() {}
