//! Accepts connections: within limits, and only those that begin with the HTTP/2 preface in time.
//! The HTTP library has no deadline for the preface, so it would hold a silent connection for
//! ever.
//!
//! Start at [`incoming`].

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// The first bytes of every HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The answer to an HTTP/1 client (RFC 9110 §15.5.22). It ends where the connection does.
const HTTP1_ANSWER: &[u8] = b"HTTP/1.1 426 Upgrade Required\r\n\
    upgrade: h2c\r\nconnection: upgrade, close\r\n\
    content-type: text/plain; charset=utf-8\r\n\r\n\
    This is the gRPC port of a Pithead node: it speaks HTTP/2 only.\n\
    Try: grpcurl -plaintext HOST:PORT list\n";
/// Bytes of an HTTP/1 request that are read and thrown away after the answer.
const DISCARD_BYTES_MAX: usize = 64 * 1024;
/// Accepted connections waiting for the server to take them.
const HANDOVER_MAX: usize = 64;
/// Pause after the system refuses to accept a connection, as it does when it is out of files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// How many connections may be open, and how long one may take to begin.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections in all (node policy: 1,024).
    pub total_max: usize,
    /// Connections from one IP address, or from one /64 of IPv6 (node policy: 32).
    pub per_ip_max: usize,
    /// Time within which the whole preface must have come (node policy: 10 s).
    pub preface_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total_max: 1_024,
            per_ip_max: 32,
            preface_timeout: Duration::from_secs(10),
        }
    }
}

/// The address that connections from `ip` are counted under. An IPv4-mapped address counts as its
/// IPv4 address, and all of a /64 of IPv6 as one address, because a /64 is what one subscriber gets
/// (node policy).
#[must_use]
pub fn counted_ip(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

/// How many connections are open.
#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    /// By the address that they count under.
    by_ip: HashMap<IpAddr, usize>,
}

/// The right to have one connection open; given back when dropped.
#[derive(Debug)]
struct ConnectionSlot {
    open: Arc<Mutex<OpenConnections>>,
    ip: IpAddr,
}

impl ConnectionSlot {
    /// `None` if as many connections are open as the limits allow.
    fn take(
        all: &Arc<Mutex<OpenConnections>>,
        ip: IpAddr,
        limits: &ConnectionLimits,
    ) -> Option<Self> {
        let mut open = all.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_ip.get(&ip).copied().unwrap_or(0);
        if open.total >= limits.total_max || here >= limits.per_ip_max {
            return None;
        }
        open.total += 1;
        open.by_ip.insert(ip, here + 1);
        Some(Self {
            open: Arc::clone(all),
            ip,
        })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(here) = open.by_ip.get_mut(&self.ip) {
            *here -= 1;
            if *here == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

/// An accepted connection whose preface was checked. The HTTP library reads the preface again from
/// its beginning.
#[derive(Debug)]
pub struct AcceptedConnection {
    /// Bytes of the preface that the HTTP library has read.
    replayed: usize,
    stream: TcpStream,
    remote: Option<SocketAddr>,
    _slot: ConnectionSlot,
}

impl Connected for AcceptedConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.stream.local_addr().ok(),
            remote_addr: self.remote,
        }
    }
}

impl AsyncRead for AcceptedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(left) = PREFACE.get(self.replayed..).filter(|left| !left.is_empty()) {
            let count = left.len().min(buffer.remaining());
            buffer.put_slice(left.get(..count).unwrap_or_default());
            self.replayed += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for AcceptedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The connections that `listener` accepts within the limits, each with its preface checked.
/// Accepting ends when the stream is dropped.
pub fn incoming(
    listener: TcpListener,
    limits: ConnectionLimits,
) -> ReceiverStream<io::Result<AcceptedConnection>> {
    let (sender, receiver) = mpsc::channel(HANDOVER_MAX);
    tokio::spawn(accept_all(listener, limits, sender));
    ReceiverStream::new(receiver)
}

async fn accept_all(
    listener: TcpListener,
    limits: ConnectionLimits,
    sender: mpsc::Sender<io::Result<AcceptedConnection>>,
) {
    let open_connections = Arc::new(Mutex::new(OpenConnections::default()));
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            // This connection is gone; the next one may be fine.
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                // Logged once: the state lasts until files are closed.
                if !failing {
                    tracing::warn!(%error, "accepting a connection failed");
                }
                failing = true;
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_BACKOFF) => continue,
                    () = sender.closed() => return,
                }
            }
        };
        failing = false;
        let ip = counted_ip(remote.ip());
        let Some(slot) = ConnectionSlot::take(&open_connections, ip, &limits) else {
            tracing::debug!(%remote, "connection refused: too many are open");
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            let opened = tokio::time::timeout(limits.preface_timeout, open(stream, remote, slot));
            match opened.await {
                Ok(Ok(Some(connection))) => {
                    // The server may have stopped meanwhile.
                    let _ = sender.send(Ok(connection)).await;
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%remote, %error, "connection lost"),
                Err(_) => tracing::debug!(%remote, "no HTTP/2 preface in time"),
            }
        });
    }
}

/// Whether an error of `accept` is about the connection and not about the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Reads the preface; `None` if other bytes came instead.
async fn open(
    mut stream: TcpStream,
    remote: SocketAddr,
    slot: ConnectionSlot,
) -> io::Result<Option<AcceptedConnection>> {
    stream.set_nodelay(true)?;
    let mut seen = [0; PREFACE.len()];
    let mut count = 0;
    while let Some(rest) = seen.get_mut(count..).filter(|rest| !rest.is_empty()) {
        let read = stream.read(rest).await?;
        if read == 0 {
            return Ok(None);
        }
        count += read;
        if !PREFACE.starts_with(seen.get(..count).unwrap_or_default()) {
            // A capital letter begins an HTTP/1 method. No other client understands the answer.
            if seen.first().is_some_and(u8::is_ascii_uppercase) {
                refuse_http1(&mut stream).await?;
            }
            return Ok(None);
        }
    }
    Ok(Some(AcceptedConnection {
        replayed: 0,
        stream,
        remote: Some(remote),
        _slot: slot,
    }))
}

/// Tells an HTTP/1 client what this port is, then reads the rest of its request. Closing a
/// connection with bytes unread resets it, and the answer could be lost with it.
async fn refuse_http1(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(HTTP1_ANSWER).await?;
    stream.shutdown().await?;
    let mut discarded = 0;
    let mut buffer = [0; 1_024];
    while discarded < DISCARD_BYTES_MAX {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => discarded += count,
        }
    }
    Ok(())
}
