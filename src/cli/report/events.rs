//! One Event an object, of a name that never changes: it is written anew where it says something else, or after a while.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use http::{Request, header::CONTENT_TYPE};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::write::{Refused, write};
use crate::cli::cluster::Api;

/// An Event that somebody may need to read.
#[derive(Debug)]
pub(super) struct Notice {
    /// What it is about.
    pub(super) subject: Subject,
    /// One line.
    pub(super) message: String,
}

/// What an Event is about: `kubectl describe` shows it there by its uid.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// Tells of one sort of trouble.
#[derive(Debug)]
pub(super) struct Herald {
    reason: &'static str,
    /// What its Events' names begin with: an object may be in trouble of two sorts.
    prefix: &'static str,
    /// Before the same is told again.
    pause: Duration,
    /// By uid: what was told last, as a hash, and when.
    told: HashMap<String, (u64, Instant)>,
}

/// What came of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The Event was made, or written anew.
    Now,
    /// It was there already: another replica had told it, or we had before a restart.
    Before,
}

/// As much of an Event as is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Former {
    message: Option<String>,
    count: Option<i64>,
    last_timestamp: Option<Time>,
}

/// Who tells (`kubectl describe` has a column for it).
const COMPONENT: &str = "portcullis-report";

/// What `events.k8s.io` allows for a note, in bytes.
const MAX_MESSAGE: usize = 1024;

// === impl Herald ===

impl Herald {
    pub(super) fn new(reason: &'static str, prefix: &'static str, pause: Duration) -> Self {
        Self {
            reason,
            prefix,
            pause,
            told: HashMap::new(),
        }
    }

    /// It says something new, or what it says was last told long ago.
    pub(super) fn is_due(&self, notice: &Notice) -> bool {
        let told = self.told.get(&notice.subject.uid);
        told.is_none_or(|(message, at)| {
            *message != hash(&notice.message) || at.elapsed() >= self.pause
        })
    }

    /// Nothing was ever told of it by this process.
    pub(super) fn is_new(&self, uid: &str) -> bool {
        !self.told.contains_key(uid)
    }

    /// Forgets those that are in no trouble any more.
    pub(super) fn keep(&mut self, is_in_trouble: impl Fn(&str) -> bool) {
        self.told.retain(|uid, _| is_in_trouble(uid));
    }

    /// Writes the Event, unless it is there and says the same since a short while.
    pub(super) async fn tell(&mut self, api: &Api, notice: &Notice) -> Result<Told, Refused> {
        let Notice { subject, message } = notice;
        let all = format!("/api/v1/namespaces/{}/events", subject.namespace);
        // Of the uid: an object that is made again under the same name has an Event of its own.
        let name = format!("{}.{}", self.prefix, subject.uid);
        let path = format!("{all}/{name}");
        let (now, message) = (Timestamp::now(), cut(message));
        let former = api.get::<Former>(&path).await;
        let outcome = match former.map_err(Refused::Because)? {
            Some(former) if former.says(message) && former.age(now) < self.pause => Told::Before,
            Some(former) => {
                let again = json!({
                    "message": message,
                    "count": former.count.unwrap_or(0).saturating_add(1),
                    "lastTimestamp": Time(now),
                });
                let request = Request::patch(&path);
                let request = request.header(CONTENT_TYPE, "application/merge-patch+json");
                write(api, request, &again).await?;
                Told::Now
            }
            None => {
                let event = self.event(&name, subject, message, now);
                write(api, Request::post(&all), &event).await?;
                Told::Now
            }
        };
        let last = (hash(&notice.message), Instant::now());
        self.told.insert(subject.uid.clone(), last);
        Ok(outcome)
    }

    fn event(&self, name: &str, subject: &Subject, message: &str, now: Timestamp) -> Value {
        let Subject {
            api_version,
            kind,
            namespace,
            name: subject,
            uid,
        } = subject;
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": api_version,
                "kind": kind,
                "namespace": namespace,
                "name": subject,
                "uid": uid,
            },
            "type": "Warning",
            "reason": self.reason,
            "message": message,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": "",
            "firstTimestamp": Time(now),
            "lastTimestamp": Time(now),
            "count": 1,
        })
    }
}

fn hash(message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}

/// The beginning of a message that is too long.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or(message)
}

// === impl Former ===

impl Former {
    fn says(&self, message: &str) -> bool {
        self.message.as_deref() == Some(message)
    }

    /// By our clock and that of who wrote it; a time that is yet to come counts as now.
    fn age(&self, now: Timestamp) -> Duration {
        let at = self.last_timestamp.as_ref().map(|time| time.0);
        let age = at.map(|at| now.duration_since(at));
        age.map_or(Duration::MAX, |age| {
            Duration::try_from(age).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn notice(uid: &str, message: &str) -> Notice {
        Notice {
            subject: Subject {
                api_version: "apps/v1".to_owned(),
                kind: "Deployment".to_owned(),
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                uid: uid.to_owned(),
            },
            message: message.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_told_again_after_a_while_and_what_is_new_at_once() {
        let mut herald = Herald::new("PolicyViolation", "portcullis-violation", HOUR);
        let (same, other) = (notice("u", "a"), notice("u", "b"));
        assert!(herald.is_due(&same) && herald.is_new("u"));
        let told = (hash("a"), Instant::now());
        herald.told.insert("u".to_owned(), told);
        assert!(!herald.is_due(&same) && !herald.is_new("u"));
        assert!(herald.is_due(&other));
        assert!(herald.is_due(&notice("v", "a")), "another object");
        advance(HOUR).await;
        assert!(herald.is_due(&same));
        herald.keep(|uid| uid == "v");
        assert!(herald.is_new("u"), "it was well in between");
    }

    #[test]
    fn an_event_names_what_it_is_about_by_uid() {
        let herald = Herald::new("GateClosed", "portcullis-gate", HOUR);
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let subject = notice("u", "").subject;
        let event = herald.event("portcullis-gate.u", &subject, "it is closed", now);
        assert_eq!(event["involvedObject"]["uid"], "u");
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(event["lastTimestamp"], "2026-11-22T10:00:00Z");
        assert_eq!(event["reason"], "GateClosed");
    }

    #[test]
    fn the_age_of_an_event_is_known_whatever_its_writer_s_clock() {
        let former = |at: &str| Former {
            message: None,
            count: None,
            last_timestamp: Some(Time(at.parse().unwrap())),
        };
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(former("2026-11-22T09:00:00Z").age(now), HOUR);
        assert_eq!(former("2026-11-22T11:00:00Z").age(now), Duration::ZERO);
        let nobody_s = Former {
            last_timestamp: None,
            ..former("2026-11-22T09:00:00Z")
        };
        assert_eq!(nobody_s.age(now), Duration::MAX);
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_between_characters() {
        let long = "\u{e9}".repeat(MAX_MESSAGE);
        assert_eq!(cut(&long).len(), MAX_MESSAGE);
        assert_eq!(cut(&format!("a{long}")).len(), MAX_MESSAGE - 1);
        assert_eq!(cut("short"), "short");
    }
}
