//! A constant stream of requests that we must judge, and a count of those that we did not.

use std::{
    fmt::{self, Display, Formatter},
    path::Path,
    time::Duration,
};

use http::header::WARNING;
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use portcullis::contract::GATE_LABEL;
use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval},
};

use super::{
    forwarder::Forwarder,
    objects::{bare_spec, sound_spec, workload},
};
use crate::support::{
    stream::{client, is_ours, post},
    wait::eventually,
};

/// At most so often: the rest of the machine is for what is tested.
const PACE: Duration = Duration::from_millis(40);

/// Dry-run creations, one after the other, each with a name of its own and over new connections to us: a Deployment
/// that breaks a rule, which `validate.portcullis.dev` must refuse, and a pod that demands a gate, which
/// `inject.portcullis.dev` must give one.
pub struct Reviews {
    handle: Handle,
    stop: watch::Sender<bool>,
    progress: watch::Receiver<Tally>,
    asking: JoinHandle<()>,
}

/// How many were sent, and what became of them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub judged: usize,
    pub lost: Vec<Lost>,
}

/// A request that we have not judged.
#[derive(Clone, Debug)]
pub struct Lost {
    pub at: Instant,
    /// Its name, and what became of it.
    pub why: String,
}

/// What the API server made of an object.
struct Made {
    object: String,
    warnings: Vec<String>,
}

// === impl Reviews ===

impl Reviews {
    /// Begins to ask, as who has this kubeconfig, in a namespace. The forwarders are what the API server reaches us by.
    pub fn begin(
        runtime: &Handle,
        kubeconfig: &Path,
        namespace: &str,
        forwarders: Vec<Forwarder>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tell, progress) = watch::channel(Tally::default());
        let client = runtime.block_on(client(kubeconfig));
        let namespace = namespace.to_owned();
        let asking = runtime.spawn(async move {
            let mut pace = interval(PACE);
            for number in 0.. {
                if *stopped.borrow() {
                    return;
                }
                pace.tick().await;
                let name = format!("review-{number}");
                let answer = if number % 2 == 0 {
                    be_refused(&client, &namespace, &name).await
                } else {
                    be_given_a_gate(&client, &namespace, &name).await
                };
                tell.send_modify(|tally| match answer {
                    Ok(()) => tally.judged += 1,
                    Err(answer) => tally.lost.push(Lost {
                        at: Instant::now(),
                        why: format!("{name}: {answer}"),
                    }),
                });
                for forwarder in &forwarders {
                    forwarder.hang_up().await;
                }
            }
        });
        Self {
            handle: runtime.clone(),
            stop,
            progress,
            asking,
        }
    }

    /// Waits until so many more have been answered, in whatever way.
    pub fn pass(&self, more: usize) {
        let mut progress = self.progress.clone();
        let answered = |tally: &Tally| tally.judged + tally.lost.len();
        let until = answered(&progress.borrow()) + more;
        let reached = self
            .handle
            .block_on(progress.wait_for(|tally| answered(tally) >= until))
            .map(|_| ());
        reached.expect("it asks until it is stopped");
    }

    /// Lets them go on for so long, for what must not be lost in a certain time.
    pub fn go_on_for(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.pass(1);
        }
    }

    /// Waits until so many in a row have been judged.
    pub fn await_judged(&self, in_a_row: usize) {
        eventually("reviews to be judged", || {
            let before = self.progress.borrow().lost.len();
            self.pass(in_a_row);
            let lost = &self.progress.borrow().lost[before..];
            lost.is_empty()
                .then_some(())
                .ok_or_else(|| format!("{lost:?}"))
        });
    }

    /// Asks no more.
    pub fn end(self) -> Tally {
        self.stop.send_replace(true);
        let ended = self.handle.block_on(self.asking);
        ended.expect("asking does not panic");
        self.progress.borrow().clone()
    }
}

// === impl Tally ===

impl Tally {
    #[track_caller]
    pub fn assert_none_lost(&self, during: &str) {
        let lost: Vec<_> = self.lost.iter().map(|lost| &lost.why).collect();
        assert!(lost.is_empty(), "{during}: {self}: {lost:#?}");
        assert!(self.judged > 20, "{during}: {self}");
    }
}

impl Display for Tally {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "{} judged, {} lost", self.judged, self.lost.len())
    }
}

// === impl Made ===

impl Made {
    /// A warning of ours about an object of this name.
    fn warns_of(&self, name: &str) -> bool {
        let ours = |warning: &String| warning.contains("portcullis: ") && warning.contains(name);
        self.warnings.iter().any(ours)
    }
}

/// `Err` when the API server did anything but hand on our refusal, or our warning.
async fn be_refused(client: &Client, namespace: &str, name: &str) -> Result<(), String> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let object = workload("Deployment", name, bare_spec());
    match create(client, &path, &object).await {
        // We can be asked, but cannot ask: see what a refusal needs.
        Ok(made) if made.warns_of(name) => Ok(()),
        Ok(made) => Err(format!("let in: {:?}", made.warnings)),
        Err(kube::Error::Api(status)) if is_our_refusal(&status.message, name) => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    }
}

fn is_our_refusal(message: &str, name: &str) -> bool {
    is_ours(message) && message.contains(name)
}

/// `Err` when the API server did anything but make the pod with a gate in it.
async fn be_given_a_gate(client: &Client, namespace: &str, name: &str) -> Result<(), String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let mut pod = workload("Pod", name, sound_spec());
    pod["metadata"]["labels"][GATE_LABEL] = json!("enabled");
    let made = create(client, &path, &pod).await;
    let made = made.map_err(|error| format!("{error:?}"))?;
    let has_gate =
        made.object.contains(r#""name":"portcullis-gate""#) && made.object.contains(name);
    has_gate.then_some(()).ok_or_else(|| "no gate".to_owned())
}

async fn create(client: &Client, path: &str, object: &Value) -> Result<Made, kube::Error> {
    let request = post(&format!("{path}?dryRun=All"), object).map(Body::from);
    let answer = client.send(request).await?;
    let (head, body) = answer.into_parts();
    let text = body.collect().await?.to_bytes();
    if !head.status.is_success() {
        let status = serde_json::from_slice(&text).map_err(kube::Error::SerdeError)?;
        return Err(kube::Error::Api(status));
    }
    let warnings = head.headers.get_all(WARNING).into_iter();
    Ok(Made {
        object: String::from_utf8_lossy(&text).into_owned(),
        warnings: warnings
            .map(|warning| String::from_utf8_lossy(warning.as_bytes()).into_owned())
            .collect(),
    })
}
