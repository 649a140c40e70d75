//! A namespace of the cluster that `KUBECONFIG` points to, with Portcullis installed there.
//!
//! A story is a file of its own: `Stage::new("its-name")`, then what a user would do. Its YAML stands in
//! `manifests/samples/stories/its-name`. What a story changes outside its namespace it puts right again, also
//! when it fails; such stories stand in `alone`, others are played beside each other.

use std::{env, fs, sync::LazyLock, thread, time::Duration};

use serde::Deserialize;

use super::{
    pod::{GATE, Pod},
    report::{Moment, Summary},
};
use crate::support::{
    kubectl::{Answer, Kubectl},
    policies::Policies,
    wait::{at_length, eventually},
};

/// Where one story plays. Its namespace goes with it; of a story that fails, it is described first.
pub struct Stage {
    namespace: String,
    /// For what has no method here.
    pub kubectl: Kubectl,
}

/// A client that sends all the while.
pub struct Client<'a> {
    kubectl: &'a Kubectl,
}

/// The last line that the client prints.
#[derive(Deserialize)]
struct Report {
    summary: Summary,
}

/// The stories' files, and the kustomization that installs Portcullis for them.
const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/samples/stories");

/// What asks for the gate in the stories' files.
const DEMAND: &str = "        portcullis.dev/gate: enabled\n";

/// Installed once for all stories.
static CLUSTER: LazyLock<Kubectl> = LazyLock::new(|| {
    let kubeconfig = env::var_os("KUBECONFIG").expect("KUBECONFIG names a cluster: make e2e");
    let kubectl = Kubectl::new("kubectl".into(), kubeconfig.into());
    kubectl.call_with(&["apply", "-k", STORIES], None).ok();
    kubectl
        .call("rollout status deployment/portcullis -n portcullis-system --timeout=120s")
        .ok();
    await_injection(&kubectl);
    kubectl
});

const PROBE: &str = r"
apiVersion: v1
kind: Pod
metadata:
  name: probe
  namespace: default
  labels:
    portcullis.dev/gate: enabled
spec:
  containers:
    - name: app
      image: portcullis-e2e-app:0.1.0
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /ready, port: http}}
      livenessProbe: {httpGet: {path: /live, port: http}}
      resources:
        requests: {cpu: 10m, memory: 16Mi}
        limits: {cpu: 100m, memory: 64Mi}
";

/// Waits until a pod that asks for a gate gets one: those that the webhook has not seen have none.
pub fn await_injection(kubectl: &Kubectl) {
    eventually("pods to be injected", || {
        let pod = probe(kubectl)?;
        pod.contains(GATE).then_some(()).ok_or(pod)
    });
}

/// Waits until it is proved that the webhook answers, so that nothing passes without it: half a minute from its start.
pub fn await_fail(kubectl: &Kubectl) {
    at_length("failurePolicy Fail", || {
        let policies = Policies::of(&kubectl.everywhere());
        let fail = policies.are(["Fail"; 3]);
        fail.then_some(()).ok_or_else(|| format!("{policies:?}"))
    });
}

