//! One review: bytes to judge and back, with the facts that it asks for in between.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{Method, Request, Uri, header::CONTENT_TYPE};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tower::Service;

use super::{
    metrics::{self, Gating, Metrics, Patched, Unjudged, Webhook},
    proof::Ticket,
    respond::{self, Answer, Rejected},
    review::Review,
};
use crate::{
    facts::{Live, Step, live::Facts},
    policy::{
        self, Judgement,
        gate::{self, Demand, Injecting},
        leniency::Case,
        patch::{self, Patching},
        rules::RuleId,
        settings::Settings,
        verdict::{Decision, Verdict},
        workload::{Malformed, Workload, WorkloadKind},
    },
};

/// Facts are awaited no longer than this, so that there is time left to judge and to answer within
/// [`REVIEW_TIMEOUT`](super::stack::REVIEW_TIMEOUT).
const FACTS_TIMEOUT: Duration = Duration::from_secs(2);

/// And no longer than this part of what the API server gives us (`?timeout=3s`, from `timeoutSeconds`), should somebody
/// have set that lower.
const FACTS_SHARE: f64 = 0.7;

/// Answers `POST /validate`, `POST /mutate` and `POST /inject`.
#[derive(Clone, Debug)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    live: Live,
    settings: Arc<ArcSwap<Settings>>,
    metrics: Arc<Metrics>,
    /// Our own name, for who checks whom it reaches.
    replica: String,
}

// === impl Admission ===

impl Admission {
    /// Judges by the settings in force at each moment, with facts from `live`; `replica` signs what it says to
    /// self-checks.
    pub fn new(
        live: Live,
        settings: Arc<ArcSwap<Settings>>,
        metrics: Arc<Metrics>,
        replica: String,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                live,
                settings,
                metrics,
                replica,
            }),
        }
    }
}

impl Service<Request<Vec<u8>>> for Admission {
    type Response = Answer;
    type Error = Rejected;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Rejected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.answer(&request).await })
    }
}

// === impl Shared ===

impl Shared {
    async fn answer(&self, request: &Request<Vec<u8>>) -> Result<Answer, Rejected> {
        let webhook = route(request)?;
        let review = Review::parse(request.body())?;
        if let Some(ticket) = Ticket::of(&review) {
            return Ok(self.self_check(webhook, &review, &ticket));
        }
        let settings = self.settings.load_full();
        let kind = match judged_kind(&review, &settings) {
            Ok(kind) => kind,
            Err(unjudged) => return Ok(self.unjudged(&review, unjudged)),
        };
        let Some(workload) = read(kind, &review)? else {
            return Ok(self.unjudged(&review, Unjudged::Template));
        };
        let arrived = Instant::now();
        let facts = self
            .live
            .facts(arrived, arrived + facts_timeout(request.uri()));
        match webhook {
            Webhook::Validate => Ok(self.validate(&review, &workload, &settings, facts).await),
            Webhook::Mutate => Ok(self.mutate(&review, &workload, &settings, facts).await),
            Webhook::Inject => self.inject(&review, &workload, &settings, facts).await,
        }
    }

    /// By no rule and no setting: the entry that is named refuses, and the others have no part in it.
    fn self_check(&self, webhook: Webhook, review: &Review<'_>, ticket: &Ticket) -> Answer {
        if ticket.entry().webhook() == webhook {
            respond::self_check(&review.uid, &ticket.refusal(&self.replica))
        } else {
            respond::allowed(&review.uid, "self-check", &[])
        }
    }

    async fn validate(
        &self,
        review: &Review<'_>,
        workload: &Workload<'_>,
        settings: &Settings,
        mut facts: Facts,
    ) -> Answer {
        let groups = groups(review);
        let request = request(review, &groups);
        let verdict = facts
            .settle_confirmed(blames, |facts| {
                match policy::judge(workload, &request, facts, settings) {
                    Judgement::Ask(questions) => Step::Ask(questions),
                    Judgement::Done(verdict) => Step::Done(verdict),
                }
            })
            .await;
        self.metrics
            .reviews
            .count((workload.kind.into(), review.operation, verdict.decision));
        self.tell(review, workload, &verdict);
        respond::verdict(&review.uid, &verdict)
    }

