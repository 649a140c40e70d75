//! Mounted files whose content is looked at every so often: a kubelet changes a mounted Secret or ConfigMap by
//! swapping a symlink, which no watch on the file itself sees.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metrics::Counter;
use tokio::fs;
use tokio::io::AsyncReadExt as _;
use tokio::time::{MissedTickBehavior, interval};

use super::metrics::{Family, Outcome};
use crate::telemetry::chain;

/// How often the content is read. The kubelet itself takes up to a minute to bring a change to the mount, so
/// looking more often gains nothing.
const PERIOD: Duration = Duration::from_secs(10);

/// No Secret and no ConfigMap is larger: their API objects are limited to 1 MiB
/// (kubernetes `pkg/apis/core/types.go`, `MaxSecretSize`).
const MAX_BYTES: u64 = 1024 * 1024;

/// How often a set of files is read again because it changed while it was read.
const MAX_READS: usize = 4;

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Absent, unreadable, a folder.
    #[error("cannot read {path}")]
    Io {
        /// The file as it was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Larger than any mounted object can be.
    #[error("{path} is larger than 1 MiB, the most that a Secret or a ConfigMap can hold")]
    TooLarge {
        /// The file as it was given.
        path: PathBuf,
    },
    /// Two reads in a row never agreed.
    #[error("{path} and the files beside it keep changing while they are read")]
    Unsteady {
        /// The first of the files.
        path: PathBuf,
    },
}

/// Files that belong together, what their content is for, and what it was when it was last looked at.
pub(crate) struct Polled<A> {
    paths: Vec<PathBuf>,
    seen: Option<Vec<Vec<u8>>>,
    apply: A,
    reloads: Reloads,
}

/// Counts contents, by what came of them.
#[derive(Clone, Debug)]
pub(crate) struct Reloads {
    pub(crate) applied: Counter,
    pub(crate) rejected: Counter,
}

// === impl Reloads ===

impl Reloads {
    /// The counters of one metric.
    pub(crate) fn of(family: &Family<Counter, (Outcome,)>) -> Self {
        let handle = |outcome| family.handle((outcome,));
        Self {
            applied: handle(Outcome::Applied),
            rejected: handle(Outcome::Rejected),
        }
    }
}

// === impl Polled ===

impl<A, E> Polled<A>
where
    A: FnMut(&[Vec<u8>]) -> Result<(), E>,
    E: Error + From<ReadError>,
{
    /// Applies what the files hold now: `apply` gets their contents in the order of `paths`.
    pub(crate) async fn start(paths: Vec<PathBuf>, apply: A, reloads: Reloads) -> Result<Self, E> {
        let mut polled = Self {
            paths,
            seen: None,
            apply,
            reloads,
        };
        polled.look().await?;
        Ok(polled)
    }

    /// Looks at the files for ever. A new content that can't be applied is counted and logged once, as is every
    /// failure to read; the last good content stays applied.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.look().await {
                self.reloads.rejected.increment(1);
                tracing::error!(
                    error = chain(&error),
                    "file rejected; its last good content stays in force"
                );
            }
        }
    }

    /// Applies the content if it is not that of the last look.
    pub(crate) async fn look(&mut self) -> Result<(), E> {
        let content = self.read_steady().await?;
        if self.seen.as_ref() == Some(&content) {
            return Ok(());
        }
        (self.apply)(self.seen.insert(content))?;
        self.reloads.applied.increment(1);
        Ok(())
    }

    /// Reads until two reads agree, so that a swap between the first file and the last never yields a half of
    /// the old and a half of the new.
    async fn read_steady(&self) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut content = self.read().await?;
        if self.paths.len() == 1 {
            return Ok(content);
        }
        for _ in 1..MAX_READS {
            let again = self.read().await?;
            if again == content {
                return Ok(content);
            }
            content = again;
        }
        let path = self.paths.first().cloned().unwrap_or_default();
        Err(ReadError::Unsteady { path })
    }

    async fn read(&self) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut content = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            content.push(read_bounded(path).await?);
        }
        Ok(content)
    }
}

async fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    let io = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let mut content = Vec::new();
    let file = fs::File::open(path).await.map_err(io)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut content)
        .await
        .map_err(io)?;
    if u64::try_from(content.len()).is_ok_and(|length| length <= MAX_BYTES) {
        Ok(content)
    } else {
        Err(ReadError::TooLarge {
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::{create_dir, rename, write};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    /// A folder as a kubelet mounts a Secret or a ConfigMap: `file -> ..data/file`, `..data -> ..1`.
    pub(crate) struct Mount {
        folder: tempfile::TempDir,
        updates: u32,
    }

    impl Mount {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let mut mount = Self {
                folder: tempfile::tempdir().unwrap(),
                updates: 0,
            };
            mount.update(files);
            for (name, _) in files {
                symlink(Path::new("..data").join(name), mount.path(name)).unwrap();
            }
            mount
        }

        /// What the kubelet's AtomicWriter does: a new folder, then one rename of the symlink to it.
        pub(crate) fn update(&mut self, files: &[(&str, &str)]) {
            self.updates += 1;
            let folder = format!("..{}", self.updates);
            create_dir(self.path(&folder)).unwrap();
            for (name, text) in files {
                write(self.path(&folder).join(name), text).unwrap();
            }
            symlink(&folder, self.path("..data_tmp")).unwrap();
            rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }
    }

    pub(crate) fn uncounted() -> Reloads {
        Reloads {
            applied: Counter::noop(),
            rejected: Counter::noop(),
        }
    }

    async fn start(path: PathBuf) -> Result<(), ReadError> {
        Polled::start(vec![path], |_| Ok(()), uncounted())
            .await
            .map(|_| ())
    }

    #[tokio::test]
    async fn applies_each_content_once_over_the_symlink_swaps_of_a_kubelet() {
        let mut mount = Mount::new(&[("a", "1"), ("b", "2")]);
        let mut applied = Vec::new();
        let apply = |contents: &[Vec<u8>]| {
            applied.push(String::from_utf8(contents.concat()).unwrap());
            Ok::<_, ReadError>(())
        };
        let paths = vec![mount.path("a"), mount.path("b")];
        let mut polled = Polled::start(paths, apply, uncounted()).await.unwrap();
        polled.look().await.unwrap();
        mount.update(&[("a", "3"), ("b", "4")]);
        polled.look().await.unwrap();
        mount.update(&[("a", "3"), ("b", "4")]);
        polled.look().await.unwrap();
        assert_eq!(applied, ["12", "34"]);
    }

    #[tokio::test]
    async fn names_the_file_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent");
        let error = start(path.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
    }

    #[tokio::test]
    async fn refuses_what_no_mount_can_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        assert!(matches!(start(path).await, Err(ReadError::TooLarge { .. })));
    }
}
