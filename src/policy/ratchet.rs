//! The ratchet: of an update, only violations that the old object lacked are refused. So an object that is older than
//! its rules can be mended bit by bit, and an urgent new image need not wait until all of it is.

use std::collections::HashMap;

use super::{
    exemption::Exemptions,
    finding::{Finding, Level, Offence},
    rules::RuleId,
    workload::Workload,
};

/// The violations of an object before its update, each of which excuses one like it.
#[derive(Debug)]
pub(super) struct Ratchet {
    /// By all but how bad they are: how bad they are.
    held: HashMap<Key, Vec<i128>>,
}

/// What two versions of a violation have in common.
type Key = (RuleId, Option<String>, String, String);

// === impl Ratchet ===

impl Ratchet {
    /// `found` are the findings about `old`, by the rules and facts of today.
    pub(super) fn of(workload: &Workload<'_>, old: &Workload<'_>, found: &[Finding]) -> Self {
        let renamed = renamed(old, workload);
        let mut held: HashMap<Key, Vec<i128>> = HashMap::new();
        let exempt = Exemptions::of(old);
        // What was only a warning excuses no denial, nor does what stood under an exemption.
        let denials = found.iter().filter(|finding| finding.level == Level::Deny);
        for finding in denials.filter(|finding| !exempt.names(finding.rule)) {
            for offence in &finding.offences {
                let mut key = key(finding.rule, offence);
                if let (Some(container), Some((old, new))) = (&mut key.1, renamed)
                    && container == old
                {
                    new.clone_into(container);
                }
                held.entry(key).or_default().push(offence.degree);
            }
        }
        for degrees in held.values_mut() {
            degrees.sort_unstable();
        }
        Self { held }
    }

    /// All that `finding` speaks of was there before. Each violation excuses once: the second of two equal ones is new.
    pub(super) fn excuses(&mut self, finding: &Finding) -> bool {
        let mut taken = Vec::new();
        for offence in &finding.offences {
            let key = key(finding.rule, offence);
            let degrees = self.held.get_mut(&key);
            // The least one that is bad enough: worse ones are left for worse ones.
            let found = degrees.and_then(|degrees| {
                let at = degrees
                    .iter()
                    .position(|degree| *degree >= offence.degree)?;
                Some(degrees.remove(at))
            });
            let Some(degree) = found else {
                self.put_back(taken);
                return false;
            };
            taken.push((key, degree));
        }
        !finding.offences.is_empty()
    }

    fn put_back(&mut self, taken: Vec<(Key, i128)>) {
        for (key, degree) in taken {
            let degrees = self.held.entry(key).or_default();
            let at = degrees.partition_point(|other| *other < degree);
            degrees.insert(at, degree);
        }
    }
}

fn key(rule: RuleId, offence: &Offence) -> Key {
    let Offence {
        container,
        field,
        value,
        degree: _,
    } = offence;
    (rule, container.clone(), field.clone(), value.clone())
}

