//! Damage in SQLite's write-ahead log.
//!
//! SQLite ends its recovery at the first frame whose checksum is wrong, and takes what follows for the rest of
//! an older log. A damaged frame so loses all commits after it without an error. The frames of the current log
//! have the salts of its header, so a later commit with those salts proves that something is lost.
//! <https://sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Finds damage in a log that nobody uses: why it is damaged, or none. The log is not changed.
pub(super) fn find_damage(path: &Path) -> io::Result<Option<String>> {
    match File::open(path) {
        Ok(file) => examine(&mut BufReader::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn examine(log: &mut impl Read) -> io::Result<Option<String>> {
    let mut header = [0; HEADER];
    if !fill(log, &mut header)? {
        return Ok(None);
    }
    let (magic, page) = (word(&header, 0), word(&header, 8) as usize);
    let sum = Sum { is_big_endian: magic & 1 == 1, words: (0, 0) }.add(&header[..24]);
    let is_known = magic & !1 == 0x377f_0682 && page.is_power_of_two() && (512..=65_536).contains(&page);
    if !is_known || sum.words != (word(&header, 24), word(&header, 28)) {
        let has_frames = fill(log, &mut [0; FRAME_HEADER])?;
        return Ok(has_frames.then(|| "the header of its write-ahead log is damaged".to_owned()));
    }
    let mut frame = vec![0; FRAME_HEADER + page];
    // None from the first frame on that is damaged or of an older log.
    let mut sum = Some(sum);
    while fill(log, &mut frame)? {
        let is_current = frame[8..16] == header[16..24];
        sum = sum.filter(|_| is_current).and_then(|sum| {
            let next = sum.add(&frame[..8]).add(&frame[FRAME_HEADER..]);
            (next.words == (word(&frame, 16), word(&frame, 20))).then_some(next)
        });
        let is_commit = word(&frame, 4) != 0;
        if sum.is_none() && is_current && is_commit {
            return Ok(Some("its write-ahead log is damaged, and commits follow the damage".to_owned()));
        }
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
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
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
