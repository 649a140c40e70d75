//! One writer: of all replicas the one that holds a Lease in our namespace.
//!
//! As client-go's leader election, and told apart from it in nothing that another client could see. A lease is over
//! when its object has not changed for [`DURATION`] by *our* clock, so no two machines need agree on the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rustls::crypto::ring;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::telemetry::chain;

/// A lease that was not renewed for so long is free: what a node that went dark costs.
const DURATION: Duration = Duration::from_secs(15);

/// Whoever can't renew for so long writes no more, well before another may begin.
const GRACE: Duration = Duration::from_secs(8);

/// How often it is renewed, or looked at by those who wait.
const PERIOD: Duration = Duration::from_secs(3);

/// An API server that has not answered in this time is not going to.
const DEADLINE: Duration = Duration::from_secs(3);

/// Of the part of an identity that is drawn.
const NONCE_BYTES: usize = 8;

/// What this replica may do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Tenure {
    /// Look: another replica writes, or it is not known yet who does.
    #[default]
    Waiting,
    /// Write: no other replica does.
    Held,
    /// There is no right to the Lease, or no namespace for it, so nobody can tell who else writes.
    Alone,
}

/// A Lease, and what its holder does, in words for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Office {
    /// The name of the Lease.
    pub(crate) name: &'static str,
    /// Said by who holds it from now on.
    pub(crate) held: &'static str,
    /// Said where there is no right to it: what follows, and what mends it.
    pub(crate) alone: &'static str,
}

/// One replica's claim to the Lease.
pub(crate) struct Lease {
    api: Api<Object>,
    office: Office,
    identity: String,
    /// The object as it was last seen in another's hand, and since when.
    seen: Option<(Option<String>, Instant)>,
    /// When it was last ours for sure.
    renewed: Option<Instant>,
}

// === impl Lease ===

impl Lease {
    /// A Lease of this namespace; `identity` must be nobody else's.
    pub(crate) fn new(client: Client, namespace: &str, office: Office, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            office,
            identity,
            seen: None,
            renewed: None,
        }
    }

    /// Claims it for ever and tells what came of it; gives it back once `leaving`.
    pub(crate) async fn keep(mut self, tenure: watch::Sender<Tenure>, leaving: CancellationToken) {
        loop {
            let now = self.step().await;
            tenure.send_if_modified(|before| {
                if now != *before {
                    self.tell(now);
                }
                now != std::mem::replace(before, now)
            });
            tokio::select! {
                () = leaving.cancelled() => break,
                () = sleep(PERIOD) => {}
            }
        }
        if let Err(error) = self.release().await {
            // It will be over by itself.
            tracing::debug!(error = chain(&error), "the Lease could not be given back");
        }
    }

    fn tell(&self, tenure: Tenure) {
        let identity = &*self.identity;
        match tenure {
            Tenure::Waiting => tracing::info!(identity, "another replica writes now"),
            Tenure::Held => tracing::info!(identity, "{}", self.office.held),
            Tenure::Alone => tracing::warn!(name = self.office.name, "{}", self.office.alone),
        }
    }

    async fn step(&mut self) -> Tenure {
        match timeout(DEADLINE, self.claim()).await {
            Ok(Ok(true)) => {
                self.renewed = Some(Instant::now());
                Tenure::Held
            }
            Ok(Ok(false)) => self.lose(Tenure::Waiting),
            // Not found is the namespace: a Lease that is not there is made.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                self.lose(Tenure::Alone)
            }
            Ok(Err(_)) | Err(_) => match self.renewed {
                Some(renewed) if renewed.elapsed() < GRACE => Tenure::Held,
                _ => self.lose(Tenure::Waiting),
            },
        }
    }

    fn lose(&mut self, tenure: Tenure) -> Tenure {
        self.renewed = None;
        tenure
    }

    /// True when it is ours now.
    async fn claim(&mut self) -> Result<bool, kube::Error> {
        let Some(live) = self.api.get_opt(self.office.name).await? else {
            let lease = Object {
                metadata: ObjectMeta {
                    name: Some(self.office.name.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(LeaseSpec::default())),
            };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = live.spec.unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let is_free = holder.is_empty() || holder == self.identity;
        if !is_free && !self.is_over(live.metadata.resource_version.as_deref()) {
            return Ok(false);
        }
        let lease = Object {
            spec: Some(self.spec(spec)),
            metadata: live.metadata, // its resourceVersion settles who is first
        };
        won(self
            .api
            .replace(self.office.name, &PostParams::default(), &lease)
            .await)
    }

    /// Nobody has renewed what another holds, for longer than whoever holds it would go on writing.
    fn is_over(&mut self, version: Option<&str>) -> bool {
        match &self.seen {
            Some((seen, since)) if seen.as_deref() == version => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((version.map(str::to_owned), Instant::now()));
                false
            }
        }
    }

    fn spec(&self, before: LeaseSpec) -> LeaseSpec {
        let now = now();
        let is_ours = before.holder_identity.as_ref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            renew_time: now.clone(),
            acquire_time: if is_ours { before.acquire_time } else { now },
            lease_transitions: Some(transitions.saturating_add(i32::from(!is_ours))),
            ..before
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        if self.renewed.is_none() {
            return Ok(());
        }
        let released = timeout(DEADLINE, async {
            let mut live = self.api.get(self.office.name).await?;
            let spec = live.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() == Some(&self.identity) {
                spec.holder_identity = None;
                self.api
                    .replace(self.office.name, &PostParams::default(), &live)
                    .await?;
            }
            Ok(())
        });
        released.await.unwrap_or(Ok(()))
    }
}

