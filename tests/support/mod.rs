//! What the integration tests stand on.

pub mod audit;

pub mod balancer;

pub mod checkout;

pub mod clock;

pub mod control_plane;

pub mod databases;

pub mod doctor;

pub mod injector;

pub mod kubectl;

pub mod manifests;

pub mod planes;

pub mod policies;

pub mod program;

pub mod server;

pub mod stream;

pub mod wait;
