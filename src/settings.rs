//! The settings file: read as kubectl reads YAML, with file, line and field in every error.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    policy::settings::{Invalid, Settings},
    yaml::{self, Position},
};

/// A settings file is a few hundred lines; a ConfigMap, where it is kept in a cluster, holds 1 MiB at most.
const SIZE_LIMIT: u64 = 1024 * 1024;

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("{}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is larger than settings can be.
    #[error("{}: more than 1 MiB: is this the settings file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The text is not one YAML document.
    #[error("{}:{}", file.display(), error.position)]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        #[source]
        error: yaml::Error,
    },
    /// A field has a value that it can't have.
    #[error("{}:{position}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Where the field stands.
        position: Position,
        /// Which field, and what is wrong with it.
        #[source]
        error: Invalid,
    },
}

/// Settings from the file at `path`.
pub fn read(path: &Path) -> Result<Settings, Error> {
    let unreadable = |source| Error::Unreadable {
        file: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > SIZE_LIMIT {
        return Err(Error::TooLarge {
            file: path.to_owned(),
        });
    }
    parse(fs::read(path).map_err(unreadable)?, path)
}

/// Settings from the bytes of a file; `path` is only named in errors.
pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Settings, Error> {
    let syntax = |error| Error::Syntax {
        file: path.to_owned(),
        error,
    };
    let text = yaml::decode(bytes).map_err(syntax)?;
    let mut documents = yaml::documents(&text);
    let Some(document) = documents.next().transpose().map_err(syntax)? else {
        return Settings::from_value(Value::Null).map_err(|error| Error::Invalid {
            file: path.to_owned(),
            position: Position { line: 1, column: 1 },
            error,
        });
    };
    if let Some(second) = documents.next().transpose().map_err(syntax)? {
        let message = "settings are one document, and here begins another".to_owned();
        return Err(syntax(yaml::Error {
            position: second.position(""),
            message,
        }));
    }
    let yaml::Document { value, places } = document;
    Settings::from_value(value.clone()).map_err(|error| Error::Invalid {
        file: path.to_owned(),
        position: places.find(&value, &error.pointer),
        error,
    })
}
