//! One request over HTTP/2: admitted, sent to the app as a stream, answered as a stream.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Reason as Reset, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
    server::SendResponse,
};
use http::{Request, Response};
use tokio::time::Instant;

use super::{
    head,
    pipe::{self, Broken},
    upstream::Upstream,
};
use crate::gate::{
    inflight::Busy,
    path::{Counted, Path},
    queue::{Pass, Slot, Verdict},
    reason::Reason,
    service::GrpcRefusal,
    switch::LossKind,
};

/// How often a stream that the app did not take is offered to a new connection.
const OFFERS: usize = 3;

/// One request of a client.
#[derive(Debug)]
pub(super) struct Exchange {
    path: Arc<Path>,
    upstream: Arc<Upstream>,
    respond: SendResponse<Bytes>,
    /// The response's head was sent.
    answered: bool,
}

/// A stream that the app was offered.
#[derive(Debug)]
struct Offered {
    response: ResponseFuture,
    body: SendStream<Bytes>,
    slot: Option<Slot>,
}

/// How a stream ended, as far as its client may be judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was answered, if only by a refusal.
    Answered,
    /// Its client reset it before that.
    Unanswered,
}

/// How a request ended without a whole response.
#[derive(Debug)]
enum Failure {
    /// The gate answers it.
    Refuse(Reason),
    /// It is reset as the app reset it.
    Reset(Reset),
    /// The client wants no answer.
    ClientGone,
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn new(
        path: Arc<Path>,
        upstream: Arc<Upstream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        Self {
            path,
            upstream,
            respond,
            answered: false,
        }
    }

    /// Gets the request answered. In flight it is for as long as the caller keeps `busy`.
    pub(super) async fn run(mut self, request: Request<RecvStream>, busy: Busy) -> (Ended, Busy) {
        (self.serve(request).await, busy)
    }

    async fn serve(&mut self, request: Request<RecvStream>) -> Ended {
        let (parts, body) = request.into_parts();
        let is_grpc = head::is_grpc(&parts.headers);
        let request = match head::for_app(parts, &self.upstream.app.authority) {
            Ok(request) => request,
            Err(reason) => {
                self.refuse(reason, is_grpc);
                return Ended::Answered;
            }
        };
        let bytes = head::size(&request);
        let verdict = if let Some(pass) = self.path.admission.pass_at_once() {
            Verdict::Pass(pass)
        } else {
            let path = Arc::clone(&self.path);
            path.admission.wait(bytes, self.client_gone()).await
        };
        let failure = match verdict {
            Verdict::Pass(pass) => {
                let path = Arc::clone(&self.path);
                let _in_flight = Counted::by(&path.traffic.in_flight);
                match self.ask(request, bytes, body, pass).await {
                    Ok(()) => return Ended::Answered,
                    Err(failure) => failure,
                }
            }
            Verdict::Refuse(reason) => Failure::Refuse(reason),
            Verdict::ClientGone => Failure::ClientGone,
        };
        match failure {
            Failure::Refuse(reason) => self.refuse(reason, is_grpc),
            Failure::Reset(reason) => self.respond.send_reset(reason),
            Failure::ClientGone => {
                self.respond.send_reset(Reset::CANCEL);
                return if self.answered {
                    Ended::Answered
                } else {
                    Ended::Unanswered
                };
            }
        }
        Ended::Answered
    }

    async fn ask(
        &mut self,
        request: Request<()>,
        bytes: usize,
        mut body: RecvStream,
        pass: Pass,
    ) -> Result<(), Failure> {
        let end = body.is_end_stream();
        let asked = Instant::now();
        let Offered {
            response,
            body: mut to_app,
            slot,
        } = self.offer(&request, bytes, pass, end).await?;
        let up = async {
            match pipe::run(&mut body, &mut to_app).await {
                // The app says in its response, or by a reset of it, what it thinks.
                Ok(()) | Err(Broken::Sink) => std::future::pending().await,
                Err(Broken::Source(error)) => error.reason().unwrap_or(Reset::CANCEL),
            }
        };
        let down = self.download(response, slot, asked);
        if end {
            return down.await;
        }
        // Biased: a response that is whole needs no more of the request. Neither future is used
        // after this.
        tokio::select! {
            biased;
            answered = down => answered,
            reason = up => {
                to_app.send_reset(reason);
                Err(Failure::ClientGone)
            }
        }
    }

