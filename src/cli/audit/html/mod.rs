//! An audit for people with a browser: one file, the most broken namespace first.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{self, Write},
    time::SystemTime,
};

use super::{Change, Outcome, Told, output::summary};
use crate::{
    audit::{NamespaceSummary, Report},
    cli::{
        output::Summary,
        page::{Answer, Page, Sum, Sums, Tile, Title, Tone},
        terminal::counted,
    },
    policy::{finding::Level, rules::RuleId},
};

/// What is sorted and filtered.
mod lists;

/// How the audit was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    /// The address of the API server.
    pub(super) server: &'a str,
    /// When it was over.
    pub(super) at: SystemTime,
    /// All was judged as if it were enforced.
    pub(super) would_deny: bool,
}

/// Writes all of it.
pub(super) fn write(
    told: &Told,
    circumstances: Circumstances<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let report = &told.report;
    let summary = summary(report);
    let namespaces = report.namespaces();
    let at = humantime::format_rfc3339_seconds(circumstances.at).to_string();
    let heading = heading(told, &summary);
    let title = Title {
        window: &format!("{heading} · portcullis audit"),
        command: "portcullis audit",
        at: &at,
    };
    let mut page = Page::begin(out, title)?;
    put_answer(
        &mut page,
        told,
        &heading,
        &reason(&summary, &namespaces, circumstances),
        circumstances.server,
    )?;
    put_tiles(&mut page, report, &summary)?;
    put_sums(&mut page, report, &namespaces)?;
    lists::put(&mut page, told, &namespaces)?;
    put_left_out(&mut page, report)?;
    page.end()
}

fn heading(told: &Told, summary: &Summary) -> String {
    match Outcome::of(told) {
        Outcome::Denied => format!("{} would be refused", counted(summary.denied, "workload")),
        Outcome::Unknown => String::from("not all could be read"),
        Outcome::Passed if summary.objects == 0 => String::from("nothing to judge"),
        Outcome::Passed => String::from("nothing would be refused"),
    }
}

/// Of how many, and if what.
fn reason(
    summary: &Summary,
    namespaces: &[NamespaceSummary],
    circumstances: Circumstances<'_>,
) -> String {
    let as_if = if circumstances.would_deny {
        "if every namespace enforced the rules today"
    } else {
        "if made now, each at the level of its namespace"
    };
    let of = counted(summary.objects, "workload");
    let namespaces = counted(namespaces.len(), "namespace");
    let warned = summary.warned;
    format!("of {of} in {namespaces}, {as_if}; {warned} more would be warned about")
}

fn put_answer(
    page: &mut Page<'_>,
    told: &Told,
    heading: &str,
    reason: &str,
    server: &str,
) -> io::Result<()> {
    let tone = match Outcome::of(told) {
        Outcome::Denied => Tone::Bad,
        Outcome::Unknown => Tone::Wait,
        Outcome::Passed => Tone::Good,
    };
    let change = told.change.as_ref().map(|Change { known, gone }| {
        let known = counted(*known, "finding");
        format!("only what is new since then is told; {known} as before, {gone} gone")
    });
    let change = change.as_deref().map(|change| ("baseline", change));
    let facts: Vec<_> = [("API server", server)].into_iter().chain(change).collect();
    page.answer(Answer {
        tone,
        heading,
        reason,
        facts: &facts,
    })
}

fn put_tiles(page: &mut Page<'_>, report: &Report, summary: &Summary) -> io::Result<()> {
    let Summary {
        objects,
        denied,
        warned,
        unknown,
        ..
    } = *summary;
    let exempt = report
        .records()
        .iter()
        .filter(|record| !record.claims.is_empty());
    let tile = |number, what, more| Tile { number, what, more };
    let in_order = objects - denied - warned - unknown;
    let owned = report.through_owners();
    let always = [
        tile(denied, "refused", "if made now"),
        tile(warned, "warned about", "and let in"),
        tile(in_order, "in order", "no rule is broken"),
    ];
    let sometimes = [
        tile(unknown, "unknown", "not all could be read"),
        tile(exempt.count(), "with exemptions", "in force or not"),
        tile(owned, "not judged twice", "their owners are judged"),
    ];
    let some = sometimes.into_iter().filter(|tile| tile.number > 0);
    let tiles: Vec<_> = always.into_iter().chain(some).collect();
    page.tiles(&tiles)
}

