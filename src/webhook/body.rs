//! The body of a request, read whole and within bounds before anything is done with it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use tower::{BoxError, Service};

use super::respond::{Answer, Rejected};

/// The API server takes objects of 3 MiB (`MaxRequestBodyBytes`), and an UPDATE's review carries two of them, with what
/// the review itself says. A smaller limit of ours would be a door while `failurePolicy` is Ignore.
pub(super) const BODY_BYTES: usize = 8 * 1024 * 1024;

/// Bodies up to this size are read as they come. Nearly all are: a Deployment's review is some 10 KiB.
const SMALL_BODY_BYTES: usize = 64 * 1024;

/// Larger bodies at once, so that they never hold more than 32 MiB together; the others wait for their turn.
const LARGE_BODIES: usize = 4;

/// Hands the service within a body that has been read.
#[derive(Clone, Debug)]
pub(super) struct ReadBody<S> {
    inner: S,
    large_bodies: Arc<Semaphore>,
}

// === impl ReadBody ===

impl<S> ReadBody<S> {
    /// The service within, for a body that was read otherwise.
    pub(super) fn inner(&self) -> &S {
        &self.inner
    }

    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)),
        }
    }
}

impl<S, B> Service<Request<B>> for ReadBody<S>
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
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self {
            inner,
            large_bodies,
        } = self.clone();
        let mut inner = std::mem::replace(&mut self.inner, inner); // the one that was ready
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let expected = expected_bytes(&body)?;
            let turn = if expected > SMALL_BODY_BYTES {
                Some(large_bodies.acquire().await)
            } else {
                None
            };
            let body = read(body, expected).await?;
            let answer = inner.call(Request::from_parts(head, body)).await;
            drop(turn); // only now: until then the body was held
            answer
        })
    }
}

/// Reads a body that says that it is small; `None` for one that does not.
pub(super) async fn read_small<B>(body: B) -> Result<Option<Vec<u8>>, Rejected>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    match expected_bytes(&body)? {
        expected if expected <= SMALL_BODY_BYTES => read(body, expected).await.map(Some),
        _ => Ok(None),
    }
}

/// Reads a small body to its end, and keeps nothing of it: who is answered while he still sends may find his connection
/// reset in the place of the answer.
pub(super) async fn hear_out<B>(mut body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    if expected_bytes(&body).is_ok_and(|expected| expected <= SMALL_BODY_BYTES) {
        while let Some(Ok(_)) = body.frame().await {}
    }
}

/// What `Content-Length` says; the most there can be where there is none.
fn expected_bytes(body: &impl Body) -> Result<usize, Rejected> {
    match body.size_hint().upper() {
        None => Ok(BODY_BYTES),
        Some(bytes) => usize::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes <= BODY_BYTES)
            .ok_or(Rejected::TooLarge),
    }
}

async fn read<B>(mut body: B, expected: usize) -> Result<Vec<u8>, Rejected>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    // Not all that is announced: a client that promises much and sends nothing must not cost memory.
    let mut bytes = Vec::with_capacity(expected.min(SMALL_BODY_BYTES));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Rejected::Body(error.into()))?;
        if let Ok(chunk) = frame.into_data() {
            if bytes.len() + chunk.len() > BODY_BYTES {
                return Err(Rejected::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::{Frame, SizeHint};

    use super::*;

    /// A body of this length, a byte a frame.
    struct Bytewise(u64);

    impl Body for Bytewise {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(left) = self.0.checked_sub(1) else {
                return Poll::Ready(None);
            };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test]
    async fn hears_out_who_sends_little_and_nobody_else() {
        for (bytes, left) in [(64 * 1024, 0), (64 * 1024 + 1, 64 * 1024 + 1)] {
            let mut body = Bytewise(bytes);
            hear_out(&mut body).await;
            assert_eq!(body.0, left);
        }
    }
}
