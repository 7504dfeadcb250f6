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
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => {
                output::bytes(bytes);
                Ok(bytes.len())
            }
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => Ok(()),
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

pub(crate) struct Stream(HashingStream<Encoder<HashingStream<Target>>>);

/// A stream that has ended. A file is on the disk.
pub(crate) struct Ended {
    pub(crate) lines: Passed,
    pub(crate) file: Passed,
}

impl Stream {
    pub(crate) fn new(target: Target, compression: Compression) -> io::Result<Self> {
        let encoder = Encoder::new(HashingStream::new(target), compression)?;
        Ok(Self(HashingStream::new(encoder)))
    }

    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.0.write_all(lines)
    }

    /// How many bytes the lines have.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes
    }

    pub(crate) fn finish(self) -> io::Result<Ended> {
        let lines = Passed::through(&self.0);
        let mut file = self.0.inner.finish()?;
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
