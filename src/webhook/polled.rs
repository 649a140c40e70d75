//! Mounted files whose content is looked at every so often: a kubelet changes a mounted Secret or ConfigMap by
//! swapping a symlink, which no watch on the file itself sees.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::fs;
use tokio::io::AsyncReadExt as _;

/// How often the content is read. The kubelet itself takes up to a minute to bring a change to the mount, so
/// looking more often gains nothing.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// No Secret and no ConfigMap is larger: their API objects are limited to 1 MiB
/// (kubernetes `pkg/apis/core/types.go`, `MaxSecretSize`).
const MAX_BYTES: u64 = 1024 * 1024;

/// How often a set of files is read again because it changed while it was read.
const MAX_READS: usize = 4;

/// A file could not be read.
#[derive(Debug, Error)]
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

/// Files that belong together, and their content when it was last looked at.
#[derive(Debug)]
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    seen: Option<Vec<Vec<u8>>>,
}

// === impl Files ===

impl Files {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, seen: None }
    }

    /// The content of all files, in the order of their paths, if it is not what the last call returned.
    pub(crate) async fn changed(&mut self) -> Result<Option<&[Vec<u8>]>, ReadError> {
        let content = self.read_steady().await?;
        if self.seen.as_ref() == Some(&content) {
            return Ok(None);
        }
        Ok(Some(self.seen.insert(content)))
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
        Err(ReadError::Unsteady {
            path: self.paths.first().cloned().unwrap_or_default(),
        })
    }

    async fn read(&self) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut content = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            content.push(read_bounded(path).await?);
        }
        Ok(content)
    }
}

async fn read_bounded(path: &PathBuf) -> Result<Vec<u8>, ReadError> {
    let io = |source| ReadError::Io {
        path: path.clone(),
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
        Err(ReadError::TooLarge { path: path.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, rename, write};
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn sees_the_symlink_swap_of_a_kubelet() {
        let mount = tempfile::tempdir().unwrap();
        let at = |name: &str| mount.path().join(name);
        let publish = |folder: &str, text: &str| {
            create_dir(at(folder)).unwrap();
            write(at(folder).join("file"), text).unwrap();
            symlink(folder, at("..data_tmp")).unwrap();
            rename(at("..data_tmp"), at("..data")).unwrap();
        };
        publish("..one", "one");
        symlink("..data/file", at("file")).unwrap();

        let mut files = Files::new(vec![at("file")]);
        assert_eq!(
            files.changed().await.unwrap(),
            Some([b"one".to_vec()].as_slice())
        );
        assert_eq!(files.changed().await.unwrap(), None);
        publish("..two", "two");
        assert_eq!(
            files.changed().await.unwrap(),
            Some([b"two".to_vec()].as_slice())
        );
    }

    #[tokio::test]
    async fn names_the_file_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent");
        let error = Files::new(vec![path.clone()]).changed().await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
    }

    #[tokio::test]
    async fn refuses_what_no_mount_can_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        let error = Files::new(vec![path]).changed().await.unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }));
    }
}
