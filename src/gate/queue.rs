//! Who may pass, who waits and who is refused: the hold queue and the ramp's steps.
//!
//! ```text
//! request -> may pass? -> yes -> app
//!              | no
//!              v
//!            line (first come, first served) -> slot or open gate -> app
//!              | too old, too many             | client left
//!              v                               v
//!            refused                         forgotten
//! ```

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{
    reason::Reason,
    service::HoldLimits,
    switch::{Fast, OnFull, Passage, Valve},
    traffic::{HoldEnd, Traffic},
};

/// How many requests of the backlog wait for the app at a time once the gate is open without a
/// ramp: the last step of the default ramp. Without it a full queue would hit the app at once.
const BACKLOG_STEP: u64 = 64;

/// Decides for every request of every port.
#[derive(Debug)]
pub(super) struct Admission {
    valve: Valve,
    traffic: Arc<Traffic>,
    hold: HoldLimits,
    ramp_wait: Duration,
    line: Mutex<Line>,
    /// Length of the line, to be read without the lock.
    waiting: AtomicUsize,
}

/// Those who wait, in order of arrival.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: BTreeMap<u64, oneshot::Sender<Verdict>>,
}

/// What became of a request that asked to pass.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It may go to the app.
    Pass(Pass),
    /// The gate answers it.
    Refuse(Reason),
    /// Its client left while it was held.
    ClientGone,
}

/// A passed request's right to be at the app.
#[derive(Debug)]
pub(super) struct Pass {
    /// To be dropped when the response's headers have come.
    pub(super) slot: Option<Slot>,
}

/// A place in the ramp's step.
#[derive(Debug)]
pub(super) struct Slot(Arc<Admission>);

/// A request in the hold queue; its end is counted even if its task is dropped.
struct Held<'a> {
    traffic: &'a Traffic,
    bytes: usize,
    since: Instant,
    end: HoldEnd,
}

/// A place in the line, given up when dropped.
struct Place<'a> {
    admission: &'a Admission,
    number: u64,
}

// === impl Admission ===

impl Admission {
    pub(super) fn new(
        valve: Valve,
        traffic: Arc<Traffic>,
        hold: HoldLimits,
        ramp_wait: Duration,
    ) -> Arc<Self> {
        let line = Mutex::default();
        let waiting = AtomicUsize::new(0);
        Arc::new(Self {
            valve,
            traffic,
            hold,
            ramp_wait,
            line,
            waiting,
        })
    }

    /// Whether a request may pass without waiting.
    pub(super) fn pass_at_once(self: &Arc<Self>) -> Option<Pass> {
        match self.valve.fast() {
            Fast::Pass | Fast::PassAndClose => Some(Pass { slot: None }),
            // Those in line were here before.
            Fast::Limit(limit) => {
                let room = self.traffic.ramp_slots.value() < u64::from(limit)
                    && self.waiting.load(Ordering::Relaxed) == 0;
                room.then(|| Pass {
                    slot: Some(Slot::take(self)),
                })
            }
            Fast::Slow => None,
        }
    }

    /// Waits until a request may pass, for as long as the settings allow.
    ///
    /// `bytes` is what the request takes in memory; `gone` resolves when its client has left.
    /// Cancel-safe: a dropped future gives up its place.
    pub(super) async fn wait(
        self: &Arc<Self>,
        bytes: usize,
        gone: impl Future<Output = ()>,
    ) -> Verdict {
        match self.valve.passage() {
            Passage::Refuse(reason) => Verdict::Refuse(reason),
            Passage::Ramp { .. } => self.wait_for_step(gone).await,
            Passage::Hold | Passage::Open | Passage::Draining(_) => self.hold(bytes, gone).await,
        }
    }

