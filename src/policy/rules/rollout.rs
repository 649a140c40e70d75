//! How a rollout replaces pods: none is missed while it runs, and it notices when it fails.

use super::{Context, Rule, RuleId};
use crate::policy::{
    finding::{Finding, Fix, Level, Offence},
    template::{Probe, Scalar, Site},
    workload::{RollingUpdate, Rollout, Strategy},
};

pub(super) static ROLLOUT_STRATEGY: Rule = Rule {
    id: RuleId::RolloutStrategy,
    summary: "with more than one replica: no pod goes before its replacement is ready \
              (`maxUnavailable: 0`), `minReadySeconds` is set, and `progressDeadlineSeconds` \
              outlasts the startup probes",
    why: "Several replicas are there so that none is missed. By default a rollout still takes a \
          quarter of them away before their replacements are ready (rounded down: none of 3, one \
          of 4), and `Recreate` takes all; `maxUnavailable: 0` adds first and removes after. \
          Without `minReadySeconds` a pod counts from the first instant it is ready, so a \
          version that crashes after five seconds replaces every good pod. \
          `progressDeadlineSeconds`, which the API server sets to 600 where it is absent, must \
          leave startup probes the time that they allow, or a rollout is called failed while its \
          pods are still starting. StatefulSets (of more than one replica) and DaemonSets are \
          asked for `minReadySeconds` only; `OnDelete` is left alone. Of these fields, only the \
          template is watched on updates: a change of replicas or strategy alone is never sent \
          to the webhook, so that scaling never depends on it; the next change of the template \
          is judged with them.",
    example: "\
kind: Deployment
spec:
  replicas: 4
",
    fixed: "\
kind: Deployment
spec:
  replicas: 4
  minReadySeconds: 10
  strategy:
    rollingUpdate: {maxUnavailable: 0}
",
    level: Level::Warn,
    reads: &[
        "spec.containers.startupProbe",
        "spec.initContainers.restartPolicy",
        "spec.initContainers.startupProbe",
        "workload.spec.minReadySeconds",
        "workload.spec.progressDeadlineSeconds",
        "workload.spec.replicas",
        "workload.spec.strategy",
        "workload.spec.updateStrategy",
    ],
    check,
};

/// `maxSurge` and `maxUnavailable` of a Deployment that sets none (`SetDefaults_Deployment`).
const DEFAULT_SHARE: &str = "25%";

/// `progressDeadlineSeconds` of a Deployment that sets none (`SetDefaults_Deployment`).
const DEFAULT_DEADLINE: i64 = 600;

/// `progressDeadlineSeconds` that means no deadline (`HasProgressDeadline` of the deployment
/// controller).
const NO_DEADLINE: i64 = 2_147_483_647;

/// What the fix proposes for `minReadySeconds`: the period of a probe that sets none.
const MIN_READY: i64 = 10;

/// How much longer than the startup probes the fix lets a rollout take.
const DEADLINE_MARGIN: i64 = 60;

fn check(context: &mut Context<'_>) {
    let workload = context.workload;
    if workload.kind.group != "apps" {
        return;
    }
    let rollout = &workload.rollout;
    let replicas = rollout.replicas.unwrap_or(1);
    match &*workload.kind.kind {
        "Deployment" if replicas > 1 => {
            unavailable(context, rollout.strategy.as_ref(), replicas);
            min_ready(context, rollout, &format!("{replicas} replicas"));
            deadline(context, rollout);
        }
        "StatefulSet" if replicas > 1 && rolls(rollout) => {
            min_ready(context, rollout, &format!("{replicas} replicas"));
        }
        "DaemonSet" if rolls(rollout) => min_ready(context, rollout, "a pod on every node"),
        _ => {}
    }
}

/// The controller replaces pods by itself.
fn rolls(rollout: &Rollout<'_>) -> bool {
    let kind = rollout
        .update_strategy
        .as_ref()
        .and_then(|strategy| strategy.kind.as_deref());
    matches!(kind, None | Some("" | "RollingUpdate"))
}

