//! The layers round the service, and their order.
//!
//! ```text
//! catch panic      500 for that request only, counted: server::connection, which both programs share
//!   metrics, span  in flight, duration; every error becomes an answer here and nowhere else
//!     timeout      below the webhook's own, so that the API server hears from us and not from its clock
//!       limit      reviews at once; what finds no place is shed at once instead of waiting, but for self-checks
//!         body     read whole, within bounds
//!           route, review, judge, respond
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
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _, timeout::error::Elapsed};
use tracing::Instrument as _;

use super::{
    body::ReadBody,
    metrics::{Metrics, Webhook},
    respond::{self, Answer, Rejected},
    shed::Shed,
};

/// From a request's head to its answer. `timeoutSeconds` is 3 in our webhook configurations, so there is half a second for
/// the way there and back.
pub(super) const REVIEW_TIMEOUT: Duration = Duration::from_millis(2500);

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
        .layer_fn(Shed::new)
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

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use bytes::BytesMut;
    use http::{StatusCode, header::RETRY_AFTER};
    use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
    use hyper::body::{Frame, Incoming};
    use serde_json::Value;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        sync::Semaphore,
    };
    use tower::service_fn;

    use super::{super::shed::CONCURRENT_REVIEWS, *};
    use crate::server::{Limits, serve};

    const MIB: usize = 1024 * 1024;

    fn request(bytes: usize) -> Request<Full<Bytes>> {
        Request::post("/validate")
            .body(vec![b' '; bytes].into())
            .unwrap()
    }

    /// Answers when the semaphore has a permit, and counts how often it was called.
    fn waiting(
        permits: &Arc<Semaphore>,
        calls: &Arc<AtomicUsize>,
    ) -> impl Service<Request<Vec<u8>>, Response = Answer, Error = Rejected, Future: Send>
    + Clone
    + Send
    + 'static {
        let (permits, calls) = (Arc::clone(permits), Arc::clone(calls));
        service_fn(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            let permits = Arc::clone(&permits);
            async move {
                permits.acquire().await.unwrap().forget();
                Ok(respond::allowed("uid", "unchanged", &[]))
            }
        })
    }

    async fn message(answer: Answer) -> String {
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&status["kind"], &status["status"]),
            (&"Status".into(), &"Failure".into())
        );
        status["message"].as_str().unwrap().to_owned()
    }

    fn counted(metrics: &Metrics, series: &str) -> u64 {
        let page = metrics.handle().render();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn sheds_what_is_beyond_the_limit_at_once() {
        let (permits, calls, metrics) = (
            Arc::new(Semaphore::new(0)),
            Arc::default(),
            Arc::<Metrics>::default(),
        );
        let stack = stack(waiting(&permits, &calls), Arc::clone(&metrics));
        let mut under_way = tokio::task::JoinSet::new();
        for _ in 0..CONCURRENT_REVIEWS {
            under_way.spawn(stack.clone().oneshot(request(2)));
        }
        while calls.load(Ordering::SeqCst) < CONCURRENT_REVIEWS {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            counted(&metrics, "portcullis_webhook_requests_in_flight"),
            512
        );

        let answer = stack.clone().oneshot(request(2)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
        assert_eq!(message(answer).await, "too many reviews at once; try again");
        assert_eq!(
            counted(&metrics, "portcullis_webhook_requests_shed_total"),
            1
        );

        permits.add_permits(CONCURRENT_REVIEWS);
        while let Some(answer) = under_way.join_next().await {
            assert_eq!(answer.unwrap().unwrap().status(), StatusCode::OK);
        }
        permits.add_permits(1);
        assert_eq!(
            stack.oneshot(request(2)).await.unwrap().status(),
            StatusCode::OK
        );
        assert_eq!(
            counted(&metrics, "portcullis_webhook_requests_in_flight"),
            0
        );
    }

    fn self_check(padding: usize) -> Request<Full<Bytes>> {
        let nonce = "0".repeat(32);
        let annotation = format!("validate.portcullis.dev/{nonce}");
        let object = serde_json::json!({"metadata": {
            "annotations": {"portcullis.dev/self-check": annotation, "padding": " ".repeat(padding)},
        }});
        let review = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "an-uid", "kind": {"version": "v1", "kind": "Pod"}, "operation": "CREATE",
                "namespace": "portcullis-self-check", "object": object,
            },
        });
        Request::post("/validate")
            .body(review.to_string().into())
            .unwrap()
    }

    #[tokio::test]
    async fn a_self_check_passes_by_the_load_that_somebody_makes() {
        let (permits, calls, metrics) = (
            Arc::new(Semaphore::new(0)),
            Arc::default(),
            Arc::<Metrics>::default(),
        );
        let stack = stack(waiting(&permits, &calls), Arc::clone(&metrics));
        let mut under_way: Vec<_> = (0..CONCURRENT_REVIEWS)
            .map(|_| tokio_test::task::spawn(stack.clone().oneshot(request(2))))
            .collect();
        for answer in &mut under_way {
            assert!(answer.poll().is_pending());
        }
        let mut checks: Vec<_> = (0..16)
            .map(|_| tokio_test::task::spawn(stack.clone().oneshot(self_check(0))))
            .collect();
        for check in &mut checks {
            assert!(check.poll().is_pending());
        }
        assert_eq!(calls.load(Ordering::SeqCst), CONCURRENT_REVIEWS + 16);

        // One that is as large as no self-check is, and one too many.
        for request in [self_check(64 * 1024), self_check(0)] {
            let answer = stack.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        }
        // The reviews under way are not polled, and keep their places.
        permits.add_permits(CONCURRENT_REVIEWS + 16);
        for check in &mut checks {
            assert!(check.poll().is_ready());
        }
        // Nobody else gets those places, and whoever asks gives it back at once.
        for _ in 0..100 {
            let answer = stack.clone().oneshot(request(2)).await.unwrap();
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        }
        permits.add_permits(1);
        let answer = stack.oneshot(self_check(0)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    /// Over a socket: in memory nobody is reset.
    #[tokio::test]
    async fn who_is_turned_away_while_he_sends_hears_so_and_keeps_his_connection() {
        let (permits, metrics) = (Arc::new(Semaphore::new(0)), Arc::<Metrics>::default());
        let stack = stack(waiting(&permits, &Arc::default()), Arc::clone(&metrics));
        let boxed = |request: Request<Full<Bytes>>| {
            request.map(|body| body.map_err(BoxError::from).boxed_unsync())
        };
        let requests = (0..CONCURRENT_REVIEWS).map(|_| request(2));
        let requests = requests.chain((0..16).map(|_| self_check(0)));
        let mut places: Vec<_> = requests
            .map(|request| tokio_test::task::spawn(stack.clone().oneshot(boxed(request))))
            .collect();
        for place in &mut places {
            assert!(place.poll().is_pending());
        }
        let service = service_fn(move |request: Request<Incoming>| {
            let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
            stack.clone().oneshot(request)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let limits = Limits {
            connections: 1,
            handshake_timeout: REVIEW_TIMEOUT,
            header_timeout: REVIEW_TIMEOUT,
            idle_timeout: None,
            header_bytes: 16 * 1024,
            buffer_bytes: 16 * 1024,
            drain_delay: Duration::ZERO,
            shutdown_timeout: Duration::ZERO,
        };
        let limits = (limits, metrics.server.clone());
        tokio::spawn(serve(listener, None, service, limits, pending()));
        let body = vec![b' '; 60 * 1024];
        for _ in 0..2 {
            let head = format!(
                "POST /validate HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            client.write_all(head.as_bytes()).await.unwrap();
            client.write_all(&body).await.unwrap();
            let mut answer = BytesMut::new();
            while !answer.ends_with(b"}") {
                assert!(
                    client.read_buf(&mut answer).await.unwrap() > 0,
                    "{answer:?}"
                );
            }
            assert!(answer.starts_with(b"HTTP/1.1 429"), "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn says_so_when_there_is_no_verdict_in_time() {
        let (permits, metrics) = (Arc::new(Semaphore::new(0)), Arc::<Metrics>::default());
        let stack = stack(waiting(&permits, &Arc::default()), Arc::clone(&metrics));
        let begun = Instant::now();
        let answer = stack.oneshot(request(2)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(message(answer).await, "no verdict in time");
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "the API server has hung up by then"
        );
        assert_eq!(
            counted(
                &metrics,
                "portcullis_webhook_requests_rejected_total{reason=\"timeout\"}"
            ),
            1
        );
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_no_longer_in_flight() {
        let (permits, metrics) = (Arc::new(Semaphore::new(0)), Arc::<Metrics>::default());
        let stack = stack(waiting(&permits, &Arc::default()), Arc::clone(&metrics));
        let mut answer = tokio_test::task::spawn(stack.oneshot(request(2)));
        assert!(answer.poll().is_pending());
        assert_eq!(
            counted(&metrics, "portcullis_webhook_requests_in_flight"),
            1
        );
        drop(answer);
        assert_eq!(
            counted(&metrics, "portcullis_webhook_requests_in_flight"),
            0
        );
    }

    #[tokio::test]
    async fn takes_a_body_of_eight_mebibytes_and_none_larger() {
        let (permits, metrics) = (Arc::new(Semaphore::new(9)), Arc::<Metrics>::default());
        let stack = stack(waiting(&permits, &Arc::default()), Arc::clone(&metrics));
        for (bytes, status) in [
            (8 * MIB, StatusCode::OK),
            (8 * MIB + 1, StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            let answer = stack.clone().oneshot(request(bytes)).await.unwrap();
            assert_eq!(answer.status(), status, "{bytes}");
        }
        assert_eq!(
            counted(
                &metrics,
                "portcullis_webhook_requests_rejected_total{reason=\"too_large\"}"
            ),
            1
        );
    }

    #[tokio::test]
    async fn bounds_a_body_that_does_not_say_its_length() {
        let (permits, metrics) = (Arc::new(Semaphore::new(9)), Arc::<Metrics>::default());
        let stack = stack(waiting(&permits, &Arc::default()), metrics);
        let frames = futures_util::stream::repeat_with(|| {
            Ok::<_, io::Error>(Frame::data(Bytes::from_static(&[b' '; 4096])))
        });
        let request = Request::post("/validate")
            .body(StreamBody::new(frames))
            .unwrap();
        let answer = stack.oneshot(request).await.unwrap();
        assert_eq!(
            message(answer).await,
            "the body is larger than 8 MiB, which no review can be"
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_named() {
        let metrics = Arc::<Metrics>::default();
        let stack = stack(
            waiting(&Arc::new(Semaphore::new(0)), &Arc::default()),
            Arc::clone(&metrics),
        );
        let frames = futures_util::stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("gone"))]);
        let request = Request::post("/validate")
            .body(StreamBody::new(frames))
            .unwrap();
        let answer = stack.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(message(answer).await, "the body broke off");
        assert_eq!(
            counted(
                &metrics,
                "portcullis_webhook_requests_rejected_total{reason=\"body\"}"
            ),
            1
        );
    }

    #[tokio::test]
    async fn large_bodies_take_turns_and_small_ones_pass_by() {
        let (permits, calls, metrics) =
            (Arc::new(Semaphore::new(0)), Arc::default(), Arc::default());
        let stack = stack(waiting(&permits, &calls), metrics);
        let mut large: Vec<_> = (0..5)
            .map(|_| tokio_test::task::spawn(stack.clone().oneshot(request(MIB))))
            .collect();
        for answer in &mut large {
            assert!(answer.poll().is_pending());
        }
        assert_eq!(calls.load(Ordering::SeqCst), 4, "the fifth waits");
        let mut small = tokio_test::task::spawn(stack.oneshot(request(2)));
        assert!(small.poll().is_pending());
        assert_eq!(calls.load(Ordering::SeqCst), 5, "the small one does not");

        permits.add_permits(6);
        for answer in large.iter_mut().chain([&mut small]).take(4) {
            assert!(answer.poll().is_ready());
        }
        assert!(large[4].is_woken());
        assert!(large[4].poll().is_ready());
        assert_eq!(calls.load(Ordering::SeqCst), 6);
    }

    #[tokio::test]
    async fn an_empty_body_reaches_the_service() {
        let (permits, calls) = (Arc::new(Semaphore::new(1)), Arc::default());
        let stack = stack(waiting(&permits, &calls), Arc::default());
        let request = Request::get("/elsewhere")
            .body(Empty::<Bytes>::new())
            .unwrap();
        assert_eq!(
            stack.oneshot(request).await.unwrap().status(),
            StatusCode::OK
        );
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}