    /// Never refuses: a patch is a help, and what is wrong with the pod is for [`Self::validate`] to say.
    async fn mutate(
        &self,
        review: &Review<'_>,
        workload: &Workload<'_>,
        settings: &Settings,
        mut facts: Facts,
    ) -> Answer {
        let operations = facts
            .settle(|facts| match patch::patches(workload, facts, settings) {
                Patching::Ask(questions) => Step::Ask(questions),
                Patching::Done(operations) => Step::Done(operations),
            })
            .await;
        if operations.is_empty() {
            self.metrics.patches.count((Patched::Unchanged,));
            return respond::allowed(&review.uid, "unchanged", &[]);
        }
        self.metrics.patches.count((Patched::Patched,));
        respond::patched(&review.uid, &operations)
    }

    /// Puts a gate into a pod that asks for one.
    async fn inject(
        &self,
        review: &Review<'_>,
        pod: &Workload<'_>,
        settings: &Settings,
        mut facts: Facts,
    ) -> Result<Answer, Rejected> {
        let object = review.object.map_or("null", RawValue::get);
        let object = serde_json::from_str(object).map_err(|error| Rejected::Object {
            kind: pod.kind.kind.to_string(),
            malformed: Malformed {
                path: ".".to_owned(),
                reason: error.to_string(),
            },
        })?;
        let refuses = |injecting: &Injecting| matches!(injecting, Injecting::Refuse(_));
        let injecting = facts
            .settle_confirmed(refuses, |facts| {
                match gate::inject(pod, &object, facts, settings) {
                    Injecting::Ask(questions) => Step::Ask(questions),
                    done @ (Injecting::Nothing
                    | Injecting::Left { .. }
                    | Injecting::Refuse(_)
                    | Injecting::Done(_)) => Step::Done(done),
                }
            })
            .await;
        let injections = &self.metrics.injections;
        Ok(match injecting {
            Injecting::Ask(_) | Injecting::Nothing => {
                respond::allowed(&review.uid, "unchanged", &[])
            }
            Injecting::Left { demand, warnings } => {
                injections.count((demand, Gating::Left));
                respond::allowed(&review.uid, "left", &warnings)
            }
            Injecting::Refuse(findings) => {
                injections.count((Demand::Enabled, Gating::Refused));
                let groups = groups(review);
                let case = Case::new(findings, None);
                let verdict = Verdict::of(pod, &request(review, &groups), case);
                self.tell(review, pod, &verdict);
                respond::verdict(&review.uid, &verdict)
            }
            Injecting::Done(injection) => {
                injections.count((injection.demand, Gating::Injected));
                self.metrics.takeovers.count((injection.takeover,));
                respond::injected(&review.uid, &injection)
            }
        })
    }

    /// Let in: an object that nobody asked us to judge is none of our business, and to refuse it would be to break
    /// whatever a webhook configuration sends us by mistake. Counted, and said to who sent it.
    fn unjudged(&self, review: &Review<'_>, why: Unjudged) -> Answer {
        self.metrics.unjudged.count((why,));
        let kind = &*review.kind.kind;
        let warning = match why {
            Unjudged::Template => return respond::allowed(&review.uid, "unjudged", &[]),
            Unjudged::Kind => {
                format!("portcullis does not judge {kind}; its settings may add it under workloads")
            }
            Unjudged::Subresource => format!(
                "portcullis does not judge {}/{}",
                kind, &*review.subresource
            ),
            Unjudged::Operation => format!("portcullis does not judge this operation on {kind}"),
        };
        respond::allowed(&review.uid, "unjudged", &[warning])
    }

    /// Counts what was found, and logs a refusal.
    fn tell(&self, review: &Review<'_>, workload: &Workload<'_>, verdict: &Verdict) {
        for finding in &verdict.findings {
            self.metrics.findings.count((finding.rule, finding.level));
        }
        for lowered in &verdict.lowered {
            self.metrics.lowered.count(*lowered);
        }
        if verdict.decision != Decision::Deny {
            return;
        }
        let rules: Vec<_> = verdict
            .findings
            .iter()
            .map(|finding| finding.rule.as_str())
            .collect();
        tracing::info!(
            namespace = &*review.namespace,
            kind = &*workload.kind.kind,
            name = &*workload.name(),
            rules = rules.join(","),
            "refused"
        );
    }
}

