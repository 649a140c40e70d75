//! One direction of a stream: data as fast as the receiver takes it, and trailers.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream};

/// Why a direction ended early.
#[derive(Debug)]
pub(super) enum Broken {
    /// The one who sends broke off.
    Source(h2::Error),
    /// The one who receives wants no more.
    Sink,
}

/// Passes on everything to the end. Capacity is given back to the sender only when the receiver
/// has taken the data, so that a slow receiver slows the sender down and fills no memory here.
pub(super) async fn run(from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<(), Broken> {
    while let Some(data) = next(from, to).await? {
        let (length, last) = (data.len(), from.is_end_stream());
        send(data, last, to).await?;
        from.flow_control()
            .release_capacity(length)
            .map_err(Broken::Source)?;
        if last {
            return Ok(());
        }
    }
    match from.trailers().await.map_err(Broken::Source)? {
        Some(trailers) => to.send_trailers(trailers),
        None => to.send_data(Bytes::new(), true),
    }
    .map_err(|_| Broken::Sink)
}

/// The next data, unless the receiver gives up first.
async fn next(from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<Option<Bytes>, Broken> {
    // Biased: what has come is passed on. Both arms are cancel-safe.
    tokio::select! {
        biased;
        data = from.data() => data.transpose().map_err(Broken::Source),
        _ = poll_fn(|context| to.poll_reset(context)) => Err(Broken::Sink),
    }
}

async fn send(mut data: Bytes, last: bool, to: &mut SendStream<Bytes>) -> Result<(), Broken> {
    loop {
        to.reserve_capacity(data.len());
        let room = if data.is_empty() {
            0
        } else {
            match poll_fn(|context| to.poll_capacity(context)).await {
                Some(Ok(room)) => room.min(data.len()),
                Some(Err(_)) | None => return Err(Broken::Sink),
            }
        };
        let part = data.split_to(room);
        let end = last && data.is_empty();
        to.send_data(part, end).map_err(|_| Broken::Sink)?;
        if data.is_empty() {
            return Ok(());
        }
    }
}
