//! The layers round the service, and their order.
//!
//! ```text
//! catch panic      500 for that request only, counted: server::connection, which both programs share
//!   metrics, span  in flight, duration; every error becomes an answer here and nowhere else
//!     timeout      below the webhook's own, so that the API server hears from us and not from its clock
//!       load shed  above the limit, so that what finds no place is refused at once instead of waiting
//!         limit    reviews at once
//!           body   read whole, within bounds
//!             route, review, judge, respond
//! ```

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use metrics::Gauge;
use tokio::time::Instant;
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt as _, limit::GlobalConcurrencyLimitLayer,
    load_shed::error::Overloaded, timeout::error::Elapsed,
};
use tracing::Instrument as _;

use super::{
    body::ReadBody,
    metrics::{Metrics, Webhook},
    respond::{self, Answer, Rejected},
};

/// From a request's head to its answer. `timeoutSeconds` is 3 in our webhook configurations, so there is half a second for
/// the way there and back.
pub(super) const REVIEW_TIMEOUT: Duration = Duration::from_millis(2500);

/// Reviews at once. One takes a fraction of a millisecond, or two seconds where the API server is slow to tell the facts;
/// then this is 256 reviews a second, from some 30 MiB of memory (body and buffers).
const CONCURRENT_REVIEWS: usize = 512;

/// The outermost layer: counts, names and answers.
#[derive(Clone, Debug)]
pub struct Stack<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

/// One more request in flight, for as long as it is answered; also when the client leaves or the request panics.
struct InFlight(Gauge);

/// Puts the layers round `service`, which gets bodies that have been read.
pub fn stack<S, B>(
    service: S,
    metrics: Arc<Metrics>,
) -> impl Service<Request<B>, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + 'static
where
    S: Service<Request<Vec<u8>>, Response = Answer, Error = Rejected, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let inner = ServiceBuilder::new()
        .timeout(REVIEW_TIMEOUT)
        .load_shed()
        .layer(GlobalConcurrencyLimitLayer::new(CONCURRENT_REVIEWS))
        .layer_fn(ReadBody::new)
        .service(service);
    Stack { inner, metrics }
}

// === impl Stack ===

impl<S, B> Service<Request<B>> for Stack<S>
where
    S: Service<Request<B>, Response = Answer, Error = BoxError, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // what is within is asked for each request, and sheds
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let metrics = Arc::clone(&self.metrics);
        let webhook = Webhook::of(request.uri().path());
        let span = tracing::debug_span!("review", path = request.uri().path());
        let answer = self.inner.clone().oneshot(request);
        let started = Instant::now();
        let answering = async move {
            let _in_flight = InFlight::begin(&metrics);
            let answer = answer.await.unwrap_or_else(|error| reject(error, &metrics));
            if let Some(webhook) = webhook {
                metrics
                    .review_duration
                    .record((webhook,), started.elapsed().as_secs_f64());
            }
            Ok(answer)
        };
        Box::pin(answering.instrument(span))
    }
}

/// The one place where an error becomes an answer, a count and a line in the log.
fn reject(error: BoxError, metrics: &Metrics) -> Answer {
    let rejected = match error.downcast::<Rejected>() {
        Ok(rejected) => *rejected,
        Err(error) if error.is::<Overloaded>() => Rejected::Shed,
        Err(error) => {
            debug_assert!(
                error.is::<Elapsed>(),
                "the layers make no other error: {error}"
            );
            Rejected::Timeout
        }
    };
    match rejected.label() {
        Some(label) => metrics.rejected.count((label,)),
        None => metrics.shed.increment(1),
    }
    tracing::debug!(error = %rejected, "no verdict");
    respond::rejected(&rejected)
}

// === impl InFlight ===

impl InFlight {
    fn begin(metrics: &Metrics) -> Self {
        metrics.in_flight.increment(1);
        Self(metrics.in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
