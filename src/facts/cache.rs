//! Positive answers, remembered for a short time in a bounded place.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use crate::policy::facts::{
    Answer, Expression, IngressPort, LimitRange, Namespace, NetworkPolicy, PortRef, Query,
    Selector, Service, ServicePort, TwinEnv, Versions,
};

/// How long an answer is believed. The API server's own LimitRanger believes its live lookups for 30 s
/// (`plugin/pkg/admission/limitranger`); a third of that covers the burst of a release, which names the same objects
/// over and over. What is newer than that can only let something through, never refuse it: a refusal is always
/// confirmed live.
pub(super) const LIFETIME: Duration = Duration::from_secs(10);

/// How long the last that was known of a namespace counts when the API server does not answer: longer than it can be kept
/// from that by load, and short enough that who changes a label in the middle of an outage is heard.
pub(super) const LAST_KNOWN: Duration = Duration::from_secs(600);

/// How long the releases of a cluster are believed: they change by hand, and to find them out is to list every node.
pub(super) const VERSIONS_LIFETIME: Duration = Duration::from_secs(300);

/// All that is remembered, names and answers, in bytes: some 3,000 objects, more than a cluster names in ten seconds, and a
/// tenth of the memory that the whole server may take.
pub(super) const CAPACITY: usize = 2 * 1024 * 1024;

