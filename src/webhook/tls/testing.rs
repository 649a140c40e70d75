//! An API server that knows one Secret and our webhook configurations: enough to race for it, lose it and be without it.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::sync::Barrier;

use super::Trust;

/// The API server, shared by the clients that it hands out.
#[derive(Clone, Debug, Default)]
pub(super) struct ApiServer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    secret: Option<Secret>,
    version: u64,
    is_down: bool,
    /// The time that it tells.
    date: Option<SystemTime>,
    /// The `caBundle` of each entry; one for each of our configurations, or nothing where these are absent.
    bundles: Option<[String; 2]>,
    /// The next reads are answered together.
    together: Option<Arc<Barrier>>,
}

// === impl ApiServer ===

impl ApiServer {
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |request| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    /// The next `clients` reads wait for each other, so that all see the same.
    pub(super) fn answer_reads_together(&self, clients: usize) {
        self.0.lock().unwrap().together = Some(Arc::new(Barrier::new(clients)));
    }

    pub(super) fn go_down(&self) {
        self.0.lock().unwrap().is_down = true;
    }

    pub(super) fn come_back(&self) {
        self.0.lock().unwrap().is_down = false;
    }

    /// From now on its answers tell this time.
    pub(super) fn tell(&self, date: SystemTime) {
        self.0.lock().unwrap().date = Some(date);
    }

    /// As the registration does it, in both configurations.
    pub(super) fn publish(&self, trust: &Trust) {
        let Trust::Bundle(pem) = trust else { return };
        self.overwrite([pem, pem]);
    }

    /// The bundles of the validating and the mutating configuration.
    pub(super) fn overwrite(&self, bundles: [&str; 2]) {
        self.0.lock().unwrap().bundles = Some(bundles.map(str::to_owned));
    }

    /// What its entries trust.
    pub(super) fn bundles(&self) -> [String; 2] {
        self.0.lock().unwrap().bundles.clone().unwrap_or_default()
    }

    pub(super) fn secret(&self) -> Option<Secret> {
        self.0.lock().unwrap().secret.clone()
    }

    pub(super) fn put(&self, secret: Option<Secret>) {
        self.0.lock().unwrap().store(secret);
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (answer, together) = {
            let mut state = self.0.lock().unwrap();
            let path = head.uri.path();
            let mut answer = state.answer(&head.method, path, &body);
            if let Some(date) = state.date {
                let date = httpdate::fmt_http_date(date).parse().unwrap();
                answer.headers_mut().insert(http::header::DATE, date);
            }
            let is_read = head.method == Method::GET && path.ends_with("/portcullis-ca");
            (answer, is_read.then(|| state.together.clone()).flatten())
        };
        if let Some(barrier) = together
            && barrier.wait().await.is_leader()
        {
            self.0.lock().unwrap().together = None;
        }
        answer
    }
}

// === impl State ===

impl State {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
        if self.is_down {
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let configuration = match path.rsplit('/').nth(1) {
            Some("validatingwebhookconfigurations") => Some((0, "validate.portcullis.dev")),
            Some("mutatingwebhookconfigurations") => Some((1, "inject.portcullis.dev")),
            _ => None,
        };
        if let Some((which, entry)) = configuration {
            let Some(bundles) = &self.bundles else {
                return status(StatusCode::NOT_FOUND);
            };
            return self::configuration(entry, &bundles[which]);
        }
        if *method == Method::GET {
            return self
                .secret
                .as_ref()
                .map_or_else(|| status(StatusCode::NOT_FOUND), found);
        }
        let new: Secret = serde_json::from_slice(body).unwrap();
        let version = |secret: &Secret| secret.metadata.resource_version.clone();
        let fits = match (&self.secret, method) {
            (None, &Method::POST) => true,
            (Some(old), &Method::PUT) => version(old) == version(&new),
            _ => false,
        };
        if fits {
            found(self.store(Some(new)).unwrap())
        } else {
            status(StatusCode::CONFLICT)
        }
    }

    fn store(&mut self, secret: Option<Secret>) -> Option<&Secret> {
        self.version += 1;
        self.secret = secret;
        let secret = self.secret.as_mut()?;
        secret.metadata.resource_version = Some(self.version.to_string());
        Some(secret)
    }
}

/// One with an entry of ours, and one of somebody else's.
fn configuration(entry: &str, bundle: &str) -> Response<Body> {
    let webhook = |name: &str, bundle: &str| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "https://a.test", "caBundle": BASE64_STANDARD.encode(bundle)},
        })
    };
    let entries = [
        webhook(entry, bundle),
        webhook("somebody.else.dev", "theirs"),
    ];
    let body = json!({"metadata": {"name": "portcullis"}, "webhooks": entries});
    Response::new(body.to_string().into_bytes().into())
}

fn found(secret: &Secret) -> Response<Body> {
    Response::new(serde_json::to_vec(secret).unwrap().into())
}

fn status(code: StatusCode) -> Response<Body> {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code.as_u16(), "reason": reason, "message": "as the test asked",
    });
    let mut response = Response::new(body.to_string().into_bytes().into());
    *response.status_mut() = code;
    response
}
