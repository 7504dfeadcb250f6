//! How does a test stand between a client and its server, and let the network fail?
//!
//! `mod.rs` listens and is told what to do; `route.rs` finds the server; `link.rs` is one connection;
//! `messages.rs` follows PostgreSQL's protocol.

mod link;
mod messages;
mod route;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::route::Route;
use crate::SetupError;

/// What the network between client and server does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Passes on everything.
    #[default]
    Passes,
    /// Every connection breaks, and new ones are refused.
    Cut,
    /// Each piece of at most 16 KiB, either way, takes so much longer.
    Slow(Duration),
    /// Connections are accepted and read from, and nothing arrives anywhere. What is held back goes
    /// on once this is over, also of a client that gave up meanwhile: as a packet that was delayed.
    Hangs,
    /// Each connection is reset (RST) once the client has sent this number of bytes on it, counted from now
    /// on; those bytes reach the server.
    ResetsAfter(u64),
    /// The answer to a statement with parameters is lost: the server has acted, and committed where
    /// the statement is a transaction of its own, when the client's connection is reset. Opening a
    /// connection and preparing statements go well. Not over TLS.
    LosesAnswers,
}

/// What has happened so far. It only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Pieces that were passed on late.
    pub slowed: u64,
    /// Bytes that were held back.
    pub held: u64,
    /// Connections that were reset for what the client sent.
    pub reset: u64,
    /// Answers that were lost.
    pub answers_lost: u64,
}

/// A TCP proxy to a PostgreSQL that can fail.
///
/// It listens on a port of the loopback address, the same for as long as it lives, and ends, with all
/// its connections, when dropped. It runs on a thread of its own: a test that blocks does not stop it.
pub struct Proxy {
    url: String,
    orders: Option<mpsc::UnboundedSender<Order>>,
    seen: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// What the network is to do, and where to say that it does.
type Order = (Network, std::sync::mpsc::Sender<Result<(), SetupError>>);

/// [`Seen`], as it is counted.
#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    slowed: AtomicU64,
    held: AtomicU64,
    reset: AtomicU64,
    answers_lost: AtomicU64,
}

impl Proxy {
    /// Stands before the server that a connection URL names, be it reached by TCP or by a Unix socket.
    /// The server need not run.
    ///
    /// # Errors
    /// When the URL is not understood, or there is no port or no thread to be had.
    pub fn to(url: &str) -> Result<Self, SetupError> {
        let route = Route::of(url)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SetupError::proxy("making its runtime"))?;
        let door = {
            let _inside = runtime.enter();
            Door::open()?
        };
        let (url, seen) = (route::by_way_of(url, door.address), Arc::new(Counters::default()));
        let (orders, incoming) = mpsc::unbounded_channel();
        let counters = Arc::clone(&seen);
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(run(door, route, incoming, counters)))
            .map_err(SetupError::proxy("starting its thread"))?;
        Ok(Self {
            url,
            orders: Some(orders),
            seen,
            thread: Some(thread),
        })
    }

    /// The connection URL that goes through the proxy: the same user, password, database and options.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the network pass, or fail in one way. Returns when it does: after `Cut`, nothing is
    /// connected.
    ///
    /// # Errors
    /// When the port cannot be listened on again.
    pub fn set(&self, network: Network) -> Result<(), SetupError> {
        let gone = || SetupError::proxy("setting it")(std::io::ErrorKind::BrokenPipe.into());
        let (reply, done) = std::sync::mpsc::channel();
        self.orders
            .as_ref()
            .ok_or_else(gone)?
            .send((network, reply))
            .map_err(|_| gone())?;
        // Blocks for microseconds, on a thread that is not the proxy's.
        done.recv().map_err(|_| gone())?
    }

    /// Tells what has happened so far.
    pub fn seen(&self) -> Seen {
        let of = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Seen {
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
        drop(self.orders.take());
        // One that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Accepts connections and carries out orders until there is nobody left to give any.
async fn run(mut door: Door, route: Route, mut orders: mpsc::UnboundedReceiver<Order>, seen: Arc<Counters>) {
    let (setting, network) = watch::channel(Network::Passes);
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((network, reply)) = order else { return };
                let done = door.set(network != Network::Cut);
                if network == Network::Cut {
                    links.shutdown().await;
                }
                setting.send_replace(network);
                // Who gave the order may have gone.
                let _ = reply.send(done);
            }
            client = door.next() => {
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                links.spawn(link::serve(client, route.clone(), network.clone(), Arc::clone(&seen)));
            }
            Some(_) = links.join_next() => {}
        }
    }
}

/// The port, and who listens on it.
struct Door {
    address: SocketAddr,
    /// Bound and not listening: keeps the port while nobody listens, so that no other process gets it.
    _keeper: TcpSocket,
    listener: Option<TcpListener>,
}

impl Door {
    fn open() -> Result<Self, SetupError> {
        let open = || {
            let keeper = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            let address = keeper.local_addr()?;
            Ok(Self {
                address,
                _keeper: keeper,
                listener: Some(listen(address)?),
            })
        };
        open().map_err(SetupError::proxy("listening"))
    }

    /// Opens or closes. Closed, connections are refused, and so are those not accepted yet.
    fn set(&mut self, open: bool) -> Result<(), SetupError> {
        if !open {
            self.listener = None;
        } else if self.listener.is_none() {
            self.listener = Some(listen(self.address).map_err(SetupError::proxy("listening again"))?);
        }
        Ok(())
    }

    /// The next connection; none comes while it is closed.
    async fn next(&self) -> tokio::net::TcpStream {
        let Some(listener) = &self.listener else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((client, _)) => return client,
                // Gone before it was accepted, or no file descriptor is left: the next one, soon.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

/// Binds a port that several sockets of this user may share.
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
