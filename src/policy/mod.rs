//! The judge: a workload and the facts about it in, a verdict out.
//!
//! Everything below is pure. [`judge`] never waits: where it lacks a fact it returns the questions as
//! data ([`Judgement::Ask`]); the shell answers them and calls it again with the same arguments. So the webhook,
//! the command line on files and the audit share one brain.

/// Which kinds carry a pod template, and where.
pub mod workload;

/// An object as it was written.
mod source;

/// The pod template as the rules read it.
pub mod template;

/// What may be asked of the cluster, as data.
pub mod facts;

/// One violation: rule, level, place, words and mend.
pub mod finding;

/// Validated settings.
pub mod settings;

/// What breaks a rule and is let in all the same.
pub mod leniency;

/// What a workload takes exception from.
pub mod exemption;

/// Violations that an update did not bring.
mod ratchet;

/// Templates that the cluster holds already.
pub(crate) mod precedent;

/// What a rule sees, and where it puts its findings and questions.
mod context;

/// Amounts of CPU and memory, read and compared as the API server does it.
pub mod quantity;

/// What a pod will ask for once the API server has defaulted it.
pub mod budget;

/// Why LimitRanger, or the API server itself, would refuse a pod of this budget.
pub mod conflict;

/// The rules, one file a family.
pub mod rules;

/// One step of a JSON Patch.
pub mod operation;

/// Defaults for pods: what settings ask for, as a JSON Patch that only ever adds.
pub mod patch;

/// The traffic gate that pods ask for.
pub mod gate;

/// Fixes of several rules, merged into one piece of YAML for each place.
pub(crate) mod paste;

/// Two environments side by side: env names, and where the values come from.
pub mod parity;

/// Findings weighed into a decision and the text a person reads.
pub mod verdict;

use budget::PodBudget;
use context::{Context, Inquiry, Surroundings};
use exemption::Exemptions;
use facts::{Answer, Known, Namespace, Query};
use finding::{Finding, Level};
use leniency::{Case, Leniency};
use ratchet::Ratchet;
use rules::RuleId;
use serde_json::value::RawValue;
use settings::{FailurePolicy, Settings};
use verdict::Verdict;
use workload::Workload;

/// How the object reached us: what changes the weight of a finding but not its truth.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `dryRun` of the admission request: a missing reference only warns, since GitOps tools dry-run a
    /// whole set before they apply any of it (fluxcd/pkg `ssa` `ApplyAll`).
    pub dry_run: bool,
    /// `userInfo.username`; `None` for files.
    pub user: Option<&'a str>,
    /// `userInfo.groups`.
    pub groups: &'a [std::borrow::Cow<'a, str>],
    /// `oldObject` of an UPDATE: the object as it is stored now.
    pub old: Option<&'a RawValue>,
}

/// What the rules find, before anything is let in.
struct Found {
    findings: Vec<Finding>,
    /// What a rule has lowered itself.
    spared: Vec<(RuleId, Leniency)>,
    /// A warning about the judgement itself.
    note: Option<String>,
    /// The namespace lets its workloads take exception from rules.
    exemptions: bool,
}

/// What the judge says: questions first, then the verdict.
#[derive(Debug)]
pub enum Judgement {
    /// Facts are missing. Answer all of these, then call [`judge`] again. Each question comes once.
    Ask(Vec<Query<'static>>),
    /// Everything that could be known is known.
    Done(Verdict),
}

/// Judges `workload` by the rules, with the facts known so far.
pub fn judge(
    workload: &Workload<'_>,
    request: &Request<'_>,
    known: &dyn Known,
    settings: &Settings,
) -> Judgement {
    match weigh(workload, request, known, settings) {
        Ok(case) => Judgement::Done(Verdict::of(workload, request, case)),
        Err(questions) => Judgement::Ask(questions),
    }
}

/// What is found, less what is let in. What speaks for the object is asked for only if it would be refused without.
fn weigh(
    workload: &Workload<'_>,
    request: &Request<'_>,
    known: &dyn Known,
    settings: &Settings,
) -> Result<Case, Vec<Query<'static>>> {
    let Found {
        mut findings,
        spared,
        note,
        exemptions,
    } = find(workload, known, settings)?;
    if request.dry_run {
        // What is missing may be part of the same set, of which nothing is applied yet.
        let references = findings
            .iter_mut()
            .filter(|finding| finding.rule.is_reference());
        references.for_each(|finding| finding.level = finding.level.min(Level::Warn));
    }
    let mut case = Case::new(findings, note).spared(spared);
    if (request.user).is_some_and(|user| settings.only_warns(user, request.groups)) {
        case.lower(Leniency::WarnOnlyUser, |_| true);
    }
    if case.denies() {
        Exemptions::of(workload).lower(&mut case, exemptions);
    }
    let old = request.old.filter(|_| case.denies());
    let old = old.and_then(|old| Workload::read(workload.kind, workload.namespace, old).ok()?);
    if let Some(old) = &old
        && settings.ratchet
        // What may speak for another object must be sound itself.
        && !precedent::is_kept_as_revision(workload.kind)
    {
        let had = find(old, known, settings)?;
        let mut ratchet = Ratchet::of(workload, old, &had.findings);
        case.lower(Leniency::Ratchet, |finding| ratchet.excuses(finding));
    }
    if case.denies() {
        follow_precedent(&mut case, workload, old.as_ref(), known)?;
    }
    Ok(case)
}