/// By namespace, and by rule.
fn put_sums(
    page: &mut Page<'_>,
    report: &Report,
    namespaces: &[NamespaceSummary],
) -> io::Result<()> {
    let counted = ["refused", "warned"];
    let of_namespaces = namespaces.iter().filter(|one| one.denied + one.warned > 0);
    let of_namespaces = of_namespaces.map(|one| Sum {
        name: &one.name,
        more: "",
        bad: one.denied,
        fair: one.warned,
        all: one.objects,
    });
    let mut rules: Vec<_> = rules(report).into_iter().collect();
    rules.sort_by_key(|(_, counts)| Reverse(*counts));
    let all = report.records().len();
    let of_rules = rules.into_iter().map(|(rule, (bad, fair))| Sum {
        name: rule.as_str(),
        more: rule.rule().summary,
        bad,
        fair,
        all,
    });
    page.sums(&[
        (
            Sums {
                heading: "Workloads by namespace",
                column: "namespace",
                counted,
            },
            of_namespaces.collect(),
        ),
        (
            Sums {
                heading: "Workloads by rule",
                column: "rule",
                counted,
            },
            of_rules.collect(),
        ),
    ])
}

/// Of how many workloads each rule would have refused, and of how many others it would have warned.
fn rules(report: &Report) -> BTreeMap<RuleId, (usize, usize)> {
    let mut rules: BTreeMap<_, (usize, usize)> = BTreeMap::new();
    for record in report.records() {
        let mut worst: BTreeMap<RuleId, Level> = BTreeMap::new();
        for violation in &record.violations {
            let level = worst.entry(violation.rule).or_insert(violation.level);
            *level = violation.level.max(*level);
        }
        for (rule, level) in worst {
            let (denied, warned) = rules.entry(rule).or_default();
            match level {
                Level::Deny => *denied += 1,
                Level::Warn => *warned += 1,
                Level::None => {}
            }
        }
    }
    rules
}

