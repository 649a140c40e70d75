//! Which authorities there are, and what follows: pure, so that every replica comes to the same.
//!
//! ```text
//! current --due, or asked for--> current, next --both published--> current (that was next), previous
//!    ^                                                                                |
//!    +------------------------- the longest leaf of the previous one is over ---------+
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use thiserror::Error;

use super::bundle::Bundle;
use super::lifetimes::Jitter;
use super::{Authority, AuthorityError, Lifetimes};
use crate::facts::access::CA_SECRET;

/// On the Secret, with any value: asks for a new authority.
pub(super) const ROTATE: &str = "portcullis.dev/rotate";

/// On the Secret: until when `previous.crt` is trusted (RFC 3339).
pub(super) const PREVIOUS_UNTIL: &str = "portcullis.dev/previous-until";

const CURRENT: [&str; 2] = ["tls.crt", "tls.key"];
const NEXT: [&str; 2] = ["next.crt", "next.key"];
const PREVIOUS: &str = "previous.crt";

/// Previous authorities at a time, so that nobody can make `caBundle` grow without end by asking for new ones.
const MOST_PREVIOUS: usize = 8;

/// What the Secret holds, and all replicas share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Succession {
    /// Signs leaves.
    current: Arc<Authority>,
    /// Will, when the API server is known to trust it.
    next: Option<Arc<Authority>>,
    /// May have signed leaves that are still served.
    previous: Bundle,
    /// When these are trusted no longer.
    previous_until: Option<SystemTime>,
    /// Somebody wants a new authority.
    is_asked: bool,
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Make the next authority, to be published beside the current one.
    Begin,
    /// Sign by the next one from now on.
    Promote,
    /// The current one is over: a new one in its place.
    Replace,
    /// Say until when the previous ones are trusted.
    Date,
    /// Trust them no longer.
    Retire,
}

/// The Secret holds something else.
#[derive(Debug, Error)]
#[error(
    "Secret {CA_SECRET} holds no usable authority in {field}; delete it, and a good one is put there"
)]
pub struct SuccessionError {
    /// The key of its data.
    field: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

// === impl Succession ===

impl Succession {
    /// A first authority, beside what is trusted already.
    pub(super) fn new(current: Authority) -> Self {
        Self {
            current: Arc::new(current),
            next: None,
            previous: Bundle::default(),
            previous_until: None,
            is_asked: false,
        }
    }

    pub(super) fn current(&self) -> &Arc<Authority> {
        &self.current
    }

    /// Whether a new authority waits for its being trusted everywhere.
    pub(super) fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    /// False when the authority that signs is over.
    pub(super) fn is_good(&self, now: SystemTime) -> bool {
        self.current.not_after() > now
    }

    /// All that the API server must trust.
    pub(super) fn bundle(&self) -> Bundle {
        let mut bundle = self.previous.clone();
        bundle.insert(self.current.certificate());
        if let Some(next) = &self.next {
            bundle.insert(next.certificate());
        }
        bundle
    }

    /// What is to be done at this time. Published: [`Self::bundle`] has stood for the settling time in every entry of
    /// both configurations.
    pub(super) fn step(
        &self,
        now: SystemTime,
        is_published: bool,
        (lifetimes, jitter): (&Lifetimes, Jitter),
    ) -> Option<Step> {
        let left = self.current.not_after().duration_since(now);
        let Ok(left) = left else {
            // Nobody's handshake succeeds by it any more: nothing is lost by going on at once.
            let next = self.next.as_ref().filter(|next| next.not_after() > now);
            return Some(next.map_or(Step::Replace, |_| Step::Promote));
        };
        if self.next.is_some() {
            return is_published.then_some(Step::Promote);
        }
        let has_room = self.previous.len() < MOST_PREVIOUS;
        if jitter.is_due(lifetimes.authority, left) || self.is_asked && has_room {
            return Some(Step::Begin);
        }
        if self.previous.is_empty() {
            return None;
        }
        match self.previous_until {
            None => Some(Step::Date),
            Some(until) => (until <= now).then_some(Step::Retire),
        }
    }

    /// What there is after a step.
    pub(super) fn after(
        mut self,
        step: Step,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        match step {
            // ## current => current, next
            Step::Begin => {
                self.next = Some(Arc::new(Authority::generate(now, lifetimes)?));
                self.is_asked = false;
            }
            // ## current, next => current, previous
            // The old one's last leaf may be signed a moment before the other replicas see this.
            Step::Promote => {
                if let Some(next) = self.next.take() {
                    self = self.succeeded_by(next, now, lifetimes);
                }
            }
            // ## over => current, previous
            // The old ones stay for a while: it may be the clock that is wrong.
            Step::Replace => {
                let new = Arc::new(Authority::generate(now, lifetimes)?);
                if let Some(next) = self.next.take() {
                    self.previous.insert(next.certificate());
                }
                self = self.succeeded_by(new, now, lifetimes);
            }
            Step::Date => self.previous_until = Some(now + lifetimes.overlap()),
            // ## current, previous => current
            Step::Retire => {
                self.previous = Bundle::default();
                self.previous_until = None;
            }
        }
        Ok(self)
    }

