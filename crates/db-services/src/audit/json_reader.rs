//! Reads valid JSON from its beginning to its end, each byte once.

use std::borrow::Cow;

use memchr::memchr2;
use serde_json::value::RawValue;

use super::raw_json::text;

/// What is left of a JSON value. That it is valid was checked when the `RawValue` was made.
pub(super) struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(value: &'a RawValue) -> Self {
        #[cfg(test)]
        tests::READ.set(tests::READ.get() + value.get().len());
        Self { rest: value.get() }
    }

    /// Reads JSON that was written here.
    pub(super) fn over(json: &'a str) -> Self {
        Self { rest: json }
    }

    /// What was not read yet.
    pub(super) fn remaining(&self) -> &'a str {
        self.rest
    }

    /// The first byte of what comes next.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.as_bytes().first().copied()
    }

    /// Skips a bracket, a comma or a colon.
    pub(super) fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Goes to the next item of the array or object whose bracket was skipped; false behind its end.
    pub(super) fn has_more(&mut self) -> bool {
        match self.peek() {
            Some(b']' | b'}') => {
                self.skip();
                false
            }
            Some(b',') => {
                self.skip();
                true
            }
            next => next.is_some(),
        }
    }

    /// The name of a member; its value is next.
    pub(super) fn name(&mut self) -> Cow<'a, str> {
        self.peek();
        let name = self.text();
        self.peek();
        self.skip();
        name
    }

    /// A string, in which each run of surrogates without their partner is U+FFFD.
    pub(super) fn text(&mut self) -> Cow<'a, str> {
        text(self.scalar()).unwrap_or_default()
    }

    /// A string, a number, true, false or null, as it is written.
    pub(super) fn scalar(&mut self) -> &'a str {
        let end = match self.peek() {
            Some(b'"') => self.end_of_string(),
            _ => self
                .rest
                .bytes()
                .position(|byte| b",]} \t\r\n".contains(&byte))
                .unwrap_or(self.rest.len()),
        };
        let (scalar, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        scalar
    }

    fn end_of_string(&self) -> usize {
        let mut at = 1;
        while let Some(found) = memchr2(b'"', b'\\', self.rest.as_bytes().get(at..).unwrap_or_default()) {
            at += found;
            if self.rest.as_bytes()[at] == b'"' {
                return at + 1;
            }
            at += 2;
        }
        self.rest.len()
    }

    /// Skips a value of any depth, without recursion.
    pub(super) fn skip_value(&mut self) {
        let mut depth = 0_usize;
        while let Some(next) = self.peek() {
            match next {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            match next {
                b'{' | b'[' | b'}' | b']' | b',' | b':' => self.skip(),
                _ => _ = self.scalar(),
            }
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::{AuditEntry, Metadata};

    thread_local! {
        /// The bytes that this thread has given to readers.
        pub(super) static READ: Cell<usize> = const { Cell::new(0) };
    }

    /// The bytes that are read while this runs.
    fn read_by<T>(run: impl FnOnce() -> T) -> (usize, T) {
        READ.set(0);
        let result = run();
        (READ.get(), result)
    }

    #[test]
    fn nested_json_is_read_once_whatever_its_depth() {
        // At each level a number that no `Value` holds, and a name that occurs twice.
        let filler = "x".repeat(50_000);
        let nested = (0..60).fold("1E400".to_owned(), |nested, _| {
            format!(r#"{{"k":"{filler}","k":[{nested}, 2],"n":1E400}}"#)
        });
        let (read, metadata) = read_by(|| Metadata::from_json(&nested).unwrap());
        assert!((1..=nested.len()).contains(&read), "{read} of {}", nested.len());
        let stored = metadata.as_str();
        let expected = (0..60).fold("1E400".to_owned(), |nested, _| {
            format!(r#"{{"k":[{nested},2],"n":1E400}}"#)
        });
        assert_eq!(stored, expected);
        let (read, map) = read_by(|| metadata.to_map());
        assert!(
            !map.is_empty() && read <= stored.len(),
            "{read} of {}",
            stored.len()
        );
        let line = format!(r#"{{"action":"a","metadata":{nested}}}"#);
        let (read, entry) = read_by(|| AuditEntry::from_json(line.as_bytes()).unwrap());
        assert!(read <= line.len(), "{read} of {}", line.len());
        assert_eq!(entry.metadata, metadata);
    }
}
