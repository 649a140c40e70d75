//! The webhook configurations: are they there, and has the server opened them?

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use super::{patient::Patient, report::Line};
use crate::{
    facts::access::LEASE,
    webhook::{
        metrics::{Configuration, Entry},
        registration::{
            glass::{Glass, LAST, REASON, Reading},
            shipped_entries,
        },
    },
};

/// What installs, and what mends most.
pub(super) const APPLY: &str =
    "apply the manifests of this release: kubectl apply -k manifests/base";

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let mut lines = Vec::new();
    for configuration in Configuration::ALL {
        let title = title(configuration);
        match patient.configuration(configuration).await {
            Ok(Some(live)) => {
                lines.push(judge(configuration, &live, &patient.namespace));
                lines.extend(glass(&title, &live, Timestamp::now()));
                lines.extend(wait(&live, &patient.namespace));
            }
            Ok(None) => lines.push(Line::fail(
                format!("{title} is not there: nothing is judged"),
                APPLY,
            )),
            Err(why) => lines.push(Line::unknown(&title, &why)),
        }
    }
    lines
}

/// Whether somebody has broken the glass, and when somebody last did.
fn glass(title: &str, live: &Value, now: Timestamp) -> Option<Line> {
    let annotations = live.pointer("/metadata/annotations");
    let annotations = BTreeMap::deserialize(annotations?).ok()?;
    match Reading::of(&annotations, now) {
        Reading::Broken(Glass { reason, until, .. }) => Some(Line::warn(
            format!("{title}: glass is broken until {until}, so failurePolicy is Ignore: {reason}"),
            format!(
                "it ends by itself; to end it now: kubectl annotate validatingwebhookconfiguration,mutatingwebhookconfiguration portcullis {REASON}-"
            ),
        )),
        Reading::Over(Glass { until, .. }) => Some(Line::warn(
            format!(
                "{title}: glass was broken until {until}, and nobody has mended it: no replica writes"
            ),
            APPLY,
        )),
        Reading::Whole => {
            let last = annotations.get(LAST)?;
            Some(Line::ok(format!("{title}: glass was last broken {last}")))
        }
    }
}

/// The entries of a configuration.
pub(super) fn entries(live: &Value) -> impl Iterator<Item = &Value> {
    let entries = live.get("webhooks").and_then(Value::as_array);
    entries.into_iter().flatten()
}

pub(super) fn title(configuration: Configuration) -> String {
    let kind = match configuration {
        Configuration::Validating => "ValidatingWebhookConfiguration",
        Configuration::Mutating => "MutatingWebhookConfiguration",
    };
    format!("{kind} {}", crate::facts::access::CONFIGURATION)
}

fn judge(configuration: Configuration, live: &Value, namespace: &str) -> Line {
    let title = title(configuration);
    let name = |entry: &Value| entry.get("name").and_then(Value::as_str).map(str::to_owned);
    let shipped = shipped_entries(configuration);
    let absent: Vec<_> = shipped
        .iter()
        .copied()
        .filter(|shipped| !entries(live).any(|entry| name(entry).as_deref() == Some(shipped)))
        .collect();
    if !absent.is_empty() {
        let absent = absent.join(", ");
        return Line::fail(format!("{title} has no entry {absent}"), APPLY);
    }
    let is_closed = |entry: &&Value| {
        let rules = entry.get("rules").and_then(Value::as_array);
        rules.is_none_or(Vec::is_empty)
    };
    let closed: Vec<_> = entries(live).filter(is_closed).filter_map(name).collect();
    if !closed.is_empty() {
        return Line::fail(
            format!(
                "{title} has no rules at {}, so the API server calls nobody: the server opens it when it starts",
                closed.join(", ")
            ),
            format!(
                "see whether it runs: kubectl -n {namespace} get pods; kubectl -n {namespace} logs deployment/portcullis"
            ),
        );
    }
    Line::ok(match entries(live).count() {
        1 => format!("{title}: its one entry is open"),
        count => format!("{title}: {count} entries, all open"),
    })
}

