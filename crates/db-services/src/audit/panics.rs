//! Panics of code that is not this crate's: they are contained, or are an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use audit_core::writer::{SinkError, SinkErrorKind};

/// Runs code of the user's (a callback, the logger, a metrics recorder, a waker). A panic in it must not
/// end the writer, and none can be reported: the logger may be what panics.
pub(super) fn contained(run: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(()) => true,
        Err(payload) => {
            // Its destructor is user code too, and so is that of the payload with which it panics.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(payload);
            }
            false
        }
    }
}

/// The error of an attempt that panicked. Rows may be stored.
pub(super) fn panicked(payload: Box<dyn Any + Send>) -> SinkError {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let message = text
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("without a message");
    let reason = format!("writing to the database panicked: {message}");
    contained(|| drop(payload));
    SinkError {
        kind: SinkErrorKind::Transient,
        reason,
        sqlstate: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_whose_destructor_panics_again_and_again_is_contained() {
        struct Nested(u32);
        impl Drop for Nested {
            fn drop(&mut self) {
                if self.0 > 0 {
                    std::panic::panic_any(Nested(self.0 - 1));
                }
            }
        }
        assert!(!contained(|| std::panic::panic_any(Nested(3))));
    }
}
