//! Who is behind a Service, change by change.

use std::{fs, process::Child};

use tempfile::NamedTempFile;

use super::stage::Stage;
use crate::support::wait::eventually;

/// A watch of a Service's endpoints. It ends when dropped.
pub struct Endpoints {
    watch: Child,
    seen: NamedTempFile,
}

/// A line for each change, with a word for each endpoint. (With a `range` in it, kubectl ends at the first change.)
const FORMAT: &str = r#"jsonpath={.endpoints[*].conditions.ready}{"\n"}"#;

// === impl Stage ===

impl Stage {
    /// Watches who is behind a Service, from now on.
    pub fn watch_endpoints(&self, service: &str) -> Endpoints {
        let seen = NamedTempFile::new().expect("a temporary file");
        let file = seen.reopen().expect("the same file");
        let mut watch = self.kubectl.command();
        watch
            .args(["get", "endpointslices", "--watch", "--output", FORMAT])
            .arg(format!("--selector=kubernetes.io/service-name={service}"))
            .stdout(file);
        let mut endpoints = Endpoints {
            watch: watch.spawn().expect("kubectl starts"),
            seen,
        };
        eventually("the endpoints", || {
            endpoints.fewest().ok_or_else(String::new)
        });
        endpoints
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// How many were ready at the worst moment so far.
    pub fn fewest(&mut self) -> Option<usize> {
        let ended = self.watch.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "nobody watches any more: {ended:?}");
        let text = fs::read_to_string(self.seen.path()).expect("a file of ours");
        let (whole, _) = text.rsplit_once('\n')?;
        let ready = |line: &str| line.split(' ').filter(|word| *word == "true").count();
        whole.lines().map(ready).min()
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}
