//! What does the proxy do with one connection?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::messages::{EXECUTE, Messages, READY_FOR_QUERY};
use super::route::Route;
use super::{Counters, Network};

/// What is passed on at a time.
const PIECE: usize = 16 << 10;

/// How a connection ends.
enum End {
    /// Both ends are closed.
    Closed,
    /// The client gets an RST.
    Reset,
}

/// Passes on what client and server say until one of them or the network ends it.
pub(super) async fn serve(
    mut client: TcpStream,
    route: Route,
    network: watch::Receiver<Network>,
    seen: Arc<Counters>,
) {
    // Dropped, the client sees the server gone.
    let Ok(mut server) = route.connect().await else {
        return;
    };
    // Pieces are small; waiting for more would slow down what is meant to pass.
    let _ = client.set_nodelay(true);
    let link = Link {
        network,
        seen,
        asked: AtomicBool::new(false),
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = tokio::io::split(&mut server);
    let end = tokio::select! {
        end = link.requests(&mut from_client, &mut to_server) => end,
        end = link.answers(&mut from_server, &mut to_client) => end,
    };
    if matches!(end, Ok(End::Reset)) {
        // Without lingering, closing sends an RST.
        let _ = client.set_zero_linger();
    }
}

struct Link {
    network: watch::Receiver<Network>,
    seen: Arc<Counters>,
    /// True from a statement whose answer is to be lost.
    asked: AtomicBool,
}

impl Link {
    /// Passes on what the client sends.
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
                self.asked.store(true, Ordering::SeqCst);
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

    /// Passes on what the server answers.
    async fn answers(
        &self,
        server: &mut (impl AsyncRead + Unpin),
        client: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<End> {
        let mut reader = Reader::new(self);
        let mut messages = Messages::of_server();
        while let Some((piece, _)) = reader.next(server).await? {
            let began = messages.follow(&piece);
            if !self.asked.load(Ordering::SeqCst) {
                client.write_all(&piece).await?;
            } else if began.contains(&READY_FOR_QUERY) {
                self.seen.answers_lost.fetch_add(1, Ordering::SeqCst);
                return Ok(End::Reset);
            }
        }
        Ok(End::Closed)
    }
}

/// Reads one direction, as late as the network has it.
struct Reader<'a> {
    link: &'a Link,
    network: watch::Receiver<Network>,
    held: Vec<u8>,
    ended: bool,
}

impl<'a> Reader<'a> {
    fn new(link: &'a Link) -> Self {
        Self {
            link,
            network: link.network.clone(),
            held: Vec::new(),
            ended: false,
        }
    }

    /// The next piece to pass on, and under which conditions; none at the end.
    async fn next(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<Option<(Vec<u8>, Network)>> {
        loop {
            let network = *self.network.borrow_and_update();
            if network != Network::Hangs && !self.held.is_empty() {
                let piece = self.held.drain(..self.held.len().min(PIECE)).collect();
                if let Network::Slow(delay) = network {
                    self.link.seen.slowed.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(delay).await;
                }
                return Ok(Some((piece, network)));
            }
            if self.ended && self.held.is_empty() {
                return Ok(None);
            }
            // Else a read takes 64 bytes at a time.
            self.held.reserve(PIECE);
            tokio::select! {
                read = from.read_buf(&mut self.held), if !self.ended => match read {
                    Ok(0) | Err(_) => self.ended = true,
                    Ok(read) if *self.network.borrow() == Network::Hangs => {
                        self.link.seen.held.fetch_add(read as u64, Ordering::SeqCst);
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