    /// Opens a stream to the app, on a new connection if the kept one takes no more.
    async fn offer(
        &mut self,
        request: &Request<()>,
        bytes: usize,
        mut pass: Pass,
        end: bool,
    ) -> Result<Offered, Failure> {
        for _ in 0..OFFERS {
            let (path, upstream) = (Arc::clone(&self.path), Arc::clone(&self.upstream));
            // Biased: a client that has left needs no connection. Both arms are cancel-safe.
            let (sender, passed) = tokio::select! {
                biased;
                () = self.client_gone() => return Err(Failure::ClientGone),
                sender = upstream.sender(&path, bytes, pass) => sender.map_err(Failure::from)?,
            };
            pass = passed;
            if let Some((response, body)) = open(sender, request, end).await {
                return Ok(Offered {
                    response,
                    body,
                    slot: pass.slot,
                });
            }
            // What could not be opened has reached nobody.
            upstream.retire().await;
        }
        Err(Failure::Refuse(Reason::AppReset))
    }

    /// Passes the response on, interim ones first.
    async fn download(
        &mut self,
        mut response: ResponseFuture,
        slot: Option<Slot>,
        asked: Instant,
    ) -> Result<(), Failure> {
        let answer = loop {
            match poll_fn(|context| self.poll_answer(&mut response, context)).await? {
                Answer::Interim(interim) => {
                    // A client that cannot be told still gets the final response.
                    let _ = self.respond.send_informational(interim);
                }
                Answer::Final(answer) => break answer,
            }
        };
        drop(slot);
        self.path.traffic.latency.record(asked.elapsed());
        self.path.traffic.responded(answer.status().as_u16());
        let (parts, mut body) = answer.into_parts();
        let end = body.is_end_stream();
        let head = Response::from_parts(parts, ());
        let sent = self.respond.send_response(head, end);
        let mut to_client = sent.map_err(|_| Failure::ClientGone)?;
        self.answered = true;
        if end {
            return Ok(());
        }
        pipe::run(&mut body, &mut to_client)
            .await
            .map_err(|broken| match broken {
                Broken::Source(error) => {
                    self.lost(&error);
                    Failure::Reset(error.reason().unwrap_or(Reset::INTERNAL_ERROR))
                }
                Broken::Sink => Failure::ClientGone,
            })
    }

    fn poll_answer(
        &mut self,
        response: &mut ResponseFuture,
        context: &mut Context<'_>,
    ) -> Poll<Result<Answer, Failure>> {
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(context) {
            return Poll::Ready(Ok(Answer::Interim(interim)));
        }
        if let Poll::Ready(answer) = std::pin::Pin::new(response).poll(context) {
            return Poll::Ready(
                answer
                    .map(Answer::Final)
                    .map_err(|error| self.failure(&error)),
            );
        }
        self.respond
            .poll_reset(context)
            .map(|_| Err(Failure::ClientGone))
    }

    /// What an error of the app's stream means to the client.
    fn failure(&self, error: &h2::Error) -> Failure {
        self.lost(error);
        if error.is_go_away() && error.is_remote() {
            // The app took no stream after the one that it named.
            Failure::Reset(Reset::REFUSED_STREAM)
        } else if let (true, Some(reason)) = (error.is_reset(), error.reason()) {
            Failure::Reset(reason)
        } else if error.is_io() {
            Failure::Refuse(Reason::AppReset)
        } else {
            Failure::Refuse(Reason::AppGarbage)
        }
    }

    fn lost(&self, error: &h2::Error) {
        if error.is_io()
            && let Some(address) = self.upstream.app.address()
        {
            self.path.valve.lost(address, LossKind::ClosedBusy);
        }
    }

    async fn client_gone(&mut self) {
        // Both a reset and the end of the connection say so.
        let _ = poll_fn(|context| self.respond.poll_reset(context)).await;
    }

    /// Answers for the gate itself, and counts it.
    fn refuse(&mut self, reason: Reason, is_grpc: bool) {
        self.path.traffic.refused(reason);
        let as_status = is_grpc && self.path.grpc_refusal == GrpcRefusal::Unavailable;
        if reason.may_retry() && !as_status {
            return self.respond.send_reset(Reset::REFUSED_STREAM);
        }
        let (answer, text) = if as_status {
            head::grpc_answer(reason)
        } else {
            head::answer(reason)
        };
        self.path.traffic.responded(answer.status().as_u16());
        // A client that has left needs no answer.
        if let Ok(mut body) = self.respond.send_response(answer, text.is_empty())
            && !text.is_empty()
        {
            let _ = body.send_data(text, true);
        }
    }
}

/// A response, final or not.
#[derive(Debug)]
enum Answer {
    Interim(Response<()>),
    Final(Response<RecvStream>),
}

// === impl Failure ===

impl From<Verdict> for Failure {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Refuse(reason) => Self::Refuse(reason),
            Verdict::Pass(_) | Verdict::ClientGone => Self::ClientGone,
        }
    }
}

/// Opens a stream, or says that this connection opens no more.
async fn open(
    sender: SendRequest<Bytes>,
    request: &Request<()>,
    end: bool,
) -> Option<(ResponseFuture, SendStream<Bytes>)> {
    let mut sender = sender.ready().await.ok()?;
    sender.send_request(request.clone(), end).ok()
}
