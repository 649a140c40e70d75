//! Lists of a cluster's workloads, judged page by page. Holds one page at a time, and of Secrets the names of keys.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::{owner::Object, record::Record, report::Unread, texts::Texts};
use crate::{
    facts::{Live, Page, Pages, Step, Unlisted, live::Facts},
    policy::{
        Judgement, Request,
        facts::{Answer, ENFORCE, Known, Namespace, Query, Unknown},
        finding::Level,
        judge,
        settings::Settings,
        verdict::Verdict,
        workload::{Workload, WorkloadKind},
    },
};

/// Workloads that are judged at a time. Each asks what it refers to at once, half a dozen objects or so; that is as much
/// as one client should have under way at an API server that serves others, too.
const AT_ONCE: usize = 8;

/// For all questions that one workload raises.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a workload is judged whose questions an API server that is busy left open.
const ATTEMPTS: u32 = 4;

/// Before the second attempt; longer before each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// What is audited, and as what.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The namespaces; none means all.
    pub namespaces: Vec<String>,
    /// Namespaces that the webhooks are never called for, whatever their labels.
    pub left_out: Vec<String>,
    /// Every namespace is judged as if it were labelled `portcullis.dev/enforce: deny`.
    pub would_deny: bool,
}

/// A walk through the workloads of a cluster.
#[derive(Debug)]
pub struct Walk<'a> {
    live: &'a Live,
    settings: &'a Settings,
    scope: &'a Scope,
    lists: std::vec::IntoIter<(Arc<WorkloadKind>, Option<&'a str>)>,
    current: Option<(Arc<WorkloadKind>, Pages)>,
    texts: Mutex<Texts>,
}

/// What came of one page.
#[derive(Debug, Default)]
pub struct Batch {
    /// The workloads that were judged, in the order of the list.
    pub records: Vec<Record>,
    /// How many are judged through those who control them.
    pub through_owners: usize,
    /// The namespace of each workload whose namespace is left out: by the scope, or by the label `none`.
    pub left_out: Vec<Arc<str>>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// There are workloads that nobody saw: their list, or the rest of it, could not be read.
    pub is_cut_short: bool,
    /// How many objects the page holds.
    pub objects: usize,
    /// How many objects follow on the pages of the same list.
    pub remaining: usize,
}

/// What came of one object.
enum Outcome {
    ThroughAnother,
    LeftOut(Arc<str>),
    /// It makes no pods.
    NoPods,
    /// Not an object of its kind.
    Malformed(Unread),
    Judged(Box<Record>, Vec<Unread>),
}

/// The facts as an audit has them.
struct Audited<'k> {
    known: &'k dyn Known,
    would_deny: bool,
}

/// As which objects are judged: made now, in earnest, by nobody in particular.
const REQUEST: Request<'_> = Request {
    dry_run: false,
    user: None,
    groups: &[],
    old: None,
};

// === impl Walk ===

impl<'a> Walk<'a> {
    /// Through the workloads of `scope`, of all kinds that `settings` have judged.
    pub fn new(live: &'a Live, settings: &'a Settings, scope: &'a Scope) -> Self {
        let kinds = settings.kinds().map(|kind| Arc::new(kind.clone()));
        let lists: Vec<_> = kinds
            .flat_map(|kind| {
                let namespaces = scope.namespaces.iter().map(|name| Some(name.as_str()));
                let all = scope.namespaces.is_empty().then_some(None);
                namespaces
                    .chain(all)
                    .map(move |namespace| (Arc::clone(&kind), namespace))
            })
            .collect();
        Self {
            live,
            settings,
            scope,
            lists: lists.into_iter(),
            current: None,
            texts: Mutex::default(),
        }
    }