    /// The same, with certificates that are in use trusted as long as a leaf lives; `None` when they are already.
    pub(super) fn beside(
        &self,
        in_use: Bundle,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Option<Self> {
        let room = MOST_PREVIOUS.saturating_sub(self.previous.len());
        let new = in_use.beside(&self.bundle(), now, room);
        if new.is_empty() {
            return None;
        }
        let mut with = self.clone();
        with.previous.extend(new);
        let until = now + lifetimes.overlap();
        with.previous_until = Some(with.previous_until.map_or(until, |old| old.max(until)));
        Some(with)
    }

    fn succeeded_by(mut self, new: Arc<Authority>, now: SystemTime, lifetimes: &Lifetimes) -> Self {
        self.previous.insert(self.current.certificate());
        self.previous.remove(new.certificate());
        self.previous_until = Some(now + lifetimes.overlap());
        self.current = new;
        self
    }

    /// What a Secret holds.
    pub(super) fn from_secret(secret: &Secret) -> Result<Self, SuccessionError> {
        let annotations = secret.metadata.annotations.as_ref();
        let annotation = |name| annotations.and_then(|all| all.get(name));
        let until = annotation(PREVIOUS_UNTIL).and_then(|time| humantime::parse_rfc3339(time).ok());
        let has_next = NEXT.iter().any(|field| bytes(secret, field).is_some());
        let next = has_next.then(|| authority(secret, NEXT)).transpose()?;
        Ok(Self {
            current: Arc::new(authority(secret, CURRENT)?),
            next: next.map(Arc::new),
            previous: Bundle::from_pem(bytes(secret, PREVIOUS).unwrap_or_default()),
            previous_until: until,
            is_asked: annotation(ROTATE).is_some(),
        })
    }

    /// The Secret that holds this. What is not ours in its metadata stays.
    pub(super) fn to_secret(&self, mut secret: Secret) -> Secret {
        let mut data = BTreeMap::new();
        let mut put = |field: &str, text: &str| {
            data.insert(field.to_owned(), ByteString(text.as_bytes().to_vec()));
        };
        let authorities = [(CURRENT, Some(&self.current)), (NEXT, self.next.as_ref())];
        for ([certificate, key], authority) in authorities {
            if let Some(authority) = authority {
                put(certificate, authority.certificate_pem());
                put(key, authority.key_pem());
            }
        }
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.remove(PREVIOUS_UNTIL);
        if !self.previous.is_empty() {
            put(PREVIOUS, &self.previous.to_pem());
            if let Some(until) = self.previous_until {
                let until = humantime::format_rfc3339_seconds(until).to_string();
                annotations.insert(PREVIOUS_UNTIL.to_owned(), until);
            }
        }
        if !self.is_asked {
            annotations.remove(ROTATE);
        }
        secret.data = Some(data);
        secret
    }
}

fn bytes<'a>(secret: &'a Secret, field: &str) -> Option<&'a [u8]> {
    let value = secret.data.as_ref()?.get(field)?;
    Some(value.0.as_slice())
}

