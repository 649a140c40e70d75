//! Why the gate is in the state it is in: a word for machines, a sentence for the person on call.

use std::fmt;

/// Why a state was entered or is kept. Its text is stable for as long as the cause is: it holds no
/// durations and no counters, so that equal events in a pod's history fold into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing is known yet.
    Starting,
    /// The app's port does not accept connections.
    AppRefuses(String),
    /// Checks have no result yet.
    ChecksPending(String),
    /// Checks fail.
    ChecksFail(String),
    /// The first attempt at warming up is under way.
    WarmingUp,
    /// An attempt at warming up ended without the app being warm; another follows.
    NotWarmYet(String),
    /// The checks pass, and no warm-up is asked for.
    ChecksPassed,
    /// The warm-up reached its target.
    Warm,
    /// The warm-up's latency stopped improving under its ceiling.
    Plateau,
    /// Opened by `checksFailed`, although checks fail.
    OpenedUnchecked(String),
    /// Opened by `notWarm`, although the app is not warm.
    OpenedCold(String),
    /// What had closed the gate is over, and the app is still the same one.
    Recovered,
    /// The gate was restarted; the app that it had opened for was not.
    Resumed,
    /// The app was restarted.
    AppRestarted,
    /// The app's container is being stopped, and the pod is not.
    AppStopping,
    /// A check that is always watched fails.
    CheckFails(String),
    /// The gate was told to stop.
    Stopping,
    /// The pod is being deleted.
    PodDeleted,
    /// A drain was ordered.
    DrainOrdered,
    /// The drain is done.
    Drained,
}

// === impl Cause ===

impl Cause {
    /// Every label, for metrics that show all of them.
    pub const LABELS: [&'static str; 20] = [
        "starting",
        "app_refuses",
        "checks_pending",
        "checks_fail",
        "warming_up",
        "not_warm_yet",
        "checks_passed",
        "warm",
        "plateau",
        "opened_unchecked",
        "opened_cold",
        "recovered",
        "resumed",
        "app_restarted",
        "app_stopping",
        "check_fails",
        "stopping",
        "pod_deleted",
        "drain_ordered",
        "drained",
    ];

    /// The word for metrics and programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::AppRefuses(_) => "app_refuses",
            Self::ChecksPending(_) => "checks_pending",
            Self::ChecksFail(_) => "checks_fail",
            Self::WarmingUp => "warming_up",
            Self::NotWarmYet(_) => "not_warm_yet",
            Self::ChecksPassed => "checks_passed",
            Self::Warm => "warm",
            Self::Plateau => "plateau",
            Self::OpenedUnchecked(_) => "opened_unchecked",
            Self::OpenedCold(_) => "opened_cold",
            Self::Recovered => "recovered",
            Self::Resumed => "resumed",
            Self::AppRestarted => "app_restarted",
            Self::AppStopping => "app_stopping",
            Self::CheckFails(_) => "check_fails",
            Self::Stopping => "stopping",
            Self::PodDeleted => "pod_deleted",
            Self::DrainOrdered => "drain_ordered",
            Self::Drained => "drained",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("the gate has only just started"),
            Self::AppRefuses(why) => write!(f, "app {why}"),
            Self::ChecksPending(names) => write!(f, "no result yet of {names}"),
            Self::ChecksFail(why) | Self::CheckFails(why) => f.write_str(why),
            Self::WarmingUp => f.write_str("the app is being warmed up"),
            Self::NotWarmYet(why) => write!(f, "not warm yet: {why}"),
            Self::ChecksPassed => f.write_str("all checks pass"),
            Self::Warm => f.write_str("the app is warm"),
            Self::Plateau => f.write_str("the app's latency has stopped improving"),
            Self::OpenedUnchecked(why) => {
                write!(f, "opened by checksFailed although a check fails: {why}")
            }
            Self::OpenedCold(why) => {
                write!(f, "opened by notWarm although the app is not warm: {why}")
            }
            Self::Recovered => f.write_str("the app is well again"),
            Self::Resumed => f.write_str("the gate was restarted, the app was not"),
            Self::AppRestarted => f.write_str("the app was restarted"),
            Self::AppStopping => f.write_str("the app's container is being stopped"),
            Self::Stopping => f.write_str("the gate was told to stop"),
            Self::PodDeleted => f.write_str("the pod is being deleted"),
            Self::DrainOrdered => f.write_str("a drain was ordered"),
            Self::Drained => f.write_str("the drain is done"),
        }
    }
}
