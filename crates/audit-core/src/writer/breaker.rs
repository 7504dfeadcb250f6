//! The circuit breaker in front of the database.

use crate::Time;

use super::{Lane, Notice, RetryPolicy, SinkError, SinkErrorKind};

/// Different reasons of one outage that are reported at most.
const MAX_REASONS: usize = 16;

/// Whether the database accepts batches, as far as is known.
#[derive(Clone, Debug)]
pub(super) enum Breaker {
    /// It does: any lane may send.
    Closed,
    /// It does not: one batch at a time is sent as a probe, after a pause.
    Open(Open),
}

/// An outage.
#[derive(Clone, Debug)]
pub(super) struct Open {
    since: Time,
    failures: u32,
    kind: SinkErrorKind,
    retry_at: Time,
    /// The lane that tries whether the database accepts batches again.
    probe: Option<Lane>,
    /// The reasons that were reported.
    reasons: Vec<String>,
}

impl Open {
    /// True for another kind of error, and for a further misconfiguration: an operator who has made the
    /// missing directory must hear that the table is missing too.
    fn is_new_reason(&self, error: &SinkError) -> bool {
        let further = || !self.reasons.contains(&error.reason) && self.reasons.len() < MAX_REASONS;
        self.kind != error.kind || (error.kind == SinkErrorKind::Misconfigured && further())
    }
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// True if the last failure was permanent.
    pub(super) fn is_misconfigured(&self) -> bool {
        matches!(self, Self::Open(open) if open.kind == SinkErrorKind::Misconfigured)
    }

    /// True if more probes than this have failed in a row.
    pub(super) fn is_persistent(&self, failures: u32) -> bool {
        matches!(self, Self::Open(open) if open.failures > failures)
    }

    /// Since when it has been open.
    pub(super) fn open_since(&self) -> Option<Time> {
        match self {
            Self::Closed => None,
            Self::Open(open) => Some(open.since),
        }
    }

    /// True if a batch may be sent.
    pub(super) fn permits(&self, now: Time) -> bool {
        match self {
            Self::Closed => true,
            Self::Open(open) => {
                let is_alone = open.probe.is_none() || planted!(ManyProbes);
                let is_time = open.retry_at <= now || planted!(NoPauseAfterFailure);
                is_alone && is_time
            }
        }
    }

    /// When the next probe may be sent, if none is under way.
    pub(super) fn retry_at(&self) -> Option<Time> {
        match self {
            Self::Open(open) if open.probe.is_none() => Some(open.retry_at),
            _ => None,
        }
    }

    pub(super) fn on_sent(&mut self, lane: Lane) {
        if let Self::Open(open) = self {
            open.probe = Some(lane);
        }
    }

    /// The database answered: it accepted a batch, or rejected a row while accepting another.
    pub(super) fn on_success(&mut self, replaying: bool, now: Time) -> Option<Notice> {
        match std::mem::replace(self, Self::Closed) {
            Self::Closed => None,
            Self::Open(open) => Some(Notice::DatabaseUp {
                after: now - open.since,
                replaying,
            }),
        }
    }

