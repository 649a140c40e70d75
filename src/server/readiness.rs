//! Ready when every part that must start has started: each part holds a latch and drops it when it has.

use std::sync::{Arc, Mutex, PoisonError};

/// What `/ready` asks. Not ready while any [`Latch`] is held; once ready, always ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    awaited: Arc<Mutex<Vec<&'static str>>>,
}

/// Held by a part that has yet to start; dropping it says that the part has started.
#[derive(Debug)]
#[must_use = "a latch that is dropped at once holds nothing back"]
pub struct Latch {
    part: &'static str,
    readiness: Readiness,
}

// === impl Readiness ===

impl Readiness {
    /// Holds readiness back until the latch is dropped; `part` is what `/ready` says it waits for.
    pub fn latch(&self, part: &'static str) -> Latch {
        self.with(|awaited| awaited.push(part));
        Latch {
            part,
            readiness: self.clone(),
        }
    }

    /// The parts that have not started yet; none means ready.
    pub fn awaited(&self) -> Vec<&'static str> {
        self.with(|awaited| awaited.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<&'static str>) -> T) -> T {
        // A list of names has no half-done state that a panic elsewhere could leave behind.
        change(&mut self.awaited.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Latch ===

impl Drop for Latch {
    fn drop(&mut self) {
        self.readiness.with(|awaited| {
            if let Some(at) = awaited.iter().position(|part| *part == self.part) {
                awaited.swap_remove(at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_latch_is_dropped() {
        let readiness = Readiness::default();
        let certificate = readiness.latch("certificate");
        let listener = readiness.latch("listener");
        assert_eq!(readiness.awaited(), ["certificate", "listener"]);
        drop(certificate);
        assert_eq!(readiness.awaited(), ["listener"]);
        drop(listener);
        assert!(readiness.awaited().is_empty());
    }
}
