//! An API server that knows one Secret: enough to race for it, lose it and be without it.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::sync::Barrier;

/// The API server, shared by the clients that it hands out.
#[derive(Clone, Debug, Default)]
pub(super) struct ApiServer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    secret: Option<Secret>,
    version: u64,
    is_down: bool,
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
            let answer = state.answer(&head.method, &body);
            let is_read = head.method == Method::GET;
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
    fn answer(&mut self, method: &Method, body: &[u8]) -> Response<Body> {
        if self.is_down {
            return status(StatusCode::INTERNAL_SERVER_ERROR);
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