/// Lets in what is wrong with a template that the cluster holds already.
fn follow_precedent(
    case: &mut Case,
    workload: &Workload<'_>,
    old: Option<&Workload<'_>>,
    known: &dyn Known,
) -> Result<(), Vec<Query<'static>>> {
    let Some((why, query)) = precedent::of(workload, old) else {
        return Ok(());
    };
    let mut inquiry = Inquiry::new(known);
    let answer = inquiry.ask(query);
    inquiry.settle()?;
    match answer.as_deref() {
        Some(Answer::Exists) => {
            let template = format!("{}/", workload.kind.template);
            let within = |finding: &Finding| finding.path.starts_with(&template);
            case.lower(why, |finding| within(finding) && !finding.offences.is_empty());
        }
        // The violations are certain, so this is no reason to let them in; but nobody should be left to wonder.
        Some(Answer::Unknown(unknown)) if unknown.is_failure() => case.notes.push(format!(
            "whether this goes back to what was there before is unknown: {unknown}; if it does, try again"
        )),
        _ => {}
    }
    Ok(())
}

/// What is wrong with `workload` by the rules; `Err` with what must be known first.
fn find(
    workload: &Workload<'_>,
    known: &dyn Known,
    settings: &Settings,
) -> Result<Found, Vec<Query<'static>>> {
    let mut inquiry = Inquiry::new(known);
    let surroundings = Surroundings::ask(&mut inquiry, workload.namespace);
    let ranges = surroundings.ranges().unwrap_or_default();
    let mut budget = PodBudget::defaulted(&workload.template, ranges);
    if surroundings.is_patched() {
        patch::fill(&mut budget, &settings.patches, surroundings.ranges());
    }
    let mut context = Context::new(workload, settings, &budget, &surroundings, inquiry);
    for rule in rules::RULES {
        rule.check(&mut context);
    }
    let (findings, spared) = context.into_findings()?;
    let note = surroundings.unreadable().filter(|_| !findings.is_empty());
    let note = note.map(|unknown| {
        let namespace = workload.namespace;
        let so = match settings.failure_policy {
            FailurePolicy::Ignore => "nothing is refused",
            FailurePolicy::Fail => "it is judged as one without labels",
        };
        format!("the labels of namespace \"{namespace}\" are unknown, so {so}: {unknown}")
    });
    Ok(Found {
        findings,
        spared,
        note,
        exemptions: surroundings
            .namespace()
            .is_some_and(Namespace::allows_exemptions),
    })
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        facts::{Answer, ENFORCE, Query, Unknown},
        testing::{Facts, NAMESPACE, deployment, kind_of, raw},
        *,
    };

    #[test]
    fn asks_for_all_that_it_lacks_at_once_then_judges() {
        let object = deployment(json!({"containers": [{"name": "app"}]}));
        let bytes = raw(&object);
        let workload = Workload::read(kind_of(&object), NAMESPACE, &bytes)
            .unwrap()
            .unwrap();
        let request = Request {
            dry_run: false,
            user: None,
            groups: &[],
            old: None,
        };
        let settings = Settings::default();

        let nothing = std::collections::HashMap::<Query<'static>, std::sync::Arc<Answer>>::new();
        let Judgement::Ask(questions) = judge(&workload, &request, &nothing, &settings) else {
            panic!("judged without facts");
        };
        assert!(questions.contains(&Query::Namespace {
            name: NAMESPACE.into()
        }));
        assert!(matches!(
            judge(&workload, &request, &Facts::default(), &settings),
            Judgement::Done(_)
        ));
    }

    #[test]
    fn a_namespace_lowers_the_level_of_its_rules() {
        let object = deployment(json!({"containers": [{"name": "app"}]}));
        for (label, decision) in [
            ("deny", verdict::Decision::Deny),
            ("warn", verdict::Decision::Warn),
            ("none", verdict::Decision::Allow),
            ("off", verdict::Decision::Deny), // no level: as if it were not there
        ] {
            let facts = Facts::default().with_labels(&[(ENFORCE, label)]);
            assert_eq!(facts.judge(&object).decision, decision, "{label}");
        }
    }

    #[test]
    fn a_namespace_that_can_not_be_read_is_judged_as_failure_policy_has_it() {
        use verdict::Decision;
        let object = deployment(json!({"containers": [{"name": "app"}]}));
        let query = Query::Namespace {
            name: NAMESPACE.into(),
        };
        for (settings, decision, said) in [
            (
                json!({}),
                Decision::Deny,
                "so it is judged as one without labels: the API server did",
            ),
            (
                json!({"enforce": "warn"}),
                Decision::Warn,
                "judged as one without labels",
            ),
            (
                json!({"failurePolicy": "Ignore"}),
                Decision::Warn,
                "so nothing is refused: ",
            ),
            (
                json!({"failurePolicy": "Ignore", "enforce": "none"}),
                Decision::Allow,
                "",
            ),
        ] {
            let facts = Facts {
                settings: Settings::from_value(settings.clone()).unwrap(),
                ..Facts::default()
            };
            let facts = facts.with(query.clone(), Answer::Unknown(Unknown::Deadline));
            let verdict = facts.judge(&object);
            assert_eq!(verdict.decision, decision, "{settings}");
            let told = verdict.warnings.first().map_or("", String::as_str);
            assert!(told.contains(said), "{settings}: {told}");
        }
    }
}
