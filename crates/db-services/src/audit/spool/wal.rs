//! Damage in SQLite's write-ahead log.
//!
//! SQLite ends its recovery at the first frame whose checksum is wrong, and takes what follows for the rest of
//! an older log. A damaged frame so loses all commits after it without an error. The frames of the current log
//! have the salts of its header, and each checksum continues the one before. So a later commit with those salts
//! that continues the checksum of the frame before it was written whole, and proves that something is lost.
//!
//! SQLite writes a frame's header, then its page. A process that is killed between the two leaves, in a log that
//! was started again, a last commit with a wrong checksum over a page of the older log: it was never
//! acknowledged. In a log that was not, no page follows, and a whole frame with a wrong checksum is damage.
//! <https://sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::lock::verify_regular;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Finds damage in a log that nobody uses: why it is damaged, or none. The log is not changed.
pub(super) fn find_damage(path: &Path) -> io::Result<Option<String>> {
    verify_regular(path)?;
    match File::open(path) {
        Ok(file) => examine(&mut BufReader::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// True if a log may hold a frame.
pub(super) fn has_frames(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(log) => Ok(!log.is_file() || log.len() > HEADER as u64),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn examine(log: &mut impl Read) -> io::Result<Option<String>> {
    let mut header = [0; HEADER];
    if !fill(log, &mut header)? {
        return Ok(None);
    }
    let (magic, page) = (word(&header, 0), word(&header, 8) as usize);
    let sum = Sum {
        is_big_endian: magic & 1 == 1,
        words: (0, 0),
    }
    .add(&header[..24]);
    let is_known = magic & !1 == 0x377f_0682 && page.is_power_of_two() && (512..=65_536).contains(&page);
    if !is_known || sum.words != (word(&header, 24), word(&header, 28)) {
        let has_frames = fill(log, &mut [0; FRAME_HEADER])?;
        return Ok(has_frames.then(|| "the header of its write-ahead log is damaged".to_owned()));
    }
    let is_restarted = word(&header, 12) != 0;
    let mut frame = vec![0; FRAME_HEADER + page];
    // The sums that the next frame may continue: the one that was computed, and after damage the one that the
    // last frame has.
    let (mut computed, mut stored, mut is_damaged) = (sum, sum, false);
    while fill(log, &mut frame)? {
        let is_current = frame[8..16] == header[16..24];
        let is_commit = word(&frame, 4) != 0;
        let found = (word(&frame, 16), word(&frame, 20));
        let next = |sum: Sum| sum.add(&frame[..8]).add(&frame[FRAME_HEADER..]);
        let continued = [computed, stored]
            .map(next)
            .into_iter()
            .find(|next| next.words == found);
        let is_valid = is_current && continued.is_some();
        let is_later_commit = is_damaged && is_valid && is_commit;
        is_damaged |= !is_valid;
        if is_later_commit || (is_damaged && is_commit && !is_restarted) {
            return Ok(Some(
                "its write-ahead log is damaged, and commits follow the damage".to_owned(),
            ));
        }
        computed = continued.unwrap_or_else(|| next(computed));
        stored = Sum { words: found, ..sum };
    }
    Ok(None)
}

/// Fills a buffer; false at the end of the log.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|word| word.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

/// The running checksum.
#[derive(Clone, Copy)]
struct Sum {
    is_big_endian: bool,
    words: (u32, u32),
}

impl Sum {
    fn add(mut self, bytes: &[u8]) -> Self {
        let read = |word: &[u8]| match (self.is_big_endian, word.try_into()) {
            (_, Err(_)) => 0,
            (true, Ok(word)) => u32::from_be_bytes(word),
            (false, Ok(word)) => u32::from_le_bytes(word),
        };
        let (mut first, mut second) = self.words;
        for pair in bytes.chunks_exact(8) {
            first = first.wrapping_add(read(&pair[..4])).wrapping_add(second);
            second = second.wrapping_add(read(&pair[4..])).wrapping_add(first);
        }
        self.words = (first, second);
        self
    }
}