    /// The next page, judged; `None` after the last.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            let (kind, mut pages) = if let Some(current) = self.current.take() {
                current
            } else {
                let (kind, namespace) = self.lists.next()?;
                let pages = self.live.list(&kind, namespace);
                (kind, pages)
            };
            match pages.next().await {
                Ok(Some(page)) => {
                    let batch = self.judge(&kind, &page).await;
                    self.current = Some((kind, pages));
                    return Some(batch);
                }
                // A kind that is not served has no objects.
                Ok(None) | Err(Unlisted::NotServed) => {}
                Err(Unlisted::Refused(why)) => {
                    let unread = vec![Unread::list(&kind, why)];
                    return Some(Batch {
                        unread,
                        is_cut_short: true,
                        ..Batch::default()
                    });
                }
            }
        }
    }

    async fn judge(&self, kind: &Arc<WorkloadKind>, page: &Page<'_>) -> Batch {
        let outcomes = stream::iter(page.items()).map(|json| self.one(kind, json));
        let mut outcomes = outcomes.buffered(AT_ONCE);
        let mut batch = Batch {
            remaining: page.remaining(),
            ..Batch::default()
        };
        while let Some(outcome) = outcomes.next().await {
            batch.objects += 1;
            match outcome {
                Outcome::ThroughAnother => batch.through_owners += 1,
                Outcome::LeftOut(namespace) => batch.left_out.push(namespace),
                Outcome::NoPods => {}
                Outcome::Malformed(unread) => batch.unread.push(unread),
                Outcome::Judged(record, unread) => {
                    batch.records.push(*record);
                    batch.unread.extend(unread);
                }
            }
        }
        batch
    }

    async fn one(&self, kind: &Arc<WorkloadKind>, json: &RawValue) -> Outcome {
        let Ok(object) = Object::read(json) else {
            let why = "its metadata can't be read";
            return Outcome::Malformed(Unread::object(kind, "an object", why));
        };
        let namespace = object.namespace();
        if object.is_left_to_others(self.settings) {
            return Outcome::ThroughAnother;
        }
        if self.scope.left_out.iter().any(|name| name == namespace) {
            return Outcome::LeftOut(self.text(namespace));
        }
        match Workload::read(kind, namespace, json) {
            Ok(Some(workload)) => self.judged(kind, &workload, &object).await,
            Ok(None) => Outcome::NoPods,
            Err(malformed) => {
                let why = malformed.to_string();
                Outcome::Malformed(Unread::object(kind, namespace, &why))
            }
        }
    }

    async fn judged(
        &self,
        kind: &Arc<WorkloadKind>,
        workload: &Workload<'_>,
        object: &Object<'_>,
    ) -> Outcome {
        let (verdict, facts) = self.verdict(workload).await;
        let name = Query::Namespace {
            name: workload.namespace.into(),
        };
        let answer = facts.get(&name);
        let namespace = match answer.as_deref() {
            Some(Answer::Namespace(namespace)) => Some(namespace),
            _ => None,
        };
        let enforce = namespace.and_then(Namespace::enforce);
        let enforce = if self.scope.would_deny {
            Level::Deny
        } else {
            enforce.unwrap_or(self.settings.enforce)
        };
        if enforce == Level::None {
            return Outcome::LeftOut(self.text(workload.namespace));
        }
        let unread = facts.unknown();
        let unread: Vec<_> = unread
            .map(|(query, unknown)| Unread::fact(query, unknown))
            .collect();
        let allowed = namespace.is_some_and(Namespace::allows_exemptions);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let record = Record {
            uid: object.uid().map(Into::into),
            created: object.created().map(Into::into),
            enforce,
            unknown: !unread.is_empty(),
            ..Record::of((kind, workload), verdict, allowed, &mut texts)
        };
        Outcome::Judged(Box::new(record), unread)
    }

    /// The last word on a workload, and the facts that it rests on.
    async fn verdict(&self, workload: &Workload<'_>) -> (Verdict, Facts) {
        let step = |known: &dyn Known| {
            let known = Audited {
                known,
                would_deny: self.scope.would_deny,
            };
            match judge(workload, &REQUEST, &known, self.settings) {
                Judgement::Ask(questions) => Step::Ask(questions),
                Judgement::Done(verdict) => Step::Done(verdict),
            }
        };
        let mut attempt = 1;
        loop {
            let now = Instant::now();
            let mut facts = self.live.facts(now, now + PATIENCE);
            let verdict = facts.settle(step).await;
            let is_settled = !facts.unknown().any(|(_, unknown)| may_pass(unknown));
            if is_settled || attempt == ATTEMPTS {
                return (verdict, facts);
            }
            sleep(PAUSE * attempt).await;
            attempt += 1;
        }
    }

    fn text(&self, text: &str) -> Arc<str> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.text(text)
    }
}

/// Another time there may be an answer: the API server was too slow, throttled us (429) or was in trouble. It would say
/// the same again of a right that is missing.
fn may_pass(unknown: &Unknown) -> bool {
    match unknown {
        Unknown::Deadline => true,
        Unknown::Refused(words) => !words.starts_with("40"),
        Unknown::NotAmongFiles | Unknown::Elsewhere { .. } | Unknown::NotAsked => false,
    }
}

