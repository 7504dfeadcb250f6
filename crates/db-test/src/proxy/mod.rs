//! A TCP proxy between a client and PostgreSQL, which simulates network failures.
//!
//! `mod.rs` listens and switches the network's state; `server_address.rs` finds the server; `connection.rs`
//! is one connection; `messages.rs` finds the messages of PostgreSQL's protocol.

mod connection;
mod messages;
mod server_address;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::server_address::ServerAddress;
use crate::SetupError;

/// The state of the network between client and server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Everything is forwarded.
    #[default]
    Passes,
    /// Existing connections are closed, and new ones refused.
    Cut,
    /// Each piece of at most 16 KiB, in both directions, is delayed by this.
    Slow(Duration),
    /// Connections are accepted and read from, but nothing is forwarded. The bytes are forwarded
    /// afterwards, even if the client has given up meanwhile, like a delayed packet.
    Hangs,
    /// Each connection is reset (RST) when the client has sent this number of bytes on it, counted from now.
    /// These bytes reach the server.
    ResetsAfter(u64),
    /// The answer to a statement with parameters is lost: when the client's connection is reset, the
    /// server has run the statement, and committed it unless it is part of a transaction. Opening a
    /// connection and preparing statements still work. Does not support TLS.
    LosesAnswers,
    /// On each connection the server answers this number of times, the login included, and then stays silent. The
    /// connection stays open. Does not support TLS.
    SilentAfter(u64),
}

/// Counts of what has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyStats {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Pieces that were delayed.
    pub slowed: u64,
    /// Bytes that were held back.
    pub held: u64,
    /// Connections that were reset while the client was sending.
    pub reset: u64,
    /// Answers that were lost.
    pub answers_lost: u64,
}

/// A TCP proxy to PostgreSQL that simulates network failures.
///
/// It listens on one port of the loopback address. Dropping it closes all its connections. It runs on a
/// separate thread, so a test that blocks does not stop it.
pub struct Proxy {
    url: String,
    commands: Option<mpsc::UnboundedSender<Command>>,
    seen: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// The new state of the network, and where to report that it is set.
type Command = (Network, std::sync::mpsc::Sender<Result<(), SetupError>>);

/// The counters of [`ProxyStats`].
#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    slowed: AtomicU64,
    held: AtomicU64,
    reset: AtomicU64,
    answers_lost: AtomicU64,
}

impl Proxy {
    /// Creates a proxy to the server of a connection URL, which is reached by TCP or by a Unix socket. The
    /// server does not need to run.
    ///
    /// # Errors
    /// When the URL is invalid, or no port or no thread is available.
    pub fn to(url: &str) -> Result<Self, SetupError> {
        let server = ServerAddress::of(url)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SetupError::proxy("creating its runtime"))?;
        let listener = {
            let _inside = runtime.enter();
            Listener::open()?
        };
        let (url, seen) = (
            server_address::through_proxy(url, listener.address),
            Arc::new(Counters::default()),
        );
        let (commands, incoming) = mpsc::unbounded_channel();
        let counters = Arc::clone(&seen);
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(run(listener, server, incoming, counters)))
            .map_err(SetupError::proxy("starting its thread"))?;
        Ok(Self {
            url,
            commands: Some(commands),
            seen,
            thread: Some(thread),
        })
    }

    /// The connection URL that goes through the proxy: the same user, password, database and options.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets the state of the network. Returns when it is in effect: after `Cut`, nothing is connected.
    ///
    /// # Errors
    /// When listening on the port again fails.
    pub fn set(&self, network: Network) -> Result<(), SetupError> {
        let gone = || SetupError::proxy("setting it")(std::io::ErrorKind::BrokenPipe.into());
        let (reply, done) = std::sync::mpsc::channel();
        self.commands
            .as_ref()
            .ok_or_else(gone)?
            .send((network, reply))
            .map_err(|_| gone())?;
        // Blocks for microseconds only: the proxy has its own thread.
        done.recv().map_err(|_| gone())?
    }

    /// Returns the counts so far.
    pub fn seen(&self) -> ProxyStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        ProxyStats {
            accepted: of(&self.seen.accepted),
            slowed: of(&self.seen.slowed),
            held: of(&self.seen.held),
            reset: of(&self.seen.reset),
            answers_lost: of(&self.seen.answers_lost),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.commands.take());
        // A panic of the thread was printed already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Accepts connections and executes commands until the proxy is dropped.
async fn run(
    mut listener: Listener,
    server: ServerAddress,
    mut commands: mpsc::UnboundedReceiver<Command>,
    seen: Arc<Counters>,
) {
    let (setting, network) = watch::channel(Network::Passes);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => {
                let Some((network, reply)) = command else { return };
                let done = listener.set(network != Network::Cut);
                if network == Network::Cut {
                    connections.shutdown().await;
                }
                setting.send_replace(network);
                // The sender may have been dropped.
                let _ = reply.send(done);
            }
            client = listener.next() => {
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connection::serve(client, server.clone(), network.clone(), Arc::clone(&seen)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The proxy's port, whose listener can be closed and opened again.
struct Listener {
    address: SocketAddr,
    /// Bound but not listening: reserves the port while the listener is closed.
    _reserved: TcpSocket,
    listener: Option<TcpListener>,
}

impl Listener {
    fn open() -> Result<Self, SetupError> {
        let open = || {
            let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            let address = reserved.local_addr()?;
            Ok(Self {
                address,
                _reserved: reserved,
                listener: Some(listen(address)?),
            })
        };
        open().map_err(SetupError::proxy("listening"))
    }

    /// Opens or closes the listener. While it is closed, connections are refused, including those that are
    /// not accepted yet.
    fn set(&mut self, open: bool) -> Result<(), SetupError> {
        if !open {
            self.listener = None;
        } else if self.listener.is_none() {
            self.listener = Some(listen(self.address).map_err(SetupError::proxy("listening again"))?);
        }
        Ok(())
    }

    /// Waits for the next connection, forever while the listener is closed.
    async fn next(&self) -> tokio::net::TcpStream {
        let Some(listener) = &self.listener else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((client, _)) => return client,
                // The client has gone, or no file descriptor is left: try again.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

/// Binds a port that other sockets of this user may share.
fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    bind(address)?.listen(128)
}