/// It refuses, or says that another object lacks something.
fn blames(verdict: &Verdict) -> bool {
    let mut rules = verdict.findings.iter().map(|finding| finding.rule);
    verdict.decision == Decision::Deny || rules.any(blames_another_object)
}

fn groups<'r>(review: &'r Review<'_>) -> Vec<Cow<'r, str>> {
    let groups = review.user.groups.items();
    groups.map(|group| group.as_cow()).collect()
}

fn request<'r>(review: &'r Review<'_>, groups: &'r [Cow<'r, str>]) -> policy::Request<'r> {
    policy::Request {
        dry_run: review.dry_run,
        user: review.user.username.as_deref(),
        groups,
        old: review.old,
    }
}

/// The rule's findings speak of other objects than the judged one, which may have changed since they were looked up.
fn blames_another_object(rule: RuleId) -> bool {
    match rule {
        RuleId::LimitRange
        | RuleId::SecretReference
        | RuleId::ConfigmapReference
        | RuleId::PullSecretReference
        | RuleId::ServiceAccountReference
        | RuleId::RequiredEnv
        | RuleId::EnvParity
        | RuleId::GateConfig => true,
        RuleId::ReadinessProbe
        | RuleId::LivenessProbe
        | RuleId::ProbePort
        | RuleId::ProbeDistinct
        | RuleId::CpuRequest
        | RuleId::MemoryRequest
        | RuleId::MemoryLimit
        | RuleId::CpuLimit
        | RuleId::RolloutStrategy
        | RuleId::StringValue
        | RuleId::GateTakeover => false,
    }
}

fn route<B>(request: &Request<B>) -> Result<Webhook, Rejected> {
    let webhook = Webhook::of(request.uri().path())
        .ok_or_else(|| Rejected::Path(request.uri().path().to_owned()))?;
    if request.method() != Method::POST {
        return Err(Rejected::Method(request.method().clone()));
    }
    let content_type = request.headers().get(CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or("nothing");
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        Ok(webhook)
    } else {
        Err(Rejected::ContentType(content_type.to_owned()))
    }
}

/// The row of the table that the review's object belongs to, if it is to be judged.
fn judged_kind<'s>(
    review: &Review<'_>,
    settings: &'s Settings,
) -> Result<&'s WorkloadKind, Unjudged> {
    let kind = &review.kind;
    let row = settings
        .kind(&kind.group, &kind.version, &kind.kind)
        .ok_or(Unjudged::Kind)?;
    match review.operation {
        _ if !review.subresource.is_empty() => Err(Unjudged::Subresource),
        metrics::Operation::Create => Ok(row),
        metrics::Operation::Update if row.update => Ok(row),
        metrics::Operation::Update | metrics::Operation::Other => Err(Unjudged::Operation),
    }
}

fn read<'a>(
    kind: &'a WorkloadKind,
    review: &'a Review<'_>,
) -> Result<Option<Workload<'a>>, Rejected> {
    let Some(object) = review.object else {
        return Ok(None);
    };
    Workload::read(kind, &review.namespace, object).map_err(|malformed| Rejected::Object {
        kind: kind.kind.to_string(),
        malformed,
    })
}

