//! What is given to check: files, folders, standard input.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::yaml::{self, Position};

/// What a folder is searched for, as kubectl does it.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// A whole cluster in one file (`kubectl get all -A -o yaml`) fits; a disk image given by mistake does not.
const SIZE_LIMIT: u64 = 256 * 1024 * 1024;

/// What standard input is called in findings.
const STDIN: &str = "stdin";

/// One file to read, or standard input.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Input {
    /// As it is called in findings: the path as given, or as found below a folder that was given.
    pub(in crate::cli) name: Arc<str>,
    /// It was found in a folder, where other things than manifests may lie.
    pub(in crate::cli) found: bool,
    path: PathBuf,
}

/// An input, or a part of one, that can't be checked.
#[derive(Debug)]
pub(in crate::cli) struct Problem {
    /// The input.
    pub(in crate::cli) file: Arc<str>,
    /// Where in it.
    pub(in crate::cli) position: Option<Position>,
    /// What is wrong, and how to mend it.
    pub(in crate::cli) message: String,
}

/// Every input below `paths`, in the order given; within folders by name. Symbolic links to folders are not followed
/// there, as kubectl does not: so a loop of links is no loop.
pub(in crate::cli) fn inputs(paths: &[PathBuf]) -> (Vec<Input>, Vec<Problem>) {
    let mut inputs = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, &mut inputs, &mut problems);
        } else {
            inputs.push(Input::new(path.clone(), false));
        }
    }
    (inputs, problems)
}

fn search(folder: &Path, inputs: &mut Vec<Input>, problems: &mut Vec<Problem>) {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            problems.push(Problem::unreadable(&name(folder), &error));
            return;
        }
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&path, inputs, problems);
        } else if is_manifest(&path) {
            inputs.push(Input::new(path, true));
        }
    }
}

/// Named like a manifest, and not something that reading would wait for, such as a pipe. What can't be looked at
/// stays, so that it is said.
fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
        && fs::metadata(path).map_or(true, |file| file.is_file())
}

fn name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

// === impl Input ===

impl Input {
    fn new(path: PathBuf, found: bool) -> Self {
        let name = if path.as_os_str() == "-" {
            STDIN.into()
        } else {
            name(&path)
        };
        Self { name, found, path }
    }

    /// Reads it as text.
    pub(in crate::cli) fn read(&self) -> Result<String, Problem> {
        let bytes = self
            .bytes()
            .map_err(|error| Problem::unreadable(&self.name, &error))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > SIZE_LIMIT) {
            let message = format!("larger than {} MiB: split it", SIZE_LIMIT / 1024 / 1024);
            return Err(Problem {
                file: Arc::clone(&self.name),
                position: None,
                message,
            });
        }
        yaml::decode(bytes).map_err(|error| Problem::syntax(&self.name, error))
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.path.as_os_str() == "-" {
            io::stdin()
                .lock()
                .take(SIZE_LIMIT + 1)
                .read_to_end(&mut bytes)?;
        } else {
            File::open(&self.path)?
                .take(SIZE_LIMIT + 1)
                .read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }
}

// === impl Problem ===

impl Problem {
    fn unreadable(file: &Arc<str>, error: &io::Error) -> Self {
        // Without "(os error 13)", which tells a reader nothing.
        let said = error.to_string();
        let said = said.split(" (os error").next().unwrap_or(&said);
        let message = format!("can't be read: {}", said.to_lowercase());
        Self {
            file: Arc::clone(file),
            position: None,
            message,
        }
    }

    /// What the parser refused.
    pub(in crate::cli) fn syntax(file: &Arc<str>, error: yaml::Error) -> Self {
        let yaml::Error { position, message } = error;
        Self {
            file: Arc::clone(file),
            position: Some(position),
            message,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            position,
            message,
        } = self;
        match position {
            Some(position) => write!(f, "{file}:{position}: {message}"),
            None => write!(f, "{file}: {message}"),
        }
    }
}
