//! Files that may be compressed with gzip (RFC 1952).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

/// The first bytes of each member.
const MAGIC: [u8; 2] = [0x1F, 0x8B];

/// The content of a file or a pipe.
pub(crate) struct Content {
    pub(crate) reader: Box<dyn BufRead + Send>,
    /// Whether it may be silent for a while.
    pub(crate) is_stream: bool,
}

/// Opens a file, which is decompressed if its content is compressed, whatever its name.
pub(crate) fn open(path: &Path) -> io::Result<Content> {
    if is_named_pipe(path) {
        return Err(io::Error::other(
            "a named pipe: give a file, or the pipe of `<(command)`",
        ));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut file = BufReader::new(file);
    let reader: Box<dyn BufRead + Send> = match file.fill_buf()?.starts_with(&MAGIC) {
        true => Box::new(BufReader::new(Members {
            state: State::Between(file),
        })),
        false => Box::new(file),
    };
    Ok(Content {
        reader,
        is_stream: !metadata.is_file(),
    })
}

/// Whether a path is that of a pipe, and not of one that is open already: to open it would wait for a writer.
fn is_named_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let is_open = ["/dev/", "/proc/"].iter().any(|dir| path.starts_with(dir));
        !is_open
            && path
                .metadata()
                .is_ok_and(|metadata| metadata.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    false
}

/// The content of one member after the other. Zeros after the last one are padding, as tapes have it.
struct Members<R> {
    state: State<R>,
}

enum State<R> {
    Between(R),
    Within(GzDecoder<R>),
    End,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::End) {
                State::End => return Ok(0),
                State::Between(input) => next_member(input)?,
                State::Within(mut member) => {
                    let read = member.read(buffer)?;
                    if read > 0 || buffer.is_empty() {
                        self.state = State::Within(member);
                        return Ok(read);
                    }
                    State::Between(member.into_inner())
                }
            }
        }
    }
}

fn next_member<R: BufRead>(mut input: R) -> io::Result<State<R>> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(State::End);
        }
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return Ok(State::Within(GzDecoder::new(input)));
        }
        input.consume(zeros);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn compressed(text: &str) -> Vec<u8> {
        let mut file = GzEncoder::new(Vec::new(), Compression::fast());
        file.write_all(text.as_bytes()).unwrap();
        file.finish().unwrap()
    }

    fn read(content: &[u8]) -> io::Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, content).unwrap();
        let mut text = String::new();
        open(&path)?.reader.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_file_is_decompressed_by_its_content() {
        assert_eq!(read(b"plain").unwrap(), "plain");
        assert_eq!(read(b"").unwrap(), "");
        let (one, two) = (compressed("one "), compressed("two"));
        assert_eq!(read(&one).unwrap(), "one ");
        assert_eq!(read(&[&one[..], &two].concat()).unwrap(), "one two");
        assert_eq!(read(&[&one[..], &[0; 1_000]].concat()).unwrap(), "one ");
        assert!(read(&[&one[..], b"rest"].concat()).is_err());
        assert!(read(&one[..one.len() - 1]).is_err());
    }
}
