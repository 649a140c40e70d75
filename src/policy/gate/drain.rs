//! How long the drain may take, so that the app has time left to stop in.

use core::time::Duration;

use serde_json::{Map, Value, json};

use crate::policy::template::{Exec, Hook, Template};

/// `terminationGracePeriodSeconds` of a pod that sets none (`SetDefaults_PodSpec`).
const GRACE: u64 = 30;

/// What the app is left with unless told otherwise.
const APP_RESERVE: Duration = Duration::from_secs(10);

/// What the kubelet needs to run hooks and send signals.
const MARGIN: Duration = Duration::from_secs(3);

/// A drain that is shorter than the gate's own delay is none.
const SHORTEST: Duration = Duration::from_secs(5);

/// Those of the gate's settings, for what is not said.
const DELAY: Duration = Duration::from_secs(5);
const STREAM_DEADLINE: Duration = Duration::from_secs(15);

/// Fits the drain into the grace period where the settings `gate` leave it open; says what is too short.
pub(super) fn fit(
    template: &Template<'_>,
    reserve: Option<Duration>,
    gate: &mut Map<String, Value>,
) -> Vec<String> {
    let spec = template.spec.as_ref();
    let grace = spec.and_then(|spec| spec.termination_grace_period_seconds);
    let grace = grace.map_or(GRACE, |grace| u64::try_from(grace).unwrap_or(0));
    let reserve = reserve.unwrap_or(APP_RESERVE);
    let room = Duration::from_secs(grace).saturating_sub(reserve + MARGIN);
    let sleep = shortest_sleep(template);
    let mut warnings = Vec::new();
    let drain = gate.entry("drain").or_insert_with(|| json!({}));
    let Some(drain) = drain.as_object_mut() else {
        return warnings; // refused when the settings are decoded
    };
    let told = drain.get("deadline").and_then(Value::as_str);
    let deadline = told.and_then(|text| humantime::parse_duration(text).ok());
    if let Some(told) = deadline.filter(|told| *told + MARGIN > Duration::from_secs(grace)) {
        warnings.push(format!(
            "drain.deadline {} does not fit into terminationGracePeriodSeconds {grace}: the pod is killed in the middle of \
             the drain",
            humantime::format_duration(told)
        ));
    }
    if deadline.is_none() && room < SHORTEST {
        let enough = (SHORTEST + reserve + MARGIN).as_secs();
        warnings.push(format!(
            "terminationGracePeriodSeconds {grace} leaves the drain {} s: set {enough} or more, or a shorter appReserve",
            room.as_secs()
        ));
    }
    let fitting = sleep.as_ref().map_or(room, |(_, sleep)| room.min(*sleep));
    let deadline = deadline.unwrap_or(fitting);
    if let Some((container, sleep)) = sleep.filter(|(_, sleep)| told.is_none() && *sleep < SHORTEST)
    {
        warnings.push(format!(
            "preStop of container \"{container}\" sleeps {} s, and the drain must be done by then: without a preStop it \
             waits for the drain",
            sleep.as_secs()
        ));
    }
    for (field, value) in [
        ("delay", DELAY.min(deadline)),
        ("deadline", deadline),
        ("streamDeadline", STREAM_DEADLINE.min(deadline)),
    ] {
        let text = humantime::format_duration(value).to_string();
        drain.entry(field).or_insert_with(|| json!(text));
    }
    warnings
}

/// The app container whose own `preStop` sleeps shortest: it is the first to be told to stop.
fn shortest_sleep<'t>(template: &'t Template<'_>) -> Option<(&'t str, Duration)> {
    let apps = template
        .containers()
        .filter(|site| site.list == "containers");
    let sleeps = apps.filter_map(|site| {
        let hook = site.container.lifecycle.as_ref()?.pre_stop.as_ref()?;
        Some((site.name(), sleeps(hook)?))
    });
    sleeps.min_by_key(|(_, sleep)| *sleep)
}

fn sleeps(hook: &Hook<'_>) -> Option<Duration> {
    let seconds = match (&hook.sleep, &hook.exec) {
        (Some(sleep), _) => u64::try_from(sleep.seconds?).ok()?,
        (None, Some(exec)) => command_sleeps(exec)?,
        (None, None) => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// `sleep 15`, and `sh -c "sleep 15"`.
fn command_sleeps(exec: &Exec<'_>) -> Option<u64> {
    let words = exec
        .command
        .items()
        .flat_map(|word| word.split_whitespace());
    let words: Vec<_> = words.collect();
    let words = match words.as_slice() {
        [shell, "-c", rest @ ..] if shell.ends_with("sh") => rest,
        words => words,
    };
    match words {
        [sleep, seconds] if sleep.rsplit('/').next() == Some("sleep") => {
            seconds.trim_end_matches('s').parse().ok()
        }
        _ => None,
    }
}
