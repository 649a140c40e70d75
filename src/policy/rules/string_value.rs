//! Labels, annotations and env values are strings, not what YAML makes of them without quotes.

use super::{Context, Rule, RuleId, yaml};
use crate::policy::{
    finding::{Finding, Fix, Level, Offence},
    template::{Map, Metadata, Scalar},
};

pub(super) static STRING_VALUE: Rule = Rule {
    id: RuleId::StringValue,
    summary: "labels, annotations and env values are strings: unquoted `on`, `off`, `yes`, `no`, \
              `true` and numbers are not",
    why: "kubectl reads YAML 1.1, where an unquoted `on`, `off`, `yes` or `no` is a boolean, and \
          `8080` or `1.20` a number. The API server takes only strings there and answers \
          \"cannot unmarshal bool into Go struct field\", without a file or a line. A custom \
          resource may take them, and its controller then fails to make pods. Judged are the \
          metadata of the workload and of its template, and env values. On updates, a change of \
          the workload's own labels or annotations alone is never sent to the webhook.",
    example: "\
containers:
- name: app
  env:
  - name: FEATURE_CHECKOUT
    value: on
  - name: PORT
    value: 8080
",
    fixed: "\
containers:
- name: app
  env:
  - name: FEATURE_CHECKOUT
    value: \"on\"
  - name: PORT
    value: \"8080\"
",
    level: Level::Deny,
    reads: &[
        "metadata.annotations",
        "metadata.labels",
        "spec.containers.env",
        "spec.initContainers.env",
        "workload.metadata.annotations",
        "workload.metadata.labels",
    ],
    check,
};

fn check(context: &mut Context<'_>) {
    let workload = context.workload;
    of_metadata(context, workload.metadata(), "");
    if let Some(metadata) = workload
        .template
        .metadata
        .as_ref()
        .filter(|_| !workload.kind.is_pod())
    {
        of_metadata(context, metadata, &workload.kind.template);
    }
    for site in workload.template.containers() {
        for (index, env) in site.container.env.iter() {
            let Some(what) = env.value.as_ref().and_then(misread) else {
                continue;
            };
            let name = env.name.as_deref().unwrap_or_default();
            let value = env.value.as_ref().map(quoted).unwrap_or_default();
            let yaml = format!("env:\n- name: {}\n  value: {value}\n", yaml::scalar(name));
            context.report(Finding {
                rule: RuleId::StringValue,
                level: Level::Deny,
                container: Some(site.name().to_owned()),
                path: context.pointer(site, &format!("/env/{index}/value")),
                message: format!(
                    "container \"{}\": env {name} is {what}; put it in quotes",
                    site.name()
                ),
                fix: Some(context.fix(site, yaml)),
                offences: vec![Offence::new(
                    Some(site.name()),
                    format!("env {name}"),
                    env.value.as_ref().map_or("", Scalar::as_written),
                )],
            });
        }
    }
}

/// Labels and annotations of `metadata`, which stands in the object at the JSON pointer `parent`.
fn of_metadata(context: &mut Context<'_>, metadata: &Metadata<'_>, parent: &str) {
    of_map(context, "label", "labels", &metadata.labels, parent);
    of_map(
        context,
        "annotation",
        "annotations",
        &metadata.annotations,
        parent,
    );
}

fn of_map(
    context: &mut Context<'_>,
    word: &str,
    field: &str,
    map: &Map<'_, Scalar<'_>>,
    parent: &str,
) {
    for (key, value) in map.iter() {
        let Some(what) = misread(value) else { continue };
        let whose = if parent.is_empty() {
            ""
        } else {
            "pod template: "
        };
        let dotted = format!("{parent}/metadata").replace('/', ".");
        context.report(Finding {
            rule: RuleId::StringValue,
            level: Level::Deny,
            container: None,
            path: format!(
                "{parent}/metadata/{field}/{}",
                key.replace('~', "~0").replace('/', "~1")
            ),
            message: format!("{whose}{word} {key} is {what}; put it in quotes"),
            fix: Some(Fix {
                at: dotted.trim_start_matches('.').to_owned(),
                yaml: format!("{field}:\n  {}: {}\n", yaml::scalar(key), quoted(value)),
            }),
            offences: vec![Offence::new(
                None,
                format!("{whose}{word} {key}"),
                value.as_written(),
            )],
        });
    }
}

