//! Opens the mouth of our two webhook configurations: they ship without rules, so that nobody calls us before
//! we answer; rules, failurePolicy and caBundle are ours, by server-side apply under a field manager of our own.
//!
//! One replica writes, the one that holds the Lease; the others look.

mod beside;

mod entries;

pub(crate) mod glass;

mod owner;

mod stance;

mod touched;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::metrics::{Aim, Configuration, Entry, Metrics, WriteOutcome};
use super::proof::{Opinions, Prover};
use super::settings::InForce;
use super::tls::Trust;
use crate::facts::access::CONFIGURATION;
use crate::lease::Tenure;
use crate::policy::settings::FailurePolicy;
use crate::telemetry::chain;
use beside::Beside;
use entries::entries;
pub(crate) use entries::{is_or_copies, shipped_entries};
use glass::Glazier;
use stance::{Stance, found};

/// Name of both configurations (`manifests/base`), and the field manager of what we set in them.
const NAME: &str = CONFIGURATION;

/// How often the configurations are looked at, in case somebody has changed our fields and no watch told.
const PERIOD: Duration = Duration::from_secs(60);

/// From somebody's change to our look: one look for the many changes of a `kubectl apply`, and two writes a second
/// at most against whoever writes the same fields again and again.
const SETTLING: Duration = Duration::from_millis(500);

/// Pause after the first failure; doubled each time, up to [`PERIOD`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// An API server that has not answered in this time is not going to.
const DEADLINE: Duration = Duration::from_secs(10);

/// What is left to do when we leave is given no longer than this.
const FAREWELL: Duration = Duration::from_secs(5);

/// Keeps our fields in both configurations as they must be.
pub(super) struct Registration {
    client: Client,
    in_force: InForce,
    trust: watch::Receiver<Trust>,
    tenure: watch::Receiver<Tenure>,
    opinions: watch::Receiver<Opinions>,
    /// Whose turn it is to prove: ours with the Lease, nobody's while the glass is broken.
    turn: watch::Sender<Tenure>,
    glazier: Glazier,
    namespace: String,
    metrics: Arc<Metrics>,
}

/// Who we are among the replicas.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    /// Our namespace.
    pub(super) namespace: String,
    /// The name of this replica, and of no other.
    pub(super) identity: String,
}

