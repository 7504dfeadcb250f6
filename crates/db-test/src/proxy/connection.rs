//! One connection through the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::messages::{EXECUTE, Messages, READY_FOR_QUERY};
use super::server_address::ServerAddress;
use super::{Counters, Network};

/// The most bytes that are forwarded at a time.
const MAX_PIECE: usize = 16 << 10;

/// How a connection ends.
enum End {
    /// Both sides are closed.
    Closed,
    /// The client gets an RST.
    Reset,
}

/// Forwards between client and server until one of them or the network ends the connection.
pub(super) async fn serve(
    mut client: TcpStream,
    address: ServerAddress,
    network: watch::Receiver<Network>,
    seen: Arc<Counters>,
) {
    // Dropping the client's stream shows it that the server is gone.
    let Ok(mut server) = address.connect().await else {
        return;
    };
    // Without Nagle's algorithm, which would delay small pieces.
    let _ = client.set_nodelay(true);
    let connection = Connection {
        network,
        seen,
        loses_answer: AtomicBool::new(false),
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = tokio::io::split(&mut server);
    let end = tokio::select! {
        end = connection.requests(&mut from_client, &mut to_server) => end,
        end = connection.answers(&mut from_server, &mut to_client) => end,
    };
    if matches!(end, Ok(End::Reset)) {
        // With a linger time of zero, closing sends an RST.
        let _ = client.set_zero_linger();
    }
}

struct Connection {
    network: watch::Receiver<Network>,
    seen: Arc<Counters>,
    /// True from the statement whose answer will be lost.
    loses_answer: AtomicBool,
}

impl Connection {
    /// Forwards what the client sends.
    async fn requests(
        &self,
        client: &mut (impl AsyncRead + Unpin),
        server: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<End> {
        let mut reader = Reader::new(self);
        let mut messages = Messages::of_client();
        let (mut counted_for, mut sent) = (Network::Passes, 0);
        while let Some((piece, network)) = reader.next(client).await? {
            if std::mem::replace(&mut counted_for, network) != network {
                sent = 0;
            }
            let began = messages.follow(&piece);
            if network == Network::LosesAnswers && began.contains(&EXECUTE) {
                self.loses_answer.store(true, Ordering::SeqCst);
            }
            sent += piece.len() as u64;
            match network {
                Network::ResetsAfter(limit) if sent > limit => {
                    let beyond = (sent - limit).min(piece.len() as u64) as usize;
                    server.write_all(&piece[..piece.len() - beyond]).await?;
                    self.seen.reset.fetch_add(1, Ordering::SeqCst);
                    return Ok(End::Reset);
                }
                _ => server.write_all(&piece).await?,
            }
        }
        Ok(End::Closed)
    }

    /// Forwards what the server answers.
    async fn answers(
        &self,
        server: &mut (impl AsyncRead + Unpin),
        client: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<End> {
        let mut reader = Reader::new(self);
        let mut messages = Messages::of_server();
        let mut answered = 0;
        while let Some((piece, network)) = reader.next(server).await? {
            if matches!(network, Network::SilentAfter(limit) if answered >= limit) {
                continue;
            }
            let began = messages.follow(&piece);
            answered += began.iter().filter(|kind| **kind == READY_FOR_QUERY).count() as u64;
            if !self.loses_answer.load(Ordering::SeqCst) {
                client.write_all(&piece).await?;
            } else if began.contains(&READY_FOR_QUERY) {
                self.seen.answers_lost.fetch_add(1, Ordering::SeqCst);
                return Ok(End::Reset);
            }
        }
        Ok(End::Closed)
    }
}

/// Reads one direction, with the delays of the network.
struct Reader<'a> {
    connection: &'a Connection,
    network: watch::Receiver<Network>,
    held: Vec<u8>,
    ended: bool,
}

impl<'a> Reader<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            network: connection.network.clone(),
            held: Vec::new(),
            ended: false,
        }
    }

    /// The next piece to forward, and the state of the network; `None` at the end.
    async fn next(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<Option<(Vec<u8>, Network)>> {
        loop {
            let network = *self.network.borrow_and_update();
            if network != Network::Hangs && !self.held.is_empty() {
                let piece = self.held.drain(..self.held.len().min(MAX_PIECE)).collect();
                if let Network::Slow(delay) = network {
                    self.connection.seen.slowed.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(delay).await;
                }
                return Ok(Some((piece, network)));
            }
            if self.ended && self.held.is_empty() {
                return Ok(None);
            }
            // Without spare capacity a read takes 64 bytes at a time.
            self.held.reserve(MAX_PIECE);
            tokio::select! {
                read = from.read_buf(&mut self.held), if !self.ended => match read {
                    Ok(0) | Err(_) => self.ended = true,
                    Ok(read) if *self.network.borrow() == Network::Hangs => {
                        self.connection.seen.held.fetch_add(read as u64, Ordering::SeqCst);
                    }
                    Ok(_) => {}
                },
                changed = self.network.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }
}