/// The old and the new name of a container: exactly one has gone and one has come, in the same list, and nothing but the
/// name tells them apart. Otherwise nobody knows which became which.
fn renamed<'w>(old: &'w Workload<'_>, new: &'w Workload<'_>) -> Option<(&'w str, &'w str)> {
    let only = |workload: &'w Workload<'_>, other: &Workload<'_>| {
        let mut alone = workload.template.containers().filter(|site| {
            let mut others = other.template.containers();
            others.all(|other| other.name() != site.name())
        });
        let first = alone.next()?;
        alone.next().is_none().then_some(first)
    };
    let (went, came) = (only(old, new)?, only(new, old)?);
    let same =
        went.list == came.list && old.container_but_name(went)? == new.container_but_name(came)?;
    same.then(|| (went.name(), came.name()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::{
        facts::{Answer, ENFORCE, Query},
        leniency::Leniency,
        rules::RuleId,
        settings::Settings,
        testing::{Facts, Judged, NAMESPACE, deployment, limit_range},
        verdict::Decision,
    };

    /// A container that breaks no rule.
    fn sound(name: &str) -> Value {
        json!({
            "name": name,
            "image": "registry.example/app:1",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"},
                "limits": {"cpu": "100m", "memory": "32Mi"},
            },
        })
    }

    /// A sound container but for what `spoil` does to it.
    fn spoilt(name: &str, spoil: impl FnOnce(&mut Value)) -> Value {
        let mut container = sound(name);
        spoil(&mut container);
        container
    }

    /// A container without a memory limit.
    fn greedy(name: &str) -> Value {
        spoilt(name, |container| {
            container["resources"]["limits"] = json!({"cpu": "100m"});
        })
    }

    /// A container that takes TOKEN from this Secret, which does not exist.
    fn reading(name: &str, env: &str, secret: &str) -> Value {
        spoilt(name, |container| {
            let source = json!({"secretKeyRef": {"name": secret, "key": "k"}});
            container["env"] = json!([{"name": env, "valueFrom": source}]);
        })
    }

    fn of(containers: &[Value]) -> Value {
        deployment(json!({"containers": containers}))
    }

    fn updated(old: &[Value], new: &[Value]) -> Judged {
        Facts::default().judge_update(&of(old), &of(new))
    }

    #[test]
    fn an_old_violation_warns_and_says_why() {
        let newer = spoilt("app", |container| {
            *container = greedy("app");
            container["image"] = json!("registry.example/app:2");
        });
        let verdict = updated(&[greedy("app")], &[newer]);
        assert_eq!(verdict.decision, Decision::Warn);
        assert_eq!(
            verdict.warnings,
            [
                "portcullis: Deployment shop/checkout: 1 problem that it had before this update only warns; new ones are \
                 refused",
                "portcullis: Deployment shop/checkout: memory-limit: container \"app\" has no memory limit",
            ]
        );
        assert_eq!(verdict.lowered, [(RuleId::MemoryLimit, Leniency::Ratchet)]);
        let audit = verdict.audit();
        for told in [("lowered", "memory-limit"), ("lowered-by", "ratchet")] {
            assert!(audit.contains(&(told.0, told.1.to_owned())), "{audit:?}");
        }
    }

    #[test]
    fn a_creation_and_an_update_of_a_sound_object_are_judged_in_full() {
        let created = Facts::default().judge(&of(&[greedy("app")]));
        assert_eq!(created.decision, Decision::Deny);
        let spoilt = updated(&[sound("app")], &[greedy("app")]);
        assert_eq!(spoilt.decision, Decision::Deny);
        assert!(spoilt.lowered.is_empty());
    }

    #[test]
    fn a_new_violation_is_refused_beside_old_ones() {
        let worse = spoilt("app", |container| {
            *container = greedy("app");
            container["livenessProbe"] = Value::Null;
        });
        let verdict = updated(&[greedy("app")], &[worse]);
        assert_eq!(verdict.decision, Decision::Deny);
        assert_eq!(verdict.of("memory-limit").len(), 1);
        assert!(verdict.of("memory-limit")[0].starts_with("warn"));
        assert!(verdict.of("liveness-probe")[0].starts_with("deny"));
        assert!(
            verdict.message.contains("1 problem\n") && !verdict.message.contains("memory-limit"),
            "{}",
            verdict.message
        );
    }

    #[test]
    fn a_violation_moves_to_no_other_container() {
        for (old, new, decision) in [
            // One more of the same.
            (
                vec![greedy("a")],
                vec![greedy("a"), greedy("b")],
                Decision::Deny,
            ),
            // In another order.
            (
                vec![greedy("a"), sound("b")],
                vec![sound("b"), greedy("a")],
                Decision::Warn,
            ),
            // From one to the other,
            (
                vec![greedy("a"), sound("b")],
                vec![sound("a"), greedy("b")],
                Decision::Deny,
            ),
            // which is no change of names either.
            (
                vec![greedy("a"), sound("b")],
                vec![sound("b"), sound("a"), greedy("c")],
                Decision::Deny,
            ),
            // Renamed.
            (
                vec![sound("a"), greedy("b")],
                vec![greedy("c"), sound("a")],
                Decision::Warn,
            ),
            // Renamed and changed: nobody knows that it is the same.
            (
                vec![greedy("a")],
                vec![spoilt("b", |container| {
                    *container = greedy("b");
                    container["image"] = json!("registry.example/other:1");
                })],
                Decision::Deny,
            ),
            // Two went and two came.
            (
                vec![greedy("a"), greedy("b")],
                vec![greedy("c"), greedy("d")],
                Decision::Deny,
            ),
            // One of two went.
            (
                vec![greedy("a"), greedy("b")],
                vec![greedy("a")],
                Decision::Warn,
            ),
            // The name of the one that went is taken by another that is just as bad; then there is one more.
            (
                vec![greedy("a"), sound("b")],
                vec![sound("b"), greedy("c"), greedy("d")],
                Decision::Deny,
            ),
        ] {
            let verdict = updated(&old, &new);
            assert_eq!(verdict.decision, decision, "{old:?}\n{new:?}");
        }
    }

    #[test]
    fn a_container_is_not_renamed_from_one_list_to_another() {
        let bare = json!({"name": "a", "image": "x"});
        let old = deployment(json!({"initContainers": [bare], "containers": [sound("app")]}));
        let mut renamed = bare.clone();
        renamed["name"] = json!("b");
        let new = deployment(json!({"containers": [sound("app"), renamed]}));
        assert_eq!(
            Facts::default().judge_update(&old, &new).decision,
            Decision::Deny
        );
    }

    #[test]
    fn another_value_is_another_violation() {
        let old = [reading("app", "TOKEN", "gone")];
        for (new, decision) in [
            (reading("app", "TOKEN", "gone"), Decision::Warn),
            (reading("app", "TOKEN", "gone-too"), Decision::Deny),
            (reading("app", "PASSWORD", "gone"), Decision::Deny),
        ] {
            assert_eq!(
                updated(&old, std::slice::from_ref(&new)).decision,
                decision,
                "{new}"
            );
        }
    }

    #[test]
    fn one_more_reference_to_what_is_missing_is_new() {
        let twice = spoilt("app", |container| {
            *container = reading("app", "TOKEN", "gone");
            let mut again = container["env"][0].clone();
            again["name"] = json!("TOKEN_TOO");
            container["env"] = json!([container["env"][0], again]);
        });
        let once = reading("app", "TOKEN", "gone");
        let more = updated(std::slice::from_ref(&once), std::slice::from_ref(&twice));
        assert_eq!(more.decision, Decision::Deny);
        assert_eq!(updated(&[twice], &[once]).decision, Decision::Warn);
    }

    #[test]
    fn the_second_of_two_equal_violations_is_new() {
        let probing = |count: usize| {
            spoilt("app", |container| {
                let entry = json!({"name": "MODE", "value": true});
                container["env"] = vec![entry; count].into();
            })
        };
        assert_eq!(
            updated(&[probing(1)], &[probing(1)]).decision,
            Decision::Warn
        );
        assert_eq!(
            updated(&[probing(1)], &[probing(2)]).decision,
            Decision::Deny
        );
        assert_eq!(
            updated(&[probing(2)], &[probing(1)]).decision,
            Decision::Warn
        );
    }

    #[test]
    fn a_worse_quantity_is_new() {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        let bounds = limit_range(
            &json!({"max": {"memory": "1Gi"}, "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "2"}}),
        );
        let facts = Facts::default().with(query, Answer::LimitRanges(vec![bounds]));
        let asking = |requests: Value, limits: Value| {
            of(&[spoilt("app", |container| {
                container["resources"] = json!({"requests": requests, "limits": limits});
            })])
        };
        let memory = |request: &str, limit: &str| {
            asking(
                json!({"cpu": "1", "memory": request}),
                json!({"cpu": "1", "memory": limit}),
            )
        };
        let cpu = |request: &str, limit: &str| {
            asking(
                json!({"cpu": request, "memory": "1Mi"}),
                json!({"cpu": limit, "memory": "1Mi"}),
            )
        };
        for (old, new, decision) in [
            (memory("1Gi", "4Gi"), memory("1Gi", "4Gi"), Decision::Warn),
            (memory("1Gi", "4Gi"), memory("1Gi", "3Gi"), Decision::Warn),
            (memory("1Gi", "4Gi"), memory("1Gi", "5Gi"), Decision::Deny),
            // The limit is better, but now the request is too high as well.
            (memory("1Gi", "4Gi"), memory("2Gi", "3Gi"), Decision::Deny),
            (
                memory("1Gi", "512Mi"),
                memory("1Gi", "600Mi"),
                Decision::Warn,
            ),
            (
                memory("1Gi", "512Mi"),
                memory("1Gi", "500Mi"),
                Decision::Deny,
            ),
            (cpu("50m", "50m"), cpu("60m", "60m"), Decision::Warn),
            (cpu("50m", "50m"), cpu("40m", "40m"), Decision::Deny),
            (cpu("100m", "300m"), cpu("100m", "250m"), Decision::Warn),
            (cpu("100m", "300m"), cpu("100m", "350m"), Decision::Deny),
        ] {
            let verdict = facts.judge_update(&old, &new);
            assert_eq!(
                verdict.decision, decision,
                "{}\n{}\n{}",
                old["spec"], new["spec"], verdict.message
            );
        }
    }

    #[test]
    fn what_could_not_be_known_before_excuses_nothing() {
        // Whether envFrom brings TZ is unknown while its Secret is missing; without envFrom it is known to be absent.
        let settings = json!({"requiredEnv": [{"namespaces": ["*"], "env": ["TZ"]}], "rules": {"secret-reference": {"level": "warn"}}});
        let facts = Facts {
            settings: Settings::from_value(settings).unwrap(),
            ..Facts::default()
        };
        let old = spoilt("app", |container| {
            container["envFrom"] = json!([{"secretRef": {"name": "later"}}]);
        });
        let verdict = facts.judge_update(&of(&[old]), &of(&[sound("app")]));
        assert_eq!(verdict.decision, Decision::Deny, "{:?}", verdict.warnings);
    }

    #[test]
    fn settings_turn_it_off_and_levels_stay() {
        let off = Facts {
            settings: Settings::from_value(json!({"ratchet": false})).unwrap(),
            ..Facts::default()
        };
        let object = of(&[greedy("app")]);
        assert_eq!(off.judge_update(&object, &object).decision, Decision::Deny);
        let warned = Facts::default().with_labels(&[(ENFORCE, "warn")]);
        let verdict = warned.judge_update(&object, &object);
        assert_eq!(verdict.decision, Decision::Warn);
        assert!(
            verdict.lowered.is_empty(),
            "nothing would have been refused"
        );
    }

    #[test]
    fn a_mistake_in_what_the_gate_is_told_is_refused_however_old() {
        let mut object = of(&[sound("app")]);
        object["spec"]["template"]["metadata"] = json!({
            "labels": {"portcullis.dev/gate": "enabled"},
            "annotations": {"portcullis.dev/gate-config": "chekcs: []"},
        });
        let verdict = Facts::default().judge_update(&object, &object);
        assert_eq!(verdict.decision, Decision::Deny);
        assert!(!verdict.of("gate-config").is_empty());
    }
}