// === impl Audited ===

impl Known for Audited<'_> {
    fn get(&self, query: &Query<'_>) -> Option<Arc<Answer>> {
        let answer = self.known.get(query)?;
        match (&*answer, query) {
            (Answer::Namespace(namespace), _) if self.would_deny => {
                let mut namespace = namespace.clone();
                let deny = Level::Deny.as_str();
                namespace.labels.insert(ENFORCE.into(), deny.into());
                Some(Arc::new(Answer::Namespace(namespace)))
            }
            // Told once for all workloads, and not once for each: a rule has nothing to say of what nobody asked.
            (
                Answer::Unknown(_),
                Query::Secret { .. }
                | Query::ConfigMap { .. }
                | Query::ServiceAccount { .. }
                | Query::Twin { .. },
            ) => Some(Arc::new(Answer::Unknown(Unknown::NotAsked))),
            _ => Some(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        audit::Report,
        facts::{
            Meters,
            testing::{Api, Reply},
        },
        policy::{rules::RuleId, testing::deployment},
    };

    /// A Deployment that reads a key of a Secret, and lacks nothing else.
    fn reading(name: &str) -> Value {
        let source = json!({"secretKeyRef": {"name": "s", "key": "k"}});
        let mut object = deployment(json!({"containers": [{
            "name": "app",
            "env": [{"name": "TOKEN", "valueFrom": source}],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"},
                "limits": {"cpu": "100m", "memory": "32Mi"},
            },
        }]}));
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!("shop");
        object
    }

    /// A cluster of two such Deployments; `secret` answers for the Secret, given how often it was asked for before.
    async fn audited(secret: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Report {
        let asked = AtomicUsize::new(0);
        let api = Api::start(
            move |path| match path.split('?').next().unwrap_or_default() {
                "/apis/apps/v1/deployments" => {
                    Reply::Object(json!({"metadata": {}, "items": [reading("a"), reading("b")]}))
                }
                "/api/v1/namespaces/shop" => Reply::Object(json!({"metadata": {"name": "shop"}})),
                "/api/v1/namespaces/shop/limitranges" => Reply::Object(json!({"items": []})),
                "/api/v1/namespaces/shop/secrets/s" => {
                    secret(asked.fetch_add(1, Ordering::Relaxed))
                }
                _ => Reply::Status(404, "NotFound"),
            },
        )
        .await;
        let (live, settings) = (api.live(Meters::unwatched()), Settings::default());
        let scope = Scope {
            namespaces: Vec::new(),
            left_out: Vec::new(),
            would_deny: false,
        };
        let mut report = Report::default();
        let mut walk = Walk::new(&live, &settings, &scope);
        while let Some(batch) = walk.next().await {
            report.add(batch);
        }
        report.sorted()
    }

    #[tokio::test]
    async fn an_api_server_that_throttles_is_asked_again() {
        let there = json!({"metadata": {"name": "s"}, "data": {"other": ""}});
        let report = audited(move |before| match before {
            0..2 => Reply::Status(429, "TooManyRequests"),
            _ => Reply::Object(there.clone()),
        })
        .await;
        assert_eq!(report.unread().count(), 0);
        let rules = report.records().iter().map(|record| {
            let rules = record.violations.iter().map(|violation| violation.rule);
            rules.collect::<Vec<_>>()
        });
        let rules: Vec<_> = rules.collect();
        assert_eq!(
            rules,
            [[RuleId::SecretReference], [RuleId::SecretReference]]
        );
    }

    #[tokio::test]
    async fn who_may_not_look_is_not_asked_again_and_says_it_once_for_all() {
        let there = json!({"metadata": {"name": "s"}, "data": {"k": ""}});
        let report = audited(move |before| match before {
            0..2 => Reply::Status(403, "Forbidden"),
            _ => Reply::Object(there.clone()),
        })
        .await;
        let unread: Vec<_> = report.unread().collect();
        let told = unread
            .iter()
            .map(|unread| (&*unread.resource, unread.count));
        assert_eq!(told.collect::<Vec<_>>(), [("secrets", 2)]);
        for record in report.records() {
            assert!(record.unknown && record.violations.is_empty(), "{record:?}");
        }
    }
}
