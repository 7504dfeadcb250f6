//! A trail of known entries, and texts that a command is expected to print about them.

use std::path::Path;

use crate::fixture::CliFixture;

/// Two days in Berlin, where the clocks are set back between them, with texts that nobody means to have.
const ENTRIES: &[u8] = include_bytes!("trail.ndjson");

impl CliFixture {
    /// A trail with the entries, and without a record of any writer or reader.
    pub(crate) fn with_trail(self) -> Self {
        assert_eq!(self.run(&["migrate"]).0, 0);
        let (code, _, err) = self.run_with_input(&["write", "-"], ENTRIES);
        assert_eq!(code, 0, "{err}");
        self
    }
}

/// Compares a text with the one in the directory of snapshots. `UPDATE_SNAPSHOTS=1` writes it there.
pub(crate) fn assert_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli/snapshots")
        .join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{}:\n{expected}\nis now:\n{text}",
        path.display()
    );
}