/// What an entry costs beside its text: its place in a map that may be half empty, and a handful of small allocations.
const OVERHEAD: usize = 2 * size_of::<(Query<'_>, Entry)>() + 256;

/// The cache. It forgets in two generations, not entry by entry: when the young one is full it becomes the old one,
/// and the old one is dropped whole. So a hit changes nothing and readers don't wait for each other.
#[derive(Debug, Default)]
pub(super) struct Cache {
    generations: RwLock<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Query<'static>, Entry>,
    young_bytes: usize,
    old: HashMap<Query<'static>, Entry>,
}

#[derive(Debug)]
struct Entry {
    answer: Arc<Answer>,
    at: Instant,
}

// === impl Cache ===

impl Cache {
    /// The answer, if it is known and was still believed at `now`.
    pub(super) fn get(&self, query: &Query<'_>, now: Instant) -> Option<Arc<Answer>> {
        self.given(query, |entry| now < entry.at + lifetime(query))
    }

    /// The same for what is believed no longer, but is the last that was known.
    pub(super) fn last_known(&self, query: &Query<'_>, now: Instant) -> Option<Arc<Answer>> {
        self.given(query, |entry| now < entry.at + LAST_KNOWN)
    }

    fn given(&self, query: &Query<'_>, counts: impl Fn(&Entry) -> bool) -> Option<Arc<Answer>> {
        let generations = self
            .generations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        // Maps of 'static questions answer shorter-lived ones: a HashMap is covariant in its key.
        let (young, old): (&HashMap<Query<'_>, Entry>, &HashMap<Query<'_>, Entry>) =
            (&generations.young, &generations.old);
        let entry = young.get(query).or_else(|| old.get(query))?;
        counts(entry).then(|| Arc::clone(&entry.answer))
    }

    /// Remembers a positive answer that was given at `now`.
    pub(super) fn insert(&self, query: Query<'static>, answer: Arc<Answer>, now: Instant) {
        let bytes = OVERHEAD + question_bytes(&query) + answer_bytes(&answer);
        if bytes > CAPACITY / 2 {
            return;
        }
        let mut generations = self
            .generations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let full = generations.young_bytes + bytes > CAPACITY / 2;
        let dropped = full.then(|| {
            generations.young_bytes = 0;
            let young = mem::take(&mut generations.young);
            mem::replace(&mut generations.old, young)
        });
        generations.young_bytes += bytes;
        let entry = Entry { answer, at: now };
        if generations.young.insert(query, entry).is_some() {
            generations.young_bytes -= bytes; // close enough: the same question, an answer of much the same size
        }
        drop(generations);
        drop(dropped); // thousands of entries; nobody should wait for that
    }
}

fn lifetime(query: &Query<'_>) -> Duration {
    if matches!(query, Query::Versions) {
        VERSIONS_LIFETIME
    } else {
        LIFETIME
    }
}

/// The text of a question.
fn question_bytes(query: &Query<'_>) -> usize {
    match query {
        Query::Namespace { name } => name.len(),
        Query::LimitRanges { namespace }
        | Query::Services { namespace }
        | Query::NetworkPolicies { namespace } => namespace.len(),
        Query::Versions | Query::Groups => 0,
        Query::Declared {
            namespace,
            producer: _,
            version,
            secret,
        } => namespace.len() + version.len() + secret.len(),
        Query::Template {
            namespace,
            template,
            ..
        } => namespace.len() + template.len(),
        Query::Secret { namespace, name }
        | Query::ConfigMap { namespace, name }
        | Query::ServiceAccount { namespace, name }
        | Query::Twin {
            namespace, name, ..
        } => namespace.len() + name.len(),
    }
}

/// The text of an answer, with the pointers that lead to it.
fn answer_bytes(answer: &Answer) -> usize {
    match answer {
        Answer::Missing | Answer::Unknown(_) | Answer::Exists => 0,
        Answer::Keys(keys) | Answer::ServiceAccount(keys) | Answer::Groups(keys) => names(keys),
        Answer::Namespace(Namespace {
            labels,
            annotations,
        }) => map(labels) + map(annotations),
        Answer::LimitRanges(items) => items
            .iter()
            .map(|item| {
                let LimitRange {
                    name,
                    pod: _,
                    default,
                    default_request,
                    min,
                    max,
                    max_limit_request_ratio,
                } = item;
                let maps = [default, default_request, min, max, max_limit_request_ratio];
                size_of::<LimitRange>() + name.len() + maps.into_iter().map(map).sum::<usize>()
            })
            .sum(),
        Answer::Services(services) => services.iter().map(service_bytes).sum(),
        Answer::NetworkPolicies(policies) => policies.iter().map(network_policy_bytes).sum(),
        Answer::Versions(Versions {
            server: _,
            oldest_node: _,
            architectures,
        }) => architectures.iter().map(|name| text(name)).sum(),
        Answer::Twin(env) => env
            .iter()
            .map(
                |TwinEnv {
                     container,
                     name,
                     source,
                 }| text(container) + text(name) + text(source),
            )
            .sum(),
    }
}

fn service_bytes(service: &Service) -> usize {
    let Service {
        name,
        selector,
        headless: _,
        publish_not_ready: _,
        ports,
    } = service;
    let port = |port: &ServicePort| {
        let ServicePort {
            name,
            protocol,
            port: _,
            target,
        } = port;
        size_of::<ServicePort>() + name.len() + protocol.len() + port_bytes(Some(target))
    };
    size_of::<Service>() + name.len() + map(selector) + ports.iter().map(port).sum::<usize>()
}

fn network_policy_bytes(policy: &NetworkPolicy) -> usize {
    let NetworkPolicy {
        name,
        pods: Selector {
            labels,
            expressions,
        },
        ingress,
    } = policy;
    let expression = |expression: &Expression| {
        let Expression {
            key,
            operator,
            values,
        } = expression;
        size_of::<Expression>() + key.len() + operator.len() + names(values)
    };
    let port = |port: &IngressPort| {
        let IngressPort {
            protocol,
            port,
            end: _,
        } = port;
        size_of::<IngressPort>() + protocol.len() + port_bytes(port.as_ref())
    };
    let rule = |rule: &Vec<IngressPort>| size_of_val(rule) + rule.iter().map(port).sum::<usize>();
    size_of::<NetworkPolicy>()
        + name.len()
        + map(labels)
        + expressions.iter().map(expression).sum::<usize>()
        + ingress.iter().map(rule).sum::<usize>()
}

fn port_bytes(port: Option<&PortRef>) -> usize {
    match port {
        Some(PortRef::Name(name)) => name.len(),
        Some(PortRef::Number(_)) | None => 0,
    }
}

fn text(text: &str) -> usize {
    text.len() + 2 * size_of::<usize>()
}

fn names(names: &[Box<str>]) -> usize {
    names.iter().map(|name| text(name)).sum()
}

fn map(map: &BTreeMap<Box<str>, Box<str>>) -> usize {
    map.iter().map(|(key, value)| text(key) + text(value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(number: usize) -> Query<'static> {
        Query::Secret {
            namespace: "shop".into(),
            name: format!("secret-{number}").into(),
        }
    }

    fn keys(number: usize, length: usize) -> Arc<Answer> {
        Arc::new(Answer::Keys(
            (0..number).map(|_| "k".repeat(length).into()).collect(),
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn believes_an_answer_for_its_lifetime_and_no_longer() {
        let cache = Cache::default();
        let now = Instant::now();
        cache.insert(secret(1), keys(1, 3), now);
        let last = now + LIFETIME - Duration::from_millis(1);
        assert_eq!(cache.get(&secret(1), last), Some(keys(1, 3)));
        assert_eq!(cache.get(&secret(1), now + LIFETIME), None);
        assert_eq!(cache.get(&secret(2), now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_that_was_known_counts_for_longer_but_not_for_ever() {
        let cache = Cache::default();
        let now = Instant::now();
        cache.insert(secret(1), keys(1, 3), now);
        let last = now + LAST_KNOWN - Duration::from_millis(1);
        assert_eq!(cache.last_known(&secret(1), last), Some(keys(1, 3)));
        assert_eq!(cache.last_known(&secret(1), now + LAST_KNOWN), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_answer_replaces_an_older_one_in_either_generation() {
        let cache = Cache::default();
        let now = Instant::now();
        cache.insert(secret(0), keys(1, 1), now);
        cache.insert(secret(0), keys(2, 1), now);
        assert_eq!(cache.get(&secret(0), now), Some(keys(2, 1)));
        cache.insert(secret(1), keys(1, CAPACITY / 2 - 1000), now);
        assert_eq!(
            cache.get(&secret(0), now),
            Some(keys(2, 1)),
            "moved to the old generation"
        );
        cache.insert(secret(0), keys(3, 1), now);
        assert_eq!(cache.get(&secret(0), now), Some(keys(3, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn stays_within_its_capacity_whatever_is_asked() {
        let cache = Cache::default();
        let now = Instant::now();
        for number in 0..100_000 {
            cache.insert(secret(number), keys(10, 12), now);
        }
        let generations = cache.generations.read().unwrap();
        let weight: usize = (generations.young.iter().chain(&generations.old))
            .map(|(query, entry)| OVERHEAD + question_bytes(query) + answer_bytes(&entry.answer))
            .sum();
        assert!(weight <= CAPACITY, "{weight}");
        assert!(weight > CAPACITY / 2, "{weight}");
        drop(generations);
        assert!(cache.get(&secret(99_999), now).is_some());
        assert!(cache.get(&secret(0), now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_remember_what_would_fill_it_alone() {
        let cache = Cache::default();
        let now = Instant::now();
        cache.insert(secret(1), keys(1, 10), now);
        cache.insert(secret(2), keys(CAPACITY / 20, 10), now);
        assert!(cache.get(&secret(1), now).is_some());
        assert!(cache.get(&secret(2), now).is_none());
    }
}
