//! The records of a CloudTrail log file, one after the other.
//!
//! A file is `{"Records":[{…},{…}]}`. A record's end is found by its brackets and strings alone, so that one that is
//! no valid JSON or UTF-8 does not take the others with it, and a record of any size takes bounded memory.

use std::io::{self, BufRead};

/// Text in UTF-8 may begin with it.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The largest record in bytes. CloudTrail's are at most 256 KiB.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// The bytes of a chunk of a file.
const CHUNK_BYTES: usize = 1 << 20;

/// The member with the records.
const RECORDS: &[u8] = b"\"Records\"";

/// What lies between two commas of the list.
pub(crate) enum Record {
    Json(Vec<u8>),
    TooLarge,
}

/// The records of one log file, or of several that were joined.
pub(crate) struct Records<R> {
    input: R,
    /// Once the records of a chunk have this many bytes, it ends.
    chunk_bytes: usize,
    position: Position,
    /// An error that is returned after the records before it.
    failure: Option<io::Error>,
}

/// What comes next.
#[derive(Clone, Copy)]
enum Position {
    /// The first object.
    Start,
    /// A name, and whether the object had a list of records before it.
    Name { has_list: bool },
    /// A record.
    Record,
    /// Another member, or the end of the object.
    AfterList,
    /// Another object, or the end of the input.
    AfterObject,
}

impl<R: BufRead> Records<R> {
    /// A chunk of a stream is one record: to wait for the next one would hold it back.
    pub(crate) fn new(input: R, is_stream: bool) -> Self {
        Self {
            input,
            chunk_bytes: if is_stream { 1 } else { CHUNK_BYTES },
            position: Position::Start,
            failure: None,
        }
    }

    /// The next records; none after the last. The input was read to its end then, and so was its checksum.
    ///
    /// # Errors
    /// When the input cannot be read, is no log file, or ends before the list does. The records before that were
    /// returned.
    pub(crate) fn read_chunk(&mut self) -> io::Result<Vec<Record>> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < self.chunk_bytes {
            match self.next() {
                Ok(Some(record)) => {
                    bytes += if let Record::Json(json) = &record {
                        json.len()
                    } else {
                        0
                    };
                    records.push(record);
                }
                Ok(None) => break,
                Err(error) if records.is_empty() => return Err(error),
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        Ok(records)
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        while self.find_record()? {
            let (record, end) = self.read_value(b",]")?;
            if end == b']' {
                self.position = Position::AfterList;
            }
            // Nothing is in an empty list, or after its last comma.
            if !matches!(&record, Record::Json(json) if json.is_empty()) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Reads up to the next record; false at the end of the input.
    fn find_record(&mut self) -> io::Result<bool> {
        loop {
            self.position = match self.position {
                Position::Record => return Ok(true),
                Position::Name { has_list } => self.read_name(has_list)?,
                Position::Start => {
                    if self.input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
                        self.input.consume(BYTE_ORDER_MARK.len());
                    }
                    match self.next_token()? {
                        Some(b'{') => Position::Name { has_list: false },
                        _ => return Err(not_a_log()),
                    }
                }
                Position::AfterList => match self.next_token()? {
                    Some(b',') => Position::Name { has_list: true },
                    Some(b'}') => Position::AfterObject,
                    Some(_) => return Err(not_a_log()),
                    None => return Err(cut_off()),
                },
                Position::AfterObject => match self.next_token()? {
                    Some(b'{') => Position::Name { has_list: false },
                    Some(_) => {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "data follows the log"));
                    }
                    None => return Ok(false),
                },
            };
        }
    }

    /// Reads the name of a member, and its value unless that is a list of records.
    fn read_name(&mut self, has_list: bool) -> io::Result<Position> {
        let (name, end) = self.read_value(b":}").map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof if !has_list => not_a_log(),
            _ => error,
        })?;
        if end == b'}' {
            return if has_list {
                Ok(Position::AfterObject)
            } else {
                Err(not_a_log())
            };
        }
        if matches!(&name, Record::Json(name) if name == RECORDS) {
            return match self.next_token()? {
                Some(b'[') => Ok(Position::Record),
                _ => Err(not_a_log()),
            };
        }
        match self.read_value(b",}")?.1 {
            b'}' if has_list => Ok(Position::AfterObject),
            b'}' => Err(not_a_log()),
            _ => Ok(Position::Name { has_list }),
        }
    }

    /// Reads up to one of these bytes outside of strings and brackets. Returns what is before it, without white
    /// space around it, and that byte.
    fn read_value(&mut self, ends: &[u8]) -> io::Result<(Record, u8)> {
        let (mut value, mut scanner, mut is_too_large) = (Vec::new(), Scanner::default(), false);
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file is cut off",
                ));
            }
            let end = buffer.iter().position(|byte| scanner.is_end(*byte, ends));
            let part = &buffer[..end.unwrap_or(buffer.len())];
            is_too_large |= value.len() + part.len() > MAX_RECORD_BYTES;
            if is_too_large {
                value = Vec::new();
            } else {
                value.extend_from_slice(part);
            }
            let read = part.len() + usize::from(end.is_some());
            let end = end.map(|at| buffer[at]);
            self.input.consume(read);
            if let Some(end) = end {
                let record = match is_too_large {
                    true => Record::TooLarge,
                    false => Record::Json(value.trim_ascii().to_vec()),
                };
                return Ok((record, end));
            }
        }
    }

    /// The next byte that is no white space.
    fn next_token(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.input.fill_buf()?;
            let Some(byte) = buffer.first().copied() else {
                return Ok(None);
            };
            self.input.consume(1);
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file is cut off")
}

