//! Where the admin port and the control socket ask the gatekeeper.

use tokio::sync::{mpsc, oneshot};

use crate::gate::{state::Order, status::Status};

/// Asks the gatekeeper. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    asks: mpsc::Sender<Ask>,
}

/// A question or an order.
#[derive(Debug)]
pub(super) enum Ask {
    Status(oneshot::Sender<Box<Status>>),
    /// A stopping container's hook, to be answered when it may return.
    Hook(oneshot::Sender<()>),
    /// To be answered when the drain is done.
    Drain(Order, oneshot::Sender<()>),
}

/// The asks that [`Desk`]s send.
#[derive(Debug)]
pub struct Asks(pub(super) mpsc::Receiver<Ask>);

// === impl Desk ===

impl Desk {
    /// A desk, and the gatekeeper's side of it.
    pub fn new() -> (Self, Asks) {
        let (asks, heard) = mpsc::channel(super::BACKLOG);
        (Self { asks }, Asks(heard))
    }

    /// The gate at this moment; `None` when the gatekeeper is gone.
    pub async fn status(&self) -> Option<Box<Status>> {
        self.ask(Ask::Status).await
    }

    /// Waits until a stopping container's hook may return. `false` when too many wait already.
    pub async fn hook(&self) -> bool {
        self.ask(Ask::Hook).await.is_some()
    }

    /// Orders a drain and waits until it is done. `false` when too many wait already.
    pub async fn drain(&self, order: Order) -> bool {
        self.ask(|done| Ask::Drain(order, done)).await.is_some()
    }

    async fn ask<A>(&self, ask: impl FnOnce(oneshot::Sender<A>) -> Ask) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).await.ok()?;
        answered.await.ok()
    }
}
