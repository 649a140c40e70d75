//! Another injector: a mutating webhook that is not ours, and changes pods as it is told.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::kubectl::Kubectl;

/// It is registered for as long as this value lives.
pub struct Injector {
    configuration: String,
    admin: Kubectl,
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    /// The JSON Patch for a pod.
    patch: Box<dyn Fn(&Value) -> Value + Send + Sync>,
    tls: Arc<ServerConfig>,
    shown: Mutex<Vec<Value>>,
    ends: AtomicBool,
}

// === impl Injector ===

impl Injector {
    /// Registers one for the pods of a namespace. The API server calls webhooks by the names of their configurations.
    pub fn register(
        admin: &Kubectl,
        configuration: &str,
        namespace: &str,
        patch: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])
            .expect("a name that fits into a certificate");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has both versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("they belong together");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            patch: Box::new(patch),
            tls: Arc::new(tls),
            shown: Mutex::default(),
            ends: AtomicBool::default(),
        });
        let server = Arc::clone(&shared);
        thread::spawn(move || server.serve(&listener));
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": configuration},
            "webhooks": [{
                "name": "inject.injector.example",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "reinvocationPolicy": "IfNeeded",
                "failurePolicy": "Fail",
                "clientConfig": {"url": format!("https://{address}/"), "caBundle": STANDARD.encode(made.cert.pem())},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }],
        });
        admin.apply(&object.to_string()).ok();
        Self {
            configuration: configuration.to_owned(),
            admin: admin.everywhere(),
            shared,
            address,
        }
    }

    /// The pods that it was shown since this was asked last, oldest first.
    pub fn shown(&self) -> Vec<Value> {
        std::mem::take(&mut *self.shared.shown())
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let name = &self.configuration;
        let call = format!("delete mutatingwebhookconfiguration {name}");
        // A test that has failed says why itself.
        let _ = self.admin.call(&call);
        self.shared.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

// === impl Shared ===

impl Shared {
    fn shown(&self) -> std::sync::MutexGuard<'_, Vec<Value>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.ends.load(Ordering::Relaxed) {
                return;
            }
            let shared = Arc::clone(self);
            thread::spawn(move || shared.answer(stream));
        }
    }

    /// One request, and its answer. Whoever breaks off is left alone.
    fn answer(&self, stream: TcpStream) -> Option<()> {
        let connection = ServerConnection::new(Arc::clone(&self.tls)).ok()?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().ok()?;
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let review: Value = serde_json::from_slice(&body).ok()?;
        let pod = &review["request"]["object"];
        self.shown().push(pod.clone());
        let patch = STANDARD.encode((self.patch)(pod).to_string());
        let answer = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {
                "uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch,
            },
        })
        .to_string();
        let stream = stream.get_mut();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        let length = answer.len();
        write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{answer}").ok()?;
        stream.conn.send_close_notify();
        stream.flush().ok()
    }
}
