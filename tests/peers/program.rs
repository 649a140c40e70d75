//! The peers' programs, built from their Go modules.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A published program.
pub struct Program {
    /// What it is called in tables.
    pub name: &'static str,
    module: &'static str,
    pub version: &'static str,
    package: &'static str,
}

pub const KYVERNO: Program = Program {
    name: "Kyverno's CLI",
    module: "github.com/kyverno/kyverno",
    version: "v1.19.1",
    package: "./cmd/cli/kubectl-kyverno",
};

pub const GATOR: Program = Program {
    name: "Gatekeeper's gator",
    module: "github.com/open-policy-agent/gatekeeper/v3",
    version: "v3.23.1",
    package: "./cmd/gator",
};

pub const KUBE_SCORE: Program = Program {
    name: "kube-score",
    module: "github.com/zegl/kube-score",
    version: "v1.20.0",
    package: "./cmd/kube-score",
};

impl Program {
    /// Where it stands; built if it does not yet. `Err` with the reason where it can't be had.
    pub fn path(&self) -> Result<PathBuf, String> {
        let name = Path::new(self.package)
            .file_name()
            .expect("a package has a name");
        let folder = cache().join(format!("{}-{}", name.display(), self.version));
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
        eprintln!(
            "building {} {} from its Go module (once; minutes)",
            self.name, self.version
        );
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        // In the module's own folder its `replace` lines count, which `go install` refuses.
        let source = self.source()?;
        let new = path.with_extension("new");
        let built = go()
            .args([
                "build",
                "-C",
                &source,
                "-mod=readonly",
                "-buildvcs=false",
                "-trimpath",
            ])
            .args(["-ldflags=-s -w", "-o"])
            .args([new.as_os_str(), self.package.as_ref()])
            .output()
            .map_err(|error| error.to_string())?;
        if !built.status.success() {
            return Err(last_line(&built.stderr));
        }
        fs::rename(&new, &path).map_err(|error| error.to_string())?;
        Ok(path)
    }

    fn source(&self) -> Result<String, String> {
        let module = format!("{}@{}", self.module, self.version);
        let output = go()
            .args(["mod", "download", "-json", &module])
            .current_dir(env::temp_dir()) // outside of any module
            .output()
            .map_err(|error| error.to_string())?;
        let said: Value =
            serde_json::from_slice(&output.stdout).map_err(|_| last_line(&output.stderr))?;
        let text = |key: &str| said[key].as_str().map(str::to_owned);
        text("Dir").ok_or_else(|| text("Error").unwrap_or_default())
    }
}

fn go() -> Command {
    let mut command = Command::new("go");
    command
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOFLAGS", "");
    command
}

/// Where `tests/cluster` keeps what it builds, too.
fn cache() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").expect("a home")).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    cache.join("portcullis")
}

fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines().last().unwrap_or_default().to_owned()
}
