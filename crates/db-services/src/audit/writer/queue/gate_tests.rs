//! The gate against its rules, one call after the other.

use proptest::prelude::*;

use audit_core::Size;

use super::gate::{Gate, MAX, QueueError};

/// A call; the model has two counts and two flags.
#[derive(Clone, Copy, Debug)]
enum Call {
    Admit(Size),
    /// Releases the oldest that is held.
    Release,
    Close,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let size = (1..12_usize, 0..200_usize).prop_map(|(entries, bytes)| Size { entries, bytes });
    let call = prop_oneof![
        8 => size.prop_map(Call::Admit),
        8 => (0..2_000_usize).prop_map(|bytes| Call::Admit(Size { entries: 1, bytes })),
        8 => Just(Call::Release),
        1 => Just(Call::Close),
    ];
    proptest::collection::vec(call, 0..100)
}

proptest! {
    #[test]
    fn a_gate_admits_what_the_rules_say(calls in calls()) {
        let bound = Size { entries: 20, bytes: 1_000 };
        let gate = Gate::new(bound);
        let (mut held, mut full, mut closed) = (Vec::<Size>::new(), false, false);
        for call in calls {
            let sum = held.iter().fold(Size::default(), |sum, size| sum + *size);
            let low = sum.entries < 18 && sum.bytes < 900;
            match call {
                Call::Admit(size) => {
                    let fits = sum.entries + size.entries <= 20
                        && (sum.bytes + size.bytes <= 1_000 || (size.entries == 1 && sum.bytes == 0));
                    full = full && !low;
                    let admitted = !closed && !full && fits;
                    let expected = match (closed, admitted) {
                        (true, _) => Err(QueueError::Closed),
                        (false, false) => Err(QueueError::Full),
                        (false, true) => Ok(size),
                    };
                    full |= !closed && !fits && !low;
                    prop_assert_eq!(gate.admit(size).map(|permit| permit.size()), expected);
                    if admitted {
                        held.push(size);
                    }
                }
                Call::Release if !held.is_empty() => {
                    let size = held.remove(0);
                    gate.take(size);
                    gate.release(size);
                }
                Call::Release => {}
                Call::Close => {
                    gate.close();
                    closed = true;
                }
            }
            prop_assert_eq!(gate.held(), held.iter().fold(Size::default(), |sum, size| sum + *size));
            prop_assert_eq!(gate.is_closed(), closed);
        }
    }
}

#[test]
fn the_largest_bounds_do_not_overflow() {
    let gate = Gate::new(Size {
        entries: usize::MAX,
        bytes: usize::MAX,
    });
    assert_eq!(gate.bound(), MAX);
    let all = Size {
        entries: MAX.entries - 1,
        bytes: MAX.bytes,
    };
    assert!(gate.admit(all).is_ok() && gate.held() == all && !gate.is_closed());
    for size in [
        Size { entries: 1, bytes: 1 },
        Size {
            entries: usize::MAX,
            bytes: usize::MAX,
        },
    ] {
        assert_eq!(gate.admit(size).err(), Some(QueueError::Full));
    }
    gate.take(all);
    gate.release(all);
    let beyond = Size {
        entries: 1,
        bytes: usize::MAX,
    };
    assert_eq!(
        gate.admit(beyond).err(),
        Some(QueueError::Full),
        "no memory holds that"
    );
}
