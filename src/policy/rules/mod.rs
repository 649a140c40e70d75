//! The rules: one table, one file a family.

/// Probes: that they are there, and differ.
mod probes;

/// The ports that probes and hooks ask.
mod probe_port;

/// Requests and limits: that they are set.
mod resources;

/// Requests and limits: that they agree with each other and with LimitRanges.
mod limit_range;

/// References to Secrets and ConfigMaps.
mod references;

/// The ServiceAccount and the pull secrets.
mod account;

/// Env names that are demanded.
mod env;

/// Env names that a twin has.
mod parity;

/// How a rollout replaces pods.
mod rollout;

/// Values that must be strings.
mod string_value;

/// The traffic gate that pods ask for.
mod gate;

/// Text that goes into YAML to paste.
mod yaml;

use std::fmt;

pub use super::context::Context;
use super::finding::Level;

/// One rule: everything a person or a program may want to know of it, and its check.
#[derive(Debug)]
pub struct Rule {
    /// Its name in settings, output and metrics.
    pub id: RuleId,
    /// What it demands, one line for the README's table.
    pub summary: &'static str,
    /// What goes wrong without it; a paragraph for `portcullis explain`.
    pub why: &'static str,
    /// A manifest fragment that breaks it.
    pub example: &'static str,
    /// The same fragment, mended.
    pub fixed: &'static str,
    /// Its level when settings say nothing.
    pub level: Level,
    /// The fields it reads, as dotted paths below the pod template unless they begin with `workload.`. A change of any
    /// of them in an UPDATE must reach the judge (a test holds the matchConditions to that).
    pub reads: &'static [&'static str],
    check: fn(&mut Context<'_>),
}

/// Declares [`RuleId`] and [`RULES`] from one list, so that neither can miss a rule.
macro_rules! rules {
    ($($variant:ident $name:literal => $rule:path,)*) => {
        /// The rules' names, in the order of [`RULES`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RuleId {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        /// All rules, in the order of the README's table.
        pub static RULES: &[&Rule] = &[$(&$rule),*];

        impl RuleId {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// As settings, output and metrics write it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The rule itself.
            pub fn rule(self) -> &'static Rule {
                match self { $(Self::$variant => &$rule,)* }
            }
        }
    };
}

rules! {
    ReadinessProbe "readiness-probe" => probes::READINESS_PROBE,
    LivenessProbe "liveness-probe" => probes::LIVENESS_PROBE,
    ProbePort "probe-port" => probe_port::PROBE_PORT,
    ProbeDistinct "probe-distinct" => probes::PROBE_DISTINCT,
    CpuRequest "cpu-request" => resources::CPU_REQUEST,
    MemoryRequest "memory-request" => resources::MEMORY_REQUEST,
    MemoryLimit "memory-limit" => resources::MEMORY_LIMIT,
    CpuLimit "cpu-limit" => resources::CPU_LIMIT,
    LimitRange "limit-range" => limit_range::LIMIT_RANGE,
    SecretReference "secret-reference" => references::SECRET_REFERENCE,
    ConfigmapReference "configmap-reference" => references::CONFIGMAP_REFERENCE,
    PullSecretReference "pull-secret-reference" => account::PULL_SECRET_REFERENCE,
    ServiceAccountReference "service-account-reference" => account::SERVICE_ACCOUNT_REFERENCE,
    RequiredEnv "required-env" => env::REQUIRED,
    EnvParity "env-parity" => parity::ENV_PARITY,
    RolloutStrategy "rollout-strategy" => rollout::ROLLOUT_STRATEGY,
    StringValue "string-value" => string_value::STRING_VALUE,
    GateConfig "gate-config" => gate::GATE_CONFIG,
    GateTakeover "gate-takeover" => gate::GATE_TAKEOVER,
}

// === impl Rule ===

impl Rule {
    /// Adds this rule's findings, or its questions, to `context`.
    pub fn check(&self, context: &mut Context<'_>) {
        (self.check)(context);
    }
}

// === impl RuleId ===

impl RuleId {
    /// Its place in [`RULES`] and [`RuleId::ALL`].
    #[expect(
        clippy::as_conversions,
        reason = "the discriminant of a fieldless enum"
    )]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// It asks for the existence of an object, which may be made a moment later.
    pub fn is_reference(self) -> bool {
        self.as_str().ends_with("-reference")
    }

    /// The rule of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|id| id.as_str() == name)
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
