//! The gate for real: the program in front of servers, with real databases behind them.

pub mod harness;

// Each kind of check against what it looks at.
mod checks;

mod databases;

// From closed to drained.
mod life;

// What makes a cold app a warm one.
mod warmup;

// What is met seldom.
mod edges;

// What bytes on their way take.
mod descriptors;

// The end, under load.
mod drain;

// What a person or a kubelet is told.
mod words;
