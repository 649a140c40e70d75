//! One story on one side: its namespace, its client, and what is shown of both.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::{
    process::Command,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    pods::Pods,
    report::{Moment, Summary},
    table,
    view::View,
};

/// Where a story plays.
pub struct Scene<'a> {
    view: &'a View,
    namespace: String,
}

/// What the client saw.
pub struct Act {
    pub summary: Summary,
    /// Of each second.
    pub p99_ms: Vec<u32>,
}

/// A line of the client's log.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Over { summary: Summary },
    Second(Moment),
}

/// What installs Portcullis.
pub const INSTALL: &str = "apply -k manifests/base";

/// For what takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// For the first pages of the first release, which are slow too.
const WARM_UP: Duration = Duration::from_secs(4);

/// How kubectl tells that what it ran was killed: 128 and the number of SIGKILL.
const KILLED: i32 = 137;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

// === impl Scene ===

impl<'a> Scene<'a> {
    /// A namespace that is there.
    pub fn of(view: &'a View, namespace: &str) -> Self {
        Self {
            view,
            namespace: namespace.to_owned(),
        }
    }

    /// A namespace with nothing in it.
    pub async fn open(view: &'a View, namespace: &str) -> anyhow::Result<Self> {
        let scene = Self::of(view, namespace);
        scene
            .quietly(&format!("delete namespace {namespace} --ignore-not-found"))
            .await?;
        scene
            .quietly(&format!("create namespace {namespace}"))
            .await?;
        // Pods are refused until a controller has made it.
        scene
            .eventually(
                "the namespace's ServiceAccount",
                "get serviceaccount default",
            )
            .await?;
        Ok(scene)
    }

    /// Shows the command and what kubectl answers; says whether it passed.
    pub async fn attempt(&self, words: &str) -> anyhow::Result<bool> {
        self.view.command(&format!("kubectl {words}"));
        let output = self.kubectl(words).await?;
        let answer = said(&output);
        // What kubectl says before the message of a webhook is long, and the same each time.
        let answer = answer
            .rsplit_once(" denied the request: ")
            .map_or(&*answer, |(_, why)| why);
        // A progress report: its last line is the outcome.
        let follows = words.starts_with("rollout status");
        let shown = if follows {
            answer.lines().last()
        } else {
            Some(answer)
        };
        self.view
            .answer(shown.unwrap_or_default(), output.status.success());
        Ok(output.status.success())
    }

    /// The same, of a command that must pass.
    pub async fn run(&self, words: &str) -> anyhow::Result<()> {
        if !self.attempt(words).await? {
            bail!("kubectl {words} failed in namespace {}", self.namespace);
        }
        Ok(())
    }

    /// What nobody needs to see, unless it fails.
    pub async fn quietly(&self, words: &str) -> anyhow::Result<String> {
        let output = self.kubectl(words).await?;
        self.passed(words, &output)
    }

    /// What a command has answered, unless it failed.
    fn passed(&self, words: &str, output: &Output) -> anyhow::Result<String> {
        let answer = said(output);
        if !output.status.success() {
            bail!(
                "kubectl {words} failed in namespace {}: {answer}",
                self.namespace
            );
        }
        Ok(answer)
    }

    /// Lets the client of a file send for a moment, so that what runs when the story begins is warm.
    pub async fn warm_up(&self, file: &str) -> anyhow::Result<()> {
        self.start_client(file).await?;
        sleep(WARM_UP).await;
        self.quietly("delete pod client --grace-period=1")
            .await
            .map(drop)
    }

    /// Returns when it sends.
    pub async fn start_client(&self, file: &str) -> anyhow::Result<()> {
        self.quietly(&format!("apply -f {file}")).await?;
        let wait = "wait --for=condition=Ready pod/client --timeout=60s";
        self.quietly(wait).await.map(drop)
    }

    /// Lets the client send no more; it ends when it has its last answer.
    async fn stop_client(&self) -> anyhow::Result<()> {
        let stop = "exec client -- /e2e-app stop";
        let output = self.kubectl(stop).await?;
        // The client may end, and all that runs in its container with it, before that which has told it to.
        if output.status.code() == Some(KILLED) {
            return Ok(());
        }
        self.passed(stop, &output).map(drop)
    }

    /// Plays, and shows meanwhile what the client sees, and what becomes of the pods.
    pub async fn watch(
        &self,
        app: &str,
        script: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Act> {
        let pods = Pods::new(&self.namespace, app).await?;
        let played = async {
            script.await?;
            self.stop_client().await
        };
        let told = async { tokio::try_join!(self.client_log(&pods), played) };
        tokio::select! {
            biased; // an end before news of the pods
            act = told => Ok(act?.0),
            never = pods.tell(self.view) => match never? {},
        }
    }

    /// Asked for again and again: following a log takes a watch of the kernel's, and with more than one cluster
    /// on a machine those run out.
    async fn client_log(&self, pods: &Pods) -> anyhow::Result<Act> {
        let mut p99_ms = Vec::new();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let log = pods.log("client").await?;
            for line in log.lines().skip(p99_ms.len()) {
                let said = serde_json::from_str(line);
                match said.with_context(|| format!("the client says {line}"))? {
                    Line::Over { summary } => return Ok(Act { summary, p99_ms }),
                    Line::Second(moment) => {
                        let p99 = table::show(Some(f64::from(moment.p99_ms)));
                        let has_any = moment.quick + moment.slow > 0;
                        self.view.over(moment, if has_any { &p99 } else { "" });
                        p99_ms.push(moment.p99_ms);
                    }
                }
            }
        }
    }

    /// Waits until a container of this release runs.
    pub async fn has_started(&self, app: &str, release: &str) -> anyhow::Result<()> {
        let pods = Pods::new(&self.namespace, app).await?;
        let began = Instant::now();
        while !pods.has_started(release).await? {
            if began.elapsed() > PATIENCE {
                bail!(
                    "no pod of {app} {release} has started in namespace {}",
                    self.namespace
                );
            }
            sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// What `kubectl describe` says of a pod whose gate is shut, in short; nothing where there is none.
    pub async fn why_not_ready(&self, app: &str) -> anyhow::Result<()> {
        let describe = format!("describe pods -l app={app}");
        let description = self.quietly(&describe).await?;
        let reason = description.split("Readiness probe failed: ").skip(1);
        let reason = reason.filter_map(|rest| rest.lines().next());
        // The events of a pod end with the newest.
        if let Some(reason) = reason
            .filter(|reason| reason.starts_with("not ready"))
            .last()
        {
            self.view.command(&format!("kubectl {describe}"));
            self.view
                .answer(&format!("Readiness probe failed: {reason}"), true);
        }
        Ok(())
    }

    async fn eventually(&self, what: &str, words: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let output = self.kubectl(words).await?;
            if output.status.success() {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!("gave up waiting for {what}: {}", said(&output));
            }
            sleep(INTERVAL).await;
        }
    }

    async fn kubectl(&self, words: &str) -> anyhow::Result<Output> {
        let mut command = Command::new("kubectl");
        // With it kubectl refuses objects of other namespaces.
        if words != INSTALL {
            command.args(["--namespace", &self.namespace]);
        }
        command
            .args(words.split_whitespace())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("kubectl")
    }
}

fn said(output: &Output) -> String {
    let said = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&said).trim_end().to_owned()
}
