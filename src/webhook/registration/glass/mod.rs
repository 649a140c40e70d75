//! Break glass: what annotations of our webhook configurations ask for. Somebody sets them together with
//! `failurePolicy: Ignore`, by one command and with no pod of ours alive; they mean what they say and the time. Pure.
//!
//! ```text
//! whole --portcullis.dev/break-glass: "INC-123: ..."--> broken: every entry is Ignore, whatever was proved
//!   ^                                                     |
//!   +-- portcullis.dev/last-break-glass tells of it <-----+ portcullis.dev/break-glass-until is over
//! ```

mod glazier;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub(super) use glazier::Glazier;

/// Breaks the glass; the value says why.
pub(crate) const REASON: &str = "portcullis.dev/break-glass";

/// Until when, by RFC 3339.
pub(crate) const UNTIL: &str = "portcullis.dev/break-glass-until";

/// What was broken last, until when and why.
pub(crate) const LAST: &str = "portcullis.dev/last-break-glass";

/// How long it stays broken from when a replica sees it, where no end is stated that can be read. With no replica
/// there is nobody to end it: who comes back finds it broken, and gives this much time.
const UNSTATED: SignedDuration = SignedDuration::from_hours(1);

/// The longest there is, likewise: a wrong year must not leave a cluster open for one.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// What is shown of a reason: lines of a log, and an Event's message, have their bounds.
const SHOWN: usize = 256;

/// What the annotations of one configuration say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    /// Nothing.
    Whole,
    /// It is broken.
    Broken(Glass),
    /// It was, and its time is over.
    Over(Glass),
}

/// Glass that is broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Glass {
    /// In the words of who broke it.
    pub(crate) reason: String,
    /// When it ends.
    pub(crate) until: Timestamp,
    /// Why that is not what the annotation says, if it isn't.
    pub(crate) correction: Option<&'static str>,
}

/// The glass is broken now, by what this configuration says.
pub(super) fn is_broken(metadata: &ObjectMeta) -> bool {
    let reading = |annotations| Reading::of(annotations, Timestamp::now());
    let reading = metadata.annotations.as_ref().map(reading);
    matches!(reading, Some(Reading::Broken(_)))
}

// === impl Glass ===

impl Glass {
    /// How long it is broken yet.
    pub(super) fn left(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.until.duration_since(now)).unwrap_or_default()
    }
}

// === impl Reading ===

impl Reading {
    /// Of what the annotations say, now.
    pub(crate) fn of(annotations: &BTreeMap<String, String>, now: Timestamp) -> Self {
        let Some(reason) = annotations.get(REASON) else {
            return Self::Whole;
        };
        let stated = annotations
            .get(UNTIL)
            .map(|until| until.parse::<Timestamp>());
        let (until, correction) = match stated {
            Some(Ok(until)) if until > after(now, LONGEST) => {
                (after(now, LONGEST), Some("24 hours is the longest"))
            }
            Some(Ok(until)) => (until, None),
            Some(Err(_)) => (
                after(now, UNSTATED),
                Some(
                    "its end is no time of RFC 3339, such as 2026-11-21T23:00:00Z: one hour from now",
                ),
            ),
            None => (
                after(now, UNSTATED),
                Some("no end is stated: one hour from now"),
            ),
        };
        let glass = Glass {
            reason: shown(reason),
            until,
            correction,
        };
        if until > now {
            Self::Broken(glass)
        } else {
            Self::Over(glass)
        }
    }

    /// What is to become of the annotations, as a merge patch of them; `None` where they are as they must be.
    pub(crate) fn amendment(&self) -> Option<Value> {
        match self {
            Self::Broken(glass) if glass.correction.is_some() => {
                Some(json!({UNTIL: glass.until.to_string()}))
            }
            Self::Whole | Self::Broken(_) => None,
            Self::Over(Glass { reason, until, .. }) => {
                let last = format!("until {until}: {reason}");
                Some(json!({REASON: null, UNTIL: null, LAST: last}))
            }
        }
    }

    /// What both configurations together say: glass that is broken on one is broken on both, for as long as either says.
    pub(crate) fn both(readings: [Self; 2]) -> Option<Glass> {
        let broken = readings.into_iter().filter_map(|reading| match reading {
            Self::Broken(glass) => Some(glass),
            Self::Whole | Self::Over(_) => None,
        });
        broken.max_by_key(|glass| glass.until)
    }
}

fn after(now: Timestamp, time: SignedDuration) -> Timestamp {
    // Whole seconds, as people write them.
    let until = now.saturating_add(time).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(until.as_second()).unwrap_or(until)
}

