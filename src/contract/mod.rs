//! What the webhook writes and the gate reads: labels, annotations and the gate's settings.
//!
//! Encode and decode stand side by side, so that the two programs cannot come to differ.

mod settings;

// What must be true before traffic may pass.
mod check;

mod kinds;

mod status;

// What then happens.
mod warmup;

mod traffic;

// How single fields are written.
mod address;

pub(crate) mod duration;

mod problem;

#[cfg(test)]
mod tests;

pub use self::{
    address::{AddressError, AppAddress, AppHost, Listen},
    check::{Check, CheckKind, Scope},
    kinds::{
        DatabaseCheck, DnsCheck, EnvCheck, FileCheck, GrpcCheck, HttpCheck, TcpCheck, TlsMode,
        ValueFrom,
    },
    problem::Problem,
    settings::{ADMIN_PORT, Port, Protocol, Settings, SettingsError},
    status::StatusRange,
    traffic::{
        ChecksFailed, Drain, GrpcRefusal, Hold, HoldMode, NotWarm, OnFull, Policy, Ramp, RampWhen,
    },
    warmup::{Warmup, WarmupBody, WarmupRequest, WarmupTarget},
};

/// Label of a pod or namespace: `enabled` (a pod never starts without its gate), `preferred`, or
/// `disabled`.
pub const GATE_LABEL: &str = "portcullis.dev/gate";

/// Annotation of a pod template, or of a namespace for all its pods: what the gate is told, as YAML.
pub const GATE_CONFIG_ANNOTATION: &str = "portcullis.dev/gate-config";

/// Annotation of a pod template: the name of settings that the installation holds ready.
pub const GATE_PROFILE_ANNOTATION: &str = "portcullis.dev/gate-profile";

/// Annotation that the webhook leaves on a pod: how the gate took over the app's port.
pub const GATE_TAKEOVER_ANNOTATION: &str = "portcullis.dev/gate-takeover";

/// Environment variable of the gate's container: its settings, as JSON.
pub const GATE_CONFIG_ENV: &str = "PORTCULLIS_GATE_CONFIG";

/// Name of the gate's container.
pub const GATE_CONTAINER: &str = "portcullis-gate";

/// Name of the volume that holds the gate's control socket and what a restarted gate must know.
pub const GATE_STATE_VOLUME: &str = "portcullis-gate-state";

/// Environment variable of the gate's container: the folder that volume is mounted at.
pub const GATE_STATE_DIR_ENV: &str = "PORTCULLIS_GATE_STATE_DIR";

/// Environment variable of the gate's container: the pod's addresses, where the app listens.
pub const POD_IPS_ENV: &str = "PORTCULLIS_POD_IPS";