/// What a value is that is no string.
fn misread(value: &Scalar<'_>) -> Option<String> {
    match value {
        Scalar::Text(_) => None,
        Scalar::Number(digits) => Some(format!("the number {digits}")),
        Scalar::Bool(true) => Some(String::from(
            "the boolean true, as is an unquoted on or yes",
        )),
        Scalar::Bool(false) => Some(String::from(
            "the boolean false, as is an unquoted off or no",
        )),
    }
}

/// The value in quotes; which word a boolean was written as is lost.
fn quoted(value: &Scalar<'_>) -> String {
    let hint = match value {
        Scalar::Bool(true) => " # or \"on\" or \"yes\", as it was meant",
        Scalar::Bool(false) => " # or \"off\" or \"no\", as it was meant",
        Scalar::Text(_) | Scalar::Number(_) => "",
    };
    format!("\"{}\"{hint}", value.as_written())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::testing::{Facts, container, deployment};

    /// Findings of this rule as `PATH: MESSAGE => AT: YAML`.
    fn judged(object: &Value) -> Vec<String> {
        let verdict = Facts::default().judge(object);
        let findings = verdict
            .findings
            .iter()
            .filter(|it| it.rule.as_str() == "string-value");
        findings
            .map(|finding| {
                assert_eq!(finding.level.as_str(), "deny");
                let fix = finding.fix.as_ref().expect("a fix");
                format!(
                    "{}: {} => {}: {}",
                    finding.path, finding.message, fix.at, fix.yaml
                )
            })
            .collect()
    }

    #[test]
    fn strings_and_null_are_accepted() {
        let mut object = deployment(json!({"containers": [container(json!({"env": [
            {"name": "A", "value": "on"}, {"name": "B", "value": "8080"}, {"name": "C", "value": null},
            {"name": "D"}, {"name": "E", "value": ""},
        ]}))]}));
        object["metadata"]["labels"] = json!({"a": "yes", "b": null, "c": ""});
        object["spec"]["template"]["metadata"]["annotations"] = json!({"a": "1.20"});
        assert!(judged(&object).is_empty());
    }

    #[test]
    fn names_what_yaml_made_of_the_value() {
        let object = deployment(json!({"containers": [container(json!({"env": [
            {"name": "ON", "value": true}, {"name": "OFF", "value": false},
            {"name": "PORT", "value": 8080},
        ]}))]}));
        let at = "spec.template.spec.containers[name=app]";
        let path = |index: u8| format!("/spec/template/spec/containers/0/env/{index}/value");
        assert_eq!(
            judged(&object),
            [
                format!(
                    "{}: container \"app\": env ON is the boolean true, as is an unquoted on or yes; put \
                     it in quotes => {at}: env:\n- name: \"ON\"\n  value: \"true\" # or \"on\" or \
                     \"yes\", as it was meant\n",
                    path(0)
                ),
                format!(
                    "{}: container \"app\": env OFF is the boolean false, as is an unquoted off or no; \
                     put it in quotes => {at}: env:\n- name: \"OFF\"\n  value: \"false\" # or \"off\" \
                     or \"no\", as it was meant\n",
                    path(1)
                ),
                format!(
                    "{}: container \"app\": env PORT is the number 8080; put it in quotes => {at}: \
                     env:\n- name: PORT\n  value: \"8080\"\n",
                    path(2)
                ),
            ]
        );
    }

    #[test]
    fn judges_the_metadata_of_workload_and_template() {
        let mut object = deployment(json!({"containers": []}));
        object["metadata"]["labels"] = json!({"portcullis.dev/gate": true});
        object["spec"]["template"]["metadata"]["annotations"] = json!({"a~b": 1.5});
        assert_eq!(
            judged(&object),
            [
                "/metadata/labels/portcullis.dev~1gate: label portcullis.dev/gate is the boolean true, as \
                 is an unquoted on or yes; put it in quotes => metadata: labels:\n  \
                 portcullis.dev/gate: \"true\" # or \"on\" or \"yes\", as it was meant\n",
                "/spec/template/metadata/annotations/a~0b: pod template: annotation a~b is the number \
                 1.5; put it in quotes => spec.template.metadata: annotations:\n  \"a~b\": \"1.5\"\n",
            ]
        );
    }

    #[test]
    fn the_metadata_of_a_pod_is_judged_once() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": 1}},
            "spec": {"containers": []},
        });
        assert_eq!(
            judged(&pod),
            [
                "/metadata/labels/a: label a is the number 1; put it in quotes => metadata: labels:\n  \
              a: \"1\"\n"
            ]
        );
    }
}
