//! The stories, replayed on a real cluster as a user would: `kubectl apply` of what stands in
//! `manifests/samples/stories`. Clients never send a request twice.

#[path = "app/report.rs"]
#[allow(dead_code, reason = "the demonstrations read more of it")]
mod report;

mod table;

// The cluster, and a namespace of a story.
mod stage;

mod endpoints;

mod node;

mod pod;

mod rolling_update;

mod local_traffic;

mod web_socket;

mod wedged;

mod running_but_not_ready;

mod wrong_port;

mod works_in_staging;

mod oom_killed;

mod database_blinks;

mod autoscaled;

// What the gate costs.
mod footprint;

// Those that bear no other beside them.
mod alone;