fn unavailable(context: &mut Context<'_>, strategy: Option<&Strategy<'_>>, replicas: i64) {
    let kind = strategy.and_then(|strategy| strategy.kind.as_deref());
    if kind == Some("Recreate") {
        report(
            context,
            "/spec/strategy/type",
            format!(
                "{replicas} replicas: Recreate takes all of them away before the first new one \
                 starts"
            ),
            0,
            "strategy:\n  type: RollingUpdate\n  rollingUpdate: {maxUnavailable: 0, maxSurge: 1}\n"
                .to_owned(),
        );
        return;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let RollingUpdate {
        max_unavailable,
        max_surge,
    } = rolling.cloned().unwrap_or_default();
    let written = |share: &Option<Scalar<'_>>| {
        share
            .as_ref()
            .map_or(DEFAULT_SHARE, Scalar::as_written)
            .to_owned()
    };
    let surge = share(&written(&max_surge), replicas, Round::Up);
    let taken = share(&written(&max_unavailable), replicas, Round::Down);
    let (Some(surge), Some(mut taken)) = (surge, taken) else {
        return;
    };
    if surge == 0 {
        // Where both come to nothing, the controller takes one away (`ResolveFenceposts`).
        taken = taken.max(1);
    }
    if taken == 0 {
        return;
    }
    let written = match &max_unavailable {
        Some(share) => format!("maxUnavailable {}", share.as_written()),
        None => format!("maxUnavailable is {DEFAULT_SHARE} unless set"),
    };
    let surge = if surge == 0 { ", maxSurge: 1" } else { "" };
    report(
        context,
        "/spec/strategy/rollingUpdate/maxUnavailable",
        format!(
            "{replicas} replicas: a rollout takes {taken} of them away before a replacement is ready \
             ({written})"
        ),
        i128::from(taken) * 1000 / i128::from(replicas.max(1)), // a share: scaling makes it no worse
        format!("strategy:\n  rollingUpdate: {{maxUnavailable: 0{surge}}}\n"),
    );
}

fn min_ready(context: &mut Context<'_>, rollout: &Rollout<'_>, pods: &str) {
    if rollout.min_ready_seconds.unwrap_or_default() > 0 {
        return;
    }
    report(
        context,
        "/spec/minReadySeconds",
        format!(
            "{pods}: minReadySeconds is 0, so a new pod counts the instant it is ready, and a rollout \
             goes on though it crashes next"
        ),
        0,
        format!("minReadySeconds: {MIN_READY}\n"),
    );
}

fn deadline(context: &mut Context<'_>, rollout: &Rollout<'_>) {
    let deadline = rollout
        .progress_deadline_seconds
        .unwrap_or(DEFAULT_DEADLINE);
    let sites = context
        .workload
        .template
        .containers()
        .filter(Site::is_long_running);
    let allowances =
        sites.filter_map(|site| Some((allowance(site.container.startup_probe.as_ref()?), site)));
    let Some((allowed, site)) = allowances.max_by_key(|(allowed, _)| *allowed) else {
        return;
    };
    let needed = allowed.saturating_add(rollout.min_ready_seconds.unwrap_or_default());
    if deadline >= NO_DEADLINE || deadline > needed {
        return;
    }
    report(
        context,
        "/spec/progressDeadlineSeconds",
        format!(
            "the startup probe of container \"{}\" allows {allowed} s, but after \
             progressDeadlineSeconds, {deadline} s, the rollout is called failed",
            site.name()
        ),
        i128::from(needed) - i128::from(deadline),
        format!(
            "progressDeadlineSeconds: {}\n",
            needed.saturating_add(DEADLINE_MARGIN)
        ),
    );
}

/// Seconds until a startup probe that never succeeds restarts its container.
fn allowance(probe: &Probe<'_>) -> i64 {
    i64::from(probe.initial_delay_seconds.unwrap_or_default()) + probe.patience()
}

