//! How many reviews at once. What is beyond is refused at once, but for self-checks, which have places of their own: the
//! load that somebody makes must not look like an outage to whoever checks for one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use tokio::sync::Semaphore;
use tower::{BoxError, Service};

use super::{
    body::{ReadBody, hear_out, read_small},
    proof::Ticket,
    respond::{Answer, Rejected},
};

/// Reviews at once. One takes a fraction of a millisecond, or two seconds where the API server is slow to tell the facts;
/// then this is 256 reviews a second, from some 30 MiB of memory (body and buffers).
pub(super) const CONCURRENT_REVIEWS: usize = 512;

/// Requests beyond those that may be read, if they are small, to see whether they are self-checks. One is looked at in
/// microseconds, and one that isn't gives its place back then: 1 MiB at most.
const RESERVED: usize = 16;

/// Hands on to `inner` what finds a place.
#[derive(Clone, Debug)]
pub(super) struct Shed<S> {
    inner: ReadBody<S>,
    places: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
}

// === impl Shed ===

impl<S> Shed<S> {
    pub(super) fn new(inner: ReadBody<S>) -> Self {
        Self {
            inner,
            places: Arc::new(Semaphore::new(CONCURRENT_REVIEWS)),
            reserved: Arc::new(Semaphore::new(RESERVED)),
        }
    }
}

impl<S, B> Service<Request<B>> for Shed<S>
where
    S: Service<Request<Vec<u8>>, Response = Answer, Error = Rejected, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Answer;
    type Error = Rejected;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Rejected>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        Service::<Request<B>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let answer = answer.await;
                drop(place);
                answer
            });
        }
        let reserved = Arc::clone(&self.reserved).try_acquire_owned();
        let inner = self.inner.inner().clone();
        Box::pin(async move {
            let Ok(_place) = reserved else {
                hear_out(request.into_body()).await;
                return Err(Rejected::Shed);
            };
            only_a_self_check(request, inner).await
        })
    }
}

/// Answers a self-check, and sheds everything else.
async fn only_a_self_check<S, B>(request: Request<B>, mut service: S) -> Result<Answer, Rejected>
where
    S: Service<Request<Vec<u8>>, Response = Answer, Error = Rejected>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let (head, body) = request.into_parts();
    match read_small(body).await? {
        Some(body) if Ticket::is_in(&body) => {
            std::future::poll_fn(|context| service.poll_ready(context)).await?;
            service.call(Request::from_parts(head, body)).await
        }
        _ => Err(Rejected::Shed),
    }
}
