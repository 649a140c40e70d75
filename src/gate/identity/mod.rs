//! Which life of the app this is: told by the listening sockets that the kernel shows.
//!
//! A pod shares one network namespace, so the kernel shows the gate the app's listening sockets. The
//! inode of a socket is its alone: another inode means that the app was restarted, even when it was
//! back before anybody noticed. Where no socket is shown (another machine, some sandboxes) only
//! refused connections tell.

mod sockets;

mod watch;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use self::watch::{Sighting, watch};
use super::state::{App, Life};

/// The listening sockets of the app, by port in the order of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Inodes begin anew with the machine.
    boot: String,
    ports: Vec<BTreeSet<u64>>,
}

/// Tells one life of the app from the next.
#[derive(Debug)]
pub(super) struct Lives {
    life: u64,
    known: Option<Identity>,
    seen: bool,
    refused: bool,
}

/// Remembers, over restarts of the gate, the app that it was open for.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
}

/// What the file of [`Memory`] holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    open_for: Identity,
}

// === impl Identity ===

impl Identity {
    /// Whether each port has a socket that it had before. Servers of several processes with a
    /// socket each (`SO_REUSEPORT`) replace them one by one without being another app.
    fn is_same_app(&self, other: &Self) -> bool {
        self.boot == other.boot
            && self.ports.len() == other.ports.len()
            && self
                .ports
                .iter()
                .zip(&other.ports)
                .all(|(ours, theirs)| !ours.is_disjoint(theirs))
    }
}

// === impl Lives ===

impl Lives {
    /// Begins with life 0, that of the `remembered` app if there is one.
    pub(super) fn new(remembered: Option<Identity>) -> Self {
        Self {
            life: 0,
            seen: remembered.is_some(),
            known: remembered,
            refused: false,
        }
    }

    pub(super) fn see(&mut self, sighting: &Sighting) -> App {
        let identity = match sighting {
            Sighting::Refuses(why) => {
                self.refused = true;
                return App::Refuses(why.clone());
            }
            Sighting::Accepts(identity) => identity,
        };
        let same = match (&self.known, identity) {
            (Some(known), Some(identity)) => known.is_same_app(identity),
            // A remembered app that cannot be recognised is not taken for the same.
            (Some(_), None) => false,
            (None, _) => !self.refused,
        };
        if self.seen && !same {
            self.life += 1;
        }
        self.seen = true;
        self.refused = false;
        self.known.clone_from(identity);
        App::Accepts(Life(self.life))
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        self.known.as_ref()
    }
}

// === impl Memory ===

impl Memory {
    /// A file in this folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("open-for.json"),
        }
    }

    /// The app that the gate was open for when it ended, if it was.
    pub(super) fn recall(&self) -> Option<Identity> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let remembered: Remembered = serde_json::from_str(&text).ok()?;
        Some(remembered.open_for)
    }

    /// Written aside and renamed: a gate that is killed here leaves the old file or the new one.
    pub(super) fn remember(&self, identity: &Identity) -> io::Result<()> {
        let text = serde_json::to_string(&Remembered {
            open_for: identity.clone(),
        })?;
        let aside = self.path.with_extension("new");
        std::fs::write(&aside, text)?;
        std::fs::rename(aside, &self.path)
    }

    pub(super) fn forget(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Tells one run of the machine's kernel from the next (random(4)).
fn boot_id() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(inodes: &[u64]) -> Identity {
        Identity {
            boot: "one".into(),
            ports: vec![inodes.iter().copied().collect()],
        }
    }

    fn seen(inodes: &[u64]) -> Sighting {
        Sighting::Accepts(Some(sockets(inodes)))
    }

    fn refused() -> Sighting {
        Sighting::Refuses("connection refused".into())
    }

    fn lives(remembered: Option<Identity>, sightings: &[Sighting]) -> Vec<Option<u64>> {
        let mut lives = Lives::new(remembered);
        let life = |sighting| match lives.see(sighting) {
            App::Accepts(Life(life)) => Some(life),
            App::Refuses(_) | App::Unknown => None,
        };
        sightings.iter().map(life).collect()
    }

    #[test]
    fn another_socket_is_another_life() {
        assert_eq!(
            lives(None, &[seen(&[7]), seen(&[7]), seen(&[8])]),
            [Some(0), Some(0), Some(1)]
        );
    }

    #[test]
    fn a_worker_replaced_by_another_is_not() {
        assert_eq!(
            lives(None, &[seen(&[7, 8]), seen(&[8, 9]), seen(&[9, 10])]),
            [Some(0), Some(0), Some(0)]
        );
    }

    #[test]
    fn a_refusal_with_the_same_socket_after_it_is_a_blip() {
        assert_eq!(
            lives(None, &[seen(&[7]), refused(), seen(&[7])]),
            [Some(0), None, Some(0)]
        );
    }

    #[test]
    fn where_sockets_are_hidden_a_refusal_tells() {
        let hidden = || Sighting::Accepts(None);
        assert_eq!(
            lives(None, &[refused(), hidden(), hidden(), refused(), hidden()]),
            [None, Some(0), Some(0), None, Some(1)]
        );
    }

    #[test]
    fn only_the_remembered_app_is_life_zero() {
        let remembered = || Some(sockets(&[7]));
        assert_eq!(lives(remembered(), &[seen(&[7])]), [Some(0)]);
        assert_eq!(lives(remembered(), &[seen(&[8])]), [Some(1)]);
        assert_eq!(lives(remembered(), &[Sighting::Accepts(None)]), [Some(1)]);
        let other_boot = Identity {
            boot: "two".into(),
            ..sockets(&[7])
        };
        assert_eq!(lives(Some(other_boot), &[seen(&[7])]), [Some(1)]);
    }

    #[test]
    fn recalls_what_it_was_told_to_remember() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path());
        assert_eq!(memory.recall(), None);
        memory.remember(&sockets(&[7])).unwrap();
        assert_eq!(memory.recall(), Some(sockets(&[7])));
        memory.forget().unwrap();
        memory.forget().unwrap();
        assert_eq!(memory.recall(), None);
    }
}