#[derive(Clone, Copy)]
enum Round {
    Up,
    Down,
}

/// That many of `replicas`; `None` for what is neither a number nor a percentage, which the API
/// server refuses.
fn share(share: &str, replicas: i64, round: Round) -> Option<i64> {
    let Some(percent) = share.strip_suffix('%') else {
        return share.parse().ok();
    };
    let hundredths = percent.parse::<i64>().ok()?.checked_mul(replicas)?;
    Some(match round {
        Round::Up => hundredths.checked_add(99)? / 100,
        Round::Down => hundredths / 100,
    })
}

/// Reports what is wrong at `path`, and how much it is: more is worse.
fn report(context: &mut Context<'_>, path: &str, message: String, degree: i128, yaml: String) {
    context.report(Finding {
        rule: RuleId::RolloutStrategy,
        level: Level::Deny,
        container: None,
        path: path.to_owned(),
        message,
        fix: Some(Fix {
            at: String::from("spec"),
            yaml,
        }),
        offences: vec![Offence::new(None, path, "").to_degree(degree)],
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::testing::{Facts, deployment};

    /// Paths and messages of this rule about a Deployment with these fields beside its template.
    fn judged(fields: Value) -> Vec<String> {
        of(deployment(json!({"containers": []})), fields)
    }

    fn of(mut object: Value, fields: Value) -> Vec<String> {
        let Value::Object(fields) = fields else {
            panic!("fields")
        };
        object["spec"].as_object_mut().unwrap().extend(fields);
        let verdict = Facts::default().judge(&object);
        let findings = verdict
            .findings
            .iter()
            .filter(|it| it.rule.as_str() == "rollout-strategy");
        findings
            .map(|finding| {
                assert_eq!(finding.level.as_str(), "warn");
                let fix = finding.fix.as_ref().expect("a fix");
                assert_eq!(fix.at, "spec");
                let yaml = fix.yaml.trim_end().replace("\n  ", " ");
                format!("{}: {} => {yaml}", finding.path, finding.message)
            })
            .collect()
    }

    #[test]
    fn one_replica_is_left_alone() {
        for replicas in [Value::Null, json!(0), json!(1)] {
            assert!(
                judged(json!({"replicas": replicas, "strategy": {"type": "Recreate"}})).is_empty()
            );
        }
    }

    #[test]
    fn a_careful_rollout_is_accepted() {
        for unavailable in [json!(0), json!("0%"), json!("10%")] {
            let strategy =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}});
            let fields = json!({"replicas": 9, "minReadySeconds": 5, "strategy": strategy});
            assert!(judged(fields).is_empty());
        }
    }

    #[test]
    fn the_default_share_is_rounded_down_as_the_controller_does() {
        for (replicas, taken) in [(2, 0), (3, 0), (4, 1), (7, 1), (8, 2), (40, 10)] {
            let found = judged(json!({"replicas": replicas, "minReadySeconds": 5}));
            let expected = format!(
                "/spec/strategy/rollingUpdate/maxUnavailable: {replicas} replicas: a rollout takes \
                 {taken} of them away before a replacement is ready (maxUnavailable is 25% unless set) \
                 => strategy: rollingUpdate: {{maxUnavailable: 0}}"
            );
            let expected = if taken == 0 { vec![] } else { vec![expected] };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_share_as_written_is_named() {
        for (rolling, taken, written, fix) in [
            (json!({"maxUnavailable": 2}), 2, "2", "{maxUnavailable: 0}"),
            (
                json!({"maxUnavailable": "50%", "maxSurge": 0}),
                2,
                "50%",
                "{maxUnavailable: 0, maxSurge: 1}",
            ),
            // Rounded down to none; then the controller takes one, since it may not surge.
            (
                json!({"maxUnavailable": "10%", "maxSurge": "0%"}),
                1,
                "10%",
                "{maxUnavailable: 0, maxSurge: 1}",
            ),
        ] {
            let strategy = json!({"rollingUpdate": rolling});
            let found = judged(json!({"replicas": 5, "minReadySeconds": 5, "strategy": strategy}));
            assert_eq!(
                found,
                [format!(
                    "/spec/strategy/rollingUpdate/maxUnavailable: 5 replicas: a rollout takes {taken} of \
                     them away before a replacement is ready (maxUnavailable {written}) => strategy: \
                     rollingUpdate: {fix}"
                )]
            );
        }
    }

    #[test]
    fn recreate_takes_all_away() {
        let found =
            judged(json!({"replicas": 2, "minReadySeconds": 5, "strategy": {"type": "Recreate"}}));
        assert_eq!(
            found,
            [
                "/spec/strategy/type: 2 replicas: Recreate takes all of them away before the first new one \
              starts => strategy: type: RollingUpdate rollingUpdate: {maxUnavailable: 0, maxSurge: 1}"
            ]
        );
    }

    #[test]
    fn a_pod_must_stay_ready_for_a_while() {
        for absent in [Value::Null, json!(0)] {
            assert_eq!(
                judged(json!({"replicas": 2, "minReadySeconds": absent})),
                [
                    "/spec/minReadySeconds: 2 replicas: minReadySeconds is 0, so a new pod counts the instant \
                  it is ready, and a rollout goes on though it crashes next => minReadySeconds: 10"
                ]
            );
        }
    }

    #[test]
    fn the_deadline_outlasts_the_startup_probes() {
        let starting = |probe: Value| {
            deployment(json!({"containers": [
                {"name": "quick", "startupProbe": {}}, {"name": "slow", "startupProbe": probe},
            ]}))
        };
        let slow = json!({"initialDelaySeconds": 30, "periodSeconds": 10, "failureThreshold": 60});
        let found = |deadline: Value| {
            let fields =
                json!({"replicas": 2, "minReadySeconds": 5, "progressDeadlineSeconds": deadline});
            of(starting(slow.clone()), fields)
        };
        for (deadline, words) in [(Value::Null, 600), (json!(635), 635)] {
            assert_eq!(
                found(deadline),
                [format!(
                    "/spec/progressDeadlineSeconds: the startup probe of container \"slow\" allows 630 s, \
                     but after progressDeadlineSeconds, {words} s, the rollout is called failed => \
                     progressDeadlineSeconds: 695"
                )]
            );
        }
        for enough in [json!(636), json!(i32::MAX)] {
            assert!(found(enough).is_empty());
        }
        let probe = json!({"periodSeconds": 1, "failureThreshold": 30});
        assert!(
            of(
                starting(probe),
                json!({"replicas": 2, "minReadySeconds": 5})
            )
            .is_empty()
        );
    }

    #[test]
    fn stateful_sets_and_daemon_sets_are_asked_for_min_ready_seconds_alone() {
        for (kind, strategy, expected) in [
            ("StatefulSet", json!(null), 1),
            ("StatefulSet", json!({"type": "RollingUpdate"}), 1),
            ("StatefulSet", json!({"type": "OnDelete"}), 0),
            (
                "DaemonSet",
                json!({"rollingUpdate": {"maxUnavailable": 3}}),
                1,
            ),
            ("DaemonSet", json!({"type": "OnDelete"}), 0),
            ("ReplicaSet", json!(null), 0),
        ] {
            let mut object = deployment(json!({"containers": []}));
            object["kind"] = json!(kind);
            let found = of(object, json!({"replicas": 9, "updateStrategy": strategy}));
            assert_eq!(found.len(), expected, "{kind} {strategy}");
            assert!(
                found
                    .iter()
                    .all(|line| line.starts_with("/spec/minReadySeconds"))
            );
        }
    }

    #[test]
    fn a_share_that_the_api_server_refuses_is_not_judged() {
        let strategy = json!({"rollingUpdate": {"maxUnavailable": "some"}});
        assert!(
            judged(json!({"replicas": 9, "minReadySeconds": 5, "strategy": strategy})).is_empty()
        );
    }
}
