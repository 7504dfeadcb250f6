//! The lanes: each owns a sink and writes one batch at a time.
//!
//! A lane is a future that the driver polls itself: between the queue and the socket there is neither a task
//! nor a channel. It is always polled to its end, so a statement under way is never cancelled; it is given up
//! with the writer alone.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use audit_core::writer::{Attempt, Lane, SinkError, Written};

use crate::audit::sink::{Rows, Sink};

type Writing<S> = Pin<Box<dyn Future<Output = (S, Result<Written, SinkError>)>>>;

/// The lanes of a writer.
pub(super) struct Lanes<S> {
    lanes: Vec<LaneState<S>>,
}

enum LaneState<S> {
    Idle(S),
    Busy(Writing<S>),
    /// Between two states, and after a panic of the sink.
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
                let result = sink.write(rows, attempt).await;
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
