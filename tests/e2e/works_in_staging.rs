//! What staging has and production lacks.

use super::stage::Stage;

#[test]
#[ignore = "needs a cluster: make e2e"]
fn what_works_in_staging_and_lacks_a_variable_in_production_is_warned_about() {
    let staging = Stage::new("mail-staging");
    let production = Stage::new("mail-production");
    for twins in [
        "mail-staging portcullis.dev/twin=mail-production",
        "mail-production portcullis.dev/twin=mail-staging",
    ] {
        let label = format!("label namespace {twins}");
        staging.kubectl.everywhere().call(&label).ok();
    }
    staging.apply("works-in-staging/staging.yaml");

    let said = production.apply("works-in-staging/production.yaml");
    assert!(said.contains("env-parity"), "{said}");
    assert!(said.contains("SMTP_HOST"), "{said}");
    assert!(said.contains("\"mail-staging\""), "{said}");

    let said = production.apply("works-in-staging/staging.yaml");
    assert!(!said.contains("Warning"), "{said}");
}