    /// Holds a request for a moment, because its app does not answer the door.
    pub(super) async fn hold_for(
        &self,
        pause: Duration,
        bytes: usize,
        gone: impl Future<Output = ()>,
    ) -> Result<(), Verdict> {
        let mut held = self.enter_hold(bytes).map_err(Verdict::Refuse)?;
        // Biased: a client that has left needs no connection. Both arms are cancel-safe.
        tokio::select! {
            biased;
            () = gone => Err(Verdict::ClientGone),
            () = sleep(pause) => {
                held.end = HoldEnd::Released;
                Ok(())
            }
        }
    }

    /// Whether nothing passes at the moment.
    pub(super) fn is_closed(&self) -> bool {
        self.valve.fast() == Fast::Slow
    }

    /// Whether clients are to be told that their connections end.
    pub(super) fn is_closing(&self) -> bool {
        self.valve.fast() == Fast::PassAndClose
    }

    /// Lets those pass whose turn it is. To be called after every change of the passage.
    pub(super) fn advance(self: &Arc<Self>) {
        let mut line = self.line();
        let limit = match self.valve.passage() {
            Passage::Hold => 0,
            Passage::Ramp { limit, .. } => u64::from(limit.max(1)),
            Passage::Open | Passage::Draining(_) => BACKLOG_STEP,
            Passage::Refuse(reason) => {
                let waiters = std::mem::take(&mut line.waiters);
                self.waiting.store(0, Ordering::Relaxed);
                drop(line);
                for waiter in waiters.into_values() {
                    // Who left meanwhile needs no answer.
                    let _ = waiter.send(Verdict::Refuse(reason));
                }
                return;
            }
        };
        let mut spare = Vec::new();
        while self.traffic.ramp_slots.value() < limit {
            let Some((_, waiter)) = line.waiters.pop_first() else {
                break;
            };
            let pass = Pass {
                slot: Some(Slot::take(self)),
            };
            if let Err(unheard) = waiter.send(Verdict::Pass(pass)) {
                // Dropping the slot would come back here while the line is locked.
                spare.push(unheard);
                self.traffic.ramp_slots.sub(1);
            }
        }
        self.waiting.store(line.waiters.len(), Ordering::Relaxed);
        drop(line);
        for unheard in spare {
            self.traffic.ramp_slots.add(1);
            drop(unheard);
        }
    }

    /// Holds a request whose gate is closed, or whose app does not answer its door.
    async fn hold(self: &Arc<Self>, bytes: usize, gone: impl Future<Output = ()>) -> Verdict {
        let mut held = match self.enter_hold(bytes) {
            Ok(held) => held,
            Err(reason) => return Verdict::Refuse(reason),
        };
        let deadline = held.since + self.hold.max_wait;
        let verdict = self
            .stand_in_line(deadline, gone)
            .await
            .unwrap_or_else(|| self.too_old());
        held.end = match &verdict {
            Verdict::Pass(_) => HoldEnd::Released,
            Verdict::ClientGone => HoldEnd::ClientGone,
            Verdict::Refuse(Reason::HoldTimeout) => HoldEnd::Timeout,
            Verdict::Refuse(_) => HoldEnd::Refused,
        };
        verdict
    }

    /// Waits for a place in a full step of the ramp.
    async fn wait_for_step(self: &Arc<Self>, gone: impl Future<Output = ()>) -> Verdict {
        let deadline = Instant::now() + self.ramp_wait;
        match self.stand_in_line(deadline, gone).await {
            Some(verdict) => verdict,
            None => self.too_old(),
        }
    }

    /// Waits for the turn, or returns nothing when the deadline comes first.
    async fn stand_in_line(
        self: &Arc<Self>,
        deadline: Instant,
        gone: impl Future<Output = ()>,
    ) -> Option<Verdict> {
        let (sender, turn) = oneshot::channel();
        let number = {
            let mut line = self.line();
            let number = line.next;
            line.next += 1;
            line.waiters.insert(number, sender);
            self.waiting.store(line.waiters.len(), Ordering::Relaxed);
            number
        };
        let _place = Place {
            admission: self,
            number,
        };
        // The passage may have changed between the look at it and the place in line.
        self.advance();
        // Biased: a turn that has come is never thrown away. All three arms are cancel-safe.
        tokio::select! {
            biased;
            verdict = turn => verdict.ok(),
            () = gone => Some(Verdict::ClientGone),
            () = sleep_until(deadline) => None,
        }
    }