fn not_a_log() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "not a CloudTrail log file: expected {\"Records\":[…]}",
    )
}

/// Where in a value a byte is.
#[derive(Default)]
struct Scanner {
    depth: u64,
    text: Text,
}

#[derive(Default)]
enum Text {
    #[default]
    Outside,
    Within,
    /// After a backslash.
    Escape,
}

impl Scanner {
    /// Reads a byte. True if it is one of these, outside of strings and brackets.
    fn is_end(&mut self, byte: u8, ends: &[u8]) -> bool {
        match (&self.text, byte) {
            (Text::Within, b'\\') => self.text = Text::Escape,
            (Text::Within, b'"') => self.text = Text::Outside,
            (Text::Escape, _) => self.text = Text::Within,
            (Text::Within, _) => {}
            (Text::Outside, b'"') => self.text = Text::Within,
            (Text::Outside, _) if self.depth == 0 && ends.contains(&byte) => return true,
            (Text::Outside, b'{' | b'[') => self.depth += 1,
            (Text::Outside, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
            (Text::Outside, _) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a file, read through a small buffer; and the error at its end.
    fn read(file: &[u8]) -> (Vec<String>, Option<String>) {
        let mut records = Records::new(io::BufReader::with_capacity(3, file), false);
        let mut all = Vec::new();
        loop {
            match records.read_chunk() {
                Ok(chunk) if chunk.is_empty() => return (all, None),
                Ok(chunk) => all.extend(chunk.into_iter().map(|record| match record {
                    Record::Json(json) => String::from_utf8_lossy(&json).into_owned(),
                    Record::TooLarge => "too large".to_owned(),
                })),
                Err(error) => return (all, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn each_record_is_found_whatever_the_others_hold() {
        let whole = |file: &[u8]| {
            let (records, error) = read(file);
            assert_eq!(error, None, "{records:?}");
            records
        };
        assert!(whole(br#"{"Records":[]}"#).is_empty());
        assert_eq!(
            whole(b"\xEF\xBB\xBF {\"x\" : [\"Records\"], \"Records\"\n: [ {\"a\":\"]},\\\"\"} , {b} ,\xFF, [1] ], \"y\": 1}\n"),
            ["{\"a\":\"]},\\\"\"}", "{b}", "\u{FFFD}", "[1]"]
        );
        assert_eq!(
            whole(br#"{"Records":[1],"x":{},"Records":[2]} {"Records":[]}{"y":[],"Records":[3]}"#),
            ["1", "2", "3"]
        );
    }

    #[test]
    fn a_file_that_is_cut_off_or_no_log_is_an_error_after_its_records() {
        for (file, records, message) in [
            (&b"{\"Records\":[{},{\"a\":"[..], 1, "cut off"),
            (b"{\"Records\":[{}]", 1, "cut off"),
            (b"{\"Records\":[{}]}x", 1, "data follows"),
            (b"{\"Records\":[{}]}{}", 1, "not a CloudTrail log"),
            (b"", 0, "not a CloudTrail log"),
            (b"[]", 0, "not a CloudTrail log"),
            (b"{}", 0, "not a CloudTrail log"),
            (b"{\"a\":1}", 0, "not a CloudTrail log"),
            (b"{\"Records\":{}}", 0, "not a CloudTrail log"),
            (b"no json", 0, "not a CloudTrail log"),
        ] {
            let (found, error) = read(file);
            assert_eq!(found.len(), records, "{found:?}");
            assert!(error.as_ref().unwrap().contains(message), "{error:?}");
        }
    }

    #[test]
    fn a_record_that_is_too_large_is_skipped_without_buffering() {
        let file = [
            b"{\"Records\":[\"",
            vec![b'x'; MAX_RECORD_BYTES].as_slice(),
            b"\",{}]}",
        ]
        .concat();
        let mut records = Records::new(&file[..], false);
        assert!(matches!(records.next(), Ok(Some(Record::TooLarge))));
        assert!(matches!(records.next(), Ok(Some(Record::Json(json))) if json == b"{}"));
        assert!(matches!(records.next(), Ok(None)));
    }
}
