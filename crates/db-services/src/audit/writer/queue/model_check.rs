//! The gate under every order in which a few threads can run it, by `loom`.
//!
//! Compiles `gate.rs` with atomics that the model checker watches: it tries each order of their reads and
//! writes that the memory model allows. The list of items is not part of it (crossbeam tests that); a
//! locked one replaces it.

#![allow(clippy::duplicate_mod)] // that is what this is

use std::collections::VecDeque;

use audit_core::ledger::Ledger;
use audit_core::{DropReason, Fate, Loss, SeqRange, Size};
use loom::sync::atomic;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

#[allow(dead_code)] // some of it is the queue's alone
#[path = "gate.rs"]
mod gate;

use self::gate::{Gate, QueueError};

const ONE: Size = Size {
    entries: 1,
    bytes: 10,
};

/// A queue as the writer's, with a locked list and a locked wake-up.
struct Model {
    gate: Gate,
    items: Mutex<VecDeque<Size>>,
    /// A wake-up that was not consumed, as `tokio::sync::Notify` keeps one.
    woken: Mutex<bool>,
    wake: Condvar,
    ledger: Mutex<Ledger<()>>,
}

impl Model {
    fn new(bound: Size) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(bound),
            items: Mutex::default(),
            woken: Mutex::new(false),
            wake: Condvar::new(),
            ledger: Mutex::default(),
        })
    }

    /// As a caller writes an entry.
    fn push(&self, size: Size) -> Result<(), QueueError> {
        let permit = self.gate.admit(size)?;
        self.items.lock().unwrap().push_back(permit.size());
        if self.gate.must_wake(permit) {
            self.notify();
        }
        Ok(())
    }

    fn notify(&self) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }

    fn pop(&self) -> Option<Size> {
        let size = self.items.lock().unwrap().pop_front()?;
        self.gate.take(size);
        Some(size)
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.wake.wait(woken).unwrap();
        }
        *woken = false;
    }

    /// As the writer's thread, until it has taken out this many items.
    fn take(&self, count: usize) {
        let mut taken = 0;
        while taken < count {
            match self.pop() {
                Some(size) => {
                    taken += 1;
                    self.gate.release(size);
                }
                // One that was lost leaves all threads asleep, which loom reports as a deadlock.
                None if self.gate.prepare_sleep() => self.sleep(),
                // One that was admitted is put soon.
                None => thread::yield_now(),
            }
        }
    }
}

/// Checks a model. At most this many times a thread is interrupted at a point where it does not wait.
fn check(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(model);
}

#[test]
fn no_wake_up_is_lost() {
    // Three take half a minute, and find no more of the faults that were planted.
    check(2, || {
        let model = Model::new(Size {
            entries: 10,
            bytes: 1_000,
        });
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || model.push(ONE).unwrap())
            })
            .collect();
        model.take(2);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(
            (model.gate.held(), model.gate.prepare_sleep()),
            (Size::default(), true)
        );
    });
}

#[test]
fn a_thread_with_items_in_flight_is_woken_too() {
    check(3, || {
        let model = Model::new(Size {
            entries: 10,
            bytes: 1_000,
        });
        model.push(ONE).unwrap();
        let in_flight = model.pop().unwrap();
        let caller = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.push(ONE).unwrap())
        };
        model.take(1);
        caller.join().unwrap();
        model.gate.release(in_flight);
        assert_eq!(model.gate.held(), Size::default());
    });
}

#[test]
fn an_admitted_entry_is_taken_out_although_the_queue_is_closed_meanwhile() {
    check(3, || {
        let model = Model::new(Size {
            entries: 10,
            bytes: 1_000,
        });
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || model.push(ONE).is_ok())
            })
            .collect();
        // As the thread does at the end.
        model.gate.close();
        let mut taken = 0;
        while model.gate.held().entries > 0 {
            match model.pop() {
                Some(size) => {
                    taken += 1;
                    model.gate.release(size);
                }
                None => thread::yield_now(),
            }
        }
        let admitted = callers.into_iter().map(|caller| caller.join().unwrap());
        assert_eq!(taken, admitted.filter(|admitted| *admitted).count());
        assert_eq!((model.gate.held(), model.pop()), (Size::default(), None));
        assert_eq!(model.push(ONE), Err(QueueError::Closed));
    });
}

#[test]
fn the_bounds_hold_and_a_group_that_is_refused_takes_no_room_from_others() {
    check(3, || {
        let bound = Size {
            entries: 2,
            bytes: 20,
        };
        let model = Model::new(bound);
        let group = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                model.push(Size {
                    entries: 3,
                    bytes: 30,
                })
            })
        };
        let single = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.push(ONE))
        };
        let second = model.push(ONE);
        let held = model.gate.held();
        assert!(
            held.entries <= bound.entries && held.bytes <= bound.bytes,
            "{held:?}"
        );
        assert_eq!(group.join().unwrap(), Err(QueueError::Full));
        assert_eq!((single.join().unwrap(), second), (Ok(()), Ok(())));
        assert_eq!(model.gate.held(), bound);
    });
}

#[test]
fn admitted_and_released_sizes_are_equal() {
    check(3, || {
        let model = Model::new(Size {
            entries: 1,
            bytes: 100,
        });
        let caller = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                [
                    ONE,
                    Size {
                        entries: 1,
                        bytes: 70,
                    },
                ]
                .map(|size| model.push(size).is_ok())
            })
        };
        let mut released = 0;
        for _ in 0..2 {
            if let Some(size) = model.pop() {
                model.gate.release(size);
                released += 1;
            }
            let held = model.gate.held();
            assert!(held.entries <= 1 && held.bytes <= 100, "{held:?}");
        }
        let admitted = caller
            .join()
            .unwrap()
            .into_iter()
            .filter(|admitted| *admitted)
            .count();
        while let Some(size) = model.pop() {
            model.gate.release(size);
            released += 1;
        }
        assert_eq!((admitted, model.gate.held()), (released, Size::default()));
    });
}

/// A caller that is refused settles its numbers itself. The end waits until every number is settled and
/// then declares the losses: each must be among them.
#[test]
fn a_number_that_is_settled_as_lost_is_declared_by_the_end() {
    check(3, || {
        let model = Model::new(Size {
            entries: 1,
            bytes: 100,
        });
        let caller = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let first = model.gate.reserve_numbers(1);
                if model.push(ONE).is_err() {
                    let range = SeqRange { first, last: first };
                    let dropped = Fate::Dropped(DropReason::ShutDown);
                    model.ledger.lock().unwrap().settle(&[range], &dropped);
                    model.notify();
                }
            })
        };
        model.gate.close();
        let last = model.gate.submitted();
        loop {
            if let Some(size) = model.pop() {
                model
                    .ledger
                    .lock()
                    .unwrap()
                    .settle(&[SeqRange { first: 1, last: 1 }], &Fate::Committed);
                model.gate.release(size);
            }
            if model.ledger.lock().unwrap().settled_through() >= last {
                break;
            }
            thread::yield_now();
        }
        let losses = model.ledger.lock().unwrap().take_losses();
        let counts = model
            .ledger
            .lock()
            .unwrap()
            .outcome(SeqRange { first: 1, last: 1 });
        if let Some(counts) = counts
            && last == 1
        {
            let declared: u64 = losses.iter().map(|loss: &Loss| loss.count).sum();
            assert_eq!(counts.committed + declared, 1, "{counts:?} {losses:?}");
        }
        caller.join().unwrap();
    });
}