/// A reason as a line: bounded, and without what would break it.
fn shown(reason: &str) -> String {
    let line: String = reason
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect();
    match line.trim() {
        "" => "no reason given".to_owned(),
        line => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "2026-11-21T20:00:00Z";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn read(annotations: &[(&str, &str)]) -> Reading {
        let annotations = annotations.iter();
        let annotations = annotations.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Reading::of(&annotations.collect(), at(NOW))
    }

    fn broken(reading: Reading) -> Glass {
        match reading {
            Reading::Broken(glass) => glass,
            other @ (Reading::Whole | Reading::Over(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn holds_until_its_stated_end_and_not_a_moment_longer() {
        for (until, is_broken) in [
            ("2026-11-21T20:00:01Z", true),
            ("2026-11-21T22:30:00+02:00", true),
            (NOW, false),
            ("2026-11-21T19:59:59Z", false),
            ("2025-11-21T23:00:00Z", false),
        ] {
            let reading = read(&[(REASON, "INC-1"), (UNTIL, until)]);
            let expected = Glass {
                reason: "INC-1".to_owned(),
                until: at(until),
                correction: None,
            };
            let expected = if is_broken {
                Reading::Broken(expected)
            } else {
                Reading::Over(expected)
            };
            assert_eq!(reading, expected, "{until}");
            assert_eq!(reading.amendment().is_none(), is_broken, "{until}");
        }
    }

    #[test]
    fn an_end_that_is_missing_or_unreadable_is_an_hour_and_the_longest_is_a_day() {
        for (until, expected, word) in [
            (None, "2026-11-21T21:00:00Z", "no end is stated"),
            (Some("tomorrow"), "2026-11-21T21:00:00Z", "RFC 3339"),
            (Some(""), "2026-11-21T21:00:00Z", "RFC 3339"),
            (
                Some("2026-11-21T23:00:00"),
                "2026-11-21T21:00:00Z",
                "RFC 3339",
            ),
            (
                Some("2062-11-21T23:00:00Z"),
                "2026-11-22T20:00:00Z",
                "24 hours",
            ),
        ] {
            let mut annotations = vec![(REASON, "INC-1")];
            annotations.extend(until.map(|until| (UNTIL, until)));
            let reading = read(&annotations);
            assert_eq!(
                reading.amendment(),
                Some(json!({UNTIL: expected})),
                "{until:?}"
            );
            let glass = broken(reading);
            assert_eq!(glass.until, at(expected), "{until:?}");
            assert!(glass.correction.unwrap().contains(word), "{until:?}");
        }
    }

    #[test]
    fn what_is_over_is_told_of_and_taken_away() {
        let over = read(&[(REASON, "INC-1: stuck"), (UNTIL, "2026-11-21T19:00:00Z")]);
        let last = "until 2026-11-21T19:00:00Z: INC-1: stuck";
        assert_eq!(
            over.amendment(),
            Some(json!({REASON: null, UNTIL: null, LAST: last}))
        );
    }

    #[test]
    fn only_the_reason_breaks_it_whatever_the_reason() {
        assert_eq!(read(&[]), Reading::Whole);
        assert_eq!(read(&[(UNTIL, "2026-11-21T23:00:00Z")]), Reading::Whole);
        assert_eq!(read(&[(LAST, "INC-1")]), Reading::Whole);
        assert_eq!(broken(read(&[(REASON, " ")])).reason, "no reason given");
        let glass = broken(read(&[(REASON, &format!("one\ntwo{}", "x".repeat(9999)))]));
        assert!(glass.reason.starts_with("one two") && glass.reason.len() == SHOWN);
    }

    #[test]
    fn broken_on_one_is_broken_on_both_for_the_longer_time() {
        let until = |until| read(&[(REASON, "INC-1"), (UNTIL, until)]);
        let (whole, early, late) = (
            Reading::Whole,
            until("2026-11-21T21:00:00Z"),
            until("2026-11-21T22:00:00Z"),
        );
        assert_eq!(Reading::both([whole.clone(), whole.clone()]), None);
        let over = until("2026-11-21T19:00:00Z");
        assert_eq!(Reading::both([over, whole.clone()]), None);
        assert_eq!(
            Reading::both([early.clone(), whole]),
            Some(broken(early.clone()))
        );
        assert_eq!(Reading::both([late.clone(), early]), Some(broken(late)));
    }

    proptest! {
        #[test]
        fn never_lasts_longer_than_a_day_and_says_so_once(until in ".{0,40}", reason in ".{0,40}") {
            let annotations = BTreeMap::from([
                (REASON.to_owned(), reason),
                (UNTIL.to_owned(), until),
            ]);
            if let Reading::Broken(glass) = Reading::of(&annotations, at(NOW)) {
                prop_assert!(glass.until <= at("2026-11-22T20:00:00Z"));
                let mut amended = annotations;
                amended.insert(UNTIL.to_owned(), glass.until.to_string());
                let again = broken(Reading::of(&amended, at(NOW)));
                prop_assert_eq!((again.until, again.correction), (glass.until, None));
            }
        }
    }
}