/// Waits until nobody answers for the webhook: connections to a process outlive its place behind a Service.
pub fn await_silence(kubectl: &Kubectl) {
    eventually("nobody to answer", || match probe(kubectl) {
        Err(why) if why.contains("failed calling webhook") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// A pod that asks for a gate, as it would be stored.
fn probe(kubectl: &Kubectl) -> Result<String, String> {
    let create = "create --dry-run=server -o json -f -";
    kubectl.everywhere().feed(create, PROBE).success_output()
}

// === impl Stage ===

impl Stage {
    /// A namespace of this name, with nothing in it.
    pub fn new(namespace: &str) -> Self {
        let remove = format!("delete namespace {namespace} --ignore-not-found");
        CLUSTER.call(&remove).ok();
        CLUSTER.call(&format!("create namespace {namespace}")).ok();
        let stage = Self {
            namespace: namespace.to_owned(),
            kubectl: CLUSTER.in_namespace(namespace),
        };
        // Pods are refused until a controller has made it.
        eventually("the namespace's ServiceAccount", || {
            stage.kubectl.call("get serviceaccount default").success()
        });
        stage
    }

    /// `kubectl apply` of a file of the stories; what kubectl printed, warnings included.
    pub fn apply(&self, file: &str) -> String {
        self.apply_text(&read(file))
    }

    /// The same, of a workload that then does not ask for the gate.
    pub fn apply_ungated(&self, file: &str) -> String {
        self.apply_changed(file, DEMAND, "")
    }

    /// The same, with other words wherever these stand.
    pub fn apply_changed(&self, file: &str, from: &str, to: &str) -> String {
        let text = read(file);
        assert!(text.contains(from), "{file} has no {from:?}");
        self.apply_text(&text.replace(from, to))
    }

    /// `kubectl apply` of a file of the stories, which is refused; why.
    pub fn refused(&self, file: &str) -> String {
        self.kubectl.apply(&read(file)).refusal()
    }

    /// The same, whatever comes of it.
    pub fn try_apply(&self, file: &str) -> Answer {
        self.kubectl.apply(&read(file))
    }

    /// Posts to the app of a pod, past its gate.
    pub fn post(&self, pod: &Pod, path: &str) -> Answer {
        let (namespace, pod) = (&self.namespace, pod.name());
        let url = format!("/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/{path}");
        self.kubectl.feed(&format!("create --raw {url} -f -"), "")
    }

    fn apply_text(&self, text: &str) -> String {
        let answer = self.kubectl.apply(text);
        let said = answer.stderr.clone();
        answer.ok() + &said
    }

    /// Its name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Waits until every replica is of the last revision and available.
    pub fn rolled_out(&self, deployment: &str) {
        let wait = format!("rollout status deployment/{deployment} --timeout=180s");
        self.kubectl.call(&wait).ok();
    }

    /// The same, and until those of older revisions are gone: they may lose what a story is not about.
    pub fn settled(&self, deployment: &str) {
        self.rolled_out(deployment);
        let stopping = format!(
            "get pods --selector=app={deployment} -o jsonpath={{.items[*].metadata.deletionTimestamp}}"
        );
        eventually("the old pods to be gone", || {
            let stopping = self.kubectl.call(&stopping).success_output()?;
            stopping.is_empty().then_some(()).ok_or(stopping)
        });
    }

    /// Starts the client of a file; it has its first answers when this returns.
    pub fn client(&self, file: &str) -> Client<'_> {
        self.apply(file);
        self.running_client()
    }

    /// The same, with an address in the place of a word.
    pub fn client_to(&self, file: &str, word: &str, address: &str) -> Client<'_> {
        self.apply_changed(file, word, address);
        self.running_client()
    }

    fn running_client(&self) -> Client<'_> {
        eventually("the client's first second", || {
            let log = self.kubectl.call("logs client").success_output()?;
            let told = log.lines().count() >= 2;
            told.then_some(()).ok_or(log)
        });
        Client {
            kubectl: &self.kubectl,
        }
    }
}

impl Drop for Stage {
    #[expect(clippy::print_stdout, reason = "shown with the failure")]
    fn drop(&mut self) {
        if thread::panicking() {
            for question in ["get all -o wide", "describe pods", "get events"] {
                let answer = self.kubectl.call(question);
                println!("\n$ kubectl {question}\n{}{}", answer.stdout, answer.stderr);
            }
        }
        CLUSTER.call(&format!("delete namespace {} --wait=false", self.namespace));
    }
}

// === impl Client ===

impl Client<'_> {
    /// Waits until its first request is so long ago.
    pub fn has_sent_for(&self, time: Duration) {
        at_length("the client's time", || {
            let now = self.time()?;
            (now >= time)
                .then_some(())
                .ok_or_else(|| format!("{now:?}"))
        });
    }

    /// How long ago its first request is, in whole seconds.
    pub fn time(&self) -> Result<Duration, String> {
        let log = self.kubectl.call("logs client --tail=1").success_output()?;
        let moment: Moment = serde_json::from_str(&log).map_err(|error| error.to_string())?;
        Ok(Duration::from_secs(moment.second))
    }

    /// Lets it stop, and wait for its last answer.
    #[expect(clippy::print_stdout, reason = "shown where the story fails")]
    pub fn finish(self) -> Summary {
        // Fails where the client is over, and its container with it, before kubectl has heard so.
        let _ = self.kubectl.call("exec client -- /e2e-app stop");
        self.kubectl
            .call("wait --for=jsonpath={.status.phase}=Succeeded pod/client --timeout=60s")
            .ok();
        let log = self.kubectl.call("logs client").ok();
        let moments = log.lines().map(serde_json::from_str::<Moment>);
        for moment in moments.flatten().filter(|moment| moment.failed > 0) {
            println!("{moment:?}");
        }
        let report = log.lines().last().expect("the client speaks");
        let report: Report = serde_json::from_str(report).expect("it ends with its summary");
        self.kubectl.call("delete pod client").ok();
        report.summary
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(format!("{STORIES}/{file}")).expect("a file of the stories")
}