    /// A batch of this lane failed. What was under way when the breaker opened says nothing new.
    pub(super) fn on_failure(
        &mut self,
        lane: Lane,
        error: &SinkError,
        policy: &RetryPolicy,
        random: u32,
        has_spool: bool,
        now: Time,
    ) -> Option<Notice> {
        let (since, failures, is_new, mut reasons) = match self {
            Self::Closed => (now, 1, true, Vec::new()),
            Self::Open(open) if open.probe != Some(lane) => return None,
            Self::Open(open) => {
                let is_new = open.is_new_reason(error);
                (
                    open.since,
                    open.failures.saturating_add(1),
                    is_new,
                    std::mem::take(&mut open.reasons),
                )
            }
        };
        if is_new {
            reasons.push(error.reason.clone());
        }
        let retry_at = now + policy.pause(failures, random);
        *self = Self::Open(Open {
            since,
            failures,
            kind: error.kind,
            retry_at,
            probe: None,
            reasons,
        });
        is_new.then(|| Notice::DatabaseDown {
            error: error.clone(),
            has_spool,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn error(kind: SinkErrorKind, reason: &str) -> SinkError {
        SinkError {
            kind,
            reason: reason.to_owned(),
            sqlstate: None,
        }
    }

    #[test]
    fn an_open_breaker_sends_one_probe_at_a_time_after_a_pause() {
        let (policy, now) = (RetryPolicy::default(), Time::START);
        let mut breaker = Breaker::Closed;
        let down = error(SinkErrorKind::Transient, "no connection");
        assert!(breaker.permits(now));
        assert!(breaker.on_failure(0, &down, &policy, 0, false, now).is_some());
        assert!(!breaker.permits(now));
        // The other lane was in flight as the breaker opened.
        assert_eq!(breaker.on_failure(1, &down, &policy, 0, false, now), None);
        let later = now + policy.first_pause;
        assert!(breaker.permits(later));
        breaker.on_sent(1);
        assert!(!breaker.permits(later + Duration::from_secs(100)));
        assert_eq!(
            breaker.on_failure(1, &down, &policy, 0, false, later),
            None,
            "the reason is known"
        );
        assert!(
            !breaker.permits(later + policy.first_pause),
            "the pause has doubled"
        );
        assert!(breaker.on_success(false, later).is_some() && breaker.permits(later));
    }

    #[test]
    fn each_further_misconfiguration_is_reported_once() {
        let (policy, now) = (RetryPolicy::default(), Time::START);
        let mut breaker = Breaker::Closed;
        let mut fail = |reason: &str| {
            breaker.on_sent(0);
            breaker
                .on_failure(
                    0,
                    &error(SinkErrorKind::Misconfigured, reason),
                    &policy,
                    0,
                    true,
                    now,
                )
                .is_some()
        };
        assert_eq!(
            [
                fail("no table"),
                fail("no table"),
                fail("no right"),
                fail("no table")
            ],
            [true, false, true, false]
        );
    }

    /// What a database answers, and when.
    #[derive(Clone, Debug)]
    enum Step {
        /// The nth of the batches in flight fails.
        Fails(usize, SinkErrorKind),
        /// It is accepted.
        Accepted(usize),
        /// A batch is sent if that is permitted.
        Send,
        Milliseconds(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let kind = prop_oneof![Just(SinkErrorKind::Transient), Just(SinkErrorKind::Misconfigured)];
        let step = prop_oneof![
            3 => (0..3_usize, kind).prop_map(|(nth, kind)| Step::Fails(nth, kind)),
            1 => (0..3_usize).prop_map(Step::Accepted),
            4 => Just(Step::Send),
            3 => (1..3_000_u64).prop_map(Step::Milliseconds),
        ];
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        /// Against the obvious model: while the database is down one batch at a time is sent, after a pause that
        /// grows to the longest.
        #[test]
        fn one_probe_at_a_time_tries_a_database_that_is_down(steps in steps(), random in any::<u32>()) {
            let policy = RetryPolicy::default();
            let mut breaker = Breaker::Closed;
            let (mut now, mut in_flight) = (Time::START, Vec::new());
            // When the last probe failed, how many failed in a row, and the lane of the one that is under way.
            let mut failed: Option<(Time, u32)> = None;
            let mut probe: Option<Lane> = None;
            for step in steps {
                match step {
                    Step::Milliseconds(passed) => now = now + Duration::from_millis(passed),
                    Step::Send => {
                        let permitted = breaker.permits(now);
                        if let Some((at, failures)) = failed {
                            prop_assert!(!permitted || probe.is_none(), "a second probe");
                            let pause = policy.pause(failures, random);
                            prop_assert_eq!(permitted, probe.is_none() && now >= at + pause);
                        } else {
                            prop_assert!(permitted);
                        }
                        let idle = (0..3).find(|lane| !in_flight.contains(lane));
                        if let Some(lane) = idle.filter(|_| permitted) {
                            breaker.on_sent(lane);
                            in_flight.push(lane);
                            probe = failed.map(|_| lane);
                        }
                    }
                    Step::Fails(nth, kind) if nth < in_flight.len() => {
                        let lane = in_flight.remove(nth);
                        breaker.on_failure(lane, &error(kind, "model"), &policy, random, false, now);
                        if failed.is_none() || probe == Some(lane) {
                            failed = Some((now, failed.map_or(1, |(_, failures)| failures + 1)));
                            probe = None;
                        }
                    }
                    Step::Accepted(nth) if nth < in_flight.len() => {
                        in_flight.remove(nth);
                        breaker.on_success(false, now);
                        (failed, probe) = (None, None);
                    }
                    _ => {}
                }
                prop_assert_eq!(breaker.is_open(), failed.is_some());
            }
        }
    }
}
