//! Where an export goes: lines are counted and hashed, compressed, and counted and hashed again as they lie on the disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use audit_ops::hashing::{HashingStream, hex};
use flate2::Compression as Level;
use flate2::write::GzEncoder;

use crate::output;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// The usual end of a file's name.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

pub(crate) enum Target {
    /// Standard output. `output` keeps its errors.
    Stdout,
    File(BufWriter<File>),
    /// Bytes are accepted and lost.
    Nowhere,
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => {
                output::bytes(bytes);
                Ok(bytes.len())
            }
            Self::File(file) => file.write(bytes),
            Self::Nowhere => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout | Self::Nowhere => Ok(()),
            Self::File(file) => file.flush(),
        }
    }
}

/// What passed through a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Passed {
    fn through<T>(stream: &HashingStream<T>) -> Self {
        Self {
            bytes: stream.bytes,
            sha256: hex(&stream.sha256()),
        }
    }
}

enum Encoder<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    fn new(inner: W, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(inner),
            Compression::Gzip => Self::Gzip(GzEncoder::new(inner, Level::default())),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(inner, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(inner) => Ok(inner),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(inner) => inner.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// Lines on their way. Compressed data of one that is dropped has no end, so that nobody takes it for whole.
pub(crate) struct Stream {
    /// None once it has ended.
    lines: Option<HashingStream<Encoder<HashingStream<Target>>>>,
}

/// A stream that has ended. A file is on the disk.
pub(crate) struct Ended {
    pub(crate) lines: Passed,
    pub(crate) file: Passed,
}

impl Stream {
    pub(crate) fn new(target: Target, compression: Compression) -> io::Result<Self> {
        let encoder = Encoder::new(HashingStream::new(target), compression)?;
        Ok(Self {
            lines: Some(HashingStream::new(encoder)),
        })
    }

    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.lines
            .as_mut()
            .map_or(Ok(()), |stream| stream.write_all(lines))
    }

    pub(crate) fn finish(mut self) -> io::Result<Ended> {
        let stream = self.lines.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let lines = Passed::through(&stream);
        let mut file = stream.inner.finish()?;
        file.flush()?;
        if let Target::File(writer) = &file.inner {
            writer.get_ref().sync_all()?;
        }
        Ok(Ended {
            lines,
            file: Passed::through(&file),
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // This encoder writes the end when it is dropped.
        if let Some(Encoder::Gzip(encoder)) = self.lines.as_mut().map(|stream| &mut stream.inner) {
            encoder.get_mut().inner = Target::Nowhere;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// What a stream leaves in its file, and what can be read from that.
    fn left(compression: Compression, is_finished: bool) -> io::Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new()?;
        let target = Target::File(BufWriter::new(file.reopen()?));
        let mut stream = Stream::new(target, compression)?;
        stream.write(b"line\n")?;
        match is_finished {
            true => drop(stream.finish()?),
            false => drop(stream),
        }
        let (written, mut lines) = (File::open(file.path())?, Vec::new());
        match compression {
            Compression::Gzip => flate2::read::MultiGzDecoder::new(written).read_to_end(&mut lines)?,
            _ => zstd::Decoder::new(written)?.read_to_end(&mut lines)?,
        };
        Ok(lines)
    }

    #[test]
    fn compressed_lines_are_whole_only_if_the_stream_was_finished() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            assert_eq!(left(compression, true).unwrap(), b"line\n");
            // Nothing at all, or an end that is missing.
            assert!(left(compression, false).is_err(), "{compression:?}");
        }
    }
}
