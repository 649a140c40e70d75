//! What the integration tests stand on.

pub mod checkout;
pub mod control_plane;
pub mod databases;
pub mod kubectl;
