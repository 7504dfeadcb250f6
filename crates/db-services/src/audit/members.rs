//! The members of an object that has many of them, found by their name.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::json::{FreeNames, REPLACEMENT, each_member, has_nul, write_text};

/// A JSON object in parts, so that one of many members is set without reading the others.
#[derive(Clone, Default)]
pub(super) struct Members {
    /// Name and value of each as JSON, in the order in which the names came first.
    list: Vec<Vec<u8>>,
    /// Where in the list a name is.
    places: BTreeMap<String, usize>,
    free: FreeNames,
    /// The object as text, until the next change.
    text: OnceLock<String>,
}

impl Members {
    /// Reads an object whose names differ.
    pub(super) fn read(object: &str) -> Self {
        let mut members = Self::default();
        each_member(object, |name, value| {
            members.set(&name, |out| out.extend_from_slice(value.get().as_bytes()));
        });
        members
    }

    /// Sets a member; of two with the same name the later one counts, in the place of the first. A name
    /// with NUL or U+FFFD is kept apart from another one.
    pub(super) fn insert(&mut self, name: &str, write_value: impl FnOnce(&mut Vec<u8>)) {
        if may_become_equal(name) {
            let free = self.free.find(name, |name| self.places.contains_key(name));
            self.set(&free, write_value);
        } else {
            self.set(name, write_value);
        }
    }

    fn set(&mut self, name: &str, write_value: impl FnOnce(&mut Vec<u8>)) {
        let mut member = Vec::new();
        write_text(&mut member, name);
        member.push(b':');
        write_value(&mut member);
        self.text.take();
        match self.places.get(name) {
            Some(&place) => self.list[place] = member,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push(member);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The object as compact JSON.
    pub(super) fn as_str(&self) -> &str {
        self.text.get_or_init(|| {
            let bytes = self.list.iter().map(|member| member.len() + 1).sum::<usize>() + 1;
            let mut text = Vec::with_capacity(bytes);
            for member in &self.list {
                text.push(if text.is_empty() { b'{' } else { b',' });
                text.extend_from_slice(member);
            }
            text.extend_from_slice(if text.is_empty() { b"{}" } else { b"}" });
            // What serde_json writes is UTF-8.
            String::from_utf8(text).unwrap_or_default()
        })
    }

    pub(super) fn into_text(self) -> String {
        self.as_str();
        self.text.into_inner().unwrap_or_default()
    }
}

/// True of a name that is kept apart from others: another one with NUL or U+FFFD may be written the same.
#[inline]
pub(super) fn may_become_equal(name: &str) -> bool {
    // In one pass: hardly a name has either.
    name.bytes()
        .fold(false, |found, byte| found | (byte == 0) | (byte >= 0x80))
        && (has_nul(name) || name.contains(REPLACEMENT))
}