/// A name of this process, and of no other: the replica's alone would be another's for who runs two under one name, and
/// then both would write.
pub(crate) fn identity(replica: &str) -> Result<String, rustls::Error> {
    let mut nonce = [0; NONCE_BYTES];
    ring::default_provider().secure_random.fill(&mut nonce)?;
    let nonce = nonce.map(|byte| format!("{byte:02x}")).concat();
    Ok(format!("{replica}_{nonce}"))
}

/// False when another replica was first.
fn won(written: Result<Object, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// For people to read; nothing is decided by it.
fn now() -> Option<MicroTime> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let microseconds = i64::try_from(since_1970.as_micros()).ok()?;
    Timestamp::from_microsecond(microseconds)
        .ok()
        .map(MicroTime)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::json;
    use tokio::time::advance;

    use super::*;

    /// An API server that knows one Lease, and can refuse all or be gone.
    #[derive(Clone, Debug, Default)]
    struct ApiServer(Arc<Mutex<State>>);

    #[derive(Debug, Default)]
    struct State {
        lease: Option<Object>,
        version: u32,
        refuses: Option<StatusCode>,
    }

    impl ApiServer {
        fn claim(&self, identity: &str) -> Lease {
            let server = self.clone();
            let answer = move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            };
            let client = Client::new(tower::service_fn(answer), "default");
            let office = Office {
                name: "portcullis",
                held: "held",
                alone: "alone",
            };
            Lease::new(client, "portcullis-system", office, identity.to_owned())
        }

        fn refuse(&self, with: Option<StatusCode>) {
            self.0.lock().unwrap().refuses = with;
        }

        fn spec(&self) -> LeaseSpec {
            let state = self.0.lock().unwrap();
            state.lease.clone().unwrap().spec.unwrap()
        }

        async fn answer(&self, request: Request<Body>) -> Response<Body> {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let mut state = self.0.lock().unwrap();
            if let Some(code) = state.refuses {
                return status(code);
            }
            if head.method == Method::GET {
                return match &state.lease {
                    Some(lease) => found(lease),
                    None => status(StatusCode::NOT_FOUND),
                };
            }
            let mut new: Object = serde_json::from_slice(&body).unwrap();
            let is_new = match &state.lease {
                None => head.method == Method::POST,
                Some(old) => {
                    head.method == Method::PUT
                        && old.metadata.resource_version == new.metadata.resource_version
                }
            };
            if !is_new {
                return status(StatusCode::CONFLICT);
            }
            state.version += 1;
            new.metadata.resource_version = Some(state.version.to_string());
            found(state.lease.insert(new))
        }
    }

    fn found(lease: &Object) -> Response<Body> {
        Response::new(serde_json::to_vec(lease).unwrap().into())
    }

    fn status(code: StatusCode) -> Response<Body> {
        let reason = match code {
            StatusCode::NOT_FOUND => "NotFound",
            _ => "",
        };
        let body = json!({
            "status": "Failure", "code": code.as_u16(), "message": "", "reason": reason,
        });
        let mut response = Response::new(body.to_string().into_bytes().into());
        *response.status_mut() = code;
        response
    }

    #[tokio::test(start_paused = true)]
    async fn one_holds_it_and_renews_it() {
        let server = ApiServer::default();
        let (mut a, mut b) = (server.claim("a"), server.claim("b"));
        assert_eq!(a.step().await, Tenure::Held);
        for _ in 0..20 {
            advance(PERIOD).await;
            assert_eq!(b.step().await, Tenure::Waiting);
            assert_eq!(a.step().await, Tenure::Held);
        }
        let spec = server.spec();
        assert_eq!(spec.holder_identity.as_deref(), Some("a"));
        assert_eq!(spec.lease_transitions, Some(1));
        assert!(spec.acquire_time <= spec.renew_time);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_gives_it_back_and_who_dies_loses_it_in_time() {
        let server = ApiServer::default();
        let (mut a, mut b) = (server.claim("a"), server.claim("b"));
        a.step().await;
        a.release().await.unwrap();
        assert_eq!(b.step().await, Tenure::Held, "at once");
        b.release().await.unwrap();

        a.step().await;
        // It is dead, and its clock may say what it likes.
        assert_eq!(b.step().await, Tenure::Waiting);
        advance(DURATION.mul_f64(0.999)).await;
        assert_eq!(b.step().await, Tenure::Waiting);
        advance(DURATION.mul_f64(0.001)).await;
        assert_eq!(b.step().await, Tenure::Held);
        assert_eq!(a.step().await, Tenure::Waiting, "back, and too late");
        a.release().await.unwrap();
        assert_eq!(server.spec().holder_identity.as_deref(), Some("b"));
        assert_eq!(server.spec().lease_transitions, Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_renew_stops_before_another_may_begin() {
        let server = ApiServer::default();
        let (mut a, mut b) = (server.claim("a"), server.claim("b"));
        a.step().await;
        b.step().await;
        server.refuse(Some(StatusCode::INTERNAL_SERVER_ERROR));
        advance(PERIOD).await;
        assert_eq!(a.step().await, Tenure::Held, "a blink");
        advance(GRACE.saturating_sub(PERIOD)).await;
        assert_eq!(a.step().await, Tenure::Waiting);
        assert!(GRACE + PERIOD + DEADLINE < DURATION);
        server.refuse(None);
        assert_eq!(b.step().await, Tenure::Waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_right_to_it_each_is_alone() {
        let server = ApiServer::default();
        let mut a = server.claim("a");
        for refusal in [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND] {
            server.refuse(Some(refusal));
            assert_eq!(a.step().await, Tenure::Alone);
            server.refuse(None);
            assert_eq!(a.step().await, Tenure::Held);
        }
    }
}
