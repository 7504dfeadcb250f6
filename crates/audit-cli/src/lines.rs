//! Lines of an input, each of bounded length.

use std::io::{self, BufRead, BufReader, Read};

/// The longest line in bytes: far longer than any entry, and far smaller than the memory.
pub(crate) const MAX_LINE_BYTES: usize = 16 << 20;

/// Once the lines of a chunk have this many bytes, it ends.
const CHUNK_BYTES: usize = 1 << 20;

/// What lies between two newlines.
pub(crate) enum Line {
    /// With its newline, if it has one.
    Text(Vec<u8>),
    TooLong,
}

/// The lines of an input.
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    is_first: bool,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(64 << 10, input),
            is_first: true,
        }
    }

    /// The lines that can be read without waiting, and at least one; none at the end of the input.
    pub(crate) fn read_chunk(&mut self) -> io::Result<Vec<Line>> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while let Some(line) = self.next()? {
            bytes += if let Line::Text(text) = &line {
                text.len()
            } else {
                0
            };
            lines.push(line);
            if bytes >= CHUNK_BYTES || !self.input.buffer().contains(&b'\n') {
                break;
            }
        }
        Ok(lines)
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        if self.input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.len() > MAX_LINE_BYTES && !line.ends_with(b"\n") {
            self.skip_line()?;
            return Ok(Some(Line::TooLong));
        }
        // A file may begin with a byte order mark.
        if std::mem::take(&mut self.is_first) && line.starts_with(super::records::BYTE_ORDER_MARK) {
            line.drain(..super::records::BYTE_ORDER_MARK.len());
        }
        Ok(Some(Line::Text(line)))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        let mut part = Vec::new();
        while !part.ends_with(b"\n") {
            part.clear();
            if self.input.by_ref().take(1 << 16).read_until(b'\n', &mut part)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one of these parts at each call.
    struct Parts(Vec<&'static [u8]>);

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            self.0.remove(0).read(buffer)
        }
    }

    #[test]
    fn a_chunk_ends_where_reading_would_wait() {
        let mut lines = Lines::new(Parts(vec![b"\xEF\xBB\xBFa\nb\nc", b"\nd\n", b"e"]));
        let mut chunk = || -> Vec<Vec<u8>> {
            let text = |line| {
                if let Line::Text(text) = line {
                    text
                } else {
                    Vec::new()
                }
            };
            lines.read_chunk().unwrap().into_iter().map(text).collect()
        };
        assert_eq!(chunk(), [b"a\n", b"b\n"]);
        assert_eq!(chunk(), [b"c\n", b"d\n"]);
        assert_eq!(chunk(), [b"e"]);
        assert!(chunk().is_empty());
    }
}