    /// What becomes of a request that has waited for as long as it may.
    fn too_old(self: &Arc<Self>) -> Verdict {
        match self.valve.passage() {
            Passage::Hold => Verdict::Refuse(Reason::HoldTimeout),
            Passage::Refuse(reason) => Verdict::Refuse(reason),
            Passage::Ramp {
                on_full: OnFull::Refuse,
                ..
            } => Verdict::Refuse(Reason::RampFull),
            Passage::Ramp {
                on_full: OnFull::Pass,
                ..
            } => {
                self.traffic.ramp_overflows.increment();
                Verdict::Pass(Pass {
                    slot: Some(Slot::take(self)),
                })
            }
            Passage::Open | Passage::Draining(_) => Verdict::Pass(Pass { slot: None }),
        }
    }

    fn enter_hold(&self, bytes: usize) -> Result<Held<'_>, Reason> {
        let held = usize::try_from(self.traffic.held.value()).unwrap_or(usize::MAX);
        let held_bytes = usize::try_from(self.traffic.held_bytes.value()).unwrap_or(usize::MAX);
        let full = if held >= self.hold.max_requests {
            Some(Reason::HoldFull)
        } else if held_bytes.saturating_add(bytes) > self.hold.max_bytes {
            Some(Reason::HoldBytes)
        } else {
            None
        };
        if let Some(reason) = full {
            self.traffic.hold_ended(HoldEnd::Refused, Duration::ZERO);
            return Err(reason);
        }
        self.traffic.held.add(1);
        self.traffic.held_bytes.add(bytes);
        let (traffic, since) = (&*self.traffic, Instant::now());
        Ok(Held {
            traffic,
            bytes,
            since,
            end: HoldEnd::ClientGone,
        })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // No code that could panic runs under the lock.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Slot ===

impl Slot {
    fn take(admission: &Arc<Admission>) -> Self {
        admission.traffic.ramp_slots.add(1);
        Self(Arc::clone(admission))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.traffic.ramp_slots.sub(1);
        if self.0.waiting.load(Ordering::Relaxed) > 0 {
            self.0.advance();
        }
    }
}

// === impl Held ===

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.traffic.held.sub(1);
        self.traffic.held_bytes.sub(self.bytes);
        self.traffic.hold_ended(self.end, self.since.elapsed());
    }
}