/// Whether the API server waits for us where it should.
fn wait(live: &Value, namespace: &str) -> Vec<Line> {
    let known = entries(live).filter_map(|entry| {
        let name = entry.get("name").and_then(Value::as_str)?;
        Entry::of(name)?;
        let is_fail = entry
            .get("failurePolicy")
            .is_some_and(|policy| policy == "Fail");
        Some((name, is_fail))
    });
    let (fail, ignore): (Vec<_>, Vec<_>) = known.partition(|(_, is_fail)| *is_fail);
    let names = |entries: &[(&str, bool)]| {
        let names: Vec<_> = entries.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let mut lines = Vec::new();
    if !fail.is_empty() {
        let fail = names(&fail);
        lines.push(Line::ok(format!(
            "failurePolicy Fail at {fail}: it was proved that the API server reaches us"
        )));
    }
    if !ignore.is_empty() {
        let ignore = names(&ignore);
        lines.push(Line::warn(
            format!(
                "failurePolicy Ignore at {ignore}: what the API server can't ask us about is let in"
            ),
            format!(
                "a proof takes half a minute after the start, if the settings do not say failurePolicy: Ignore; why there \
                 is none, the replica says that holds the Lease: kubectl -n {namespace} get lease {LEASE}"
            ),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(webhooks: &Value) -> String {
        let configuration = json!({"webhooks": webhooks});
        let line = judge(
            Configuration::Validating,
            &configuration,
            "portcullis-system",
        );
        serde_json::to_string(&line).unwrap()
    }

    #[test]
    fn broken_glass_is_told_of_while_it_is_and_afterwards() {
        let now = "2026-11-21T20:00:00Z".parse().unwrap();
        let said = |annotations: Value| {
            let live = json!({"metadata": {"annotations": annotations}});
            glass("it", &live, now).map(|line| serde_json::to_string(&line).unwrap())
        };
        let broken = |until| json!({REASON: "INC-1", "portcullis.dev/break-glass-until": until});
        let line = said(broken("2026-11-21T21:00:00Z")).unwrap();
        assert!(
            line.contains("warn") && line.contains("until 2026-11-21T21:00:00Z"),
            "{line}"
        );
        assert!(
            line.contains("INC-1") && line.contains("portcullis.dev/break-glass-\""),
            "{line}"
        );
        let line = said(broken("2026-11-21T19:00:00Z")).unwrap();
        assert!(line.contains("nobody has mended it"), "{line}");
        let line = said(json!({LAST: "until then: INC-1"})).unwrap();
        assert!(
            line.contains("ok") && line.contains("last broken until then: INC-1"),
            "{line}"
        );
        assert_eq!(said(json!({"another.dev/annotation": "x"})), None);
    }

    #[test]
    fn an_entry_is_to_be_there_and_to_have_rules() {
        let entry = |rules: Value| json!([{"name": "validate.portcullis.dev", "rules": rules}]);
        let open = said(&entry(json!([{"resources": ["pods"]}])));
        assert!(
            open.contains("ok") && open.contains("its one entry is open"),
            "{open}"
        );
        for closed in [entry(json!([])), entry(json!(null))] {
            let closed = said(&closed);
            assert!(
                closed.contains("no rules at validate.portcullis.dev"),
                "{closed}"
            );
        }
        let absent = said(&json!([]));
        assert!(
            absent.contains("has no entry validate.portcullis.dev"),
            "{absent}"
        );
    }

    #[test]
    fn says_where_the_api_server_waits_for_us_and_where_not() {
        let entry = |name: &str, policy: &str| json!({"name": name, "failurePolicy": policy});
        let live = json!({"webhooks": [
            entry("patch.portcullis.dev", "Ignore"),
            entry("inject.portcullis.dev", "Fail"),
            entry("inject-by-namespace.portcullis.dev", "Ignore"),
            entry("inject-preferred.portcullis.dev", "Ignore"),
        ]});
        let lines = serde_json::to_string(&wait(&live, "portcullis-system")).unwrap();
        for words in [
            "failurePolicy Fail at inject.portcullis.dev:",
            "failurePolicy Ignore at inject-by-namespace.portcullis.dev:",
            "kubectl -n portcullis-system get lease portcullis",
        ] {
            assert!(lines.contains(words), "{words}: {lines}");
        }
    }
}
