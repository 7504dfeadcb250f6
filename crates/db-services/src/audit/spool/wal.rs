//! Damage in SQLite's write-ahead log.
//!
//! SQLite ends its recovery at the first frame whose checksum is wrong, and takes what follows for the rest of
//! an older log. A damaged frame so loses all commits after it without an error. The frames of the current log
//! have the salts of its header, and each checksum continues the one before. What follows a wrong checksum proves
//! damage, or not:
//!
//! - A commit with the current salts that continues the checksum of the frame before it was written whole: damage.
//! - Two commits with the current salts: damage, since the first was synced before the second was written. This
//!   holds where a block was overwritten and no checksum can be continued.
//! - One commit alone, in a log that was started again, is not: SQLite writes a frame's header, then its page. A
//!   process that is killed between the two leaves a last commit with a wrong checksum over a page of the older
//!   log, and it was never acknowledged. So damage that hides every other sign of the last commits, or the last
//!   commit itself, is not found in such a log. In a log that was not started again no page follows, and a whole
//!   commit with a wrong checksum is damage.
//! - Frames of which both salts are others are of an older log. SQLite counts in the header how often it started a
//!   log again, but a connection that found the index whole begins with zero: of two processes, of which one was
//!   killed, the count does not tell. So such frames prove nothing, and show that the log was started again.
//! - The rest of a commit is not, if its sync failed and a smaller commit was written over its beginning. It lies
//!   behind a valid commit, its pages ascend, each checksum but the first is continued, and the pages that every
//!   whole commit of a batch writes are not in it: one of the first four (the highest number given), and the very
//!   first if the file grows.
//!
//! <https://sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::inspect::EMPTY_PAGES;
use super::lock::verify_regular;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Each commit of a batch writes one of these: the highest number that was given is in it. The file's first page
/// is written whenever the file grows.
const FIRST_PAGES: u32 = EMPTY_PAGES as u32;

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
    let mut bytes = vec![0; FRAME_HEADER + page];
    // The sums that the next frame may continue: the one that was computed, and after damage the one that the
    // last frame has.
    let (mut computed, mut stored) = (sum, sum);
    let (mut part, mut is_after_commit, mut size) = (Part::Valid, false, 0);
    // One commit behind the damage, in a log that may have been started again all the same.
    let mut is_last_commit_hurt = false;
    while fill(log, &mut bytes)? {
        let frame = Frame {
            bytes: &bytes,
            is_current: bytes[8..16] == header[16..24],
        };
        let continued = [computed, stored]
            .map(|sum| frame.sum(sum, frame.page()))
            .into_iter()
            .find(|next| next.words == frame.stored_sum());
        let is_valid = frame.is_current && continued.is_some();
        part = match part {
            Part::Valid if is_valid => {
                is_after_commit = frame.is_commit();
                if is_after_commit {
                    size = frame.size();
                }
                Part::Valid
            }
            Part::Valid if is_after_commit && frame.may_begin_rest(computed) => {
                frame.rest(frame.page(), size)
            }
            Part::BehindRest if frame.may_begin_rest(computed) => frame.rest(frame.page(), size),
            Part::Rest { first, last } if is_valid && frame.page() > last => frame.rest(first, size),
            Part::Damaged { commits } => Part::Damaged { commits },
            Part::Valid | Part::BehindRest | Part::Rest { .. } => Part::Damaged { commits: 0 },
        };
        if frame.is_of_other_log(&header) {
            is_last_commit_hurt = false;
        } else if let Part::Damaged { commits } = &mut part
            && frame.is_commit()
        {
            *commits += u32::from(frame.is_current);
            if is_valid || *commits > 1 {
                return Ok(Some(DAMAGE.to_owned()));
            }
            is_last_commit_hurt = !is_restarted;
        }
        computed = continued.unwrap_or_else(|| frame.sum(computed, frame.page()));
        stored = Sum {
            words: frame.stored_sum(),
            ..sum
        };
    }
    Ok(is_last_commit_hurt.then(|| DAMAGE.to_owned()))
}

const DAMAGE: &str = "its write-ahead log is damaged, and commits follow the damage";

/// The part of a log that a frame is in.
enum Part {
    Valid,
    /// What may be the rest of a commit that failed, from its first page to its last one so far.
    Rest {
        first: u32,
        last: u32,
    },
    /// The rest of a commit that failed is over.
    BehindRest,
    /// A frame is damaged, and this many commits follow it.
    Damaged {
        commits: u32,
    },
}

struct Frame<'a> {
    bytes: &'a [u8],
    /// True if it has the salts of the header.
    is_current: bool,
}

impl Frame<'_> {
    /// The number of its page.
    fn page(&self) -> u32 {
        word(self.bytes, 0)
    }

    /// The pages of the file after the commit; zero if it does not commit.
    fn size(&self) -> u32 {
        word(self.bytes, 4)
    }

    fn is_commit(&self) -> bool {
        self.size() != 0
    }

    /// True if neither salt is that of the header: a wrong bit changes one of them alone.
    fn is_of_other_log(&self, header: &[u8; HEADER]) -> bool {
        self.bytes[8..12] != header[16..20] && self.bytes[12..16] != header[20..24]
    }

    fn stored_sum(&self) -> (u32, u32) {
        (word(self.bytes, 16), word(self.bytes, 20))
    }

    /// The sum after this frame, if its page has this number.
    fn sum(&self, sum: Sum, page: u32) -> Sum {
        let mut begin = [0; 8];
        begin[..4].copy_from_slice(&page.to_be_bytes());
        begin[4..].copy_from_slice(&self.bytes[4..8]);
        sum.add(&begin).add(&self.bytes[FRAME_HEADER..])
    }

    /// True if the rest of a commit that failed may begin here, and not the first frame of a whole one whose page
    /// number is damaged.
    fn may_begin_rest(&self, before: Sum) -> bool {
        let is_whole_as = |page| self.sum(before, page).words == self.stored_sum();
        self.is_current && self.page() > 1 && !(1..=FIRST_PAGES).any(is_whole_as)
    }

    /// The part of the log at this frame of what may be the rest of a commit that began with this page, behind a
    /// commit after which the file had this size.
    fn rest(&self, first: u32, size: u32) -> Part {
        let is_part = first > FIRST_PAGES || self.size() > size;
        match self.is_commit() {
            false => Part::Rest {
                first,
                last: self.page(),
            },
            true if is_part => Part::BehindRest,
            true => Part::Damaged { commits: 0 },
        }
    }
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