fn put_left_out(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let left_out = report.left_out();
    let left_out: Vec<_> = left_out
        .map(|(name, count)| format!("{name} ({count})"))
        .collect();
    if left_out.is_empty() {
        return Ok(());
    }
    page.note(&format!(
        "Left out, since nothing is judged there: {}",
        left_out.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        audit::{Batch, Claim, Effect, Record, Unread, Violation},
        cli::doctor::{self, Line},
        policy::{finding::Fix, workload::KINDS},
    };

    fn violation(rule: RuleId, level: Level, message: &str, yaml: Option<&str>) -> Violation {
        Violation {
            rule,
            level,
            container: None,
            path: Arc::from("/spec"),
            message: Arc::from(message),
            fix: yaml.map(|yaml| {
                Arc::new(Fix {
                    at: String::from("spec.template.spec.containers[name=app]"),
                    yaml: yaml.to_owned(),
                })
            }),
            fingerprints: Box::new([]),
        }
    }

    fn record(namespace: &str, name: &str, violations: Vec<Violation>) -> Record {
        let kind = KINDS.iter().find(|kind| kind.kind == "Deployment").unwrap();
        Record {
            kind: Arc::new(kind.clone()),
            namespace: Arc::from(namespace),
            name: Box::from(name),
            uid: None,
            created: None,
            enforce: Level::Deny,
            violations: violations.into(),
            claims: Box::new([]),
            unknown: false,
        }
    }

    fn report(records: Vec<Record>) -> Told {
        let mut report = Report::default();
        report.add(Batch {
            records,
            ..Batch::default()
        });
        told(report)
    }

    fn told(report: Report) -> Told {
        Told {
            report: report.sorted(),
            change: None,
            registered: None,
            gates: Vec::new(),
        }
    }

    fn written(told: &Told) -> String {
        let circumstances = Circumstances {
            server: "https://127.0.0.1:6443/",
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_301_700),
            would_deny: true,
        };
        let mut out = Vec::new();
        write(told, circumstances, &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        let (_, body) = page.split_once("<body>").unwrap();
        body.split_once("<script>").unwrap().0.to_owned()
    }

    #[test]
    fn the_most_broken_namespace_comes_first() {
        let memory = || {
            let yaml = "resources:\n  limits:\n    memory: 256Mi\n";
            let message = "container \"app\" has no memory limit";
            violation(RuleId::MemoryLimit, Level::Deny, message, Some(yaml))
        };
        let cpu = || violation(RuleId::CpuLimit, Level::Warn, "no CPU limit", None);
        let claim = Claim {
            rule: Some(RuleId::CpuLimit),
            text: Arc::from("a batch worker"),
            effect: Effect::NotAllowed,
        };
        let exempt = Record {
            claims: Box::new([claim]),
            ..record("alpha", "worker", vec![cpu()])
        };
        let report = report(vec![
            exempt,
            record("shop", "checkout", vec![memory(), cpu()]),
            record("shop", "catalog", vec![memory()]),
            record("zoo", "lion", vec![memory()]),
            record("zoo", "quiet", Vec::new()),
        ]);
        insta::assert_snapshot!(written(&report));
    }

    #[test]
    fn nothing_wrong_is_said_as_plainly() {
        let page = written(&report(vec![record("shop", "checkout", Vec::new())]));
        assert!(page.contains("<h1>nothing would be refused</h1>"), "{page}");
        assert!(page.contains("state good") && !page.contains("class=\"list\""));
        assert!(written(&report(Vec::new())).contains("<h1>nothing to judge</h1>"));
    }

    #[test]
    fn what_could_not_be_read_is_no_good_news() {
        let mut report = Report::default();
        let unread = Unread {
            verb: "list",
            resource: Box::from("deployments.apps"),
            why: Box::from("403 Forbidden"),
            count: 1,
        };
        report.add(Batch {
            records: vec![record("shop", "checkout", Vec::new())],
            unread: vec![unread],
            ..Batch::default()
        });
        let page = written(&told(report));
        assert!(page.contains("<h1>not all could be read</h1>"), "{page}");
        assert!(
            page.contains("state wait") && page.contains("list deployments.apps: 403 Forbidden")
        );
    }

    #[test]
    fn it_tells_all_that_the_text_tells() {
        let cpu = violation(RuleId::CpuLimit, Level::Deny, "no CPU limit", None);
        let late = Record {
            created: Some(Box::from("2026-11-21T00:00:00Z")),
            ..record("shop", "checkout", vec![cpu])
        };
        let mut report = Report::default();
        report.add(Batch {
            records: vec![late],
            left_out: vec![Arc::from("kube-system")],
            through_owners: 3,
            ..Batch::default()
        });
        let line = Line {
            level: doctor::Level::Warn,
            message: String::from("pod shop/web-0 has no gate"),
            fix: Some(String::from("delete it")),
        };
        let page = written(&Told {
            change: Some(Change { known: 1, gone: 2 }),
            registered: Some(String::from("2026-11-20T00:00:00Z")),
            gates: vec![("gates", line)],
            ..told(report)
        });
        for words in [
            "1 finding as before, 2 gone",
            "Let in, though it would be refused now",
            "Made since Portcullis was registered (2026-11-20T00:00:00Z)",
            "pod shop/web-0 has no gate",
            "delete it",
            "kube-system (1)",
            "<b>3</b>not judged twice",
        ] {
            assert!(page.contains(words), "{words} in {page}");
        }
    }
}
