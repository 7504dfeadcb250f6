//! Elapsed time and processor time of a sample.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What a contender did in one turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) rows: usize,
    pub(crate) elapsed: Duration,
    /// The processor time of the client process, without the server's.
    pub(crate) cpu: Duration,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        self.rows as f64 / self.elapsed.as_secs_f64()
    }

    /// Microseconds of client processor time for each row.
    pub(crate) fn cpu_per_row(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.rows as f64
    }
}

/// Measures from its start until it is read.
pub(crate) struct Stopwatch {
    started: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu: cpu(),
        }
    }

    pub(crate) fn sample(&self, rows: usize) -> Sample {
        Sample {
            rows,
            elapsed: self.started.elapsed(),
            cpu: cpu().saturating_sub(self.cpu),
        }
    }
}

/// The processor time of all threads of this process, to the nanosecond.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_time_of_this_process_grows_with_work() {
        let watch = Stopwatch::start();
        let mut sum = 0_u64;
        while watch.sample(1).cpu < Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }
        let sample = watch.sample(2);
        assert!(sample.cpu_per_row() >= 2_500.0 && sample.rate() > 0.0);
    }
}