fn authority(
    secret: &Secret,
    [certificate, key]: [&'static str; 2],
) -> Result<Authority, SuccessionError> {
    let text = |field| {
        let unusable = |source| SuccessionError { field, source };
        let bytes = bytes(secret, field).ok_or_else(|| unusable("it is absent".into()))?;
        std::str::from_utf8(bytes).map_err(|error| unusable(error.into()))
    };
    Authority::from_pem(text(certificate)?, text(key)?).map_err(|error| SuccessionError {
        field: if matches!(error, AuthorityError::Key(_)) {
            key
        } else {
            certificate
        },
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const LIFETIMES: Lifetimes = Lifetimes::PROGRAM;

    fn made(at: SystemTime) -> Succession {
        Succession::new(Authority::generate(at, &LIFETIMES).unwrap())
    }

    fn step(succession: &Succession, now: SystemTime, is_published: bool) -> Option<Step> {
        succession.step(now, is_published, (&LIFETIMES, Jitter::default()))
    }

    fn after(succession: &Succession, step: Step, now: SystemTime) -> Succession {
        succession.clone().after(step, now, &LIFETIMES).unwrap()
    }

    /// Every state that a Secret can be in, made by an authority of this time.
    fn states(begin: SystemTime) -> Vec<Succession> {
        let mut states = Vec::new();
        for has_next in [false, true] {
            for previous_until in [None, Some(None), Some(Some(begin + DAY))] {
                for is_asked in [false, true] {
                    let mut state = made(begin);
                    if has_next {
                        state = after(&state, Step::Begin, begin + DAY * 200);
                    }
                    if let Some(until) = previous_until {
                        state.previous = made(begin - DAY).bundle();
                        state.previous_until = until;
                    }
                    state.is_asked = is_asked;
                    states.push(state);
                }
            }
        }
        states
    }

    #[test]
    fn each_step_has_its_time() {
        let begin = SystemTime::now();
        let new = made(begin);
        assert_eq!(step(&new, begin + DAY * 243, true), None);
        assert_eq!(step(&new, begin + DAY * 244, true), Some(Step::Begin));
        assert_eq!(step(&new, begin + DAY * 366, true), Some(Step::Replace));
        assert_eq!(step(&new, begin - DAY * 400, true), None);

        let asked = Succession {
            is_asked: true,
            ..new.clone()
        };
        assert_eq!(step(&asked, begin, false), Some(Step::Begin));

        let under_way = after(&new, Step::Begin, begin + DAY * 244);
        assert_eq!(step(&under_way, begin + DAY * 244, false), None);
        assert_eq!(
            step(&under_way, begin + DAY * 364, false),
            None,
            "never blindly"
        );
        assert_eq!(
            step(&under_way, begin + DAY * 244, true),
            Some(Step::Promote)
        );
        let over = step(&under_way, begin + DAY * 366, false);
        assert_eq!(over, Some(Step::Promote), "nothing is lost by it");

        let promoted = after(&under_way, Step::Promote, begin + DAY * 244);
        let end = begin + DAY * 251 + LIFETIMES.skew;
        assert_eq!(step(&promoted, end - DAY / 24, true), None);
        assert_eq!(step(&promoted, end, false), Some(Step::Retire));

        let undated = Succession {
            previous_until: None,
            ..promoted
        };
        assert_eq!(step(&undated, end, true), Some(Step::Date));
    }

    #[test]
    fn only_retirement_takes_trust_away_and_only_what_is_published_signs() {
        let begin = SystemTime::now();
        for state in states(begin) {
            for days in [0, 1, 243, 244, 364, 366, 800] {
                for is_published in [false, true] {
                    let now = begin + DAY * days;
                    let Some(step) = step(&state, now, is_published) else {
                        continue;
                    };
                    let next = after(&state, step, now);
                    let case = format!("{step:?} at {days}, published: {is_published}: {state:?}");
                    assert_ne!(next, state, "{case}");
                    if step == Step::Retire {
                        assert!(state.previous_until.unwrap() <= now, "{case}");
                    } else {
                        assert!(next.bundle().is_superset(&state.bundle()), "{case}");
                    }
                    if next.current != state.current {
                        let is_over = !state.is_good(now);
                        assert!(is_published || is_over, "{case}");
                        let before = Bundle::of(state.current.certificate());
                        assert!(next.previous.is_superset(&before), "{case}");
                        assert!(
                            next.previous_until.unwrap() >= now + LIFETIMES.leaf,
                            "{case}"
                        );
                    }
                    assert!(next.is_good(now) || step == Step::Promote, "{case}");
                }
            }
        }
    }

    #[test]
    fn a_secret_holds_every_state() {
        // To the second, as the annotation is.
        let begin = SystemTime::UNIX_EPOCH + DAY * 20_000;
        for state in states(begin) {
            let mut secret = Secret::default();
            if state.is_asked {
                let annotations = secret.metadata.annotations.get_or_insert_default();
                annotations.insert(ROTATE.to_owned(), String::new());
            }
            let secret = state.to_secret(secret);
            assert_eq!(Succession::from_secret(&secret).unwrap(), state);
        }
    }

    #[test]
    fn the_bundle_does_not_grow_without_end() {
        let begin = SystemTime::now();
        let mut state = made(begin);
        for _ in 0..20 {
            state.is_asked = true;
            while let Some(step) = step(&state, begin, true) {
                state = after(&state, step, begin);
            }
            let found = made(begin).bundle();
            state = state.beside(found, begin, &LIFETIMES).unwrap_or(state);
        }
        assert_eq!(state.previous.len(), MOST_PREVIOUS);
        assert!(state.is_asked, "it waits for room");
    }
}