/// A configuration could not be brought to what it must be.
#[derive(Debug, Error)]
enum RegistrationError {
    #[error("it is not there, and is never made by the server: apply the manifests")]
    Absent,
    #[error("it has no entry {0}: apply the manifests")]
    NoEntry(&'static str),
    #[error("cannot read it")]
    Read(#[source] Box<kube::Error>),
    #[error("cannot read our namespace, which is to own it")]
    Namespace(#[source] Box<kube::Error>),
    #[error("cannot write rules, failurePolicy and caBundle")]
    Write(#[source] Box<kube::Error>),
    #[error("the API server did not answer in {DEADLINE:?}")]
    Deadline(#[from] Elapsed),
}

// === impl Registration ===

impl Registration {
    /// Registers what the settings in force say is judged, once `trust` is known, until `leaving`.
    pub(super) async fn run(
        (client, replica): (Client, Replica),
        in_force: InForce,
        trust: watch::Receiver<Trust>,
        (prover, metrics): (Prover, Arc<Metrics>),
        leaving: CancellationToken,
    ) {
        let (tell_tenure, tenure) = watch::channel(Tenure::default());
        let (tell_opinions, opinions) = watch::channel(Opinions::default());
        let (turn, turns) = watch::channel(Tenure::default());
        let namespace = replica.namespace.clone();
        let mut beside = Beside::start(&client, replica, tell_tenure);
        let proving = prover.clone().run(turns, tell_opinions);
        beside.tasks.spawn(proving);
        let glazier = Glazier::new(client.clone(), namespace.clone(), Arc::clone(&metrics));
        let mut registration = Self {
            client,
            in_force,
            trust,
            tenure,
            opinions,
            turn,
            glazier,
            namespace,
            metrics,
        };
        registration.keep(&beside.touched, &leaving).await;
        beside.tasks.shutdown().await;
        if timeout(FAREWELL, registration.leave(&prover))
            .await
            .is_err()
        {
            tracing::warn!("left without knowing whether this was the last replica");
        }
        beside.left.cancel();
        let _ = beside.lease.await; // bounded: see there
    }

    /// Looks when there is a reason to, and every so often.
    async fn keep(&mut self, touched: &Notify, leaving: &CancellationToken) {
        let mut said = [None, None];
        let mut pause = FIRST_PAUSE;
        loop {
            let trust = tokio::select! {
                () = leaving.cancelled() => return,
                trust = self.trust.wait_for(|trust| *trust != Trust::Unknown) => trust.map(|t| t.clone()),
            };
            let Ok(trust) = trust else {
                return; // who knows of the certificate is gone: the process is leaving
            };
            let broken_for = self.see_to_the_glass().await;
            let stance = self.stance(broken_for.is_some());
            let mut well = true;
            for (configuration, said) in Configuration::ALL.into_iter().zip(&mut said) {
                let outcome = self.look(configuration, &trust, stance, *said).await;
                well &= !is_failure(outcome);
                *said = Some(outcome);
            }
            let wait = if well { PERIOD } else { pause };
            let wait = wait.min(broken_for.unwrap_or(wait));
            pause = if well {
                FIRST_PAUSE
            } else {
                (pause * 2).min(PERIOD)
            };
            tokio::select! {
                biased; // all are cancel-safe, and all but the first lead to the same look
                () = leaving.cancelled() => return,
                _ = self.trust.changed() => {}
                _ = self.tenure.changed() => {}
                _ = self.opinions.changed() => {}
                () = self.in_force.changed.notified() => {}
                () = async { touched.notified().await; sleep(SETTLING).await } => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// For how long it is broken yet, if it is. Nothing is proved then: what was counts no more when it is whole again.
    async fn see_to_the_glass(&mut self) -> Option<Duration> {
        let tenure = *self.tenure.borrow_and_update();
        let broken = self.glazier.look(tenure).await;
        let left = broken.map(|glass| glass.left(Timestamp::now()));
        let turn = if left.is_some() {
            Tenure::Waiting
        } else {
            tenure
        };
        self.turn
            .send_if_modified(|before| turn != std::mem::replace(before, turn));
        left
    }

    fn stance(&mut self, is_broken: bool) -> Stance {
        Stance {
            wanted: self.in_force.settings.load().failure_policy,
            tenure: *self.tenure.borrow(),
            is_broken,
            opinions: *self.opinions.borrow_and_update(),
        }
    }

    /// The last replica takes `Fail` back before it is gone: who leaves in good order leaves nobody waiting.
    async fn leave(&mut self, prover: &Prover) {
        let trust = self.trust.borrow().clone();
        if trust == Trust::Unknown || !prover.is_last_replica().await {
            return;
        }
        let stance = Stance {
            tenure: Tenure::Held,
            opinions: Opinions::LEAVING,
            ..self.stance(self.glazier.is_broken())
        };
        for configuration in Configuration::ALL {
            self.look(configuration, &trust, stance, None).await;
        }
    }

    /// One look at one configuration: counted always, logged when it is news.
    async fn look(
        &self,
        configuration: Configuration,
        trust: &Trust,
        stance: Stance,
        said: Option<WriteOutcome>,
    ) -> WriteOutcome {
        let done = match timeout(DEADLINE, self.assert(configuration, trust, stance)).await {
            Ok(done) => done,
            Err(elapsed) => Err(elapsed.into()),
        };
        let outcome = match &done {
            Ok(outcome) => *outcome,
            Err(RegistrationError::Absent) => WriteOutcome::Absent,
            Err(_) => WriteOutcome::Failed,
        };
        self.metrics.registrations.count((configuration, outcome));
        let kind = api_resource(configuration).kind;
        match done {
            Err(error) if said != Some(outcome) => {
                tracing::warn!(kind, name = NAME, error = chain(&error), "not registered");
            }
            Ok(WriteOutcome::Left) => {}
            Ok(_) if outcome == WriteOutcome::Written || said.is_none_or(is_failure) => {
                tracing::info!(kind, name = NAME, "registered");
            }
            Ok(_) | Err(_) => {}
        }
        outcome
    }

    /// Reads and writes, again where somebody else wrote in between; bounded by the caller's patience.
    async fn assert(
        &self,
        configuration: Configuration,
        trust: &Trust,
        stance: Stance,
    ) -> Result<WriteOutcome, RegistrationError> {
        loop {
            match self.attempt(configuration, trust, stance).await {
                Err(RegistrationError::Write(error)) if is_conflict(&error) => {}
                done => return done,
            }
        }
    }

    async fn attempt(
        &self,
        configuration: Configuration,
        trust: &Trust,
        stance: Stance,
    ) -> Result<WriteOutcome, RegistrationError> {
        let resource = api_resource(configuration);
        let api = api(self.client.clone(), configuration);
        let read = |error| RegistrationError::Read(Box::new(error));
        let live = api
            .get_opt(NAME)
            .await
            .map_err(read)?
            .ok_or(RegistrationError::Absent)?;
        // Perhaps broken since the glass was looked at: what is written must not be older than what it is written over.
        let is_broken = stance.is_broken || glass::is_broken(&live.metadata);
        let stance = Stance {
            is_broken,
            ..stance
        };
        let live_entries = listed(&live);
        let entry = |name: &str| live_entry(live_entries, name);
        // Manifests of an older version lack some, and those that are there must work on.
        let names = shipped_entries(configuration);
        let missing = names.iter().find(|name| entry(name).is_none());
        let shipped: Vec<_> = names.iter().filter_map(|name| entry(name)).collect();
        if let (Some(name), true) = (missing, shipped.is_empty()) {
            return Err(RegistrationError::NoEntry(name));
        }
        if stance.tenure == Tenure::Waiting {
            self.show(live_entries, stance);
            return Ok(WriteOutcome::Left);
        }
        let settings = self.in_force.settings.load();
        let kinds: Vec<_> = settings.kinds().collect();
        let policy = |name: &str| stance.policy(name, entry(name));
        let owner = owner::reference(self.client.clone(), &self.namespace).await;
        let owner = owner.map_err(|error| RegistrationError::Namespace(Box::new(error)))?;
        let ours = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            // With the uid, a configuration that is deleted at this moment is not made again by our patch; with the
            // resourceVersion, who has read what is no longer so writes nothing.
            "metadata": {
                "name": NAME,
                "uid": live.metadata.uid,
                "resourceVersion": live.metadata.resource_version,
                "ownerReferences": owner,
            },
            "webhooks": entries(configuration, &shipped, &kinds, (trust, &policy)),
        });
        let by_us = PatchParams::apply(NAME).force();
        let written = api.patch(NAME, &by_us, &Patch::Apply(&ours)).await;
        let written = written.map_err(|error| RegistrationError::Write(Box::new(error)))?;
        self.show(listed(&written), stance);
        if let Some(name) = missing {
            return Err(RegistrationError::NoEntry(name));
        }
        if written.metadata.resource_version == live.metadata.resource_version {
            Ok(WriteOutcome::Unchanged)
        } else {
            Ok(WriteOutcome::Written)
        }
    }

    /// Puts into the metrics what the entries of a configuration say.
    fn show(&self, live_entries: &[Value], stance: Stance) {
        for entry in Entry::ALL {
            let Some(live) = live_entry(live_entries, entry.name()) else {
                continue; // of the other configuration
            };
            let set = |which, policy| {
                let closed = if policy == FailurePolicy::Fail {
                    1.0
                } else {
                    0.0
                };
                self.metrics.fail_closed.handle((entry, which)).set(closed);
            };
            set(Aim::Wanted, stance.wanted);
            set(Aim::Now, found(Some(live)));
        }
    }
}

fn is_failure(outcome: WriteOutcome) -> bool {
    matches!(outcome, WriteOutcome::Absent | WriteOutcome::Failed)
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn listed(configuration: &DynamicObject) -> &[Value] {
    let listed = configuration.data.get("webhooks").and_then(Value::as_array);
    listed.map(Vec::as_slice).unwrap_or_default()
}

fn live_entry<'l>(entries: &'l [Value], name: &str) -> Option<&'l Value> {
    let mut entries = entries.iter();
    entries.find(|entry| entry.get("name").is_some_and(|is| is == name))
}

fn api(client: Client, configuration: Configuration) -> Api<DynamicObject> {
    Api::all_with(client, &api_resource(configuration))
}

fn api_resource(configuration: Configuration) -> ApiResource {
    match configuration {
        Configuration::Validating => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
        Configuration::Mutating => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt as _;
    use kube::client::Body;

    use super::*;

    /// An API server with one webhook configuration, or none; it keeps what is written to it.
    #[derive(Clone, Debug, Default)]
    struct ApiServer {
        live: Option<Value>,
        written: Arc<Mutex<Vec<(Method, String, Value)>>>,
        /// Whether a write changes anything.
        changes: bool,
        /// How many writes come too late: somebody else wrote since the read.
        conflicts: Arc<Mutex<u32>>,
    }

    impl ApiServer {
        fn with(entry: &str) -> Self {
            let live = json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": NAME, "uid": "its-uid", "resourceVersion": "7"},
                "webhooks": [{"name": entry, "clientConfig": {"url": "https://127.0.0.1"}}],
            });
            Self {
                live: Some(live),
                ..Self::default()
            }
        }

        fn client(&self) -> Client {
            let server = self.clone();
            let answer = move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            };
            Client::new(tower::service_fn(answer), "default")
        }

        async fn answer(&self, request: Request<Body>) -> Response<Body> {
            let (head, body) = request.into_parts();
            let Some(mut live) = self.live.clone() else {
                return status(StatusCode::NOT_FOUND, "NotFound");
            };
            if head.method != Method::GET {
                if self.is_late() {
                    return status(StatusCode::CONFLICT, "Conflict");
                }
                let body =
                    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                let written = (head.method, head.uri.to_string(), body);
                self.written.lock().unwrap().push(written);
                if self.changes {
                    live["metadata"]["resourceVersion"] = "8".into();
                }
            }
            Response::new(live.to_string().into_bytes().into())
        }

        fn is_late(&self) -> bool {
            let mut conflicts = self.conflicts.lock().unwrap();
            let is_late = *conflicts > 0;
            *conflicts = conflicts.saturating_sub(1);
            is_late
        }

        async fn look(&self) -> WriteOutcome {
            self.look_at(Configuration::Validating).await
        }

        async fn look_at(&self, configuration: Configuration) -> WriteOutcome {
            self.look_as(Tenure::Held, configuration).await
        }

        async fn look_as(&self, tenure: Tenure, configuration: Configuration) -> WriteOutcome {
            let mut registration = Registration {
                client: self.client(),
                in_force: InForce::default(),
                trust: watch::channel(Trust::Unknown).1,
                tenure: watch::channel(tenure).1,
                opinions: watch::channel(Opinions::default()).1,
                turn: watch::channel(tenure).0,
                glazier: Glazier::new(self.client(), "ours".to_owned(), Arc::default()),
                namespace: "ours".to_owned(),
                metrics: Arc::new(Metrics::new()),
            };
            let trust = Trust::Bundle("PEM".to_owned());
            let stance = registration.stance(false);
            registration.look(configuration, &trust, stance, None).await
        }
    }

    fn status(code: StatusCode, reason: &str) -> Response<Body> {
        let status = json!({
            "status": "Failure", "reason": reason, "code": code.as_u16(), "message": "",
        });
        let mut response = Response::new(status.to_string().into_bytes().into());
        *response.status_mut() = code;
        response
    }

    #[tokio::test]
    async fn reads_again_where_somebody_wrote_in_between() {
        let server = ApiServer {
            changes: true,
            conflicts: Arc::new(Mutex::new(2)),
            ..ApiServer::with("validate.portcullis.dev")
        };
        assert_eq!(server.look().await, WriteOutcome::Written);
        assert_eq!(server.written.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn leaves_writing_to_the_replica_that_holds_the_lease() {
        let server = ApiServer::with("validate.portcullis.dev");
        let outcome = server
            .look_as(Tenure::Waiting, Configuration::Validating)
            .await;
        assert_eq!(outcome, WriteOutcome::Left);
        assert!(server.written.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn applies_its_three_fields_to_the_very_object_it_has_read() {
        let server = ApiServer {
            changes: true,
            ..ApiServer::with("validate.portcullis.dev")
        };
        assert_eq!(server.look().await, WriteOutcome::Written);
        let written = server.written.lock().unwrap();
        let [(method, uri, body)] = written.as_slice() else {
            panic!("{written:?}")
        };
        assert_eq!(*method, Method::PATCH);
        assert!(
            uri.contains("fieldManager=portcullis") && uri.contains("force=true"),
            "{uri}"
        );
        assert_eq!(
            body["metadata"],
            json!({
                "name": "portcullis", "uid": "its-uid", "resourceVersion": "7",
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Namespace", "name": "ours", "uid": "its-uid"},
                ],
            })
        );
        let fields: Vec<_> = body["webhooks"][0].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["name", "rules", "failurePolicy", "clientConfig"]);
        assert_eq!(
            body["webhooks"][0]["clientConfig"],
            json!({"caBundle": "UEVN"})
        );
    }

    #[tokio::test]
    async fn says_when_nothing_had_to_be_changed() {
        let server = ApiServer::with("validate.portcullis.dev");
        assert_eq!(server.look().await, WriteOutcome::Unchanged);
    }

    #[tokio::test]
    async fn opens_the_entries_that_are_there_and_says_which_is_not() {
        let server = ApiServer::with("patch.portcullis.dev");
        assert_eq!(
            server.look_at(Configuration::Mutating).await,
            WriteOutcome::Failed
        );
        let written = server.written.lock().unwrap();
        let entries = written[0].2["webhooks"].as_array().unwrap();
        let names: Vec<_> = entries.iter().map(|entry| &entry["name"]).collect();
        assert_eq!(names, ["patch.portcullis.dev"]);
    }

    #[tokio::test]
    async fn never_makes_a_configuration_or_an_entry() {
        assert_eq!(ApiServer::default().look().await, WriteOutcome::Absent);
        let other = ApiServer::with("somebody.else.dev");
        assert_eq!(other.look().await, WriteOutcome::Failed);
        assert!(other.written.lock().unwrap().is_empty());
    }
}
