//! Portcullis as `manifests/base` installs it, on two control planes for the whole run: one that tests share, and one for
//! those that stop the server.

use std::{
    path::{Path, PathBuf},
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::{Value, json};

use super::objects;
use crate::support::{
    audit::Event,
    control_plane::{ControlPlane, DEVELOPER},
    kubectl::{Answer, Kubectl},
    manifests::{BASE, called_by_url},
    policies::Policies,
    server::{Launch, Server, authorize},
    wait::{at_length, eventually},
};

/// A test's hold on the installation.
pub struct Session {
    installation: &'static Installation,
    /// Of who has one to himself.
    turn: Option<MutexGuard<'static, ()>>,
}

/// A namespace of one test, and its users.
pub struct Namespace {
    pub name: String,
    /// Bound to the stock ClusterRole `edit`, to all of the group `apps`, and to what Rollouts need.
    pub developer: Kubectl,
    pub admin: Kubectl,
    audit_log: PathBuf,
}

/// The control plane, our objects on it, and our server.
struct Installation {
    plane: ControlPlane,
    manifests: Vec<Value>,
    launch: Launch,
    server: Mutex<Option<Server>>,
    namespaces: AtomicU32,
}

static SHARED: LazyLock<Installation> = LazyLock::new(Installation::new);

static LONE: LazyLock<Installation> = LazyLock::new(Installation::new);

/// Whose turn it is with the second.
static TURN: Mutex<()> = Mutex::new(());

// === impl Session ===

impl Session {
    pub fn shared() -> Self {
        Self {
            installation: &SHARED,
            turn: None,
        }
    }

    /// Waits until others that want to be alone have ended.
    pub fn alone() -> Self {
        let turn = TURN.lock();
        let failed = turn.is_err();
        let turn = turn.unwrap_or_else(PoisonError::into_inner);
        if failed {
            LONE.mend();
            TURN.clear_poison();
        }
        Self {
            installation: &LONE,
            turn: Some(turn),
        }
    }

    pub fn admin(&self) -> Kubectl {
        self.installation.plane.kubectl("admin")
    }

    pub fn audit_log(&self) -> &Path {
        self.installation.plane.audit_log()
    }

    /// `manifests/base` as it was applied: our server is called by URL, as no Service works without a node.
    pub fn manifests(&self) -> &[Value] {
        &self.installation.manifests
    }

    /// A new namespace. Its name begins with `topic`, and is nobody else's.
    pub fn namespace(&self, topic: &str) -> Namespace {
        self.labelled_namespace(topic, &[])
    }

    pub fn labelled_namespace(&self, topic: &str, labels: &[(&str, &str)]) -> Namespace {
        let number = self.installation.namespaces.fetch_add(1, Ordering::Relaxed);
        self.named_namespace(&format!("{topic}-{number}"), labels)
    }

    /// A namespace that settings name; only one test may ask for it.
    pub fn named_namespace(&self, name: &str, labels: &[(&str, &str)]) -> Namespace {
        let plane = &self.installation.plane;
        let (admin, developer) = (plane.kubectl("admin"), plane.kubectl(DEVELOPER));
        let labels: Value = labels.iter().map(|(key, value)| (*key, *value)).collect();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        let bindings = ["edit", "developer-extras"].map(|role| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": role, "namespace": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DEVELOPER}],
            })
        });
        admin
            .apply(&objects::list([&[namespace], &bindings[..]].concat()))
            .ok();
        let namespace = Namespace {
            name: name.to_owned(),
            developer: developer.in_namespace(name),
            admin: admin.in_namespace(name),
            audit_log: plane.audit_log().to_owned(),
        };
        eventually("the developer's rights", || {
            namespace
                .developer
                .call("auth can-i create rollouts.argoproj.io")
                .success()
        });
        eventually("ServiceAccount default", || {
            namespace.admin.call("get serviceaccount default").success()
        });
        namespace
    }

    /// Has the API server call another port of loopback in the place of our server's.
    pub fn call_at(&self, port: u16) {
        let at = |port| format!("https://127.0.0.1:{port}/");
        let manifests = objects::list(self.manifests().to_vec());
        let manifests = manifests.replace(&at(self.launch().port), &at(port));
        self.admin().apply(&manifests).ok();
    }

    /// How another server beside ours is started: `name` tells their logs apart.
    pub fn another(&self, name: &str) -> Launch {
        self.launch().another(name)
    }

    /// How our server was started.
    pub fn launch(&self) -> &Launch {
        &self.installation.launch
    }

    /// Waits until the API server calls us and heeds what we say.
    pub fn await_enforcement(&self) {
        self.installation.await_enforcement();
    }

    /// Waits until the API server waits for us.
    pub fn await_proof(&self) {
        await_policy(&self.admin(), "Fail");
    }

    /// Stops our server, as when all replicas are gone. Only for who is alone.
    pub fn stop_server(&self) {
        assert!(self.turn.is_some(), "other tests need the server");
        let server = self.server().take();
        server
            .expect("the server runs unless it was stopped")
            .stop();
        // The last one out takes Fail back; the API server learns of it by a watch, a moment later.
        let bare = objects::deployment("canary", objects::bare_spec()).to_string();
        eventually("nobody to wait for us", || {
            let answer = self.admin().feed("create --dry-run=server -f -", &bare);
            answer.success()
        });
    }

    pub fn start_server(&self) {
        *self.server() = Some(self.installation.launch.start());
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.installation
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Namespace ===

impl Namespace {
    /// Changes the label that says how we enforce, and waits until the API server acts on it.
    pub fn enforce(&self, level: &str) {
        let label = format!(
            "label --overwrite namespace {} portcullis.dev/enforce={level}",
            self.name
        );
        self.admin.call(&label).ok();
        let bare = objects::deployment("canary", objects::bare_spec()).to_string();
        eventually("the namespace's label to count", || {
            self.developer
                .feed("create --dry-run=server -f -", &bare)
                .failure()
        });
    }

    /// What the developer applies is refused by us, for this rule.
    #[track_caller]
    pub fn refuses(&self, objects: &str, rule: &str) -> String {
        assert_refused(self.developer.apply(objects).refusal(), rule)
    }

    /// What we answered to the developer's requests about an object: see [`answers`].
    pub fn answers(&self, name: &str, count: usize) -> Vec<Option<Event>> {
        answers(&self.audit_log, DEVELOPER, (&self.name, name), count)
    }
}

/// What we answered to each request of a user about an object (its namespace and name), oldest first; `None` where
/// we were not asked. Waits until the audit log, which is a moment behind, tells of `count` requests.
pub fn answers(log: &Path, user: &str, object: (&str, &str), count: usize) -> Vec<Option<Event>> {
    let (namespace, name) = object;
    eventually(
        &format!("{count} requests about {name} in the audit log"),
        || {
            let about = Event::in_namespace(log, namespace)
                .into_iter()
                .filter(|event| event.user.username == user && event.object_ref.name == name);
            let answers: Vec<_> = about
                .map(|event| event.decision().is_some().then_some(event))
                .collect();
            if answers.len() == count {
                Ok(answers)
            } else {
                Err(format!("{answers:?}"))
            }
        },
    )
}

/// It is we who refused, and for this rule: a line of the refusal begins with its id.
#[track_caller]
pub fn assert_refused(message: String, rule: &str) -> String {
    assert!(
        message.contains(r#"admission webhook "validate.portcullis.dev" denied the request: "#),
        "not refused by us: {message}"
    );
    let mut rules = message
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    assert!(
        rules.any(|first| first == rule),
        "not refused for {rule}: {message}"
    );
    message
}

/// We let it in, and kubectl printed our warning for this rule: `Warning: portcullis: OBJECT: RULE: ...`.
#[track_caller]
pub fn assert_warned(answer: Answer, rule: &str) -> String {
    let mark = format!(": {rule}: ");
    let ours = |line: &str| line.starts_with("Warning: portcullis: ") && line.contains(&mark);
    let told = answer.stderr.lines().any(ours);
    assert!(told, "no warning for {rule}: {}", answer.stderr);
    answer.ok()
}

// === impl Installation ===

impl Installation {
    fn new() -> Self {
        let plane = ControlPlane::start();
        let admin = plane.kubectl("admin");
        admin
            .apply(&objects::list(objects::developer_extras()))
            .ok();
        let launch = launch(&plane);
        let manifests = called_by_url(&admin, BASE, launch.port);
        admin.apply(&objects::list(manifests.clone())).ok();
        authorize(&plane, &launch);
        let server = launch.start();
        let installation = Self {
            plane,
            manifests,
            launch,
            server: Mutex::new(Some(server)),
            namespaces: AtomicU32::default(),
        };
        installation.await_enforcement();
        installation
    }

    /// After a test that was alone has failed: it may have left our server stopped, and no other should fail for that.
    fn mend(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            *server = Some(self.launch.start());
        }
        self.await_enforcement();
    }

    /// The API server learns of the rules by a watch, a moment after the server has written them.
    fn await_enforcement(&self) {
        let bare = objects::deployment("canary", objects::bare_spec());
        let admin = self.plane.kubectl("admin");
        eventually("Portcullis to be called", || {
            admin
                .feed("create --dry-run=server -f -", &bare.to_string())
                .failure()
        });
    }
}

/// Waits until all entries that may be `Fail` are so.
pub fn await_policy(admin: &Kubectl, policy: &str) {
    at_length(policy, || {
        let policies = Policies::read(admin)?;
        let are_all = policies.are_all(policy);
        are_all.then_some(()).ok_or_else(|| format!("{policies:?}"))
    });
}

/// How our server is started on a control plane; it has no rights yet.
pub fn launch(plane: &ControlPlane) -> Launch {
    let kubeconfig = plane.folder().join("portcullis.kubeconfig");
    Launch::on(plane, kubeconfig, objects::SETTINGS)
}
