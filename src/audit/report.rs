//! All records in order, and what can be said of them together.

use std::{cmp::Reverse, collections::BTreeMap, mem, sync::Arc};

use super::{
    record::{Record, Violation},
    walk::Batch,
};
use crate::policy::{
    facts::{Query, Unknown},
    finding::Level,
    rules::RuleId,
    workload::WorkloadKind,
};

/// What came of an audit.
#[derive(Debug, Default)]
pub struct Report {
    /// By namespace, then as the table of kinds has them, then by name.
    records: Vec<Record>,
    left_out: BTreeMap<Arc<str>, usize>,
    through_owners: usize,
    is_cut_short: bool,
    unread: BTreeMap<(&'static str, Box<str>), Cause>,
}

/// Why something was not read, and how often.
#[derive(Debug)]
struct Cause {
    why: Box<str>,
    count: usize,
}

/// Something that was not read, so that nobody knows what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// What was attempted: `get`, `list`, or `read` for an object that came and can't be understood.
    pub verb: &'static str,
    /// Of what: `secrets`, `deployments.apps`.
    pub resource: Box<str>,
    /// In words that follow a colon. Of many, the first.
    pub why: Box<str>,
    /// How often.
    pub count: usize,
}

/// What was found in one namespace.
#[derive(Clone, Debug)]
pub struct NamespaceSummary {
    /// Its name.
    pub name: Arc<str>,
    /// The level that it is judged at.
    pub enforce: Level,
    /// Workloads that were judged.
    pub objects: usize,
    /// Of these, those that would be refused.
    pub denied: usize,
    /// Of these, those that would only be warned of.
    pub warned: usize,
    /// Of these, those of which nothing is wrong that could be seen, but not all could be.
    pub unknown: usize,
    /// How many workloads each rule would refuse, the most first.
    pub rules: Vec<(RuleId, usize)>,
}

// === impl Report ===

impl Report {
    /// Takes in a page.
    pub fn add(&mut self, batch: Batch) {
        let Batch {
            records,
            through_owners,
            left_out,
            unread,
            is_cut_short,
            objects: _,
            remaining: _,
        } = batch;
        self.records.extend(records);
        self.through_owners += through_owners;
        self.is_cut_short |= is_cut_short;
        for namespace in left_out {
            *self.left_out.entry(namespace).or_default() += 1;
        }
        for unread in unread {
            self.miss(unread);
        }
    }

    /// Takes in something that was not read.
    pub fn miss(&mut self, unread: Unread) {
        let Unread {
            verb,
            resource,
            why,
            count,
        } = unread;
        let cause = self.unread.entry((verb, resource));
        cause.or_insert(Cause { why, count: 0 }).count += count;
    }

    /// Puts the records in order, once all are there.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        // A stable sort: kinds came in the order of their table.
        self.records
            .sort_by(|one, other| one.namespace.cmp(&other.namespace));
        let of_namespace = self
            .records
            .chunk_by_mut(|one, other| one.namespace == other.namespace);
        for records in of_namespace {
            let of_kind = records.chunk_by_mut(|one, other| one.kind == other.kind);
            of_kind.for_each(|records| records.sort_by(|one, other| one.name.cmp(&other.name)));
        }
        self
    }

    /// The workloads that were judged.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Keeps only those violations that `is_kept`, each of which is asked about once.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&Violation) -> bool) {
        for record in &mut self.records {
            let violations = mem::take(&mut record.violations);
            let kept = violations
                .into_iter()
                .filter(|violation| is_kept(violation));
            record.violations = kept.collect();
        }
    }

    /// The namespaces that are not judged, and how many workloads stand in each.
    pub fn left_out(&self) -> impl Iterator<Item = (&str, usize)> {
        self.left_out.iter().map(|(name, count)| (&**name, *count))
    }

    /// How many objects are judged through those who control them.
    pub fn through_owners(&self) -> usize {
        self.through_owners
    }

    /// Every workload was seen, and every namespace's labels were: what is not among the records is not there.
    pub fn is_whole(&self) -> bool {
        let namespaces = &("get", Box::from("namespaces"));
        !self.is_cut_short && !self.unread.contains_key(namespaces)
    }

    /// What could not be read, each thing once.
    pub fn unread(&self) -> impl Iterator<Item = Unread> {
        self.unread
            .iter()
            .map(|((verb, resource), Cause { why, count })| Unread {
                verb,
                resource: resource.clone(),
                why: why.clone(),
                count: *count,
            })
    }

    /// The workloads that were judged, namespace by namespace.
    pub fn by_namespace(&self) -> impl Iterator<Item = (Arc<str>, &[Record])> {
        let records = self
            .records
            .chunk_by(|one, other| one.namespace == other.namespace);
        records.filter_map(|records| Some((Arc::clone(&records.first()?.namespace), records)))
    }

    /// Every namespace with a workload that was judged, the most broken first.
    pub fn namespaces(&self) -> Vec<NamespaceSummary> {
        let of_namespace = self.by_namespace();
        let summaries = of_namespace.filter_map(|(_, records)| NamespaceSummary::of(records));
        let mut summaries: Vec<_> = summaries.collect();
        summaries.sort_by_key(|summary| Reverse((summary.denied, summary.warned)));
        summaries
    }
}