// === impl Place ===

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.admission.line();
        line.waiters.remove(&self.number);
        self.admission
            .waiting
            .store(line.waiters.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use proptest::prelude::*;
    use tokio::{task::JoinSet, time::timeout};
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::gate::switch::{Switch, closed};

    const HOLD: HoldLimits = HoldLimits {
        max_requests: 3,
        max_bytes: 1000,
        max_wait: Duration::from_secs(10),
        refuse_to_accept: false,
    };

    fn admission() -> (Switch, Arc<Admission>) {
        let (switch, valve, _losses) = closed();
        let traffic = Arc::new(Traffic::default());
        (
            switch,
            Admission::new(valve, traffic, HOLD, Duration::from_millis(250)),
        )
    }

    fn set(switch: &Switch, admission: &Arc<Admission>, passage: Passage) {
        switch.set(passage);
        admission.advance();
    }

    fn ramp(limit: u32) -> Passage {
        Passage::Ramp {
            limit,
            on_full: OnFull::Pass,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn holds_until_open_in_order_of_arrival() {
        let (switch, admission) = admission();
        assert!(admission.pass_at_once().is_none());
        let mut first = task::spawn(admission.wait(10, pending()));
        let mut second = task::spawn(admission.wait(20, pending()));
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        assert_eq!(admission.traffic.held.value(), 2);
        assert_eq!(admission.traffic.held_bytes.value(), 30);
        set(&switch, &admission, ramp(1));
        let pass = assert_ready!(first.poll());
        assert_pending!(second.poll());
        drop(pass);
        assert!(matches!(assert_ready!(second.poll()), Verdict::Pass(_)));
        drop((first, second));
        assert_eq!(admission.traffic.held.value(), 0);
        assert_eq!(admission.traffic.held_bytes.value(), 0);
        assert_eq!(admission.traffic.holds(HoldEnd::Released).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_what_would_exceed_count_or_bytes() {
        let (_switch, admission) = admission();
        let verdict = admission.wait(1001, pending()).await;
        assert!(
            matches!(verdict, Verdict::Refuse(Reason::HoldBytes)),
            "{verdict:?}"
        );
        let mut held: Vec<_> = (0..3)
            .map(|_| task::spawn(admission.wait(1, pending())))
            .collect();
        for request in &mut held {
            assert_pending!(request.poll());
        }
        let verdict = admission.wait(1, pending()).await;
        assert!(
            matches!(verdict, Verdict::Refuse(Reason::HoldFull)),
            "{verdict:?}"
        );
        held.clear();
        assert_eq!(
            admission.traffic.held.value(),
            0,
            "a dropped request keeps its place"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_what_is_too_old() {
        let (_switch, admission) = admission();
        let start = Instant::now();
        let verdict = admission.wait(1, pending()).await;
        assert!(
            matches!(verdict, Verdict::Refuse(Reason::HoldTimeout)),
            "{verdict:?}"
        );
        assert_eq!(start.elapsed(), HOLD.max_wait);
        assert_eq!(admission.traffic.holds(HoldEnd::Timeout).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_frees_its_place() {
        let (_switch, admission) = admission();
        assert!(matches!(
            admission.wait(1, ready(())).await,
            Verdict::ClientGone
        ));
        assert_eq!(admission.traffic.held.value(), 0);
        assert_eq!(admission.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(admission.traffic.holds(HoldEnd::ClientGone).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_step_delays_and_then_passes_and_counts() {
        let (switch, admission) = admission();
        set(&switch, &admission, ramp(1));
        let first = admission.pass_at_once();
        assert!(first.is_some());
        assert!(admission.pass_at_once().is_none());
        let start = Instant::now();
        let verdict = admission.wait(1, pending()).await;
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
        assert_eq!(start.elapsed(), Duration::from_millis(250));
        assert_eq!(admission.traffic.ramp_overflows.value(), 1);
        assert_eq!(admission.traffic.ramp_slots.value(), 2);
        drop((first, verdict));
        assert_eq!(admission.traffic.ramp_slots.value(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_step_refuses_when_told_to() {
        let (switch, admission) = admission();
        set(
            &switch,
            &admission,
            Passage::Ramp {
                limit: 1,
                on_full: OnFull::Refuse,
            },
        );
        let _first = admission.pass_at_once();
        let verdict = admission.wait(1, pending()).await;
        assert!(
            matches!(verdict, Verdict::Refuse(Reason::RampFull)),
            "{verdict:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_gate_lets_the_backlog_out_in_steps() {
        let (switch, valve, _losses) = closed();
        let traffic = Arc::new(Traffic::default());
        let limits = HoldLimits {
            max_requests: 1000,
            max_bytes: 1000,
            ..HOLD
        };
        let admission = Admission::new(valve, traffic, limits, Duration::from_millis(250));
        let mut held: Vec<_> = (0..200)
            .map(|_| task::spawn(admission.wait(1, pending())))
            .collect();
        for request in &mut held {
            // A task's polls are rationed: without a pause some would be pending for that alone.
            tokio::task::yield_now().await;
            assert_pending!(request.poll());
        }
        set(&switch, &admission, Passage::Open);
        let mut answered = 0;
        while answered < 200 {
            let (passed, waiting): (Vec<_>, Vec<_>) =
                held.into_iter().partition(task::Spawn::is_woken);
            held = waiting;
            assert!(!passed.is_empty(), "{answered} of 200, then none");
            assert!(passed.len() <= 64, "{} at once", passed.len());
            answered += passed.len();
            for mut request in passed {
                tokio::task::yield_now().await;
                assert!(matches!(assert_ready!(request.poll()), Verdict::Pass(_)));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_refuses_empties_the_line() {
        let (switch, admission) = admission();
        let mut held = task::spawn(admission.wait(1, pending()));
        assert_pending!(held.poll());
        set(&switch, &admission, Passage::Refuse(Reason::Closed));
        assert!(matches!(
            assert_ready!(held.poll()),
            Verdict::Refuse(Reason::Closed)
        ));
        let verdict = admission.wait(1, pending()).await;
        assert!(matches!(verdict, Verdict::Refuse(Reason::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_handed_to_one_who_left_goes_to_the_next() {
        let (switch, admission) = admission();
        let mut first = task::spawn(admission.wait(1, pending()));
        let mut second = task::spawn(admission.wait(1, pending()));
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        set(&switch, &admission, ramp(1));
        drop(first);
        assert!(matches!(assert_ready!(second.poll()), Verdict::Pass(_)));
    }

    /// What may happen to a gate and to those who wait at it.
    #[derive(Clone, Debug)]
    enum Act {
        Arrive { bytes: usize, works: u64 },
        Leave(usize),
        Set(usize),
        Wait(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0..600usize, 0..500u64).prop_map(|(bytes, works)| Act::Arrive { bytes, works }),
            2 => (0..40usize).prop_map(Act::Leave),
            2 => (0..6usize).prop_map(Act::Set),
            3 => (1..12_000u64).prop_map(Act::Wait),
        ]
    }

    async fn request(
        admission: Arc<Admission>,
        bytes: usize,
        works: u64,
        left: oneshot::Receiver<()>,
    ) {
        let gone = async {
            let _ = left.await;
        };
        let verdict = match admission.pass_at_once() {
            Some(pass) => Verdict::Pass(pass),
            None => admission.wait(bytes, gone).await,
        };
        if let Verdict::Pass(_pass) = verdict {
            sleep(Duration::from_millis(works)).await; // at the app
        }
    }

    async fn walk(acts: Vec<Act>) {
        let (switch, admission) = admission();
        let traffic = Arc::clone(&admission.traffic);
        let passages = [
            Passage::Hold,
            Passage::Open,
            ramp(1),
            ramp(4),
            Passage::Ramp {
                limit: 2,
                on_full: OnFull::Refuse,
            },
            Passage::Refuse(Reason::Closed),
        ];
        let (mut requests, mut clients) = (JoinSet::new(), Vec::new());
        for act in acts {
            match act {
                Act::Arrive { bytes, works } => {
                    let (client, left) = oneshot::channel();
                    clients.push(Some(client));
                    requests.spawn(request(Arc::clone(&admission), bytes, works, left));
                    tokio::task::yield_now().await;
                }
                Act::Leave(client) => drop(clients.get_mut(client).and_then(Option::take)),
                Act::Set(passage) => set(&switch, &admission, passages[passage]),
                Act::Wait(millis) => sleep(Duration::from_millis(millis)).await,
            }
            assert!(traffic.held.value() <= 3, "more are held than may be");
            assert!(traffic.held_bytes.value() <= 1000, "more bytes than may be");
        }
        let arrived = requests.len();
        // Twice as long as anybody may be held, and then some for the app.
        let ended = timeout(Duration::from_secs(21), requests.join_all()).await;
        assert_eq!(ended.expect("somebody waits for ever").len(), arrived);
        let left = (traffic.held.value(), traffic.held_bytes.value());
        assert_eq!((left, traffic.ramp_slots.value()), ((0, 0), 0));
        assert!(admission.line().waiters.is_empty(), "a place is left over");
    }

    proptest! {
        #[test]
        fn whatever_happens_every_request_ends_once_and_leaves_nothing(
            acts in prop::collection::vec(act(), 1..80),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(walk(acts));
        }
    }
}
