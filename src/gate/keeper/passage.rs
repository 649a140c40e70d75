//! What the machine decided about traffic, in the words of the data path.

use tokio::time::Instant;

use crate::{
    contract::{Drain, OnFull},
    gate::{reason::Reason, state::Passage, switch},
};

/// The machine counts from `started`, the data path by the clock.
pub(super) fn translate(passage: Passage, drain: &Drain, started: Instant) -> switch::Passage {
    match passage {
        Passage::Hold => switch::Passage::Hold,
        Passage::Ramp { limit, on_full } => switch::Passage::Ramp {
            limit,
            on_full: match on_full {
                OnFull::Pass => switch::OnFull::Pass,
                OnFull::Refuse => switch::OnFull::Refuse,
            },
        },
        Passage::Open => switch::Passage::Open,
        Passage::Draining(began) => {
            let began = started + began;
            switch::Passage::Draining(switch::Drain {
                settle: began + drain.delay,
                stream_deadline: began + drain.stream_deadline,
                deadline: began + drain.deadline,
            })
        }
        Passage::Refuse => switch::Passage::Refuse(Reason::Closed),
    }
}
