//! Message boundaries in a stream of the PostgreSQL protocol.
//!
//! In version 3 a message is a type byte, then the length of the rest in four bytes, which include
//! themselves (chapter "Frontend/Backend Protocol" of PostgreSQL's manual). The startup message of a client
//! has no type, and neither has its request for encryption, which may come first and is answered with a
//! single byte. Encrypted streams are not supported.

/// The client's message Execute, which runs a prepared statement.
pub(super) const EXECUTE: u8 = b'E';

/// The server's message ReadyForQuery: everything before it is done and, if it should be, committed.
pub(super) const READY_FOR_QUERY: u8 = b'Z';

/// What a client sends instead of a version to request encryption with TLS or GSSAPI.
const ENCRYPTION: [[u8; 4]; 2] = [80_877_103_u32.to_be_bytes(), 80_877_104_u32.to_be_bytes()];

/// The kind of the next message in one direction of a connection.
enum Next {
    /// A client's first message.
    First,
    /// A server's first message, or its reply to the request for encryption.
    Answer,
    /// A message with a type.
    Typed,
}

/// Follows one direction of a connection.
pub(super) struct Messages {
    next: Next,
    /// The beginning of the next message, as far as it has been received.
    header: Vec<u8>,
    /// The number of bytes of the message that are missing.
    rest: usize,
}

impl Messages {
    pub(super) fn of_client() -> Self {
        Self {
            next: Next::First,
            header: Vec::new(),
            rest: 0,
        }
    }

    pub(super) fn of_server() -> Self {
        Self {
            next: Next::Answer,
            header: Vec::new(),
            rest: 0,
        }
    }

    /// Reads the next bytes. Returns the types of the messages that begin in them.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut began = Vec::new();
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            match (&self.next, &self.header[..]) {
                (Next::First, [a, b, c, d, version @ ..]) if version.len() == 4 => {
                    self.rest = length([*a, *b, *c, *d]).saturating_sub(8);
                    if !ENCRYPTION.iter().any(|request| request == version) {
                        self.next = Next::Typed;
                    }
                }
                (Next::Answer, b"N" | b"S") => {}
                (Next::Answer | Next::Typed, [kind, a, b, c, d]) => {
                    began.push(*kind);
                    self.rest = length([*a, *b, *c, *d]).saturating_sub(4);
                    self.next = Next::Typed;
                }
                _ => continue,
            }
            self.header.clear();
        }
        began
    }
}

fn length(bytes: [u8; 4]) -> usize {
    u32::from_be_bytes(bytes) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_pieces_of_any_size() {
        let (question, start) = (b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x0a\0\x03\0\0EE");
        let others = b"P\0\0\0\x06EEE\0\0\0\x09\0EEEZS\0\0\0\x04";
        let (plain, asking) = (
            [&start[..], others].concat(),
            [&question[..], start, others].concat(),
        );
        let (answer, refusal) = (others.to_vec(), [&b"N"[..], others].concat());
        for size in 1..=asking.len() {
            for (mut messages, all) in [
                (Messages::of_client(), &plain),
                (Messages::of_client(), &asking),
                (Messages::of_server(), &answer),
                (Messages::of_server(), &refusal),
            ] {
                let began: Vec<u8> = all
                    .chunks(size)
                    .flat_map(|piece| messages.follow(piece))
                    .collect();
                assert_eq!(began, b"PES", "in pieces of {size}");
            }
        }
    }
}
