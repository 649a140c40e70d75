//! What all connections of the data path share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    inflight::InFlight,
    proxy::Blocks,
    queue::Admission,
    service::{ClientWaits, GrpcRefusal, HoldLimits, Limits},
    switch::Valve,
    traffic::{Gauge, Traffic},
};

/// Shared by all connections.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) valve: Valve,
    pub(super) admission: Arc<Admission>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) in_flight: InFlight,
    pub(super) blocks: Blocks,
    pub(super) hold: HoldLimits,
    pub(super) grpc_refusal: GrpcRefusal,
    pub(super) client: ClientWaits,
    /// Cancelled when upgraded streams and TCP connections have to end.
    pub(super) streams_end: CancellationToken,
}

/// Something that a gauge counts for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a Gauge);

// === impl Path ===

impl Path {
    pub(super) fn new(valve: Valve, traffic: Arc<Traffic>, limits: &Limits) -> Self {
        let &Limits {
            hold,
            ramp_wait,
            grpc_refusal,
            max_connections: _,
            client,
        } = limits;
        let admission = Admission::new(valve.clone(), Arc::clone(&traffic), hold, ramp_wait);
        let (in_flight, blocks) = (InFlight::default(), Blocks::default());
        let streams_end = CancellationToken::new();
        Self {
            valve,
            admission,
            traffic,
            in_flight,
            blocks,
            hold,
            grpc_refusal,
            client,
            streams_end,
        }
    }
}

// === impl Counted ===

impl<'a> Counted<'a> {
    pub(super) fn by(gauge: &'a Gauge) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}