// === impl NamespaceSummary ===

impl NamespaceSummary {
    /// Of all records of one namespace.
    fn of(records: &[Record]) -> Option<Self> {
        let first = records.first()?;
        let mut summary = Self {
            name: Arc::clone(&first.namespace),
            enforce: first.enforce,
            objects: records.len(),
            denied: 0,
            warned: 0,
            unknown: 0,
            rules: Vec::new(),
        };
        let mut rules: BTreeMap<RuleId, usize> = BTreeMap::new();
        for record in records {
            match record.worst() {
                Level::Deny => summary.denied += 1,
                Level::Warn => summary.warned += 1,
                Level::None if record.unknown => summary.unknown += 1,
                Level::None => {}
            }
            for rule in record.denied_rules() {
                *rules.entry(rule).or_default() += 1;
            }
        }
        summary.rules = rules.into_iter().collect();
        summary.rules.sort_by_key(|(_, count)| Reverse(*count));
        Some(summary)
    }
}

// === impl Unread ===

impl Unread {
    /// A list, or the rest of one.
    pub(super) fn list(kind: &WorkloadKind, why: Box<str>) -> Self {
        Self {
            verb: "list",
            resource: resource(kind),
            why,
            count: 1,
        }
    }

    /// An object that was listed, and is not what its kind should be.
    pub(super) fn object(kind: &WorkloadKind, object: &str, why: &str) -> Self {
        Self {
            verb: "read",
            resource: resource(kind),
            why: format!("{object}: {why}").into(),
            count: 1,
        }
    }

    /// Something that a workload refers to, or rests on.
    pub(super) fn fact(query: &Query<'_>, unknown: &Unknown) -> Self {
        let (verb, resource) = match query {
            Query::Namespace { .. } => ("get", "namespaces".into()),
            Query::Secret { .. } => ("get", "secrets".into()),
            Query::ConfigMap { .. } => ("get", "configmaps".into()),
            Query::ServiceAccount { .. } => ("get", "serviceaccounts".into()),
            Query::LimitRanges { .. } => ("list", "limitranges".into()),
            Query::Twin { kind, .. } => ("get", resource(kind)),
            Query::Services { .. } => ("list", "services".into()),
            Query::NetworkPolicies { .. } => ("list", "networkpolicies.networking.k8s.io".into()),
            Query::Versions => ("list", "nodes".into()),
            Query::Groups => ("get", "/apis".into()),
            Query::Declared { producer, .. } => {
                let (group, resource) = producer.resource();
                ("list", format!("{resource}.{group}").into())
            }
            Query::Template { .. } => ("list", "replicasets.apps".into()),
        };
        let why = if let Unknown::Refused(words) = unknown {
            words.clone()
        } else {
            unknown.to_string().into()
        };
        Self {
            verb,
            resource,
            why,
            count: 1,
        }
    }

    /// The caller may not; what would help is a right.
    pub fn is_forbidden(&self) -> bool {
        self.why.contains("403 Forbidden")
    }
}

