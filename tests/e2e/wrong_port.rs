//! The app listens on 3000, and its probes ask 8080.

use super::stage::Stage;

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_probe_of_the_wrong_port_is_caught_at_apply() {
    let stage = Stage::new("wrong-port");
    let refusal = stage.refused("wrong-port/by-name.yaml");
    assert!(refusal.contains("probe-port"), "{refusal}");
    assert!(refusal.contains("\"http\""), "{refusal}");

    let warning = stage.apply("wrong-port/by-number.yaml");
    assert!(warning.contains("probe-port: container"), "{warning}");
    assert!(warning.contains("8080"), "{warning}");

    let said = stage.apply("wrong-port/mended.yaml");
    assert!(!said.contains("Warning"), "{said}");
    stage.rolled_out("catalog");
}
