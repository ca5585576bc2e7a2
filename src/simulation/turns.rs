//! Who may make the next call: threads wait at each call until their turn comes, so that one of them runs at
//! a time, and the order is the choice of who gives the turns.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy, Default)]
struct Actor {
    /// Threads that wait at a call.
    waiting: usize,
    /// Calls that may be made.
    granted: usize,
    busy: bool,
}

/// The turns of some actors, each of which is one operation with all of its threads.
pub(super) struct Turns {
    actors: Mutex<Vec<Actor>>,
    changed: Condvar,
}

impl Turns {
    pub(super) fn new(actors: usize) -> Self {
        Self { actors: Mutex::new(vec![Actor::default(); actors]), changed: Condvar::new() }
    }

    fn actors(&self) -> MutexGuard<'_, Vec<Actor>> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called at each call, by whoever makes it.
    pub(super) fn wait(&self, actor: usize) {
        let mut actors = self.actors();
        actors[actor].waiting += 1;
        self.changed.notify_all();
        while actors[actor].granted == 0 {
            actors = self.changed.wait(actors).unwrap_or_else(PoisonError::into_inner);
        }
        actors[actor].granted -= 1;
        actors[actor].waiting -= 1;
    }

    /// An operation begins, or has ended.
    pub(super) fn set_busy(&self, actor: usize, busy: bool) {
        self.actors()[actor].busy = busy;
        self.changed.notify_all();
    }

    /// True while an operation of this actor runs.
    pub(super) fn is_busy(&self, actor: usize) -> bool {
        self.actors()[actor].busy
    }

    /// Waits until an actor's operation is at its next call, or at its end.
    pub(super) fn rest(&self, actor: usize) {
        let mut actors = self.actors();
        while actors[actor].busy && (actors[actor].waiting == 0 || actors[actor].granted > 0) {
            actors = self.changed.wait(actors).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets an actor make one call, and waits for what follows.
    pub(super) fn step(&self, actor: usize) {
        self.actors()[actor].granted += 1;
        self.changed.notify_all();
        self.rest(actor);
    }
}
