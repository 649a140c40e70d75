//! Which releases of Kubernetes a cluster runs.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// A release of Kubernetes: 1.34, whatever its patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// 1, as long as anybody can remember.
    pub major: u32,
    /// 34, say.
    pub minor: u32,
}

/// Not a version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version such as v1.34.4")]
pub struct NotARelease;

/// The releases of a cluster's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of the API server.
    pub server: Release,
    /// Of the oldest kubelet; `None` where there are no nodes yet.
    pub oldest_node: Option<Release>,
    /// Of the nodes, by their label `kubernetes.io/arch`: `amd64`, `arm64`.
    pub architectures: BTreeSet<Box<str>>,
}

// === impl Release ===

impl Release {
    /// The release of these numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl FromStr for Release {
    type Err = NotARelease;

    /// Reads `v1.34.4`, and what vendors make of it: `v1.34.4-gke.1047000`, `v1.34+`.
    fn from_str(version: &str) -> Result<Self, NotARelease> {
        let mut numbers = version.trim_start_matches('v').splitn(3, '.');
        let mut number = || {
            let text = numbers.next().ok_or(NotARelease)?;
            let end = text.find(|letter: char| !letter.is_ascii_digit());
            let digits = end.and_then(|end| text.get(..end)).unwrap_or(text);
            digits.parse().map_err(|_| NotARelease)
        };
        Ok(Self::new(number()?, number()?))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_as_vendors_write_them() {
        for (version, release) in [
            ("v1.34.4", Ok(Release::new(1, 34))),
            ("v1.33.5-gke.1047000", Ok(Release::new(1, 33))),
            ("v1.30.0+k3s1", Ok(Release::new(1, 30))),
            ("v1.32+", Ok(Release::new(1, 32))),
            ("1.9", Ok(Release::new(1, 9))),
            ("v1", Err(NotARelease)),
            ("", Err(NotARelease)),
            ("v.34", Err(NotARelease)),
        ] {
            assert_eq!(version.parse(), release, "{version}");
        }
        assert!(Release::new(1, 9) < Release::new(1, 33));
    }
}