/// `pods`, `deployments.apps`.
fn resource(kind: &WorkloadKind) -> Box<str> {
    let WorkloadKind {
        group, resource, ..
    } = kind;
    let dot = if group.is_empty() { "" } else { "." };
    format!("{resource}{dot}{group}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::workload::KINDS;

    /// A record with violations of these rules and levels.
    fn record(kind: usize, [namespace, name]: [&str; 2], broken: &[(RuleId, Level)]) -> Record {
        let violation = |(rule, level): &(RuleId, Level)| Violation {
            rule: *rule,
            level: *level,
            container: None,
            path: "/spec".into(),
            message: "broken".into(),
            fix: None,
            fingerprints: [].into(),
        };
        Record {
            kind: Arc::new(KINDS[kind].clone()),
            namespace: namespace.into(),
            name: name.into(),
            uid: None,
            created: None,
            enforce: Level::Deny,
            violations: broken.iter().map(violation).collect(),
            claims: [].into(),
            unknown: broken.is_empty(),
        }
    }

    fn report() -> Report {
        let (deny, warn) = (Level::Deny, Level::Warn);
        let limit = [(RuleId::MemoryLimit, deny), (RuleId::MemoryLimit, deny)];
        let both = [
            (RuleId::MemoryLimit, deny),
            (RuleId::CpuRequest, deny),
            (RuleId::CpuLimit, warn),
        ];
        // As lists come: kind by kind, each by namespace and name, or by nothing at all.
        let records = vec![
            record(1, ["shop", "b"], &limit),
            record(1, ["shop", "a"], &both),
            record(1, ["blog", "z"], &[(RuleId::CpuLimit, warn)]),
            record(2, ["shop", "a"], &[]),
            record(2, ["blog", "a"], &[(RuleId::CpuLimit, warn)]),
        ];
        let mut report = Report::default();
        report.add(Batch {
            records,
            ..Batch::default()
        });
        report.sorted()
    }

    #[test]
    fn records_stand_by_namespace_then_as_the_table_of_kinds_then_by_name() {
        let report = report();
        let titles = report
            .records()
            .iter()
            .map(|record| format!("{} {}/{}", record.kind.kind, record.namespace, record.name));
        assert_eq!(
            titles.collect::<Vec<_>>(),
            [
                "Deployment blog/z",
                "StatefulSet blog/a",
                "Deployment shop/a",
                "Deployment shop/b",
                "StatefulSet shop/a",
            ]
        );
    }

    #[test]
    fn the_most_broken_namespace_comes_first_and_a_workload_counts_once_for_a_rule() {
        let namespaces = report().namespaces();
        let [shop, blog] = &namespaces[..] else {
            panic!("{namespaces:?}")
        };
        assert_eq!(
            (&*shop.name, shop.objects, shop.denied, shop.unknown),
            ("shop", 3, 2, 1)
        );
        assert_eq!(
            shop.rules,
            [(RuleId::MemoryLimit, 2), (RuleId::CpuRequest, 1)]
        );
        assert_eq!((&*blog.name, blog.denied, blog.warned), ("blog", 0, 2));
        assert!(blog.rules.is_empty());
    }

    #[test]
    fn each_thing_that_was_not_read_is_told_once_and_counted() {
        let mut report = Report::default();
        for why in ["403 Forbidden: first", "403 Forbidden: second"] {
            let query = Query::Secret {
                namespace: "shop".into(),
                name: "x".into(),
            };
            report.miss(Unread::fact(&query, &Unknown::Refused(why.into())));
        }
        report.miss(Unread::list(&KINDS[1], "503 Service Unavailable".into()));
        let unread: Vec<_> = report.unread().collect();
        assert_eq!(unread.len(), 2);
        assert_eq!(
            (unread[0].verb, &*unread[0].resource, unread[0].count),
            ("get", "secrets", 2)
        );
        assert_eq!(&*unread[0].why, "403 Forbidden: first");
        assert!(unread[0].is_forbidden() && !unread[1].is_forbidden());
        assert_eq!(&*unread[1].resource, "deployments.apps");
    }
}
