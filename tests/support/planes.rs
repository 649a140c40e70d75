//! Control planes that a test has to itself, and the next one after it.

use std::{
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use super::control_plane::ControlPlane;

/// Tests on them mostly wait, but each takes half a gigabyte.
const LIMIT: usize = 4;

static PLANES: Planes = Planes {
    state: Mutex::new(State {
        free: Vec::new(),
        started: 0,
    }),
    returned: Condvar::new(),
};

struct Planes {
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    free: Vec<ControlPlane>,
    /// Those that run: the free ones and the others.
    started: usize,
}

/// One of them, until it is dropped. Whoever takes it leaves nothing on it; when a test fails, it is stopped.
pub struct Plane(Option<ControlPlane>);

// === impl Planes ===

impl Planes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free one, or a place for one more; waits for either.
    fn take(&self) -> Option<ControlPlane> {
        let has_none = |state: &mut State| state.free.is_empty() && state.started == LIMIT;
        let state = self.returned.wait_while(self.state(), has_none);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let free = state.free.pop();
        if free.is_none() {
            state.started += 1;
        }
        free
    }

    fn give_back(&self, plane: Option<ControlPlane>) {
        let mut state = self.state();
        match plane {
            Some(plane) => state.free.push(plane),
            None => state.started -= 1,
        }
        drop(state);
        self.returned.notify_one();
    }
}

// === impl Plane ===

impl Plane {
    pub fn take() -> Self {
        let mut place = Self(PLANES.take());
        if place.0.is_none() {
            place.0 = Some(ControlPlane::start());
        }
        place
    }
}

impl Deref for Plane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        self.0.as_ref().expect("until it is dropped")
    }
}

impl DerefMut for Plane {
    fn deref_mut(&mut self) -> &mut ControlPlane {
        self.0.as_mut().expect("until it is dropped")
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let plane = self.0.take().filter(|_| !thread::panicking());
        PLANES.give_back(plane);
    }
}
