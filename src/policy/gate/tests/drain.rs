//! How long the drain may take.

use super::*;

#[test]
fn the_drain_fits_into_the_grace_period_and_the_apps_own_sleep() {
    let of = |fields: &str, spec: &str, config: &str| {
        let pod = told(&format!("{}{spec}", named_http(fields)), config);
        let injection = injection(&pod, &facts());
        let after = applied(&pod, &injection.operations);
        let settings: Value = serde_json::from_str(&document_of(&after).encode()).unwrap();
        let drain =
            ["deadline", "delay", "streamDeadline"].map(|field| settings["drain"][field].clone());
        (json!(drain), injection.warnings.len())
    };
    assert_eq!(of("", "", ""), (json!(["17s", "5s", "15s"]), 0));
    assert_eq!(
        of("", "terminationGracePeriodSeconds: 60", ""),
        (json!(["47s", "5s", "15s"]), 0)
    );
    assert_eq!(
        of("", "terminationGracePeriodSeconds: 60", "appReserve: 40s"),
        (json!(["17s", "5s", "15s"]), 0)
    );
    assert_eq!(
        of("", "terminationGracePeriodSeconds: 15", ""),
        (json!(["2s", "2s", "2s"]), 1)
    );
    assert_eq!(
        of("", "terminationGracePeriodSeconds: 5", ""),
        (json!(["0s", "0s", "0s"]), 1)
    );
    assert_eq!(
        of("", "", "drain: {deadline: 28s}"),
        (json!(["28s", "5s", "15s"]), 1)
    );
    assert_eq!(
        of("", "", "drain: {deadline: 1s}"),
        (json!(["1s", "1s", "1s"]), 0)
    );
    for hook in [
        "sleep: {seconds: 8}",
        "exec: {command: [/bin/sleep, 8s]}",
        "exec: {command: [/bin/sh, -c, sleep 8]}",
    ] {
        let hook = format!("lifecycle: {{preStop: {{{hook}}}}}");
        assert_eq!(of(&hook, "", ""), (json!(["8s", "5s", "8s"]), 0), "{hook}");
    }
    assert_eq!(
        of("lifecycle: {preStop: {sleep: {seconds: 2}}}", "", ""),
        (json!(["2s", "2s", "2s"]), 1)
    );
    assert_eq!(
        of("lifecycle: {preStop: {exec: {command: [sync]}}}", "", "").0[0],
        "17s"
    );
}
