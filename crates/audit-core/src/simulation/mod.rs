//! A seeded world in which the state machines are tested.
