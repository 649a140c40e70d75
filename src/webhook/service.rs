//! One review: bytes to judge and back, with the facts that it asks for in between.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{Method, Request, Uri, header::CONTENT_TYPE};
use tokio::time::Instant;
use tower::Service;

use super::{
    metrics::{Metrics, Operation, Patched, Unjudged, Webhook},
    respond::{self, Answer, Rejected},
    review::Review,
};
use crate::{
    facts::{Live, live::Facts},
    policy::{
        self, Judgement,
        settings::Settings,
        verdict::{Decision, Verdict},
        workload::{Workload, WorkloadKind},
    },
};

/// Facts are awaited no longer than this, so that there is time left to judge and to answer within
/// [`REVIEW_TIMEOUT`](super::stack::REVIEW_TIMEOUT).
const FACTS_TIMEOUT: Duration = Duration::from_secs(2);

/// And no longer than this part of what the API server gives us (`?timeout=3s`, from `timeoutSeconds`), should somebody
/// have set that lower.
const FACTS_SHARE: f64 = 0.7;

/// Rounds of questions, after which what is not known is unknown. An answer leads to further questions at most twice (a
/// namespace to its twin, and on to the workload there), and all is asked again where a refusal is confirmed.
const ROUNDS: usize = 8;

/// Answers `POST /validate` and `POST /mutate`.
#[derive(Clone, Debug)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    live: Live,
    settings: Arc<ArcSwap<Settings>>,
    metrics: Arc<Metrics>,
}

// === impl Admission ===

impl Admission {
    /// Judges by the settings in force at each moment, with facts from `live`.
    pub fn new(live: Live, settings: Arc<ArcSwap<Settings>>, metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                live,
                settings,
                metrics,
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
        }
    }

    async fn validate(
        &self,
        review: &Review<'_>,
        workload: &Workload<'_>,
        settings: &Settings,
        facts: Facts,
    ) -> Answer {
        let groups: Vec<_> = review
            .user
            .groups
            .items()
            .map(|group| group.as_cow())
            .collect();
        let request = policy::Request {
            dry_run: review.dry_run,
            user: review.user.username.as_deref(),
            groups: &groups,
        };
        let verdict = settle(facts, |facts| {
            policy::judge(workload, &request, facts, settings)
        })
        .await;
        self.count(review, workload.kind, &verdict);
        if verdict.decision == Decision::Deny {
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
        respond::verdict(&review.uid, &verdict)
    }

    async fn mutate(
        &self,
        review: &Review<'_>,
        _workload: &Workload<'_>,
        _settings: &Settings,
        _facts: Facts,
    ) -> Answer {
        self.metrics.patches.count((Patched::Unchanged,));
        respond::allowed(&review.uid, &[])
    }

    /// Let in: an object that nobody asked us to judge is none of our business, and to refuse it would be to break
    /// whatever a webhook configuration sends us by mistake. Counted, and said to who sent it.
    fn unjudged(&self, review: &Review<'_>, why: Unjudged) -> Answer {
        self.metrics.unjudged.count((why,));
        let kind = &*review.kind.kind;
        let warning = match why {
            Unjudged::Template => return respond::allowed(&review.uid, &[]),
            Unjudged::Kind => {
                format!("portcullis does not judge {kind}; its settings may add it under workloads")
            }
            Unjudged::Subresource => format!(
                "portcullis does not judge {}/{}",
                kind, &*review.subresource
            ),
            Unjudged::Operation => format!("portcullis does not judge this operation on {kind}"),
        };
        respond::allowed(&review.uid, &[warning])
    }

    fn count(&self, review: &Review<'_>, kind: &WorkloadKind, verdict: &Verdict) {
        self.metrics
            .reviews
            .count((kind.into(), review.operation, verdict.decision));
        for finding in &verdict.findings {
            self.metrics.findings.count((finding.rule, finding.level));
        }
    }
}

/// Asks what the judge wants to know, round by round, until it has a verdict. One that refuses is given only on facts
/// that were asked since the review arrived.
async fn settle(mut facts: Facts, judge: impl Fn(&Facts) -> Judgement) -> Verdict {
    let mut rounds = 0;
    loop {
        match judge(&facts) {
            Judgement::Done(verdict) if verdict.decision != Decision::Deny => return verdict,
            Judgement::Done(verdict) => {
                if !facts.confirm() {
                    return verdict;
                }
            }
            Judgement::Ask(questions) if rounds < ROUNDS => {
                rounds += 1;
                facts.ask(questions).await;
            }
            Judgement::Ask(_) => facts.close(),
        }
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
        Operation::Create => Ok(row),
        Operation::Update if row.update => Ok(row),
        Operation::Update | Operation::Other => Err(Unjudged::Operation),
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
