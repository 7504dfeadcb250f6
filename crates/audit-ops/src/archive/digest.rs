//! Counts and digests of an archive's lines. Pure.

use sha2::{Digest, Sha256};

/// The count and digests of lines, in order.
#[derive(Clone)]
pub(super) struct LineDigest {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// As the database computes it: see [`crate::retention`].
    pub(super) digest: [u8; 32],
    whole: Sha256,
}

impl LineDigest {
    pub(super) fn new() -> Self {
        Self {
            rows: 0,
            bytes: 0,
            digest: [0; 32],
            whole: Sha256::new(),
        }
    }

    /// Adds the line of a row, given without its newline.
    pub(super) fn add_row(&mut self, line: &[u8]) {
        let mut next = Sha256::new();
        next.update(self.digest);
        next.update(Sha256::digest(line));
        self.digest = next.finalize().into();
        self.rows += 1;
        self.add_piece(line);
    }

    /// Adds the line of a piece. It changes no digest of rows: the row's line has that of all its pieces. Whether a line
    /// is one depends on the row before, never on how it begins: otherwise a row could look like a piece.
    pub(super) fn add_piece(&mut self, line: &[u8]) {
        self.whole.update(line);
        self.whole.update(b"\n");
        self.bytes += line.len() as u64 + 1;
    }

    /// The SHA-256 of all lines, with their newlines.
    pub(super) fn sha256(&self) -> [u8; 32] {
        self.whole.clone().finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hashing::hex;

    #[test]
    fn digests_of_known_lines_are_as_computed_by_other_tools() {
        let mut lines = LineDigest::new();
        assert_eq!(hex(&lines.digest), "00".repeat(32));
        // printf '' | sha256sum
        assert_eq!(
            hex(&lines.sha256()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        lines.add_row(b"{}");
        lines.add_row(b"{\"a\":1}");
        assert_eq!((lines.rows, lines.bytes), (2, 11));
        let mut with_piece = lines.clone();
        with_piece.add_piece(b"{\"_piece\":\"x\"}");
        assert_eq!((with_piece.rows, with_piece.bytes), (2, 26));
        assert_eq!(with_piece.digest, lines.digest);
        // printf '{}\n{"a":1}\n' | sha256sum
        assert_eq!(
            hex(&lines.sha256()),
            "861ce3a350d41170da35881ae9a980305338b078c80cc61eb780da575c0d5e32"
        );
        // d1 = SHA-256(00*32 || SHA-256("{}")); SHA-256(d1 || SHA-256("{\"a\":1}"))
        assert_eq!(
            hex(&lines.digest),
            "aba4cff544a75e8148107d01313aa4287d9b73f623095eb3e42c2118cda5e9a4"
        );
    }
}
