//! Values that are read when they are needed and never shown.

use super::failure::Failure;
use crate::contract::ValueFrom;

/// A secret value. It has no `Display`, and `Debug` hides it.
pub(super) struct Secret(String);

/// A Secret's values are at most 1 MiB, and a URL is far shorter.
const MAX_BYTES: u64 = 64 * 1024;

// === impl Secret ===

impl Secret {
    pub(super) async fn read(from: &ValueFrom) -> Result<Self, Failure> {
        let value = match from {
            ValueFrom::Env(name) => {
                std::env::var(name).map_err(|_| Failure::plain(format!("env {name} is not set")))?
            }
            ValueFrom::File(path) => {
                let subject = format!("file {path}");
                let unreadable = |error| Failure::io(&subject, &error);
                let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
                if length > MAX_BYTES {
                    return Err(Failure::new(subject, "is too long to hold a URL"));
                }
                tokio::fs::read_to_string(path).await.map_err(unreadable)?
            }
        };
        let value = value.trim();
        if value.is_empty() {
            return Err(Failure::plain(match from {
                ValueFrom::Env(name) => format!("env {name} is empty"),
                ValueFrom::File(path) => format!("file {path} is empty"),
            }));
        }
        Ok(Self(value.to_owned()))
    }

    /// To be looked at, never to be shown.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
