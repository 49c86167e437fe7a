//! Diagnose chest X-rays that you never see.

fn main() {}
