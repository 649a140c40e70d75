//! What a review costs in allocations: the same on every machine, so it can have a ceiling.

use allocation_counter::measure;
use portcullis::policy::{
    Judgement, Request, judge, settings::Settings, verdict::Decision, workload::Workload,
};

use crate::support::checkout;

/// The lists and maps of the template; strings are borrowed.
const READ_CEILING: u64 = 32;

/// Of a Deployment with nothing to find.
const JUDGE_CEILING: u64 = 10;

#[test]
fn reading_and_judging_keep_below_their_ceilings() {
    let (object, facts, settings) = (checkout::object(), checkout::facts(), Settings::default());
    let kind = settings
        .kind("apps", "v1", "Deployment")
        .expect("a built-in kind");
    let request = Request {
        dry_run: false,
        user: Some("kim"),
        groups: &[],
        old: None,
    };

    let mut workload = None;
    let read = measure(|| workload = Workload::read(kind, "shop", &object).expect("well formed"));
    let workload = workload.expect("has a template");
    let mut judgement = None;
    let judged = measure(|| judgement = Some(judge(&workload, &request, &facts, &settings)));

    let Some(Judgement::Done(verdict)) = judgement else {
        panic!("every fact is known")
    };
    assert_eq!(verdict.decision, Decision::Allow, "{:?}", verdict.findings);
    let (read, judged) = (read.count_total, judged.count_total);
    assert!(
        read <= READ_CEILING && judged <= JUDGE_CEILING,
        "reading took {read} allocations, judging {judged}"
    );
}
