//! The lanes: each owns a sink and writes one batch at a time.
//!
//! A lane is a future that the driver polls itself: between the queue and the socket there is neither a task
//! nor a channel. It is always polled to its end, so a statement in flight is never cancelled; it is abandoned
//! with the writer alone.
//!
//! A panic within a sink is a transient error of that batch. The driver of the database runs code that can
//! panic: it logs through the application's logger, and tokio panics if it cannot start the thread that resolves
//! a host name.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use audit_core::writer::{Attempt, Lane, SinkError, Written};

use crate::audit::panics::panicked;
use crate::audit::sink::{Rows, Sink};

type Writing<S> = Pin<Box<dyn Future<Output = (S, Result<Written, SinkError>)>>>;

/// The lanes of a writer.
pub(super) struct Lanes<S> {
    lanes: Vec<LaneState<S>>,
}

enum LaneState<S> {
    Idle(S),
    Busy(Writing<S>),
    /// Between two states.
    Empty,
}

impl<S: Sink> Lanes<S> {
    pub(super) fn new(sinks: Vec<S>) -> Self {
        Self {
            lanes: sinks.into_iter().map(LaneState::Idle).collect(),
        }
    }

    /// Begins to write a batch on an idle lane.
    pub(super) fn send(&mut self, lane: Lane, rows: Rows, attempt: Attempt) {
        let Some(state) = self.lanes.get_mut(lane) else {
            return;
        };
        *state = match std::mem::replace(state, LaneState::Empty) {
            LaneState::Idle(mut sink) => LaneState::Busy(Box::pin(async move {
                let result = without_panic(sink.write(rows, attempt)).await;
                (sink, result)
            })),
            other => other,
        };
    }

    /// Waits until a batch is written or failed.
    pub(super) async fn next(&mut self) -> (Lane, Result<Written, SinkError>) {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(Lane, Result<Written, SinkError>)> {
        for (lane, state) in self.lanes.iter_mut().enumerate() {
            if let LaneState::Busy(writing) = state
                && let Poll::Ready((sink, result)) = writing.as_mut().poll(context)
            {
                *state = LaneState::Idle(sink);
                return Poll::Ready((lane, result));
            }
        }
        Poll::Pending
    }
}

/// Runs a future to its end; a panic within it is an error.
async fn without_panic<T>(writing: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    let mut writing = pin!(writing);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| writing.as_mut().poll(context)));
        polled.unwrap_or_else(|payload| Poll::Ready(Err(panicked(payload))))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use audit_core::writer::SinkErrorKind;

    use super::*;

    /// Panics as often as it says, then writes.
    struct PanickingSink(u32);

    impl Sink for PanickingSink {
        async fn write(&mut self, _: Rows, _: Attempt) -> Result<Written, SinkError> {
            tokio::task::yield_now().await;
            if self.0 > 0 {
                self.0 -= 1;
                panic!("as planned");
            }
            Ok(Written::default())
        }
    }

    #[tokio::test]
    async fn a_panic_of_a_sink_is_a_transient_error_and_the_lane_writes_on() {
        let mut lanes = Lanes::new(vec![PanickingSink(2)]);
        for _ in 0..2 {
            lanes.send(0, Arc::default(), Attempt::First);
            let (lane, result) = lanes.next().await;
            let error = result.unwrap_err();
            assert_eq!((lane, error.kind), (0, SinkErrorKind::Transient));
            assert!(error.reason.contains("panicked: as planned"), "{}", error.reason);
        }
        lanes.send(0, Arc::default(), Attempt::Retry);
        assert!(lanes.next().await.1.is_ok());
    }
}