/// How long facts may take, by what the API server says of its own patience.
fn facts_timeout(uri: &Uri) -> Duration {
    let parameters = uri.query().unwrap_or_default().split('&');
    let given = parameters
        .filter_map(|parameter| parameter.strip_prefix("timeout="))
        .find_map(|given| humantime::parse_duration(given).ok());
    given.map_or(FACTS_TIMEOUT, |given| {
        given.mul_f64(FACTS_SHARE).min(FACTS_TIMEOUT)
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode, header::ALLOW};
    use http_body_util::{BodyExt as _, Full};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{facts::testing::Api, webhook::stack::stack};

    /// A service whose API server knows one namespace, `shop`, and the answers it gave.
    struct Served {
        admission: Admission,
        metrics: Arc<Metrics>,
        _api: Api,
    }

    impl Served {
        async fn start() -> Self {
            let namespace = json!({"metadata": {"name": "shop"}});
            let limits = json!({"items": []});
            let api = Api::of(vec![
                ("/api/v1/namespaces/shop", namespace),
                ("/api/v1/namespaces/shop/limitranges", limits),
            ])
            .await;
            let metrics = Arc::<Metrics>::default();
            let settings = Arc::new(ArcSwap::from_pointee(Settings::default()));
            let admission = Admission::new(
                api.live(metrics.facts.clone()),
                settings,
                Arc::clone(&metrics),
                "replica-a".to_owned(),
            );
            Self {
                admission,
                metrics,
                _api: api,
            }
        }

        async fn send(&self, request: Request<Vec<u8>>) -> (http::response::Parts, Value) {
            let stack = stack(self.admission.clone(), Arc::clone(&self.metrics));
            let answer = stack
                .oneshot(request.map(Full::<bytes::Bytes>::from))
                .await
                .unwrap();
            let (head, body) = answer.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (head, serde_json::from_slice(&body).unwrap())
        }

        async fn post(&self, body: impl Into<Vec<u8>>) -> (StatusCode, Value) {
            let request = Request::post("/validate?timeout=3s")
                .header(CONTENT_TYPE, "application/json")
                .body(body.into())
                .unwrap();
            let (head, body) = self.send(request).await;
            (head.status, body)
        }

        fn counted(&self, series: &str) -> u64 {
            let page = self.metrics.handle().render();
            let value = page
                .lines()
                .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            value
                .unwrap_or_else(|| panic!("no {series}"))
                .parse()
                .unwrap()
        }

        fn rejected(&self, reason: &str) -> u64 {
            self.counted(&format!(
                "portcullis_webhook_requests_rejected_total{{reason=\"{reason}\"}}"
            ))
        }
    }

    fn review(object: &Value) -> Value {
        json!({
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "an-uid",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "namespace": "shop",
                "operation": "CREATE",
                "userInfo": {"username": "jane"},
                "object": object,
            },
        })
    }

    fn pod(containers: usize) -> Value {
        let container = |number| {
            json!({
                "name": format!("app-{number}"),
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
                "livenessProbe": {"tcpSocket": {"port": 8080}},
                "ports": [{"containerPort": 8080}],
                "resources": {
                    "requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Mi"},
                },
            })
        };
        let containers: Vec<_> = (0..containers).map(container).collect();
        json!({"metadata": {"name": "app"}, "spec": {"containers": containers}})
    }

    #[tokio::test]
    async fn a_self_check_is_refused_by_the_entry_it_names_and_by_no_rule_or_setting() {
        let served = Served::start().await;
        for enforce in ["deny", "none"] {
            let settings = Settings::from_value(json!({"enforce": enforce})).unwrap();
            served.admission.shared.settings.store(Arc::new(settings));
            for entry in metrics::Entry::ALL {
                let ticket = Ticket::new(entry).unwrap();
                let mut review = review(&pod(1));
                review["request"]["namespace"] = "portcullis-self-check".into();
                review["request"]["object"]["metadata"]["annotations"] =
                    json!({"portcullis.dev/self-check": ticket.annotation()});
                for (path, webhook) in [
                    ("/validate", Webhook::Validate),
                    ("/mutate", Webhook::Mutate),
                    ("/inject", Webhook::Inject),
                ] {
                    let request = Request::post(path)
                        .header(CONTENT_TYPE, "application/json")
                        .body(review.to_string().into_bytes())
                        .unwrap();
                    let (head, answer) = served.send(request).await;
                    let response = &answer["response"];
                    let is_named = entry.webhook() == webhook;
                    assert_eq!(response["allowed"], !is_named, "{entry:?} at {path}");
                    assert_eq!(response.get("patch"), None);
                    if is_named {
                        let words = ticket.refusal("replica-a");
                        assert_eq!(response["status"]["message"], words);
                        assert_eq!(
                            head.headers["connection"], "close",
                            "the next one is dialled"
                        );
                    }
                }
                // Elsewhere the annotation is nobody's word.
                review["request"]["namespace"] = "shop".into();
                let (_, answer) = served.post(review.to_string()).await;
                assert_eq!(answer["response"]["allowed"], true, "{answer}");
            }
        }
    }

    #[tokio::test]
    async fn names_a_wrong_path_method_and_content_type() {
        let served = Served::start().await;
        let request = |method: &str, path: &str, content_type: Option<&'static str>| {
            let mut request = Request::new(review(&pod(1)).to_string().into_bytes());
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = path.parse().unwrap();
            if let Some(value) = content_type {
                request
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            request
        };
        let json = Some("application/json");
        for (request, status, reason, words) in [
            (request("POST", "/", json), 404, "path", "nothing at /;"),
            (
                request("POST", "/validate/", json),
                404,
                "path",
                "nothing at /validate/;",
            ),
            (
                request("GET", "/validate", json),
                405,
                "method",
                "not by GET",
            ),
            (request("PUT", "/mutate", json), 405, "method", "not by PUT"),
            (
                request("POST", "/validate", None),
                415,
                "content_type",
                "not nothing",
            ),
            (
                request("POST", "/validate", Some("text/yaml")),
                415,
                "content_type",
                "not text/yaml",
            ),
        ] {
            let before = served.rejected(reason);
            let (head, body) = served.send(request).await;
            assert_eq!(head.status, status, "{words}");
            assert_eq!(body["code"], status, "{words}");
            assert!(body["message"].as_str().unwrap().contains(words), "{body}");
            assert_eq!(head.headers.get(ALLOW).is_some(), status == 405);
            assert_eq!(served.rejected(reason), before + 1, "{words}");
        }
        let request = request(
            "POST",
            "/validate?timeout=3s",
            Some("Application/JSON; charset=utf-8"),
        );
        assert_eq!(served.send(request).await.0.status, 200);
    }

    #[tokio::test]
    async fn names_and_counts_a_body_that_is_no_review() {
        let served = Served::start().await;
        let mut beta = review(&pod(1));
        beta["apiVersion"] = json!("admission.k8s.io/v1beta1");
        let mut bare = review(&pod(1));
        bare["request"]["object"] = Value::Null;
        let unreadable = review(&json!({"spec": {"containers": 7}}));
        let not_utf8 = review(&json!({"metadata": {"annotations": {"a": "?"}}}))
            .to_string()
            .replace('?', "\u{7f}");
        let not_utf8: Vec<u8> = not_utf8
            .into_bytes()
            .into_iter()
            .map(|byte| if byte == 0x7f { 0xff } else { byte })
            .collect();
        for (body, status, reason) in [
            (b"not JSON".to_vec(), 400, "json"),
            (not_utf8, 400, "json"),
            (b"{}".to_vec(), 400, "not_review"),
            (beta.to_string().into(), 400, "version"),
            (bare.to_string().into(), 400, "object"),
            (unreadable.to_string().into(), 422, "object"),
        ] {
            let before = served.rejected(reason);
            let (code, answer) = served.post(body).await;
            assert_eq!(
                (code.as_u16(), &answer["kind"]),
                (status, &json!("Status")),
                "{answer}"
            );
            assert_eq!(served.rejected(reason), before + 1, "{answer}");
        }
    }

    #[tokio::test]
    async fn counts_what_it_lets_through_unjudged() {
        let served = Served::start().await;
        let changed = |pointer: &str, value: Value| {
            let mut review = review(&pod(1));
            *review.pointer_mut(pointer).unwrap() = value;
            review
        };
        let mut scale = review(&pod(1));
        scale["request"]["subResource"] = json!("scale");
        for (review, reason) in [
            (changed("/request/kind/kind", json!("Gateway")), "kind"),
            (changed("/request/kind/version", json!("v2")), "kind"),
            (changed("/request/operation", json!("CONNECT")), "operation"),
            (changed("/request/operation", json!("UPDATE")), "operation"),
            (scale, "subresource"),
        ] {
            let series = format!("portcullis_webhook_unjudged_total{{reason=\"{reason}\"}}");
            let before = served.counted(&series);
            let (_, answer) = served.post(review.to_string()).await;
            assert_eq!(answer["response"]["allowed"], true);
            assert!(
                answer["response"]["warnings"][0]
                    .as_str()
                    .unwrap()
                    .contains("does not judge")
            );
            assert_eq!(served.counted(&series), before + 1, "{review}");
        }
    }

    #[tokio::test]
    async fn counts_what_it_lets_in_though_it_breaks_a_rule() {
        let served = Served::start().await;
        let mut greedy = pod(1);
        greedy["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "1m", "memory": "1Mi"}});
        let greedy = json!({"metadata": {"name": "app"}, "spec": {"template": greedy}});
        let mut review = review(&greedy);
        review["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
        review["request"]["operation"] = json!("UPDATE");
        review["request"]["oldObject"] = greedy;
        let series = r#"portcullis_webhook_lowered_total{rule="memory-limit",reason="ratchet"}"#;
        let before = served.counted(series);
        let (_, answer) = served.post(review.to_string()).await;
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        assert_eq!(served.counted(series), before + 1);
    }

    #[tokio::test]
    async fn judges_a_pod_of_500_containers() {
        let served = Served::start().await;
        let (status, answer) = served.post(review(&pod(500)).to_string()).await;
        assert_eq!(
            (status, &answer["response"]["allowed"]),
            (StatusCode::OK, &json!(true)),
            "{answer}"
        );
        let mut pod = pod(500);
        for container in pod["spec"]["containers"].as_array_mut().unwrap() {
            container.as_object_mut().unwrap().remove("resources");
        }
        let (status, answer) = served.post(review(&pod).to_string()).await;
        assert_eq!(
            (status, &answer["response"]["allowed"]),
            (StatusCode::OK, &json!(false))
        );
    }

    #[tokio::test]
    async fn judges_an_object_of_three_mebibytes() {
        let served = Served::start().await;
        let mut pod = pod(1);
        pod["metadata"]["annotations"] = json!({"large": "x".repeat(3 * 1024 * 1024)});
        let (status, answer) = served.post(review(&pod).to_string()).await;
        assert_eq!(
            (status, &answer["response"]["allowed"]),
            (StatusCode::OK, &json!(true)),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn nesting_in_a_field_that_nobody_reads_changes_nothing() {
        let served = Served::start().await;
        let mut pod = pod(1);
        pod["spec"]["unknown"] = json!("HERE");
        let nested = "[".repeat(100_000) + &"]".repeat(100_000);
        let body = review(&pod).to_string().replace("\"HERE\"", &nested);
        let (status, answer) = served.post(body).await;
        assert_eq!(
            (status, &answer["response"]["allowed"]),
            (StatusCode::OK, &json!(true)),
            "{answer}"
        );
    }

    #[test]
    fn facts_get_a_part_of_the_time_there_is() {
        for (query, expected) in [
            ("/validate", 2000),
            ("/validate?timeout=30s", 2000),
            ("/validate?timeout=1s", 700),
            ("/validate?a=b&timeout=2s", 1400),
            ("/validate?timeout=soon", 2000),
            ("/validate?timeout=", 2000),
        ] {
            let timeout = facts_timeout(&query.parse().unwrap());
            assert_eq!(timeout.as_millis(), expected, "{query}");
        }
    }

    /// A review with one value, anywhere in it, replaced by another.
    fn replaced(place: usize, value: &Value) -> Value {
        fn walk(at: &mut Value, place: &mut usize, value: &Value) {
            if *place == 0 {
                *at = value.clone();
            }
            *place = place.wrapping_sub(1);
            match at {
                Value::Array(items) => items.iter_mut().for_each(|item| walk(item, place, value)),
                Value::Object(members) => {
                    members
                        .values_mut()
                        .for_each(|member| walk(member, place, value));
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut review = review(&pod(2));
        walk(&mut review, &mut { place }, value);
        review
    }

    /// Whatever comes, the answer is a review or a status, and the process lives.
    fn is_answered(body: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (status, answer) = Served::start().await.post(body).await;
            match status.as_u16() {
                200 => assert!(answer["response"]["allowed"].is_boolean(), "{answer}"),
                400 | 422 => assert_eq!(answer["kind"], "Status", "{answer}"),
                other => panic!("{other}: {answer}"),
            }
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_value_in_any_place_is_answered(
            place in 0_usize..90,
            value in prop_oneof![
                Just(json!(null)), Just(json!(true)), Just(json!(-1)), Just(json!(1e300)), Just(json!("")),
                Just(json!("\u{0}\u{fffd}")), Just(json!([])), Just(json!([null])), Just(json!({})),
                Just(json!({"": {"": []}})), Just(json!("99999999999999999999Ei")),
            ],
        ) {
            is_answered(replaced(place, &value).to_string().into_bytes());
        }

        #[test]
        fn any_bytes_in_any_place_are_answered(
            at in any::<prop::sample::Index>(), cut in 0_usize..40, bytes in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut body = review(&pod(2)).to_string().into_bytes();
            let at = at.index(body.len());
            body.splice(at..(at + cut).min(body.len()), bytes);
            is_answered(body);
        }
    }
}
