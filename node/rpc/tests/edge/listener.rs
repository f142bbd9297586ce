//! The listener on real sockets. A connection that does not open as HTTP/2 in time is closed, an
//! HTTP/1 client is told what the port speaks, and no address takes all connections.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pithead_rpc::listener::{self, ConnectionLimits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::InterceptorLayer;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Longest wait for anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);
/// A deadline that no test reaches by accident.
const NEVER: Duration = Duration::from_secs(3_600);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame: what a client sends right after the preface.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A server with only the health service behind the listener.
struct Edge {
    address: SocketAddr,
    /// The remote addresses that requests came from, as handlers see them.
    callers: Arc<Mutex<Vec<SocketAddr>>>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Edge {
    async fn start(limits: ConnectionLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let callers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let seen = Arc::clone(&callers);
        let note = move |request: Request<()>| -> Result<Request<()>, Status> {
            seen.lock().unwrap().push(request.remote_addr().unwrap());
            Ok(request)
        };
        let (_, health) = tonic_health::server::health_reporter();
        let (stop, stopped) = oneshot::channel();
        let server = Server::builder()
            .layer(InterceptorLayer::new(note))
            .add_service(health)
            .serve_with_incoming_shutdown(listener::incoming(listener, limits), async {
                let _ = stopped.await;
            });
        Self {
            address,
            callers,
            stop,
            server: tokio::spawn(server),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A socket from this address of the machine's own.
    async fn connect_from(&self, ip: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn check_health(&self) -> Result<(), Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = HealthClient::new(channel);
        client.check(HealthCheckRequest::default()).await.map(drop)
    }
}

fn limits(total_max: usize, per_ip_max: usize, preface_timeout: Duration) -> ConnectionLimits {
    ConnectionLimits {
        total_max,
        per_ip_max,
        preface_timeout,
    }
}

/// Everything that the other side sends until it closes; `None` if it resets.
async fn read_out(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes));
    match read.await.expect("closed in time") {
        Ok(_) => Some(bytes),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            None
        }
    }
}

/// Whether the server takes this socket: it answers a client's opening.
async fn is_served(socket: &mut TcpStream) -> bool {
    let mut opening = PREFACE.to_vec();
    opening.extend(SETTINGS);
    if socket.write_all(&opening).await.is_err() {
        return false;
    }
    let mut head = [0; 9];
    let read = tokio::time::timeout(PATIENCE, socket.read_exact(&mut head));
    match read.await.expect("an answer or an end in time") {
        Ok(_) => {
            assert_eq!(head[3], 4, "the server opens with SETTINGS, too");
            true
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_grpc_client_is_served_and_its_address_known() {
    let edge = Edge::start(ConnectionLimits::default()).await;
    edge.check_health().await.unwrap();
    let callers = edge.callers.lock().unwrap();
    assert_eq!(callers.len(), 1);
    assert!(callers[0].ip().is_loopback() && callers[0].port() != 0);
}

#[tokio::test]
async fn a_silent_connection_is_cut_at_the_deadline() {
    let deadline = Duration::from_millis(300);
    let edge = Edge::start(limits(100, 100, deadline)).await;
    let opened = Instant::now();
    let mut silent = edge.connect().await;
    // One byte short is as silent as nothing: the deadline is for all of it.
    let mut slow = edge.connect().await;
    slow.write_all(&PREFACE[..23]).await.unwrap();
    assert_eq!(read_out(&mut silent).await.unwrap_or_default(), b"");
    assert!(opened.elapsed() >= deadline, "cut too early");
    assert_eq!(read_out(&mut slow).await.unwrap_or_default(), b"");
    assert!(opened.elapsed() >= deadline, "cut too early");
}

#[tokio::test]
async fn the_deadline_ends_with_the_preface() {
    let deadline = Duration::from_millis(300);
    let edge = Edge::start(limits(100, 100, deadline)).await;
    let mut open = edge.connect().await;
    assert!(is_served(&mut open).await);
    // A silent one that came later is cut; the first still answers a ping.
    let mut silent = edge.connect().await;
    read_out(&mut silent).await;
    let mut ping = vec![0, 0, 8, 6, 0, 0, 0, 0, 0];
    ping.extend([7; 8]);
    open.write_all(&ping).await.unwrap();
    let mut answers = Vec::new();
    while !answers.windows(8).any(|bytes| bytes == [7; 8]) {
        let read = open.read_buf(&mut answers);
        let count = tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_ne!(count, 0, "it was closed");
    }
}

#[tokio::test]
async fn a_preface_in_pieces_is_whole() {
    let edge = Edge::start(limits(100, 100, NEVER)).await;
    let mut socket = edge.connect().await;
    socket.set_nodelay(true).unwrap();
    for piece in PREFACE[..20].chunks(3) {
        socket.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    // The rest comes with the first frame: not a byte of it may be lost.
    let mut rest = PREFACE[20..].to_vec();
    rest.extend(SETTINGS);
    socket.write_all(&rest).await.unwrap();
    let mut head = [0; 9];
    let read = tokio::time::timeout(PATIENCE, socket.read_exact(&mut head));
    read.await.unwrap().unwrap();
    assert_eq!(head[3], 4, "SETTINGS");
}

#[tokio::test]
async fn an_http1_client_is_told_what_this_port_is() {
    let edge = Edge::start(limits(100, 100, NEVER)).await;
    let with_body = format!(
        "POST /pithead.v1.ChainService/GetBlock HTTP/1.1\r\nhost: node\r\n\
         content-length: 32768\r\n\r\n{}",
        "x".repeat(32_768)
    );
    // PRI and PUT share their first letter with the preface.
    let put = "PUT / HTTP/1.1\r\nhost: node\r\n\r\n";
    for request in ["GET / HTTP/1.1\r\nhost: node\r\n\r\n", put, &with_body] {
        let mut socket = edge.connect().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let answer = read_out(&mut socket).await.expect("an end, not a reset");
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 426 "), "{answer}");
        assert!(head.contains("connection: upgrade, close"), "{answer}");
        assert!(body.contains("gRPC port of a Pithead node"), "{answer}");
    }
}

#[tokio::test]
async fn an_http1_client_may_end_its_request_after_the_answer() {
    let edge = Edge::start(limits(100, 100, NEVER)).await;
    let mut socket = edge.connect().await;
    let head = b"POST / HTTP/1.1\r\nhost: node\r\ncontent-length: 32768\r\n\r\n";
    socket.write_all(head).await.unwrap();
    let answer = read_out(&mut socket).await.expect("an end, not a reset");
    assert!(answer.starts_with(b"HTTP/1.1 426 "));
    // Where sending fails, clients tell that instead of the answer.
    for _ in 0..8 {
        let sent = socket.write_all(&[b'x'; 4_096]).await;
        sent.expect("the other side still reads");
    }
}

#[tokio::test]
async fn an_endless_http1_request_is_cut_off() {
    // The client never stops sending; the deadline would not help here.
    let edge = Edge::start(limits(100, 100, NEVER)).await;
    let mut socket = edge.connect().await;
    socket.write_all(b"GET /").await.unwrap();
    let endless = async { while socket.write_all(&[b'x'; 4_096]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, endless).await.unwrap();
}

#[tokio::test]
async fn other_protocols_are_closed_without_an_answer() {
    let edge = Edge::start(limits(100, 100, NEVER)).await;
    let tls: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let almost: &[u8] = b"\x00PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for bytes in [tls, almost] {
        let mut socket = edge.connect().await;
        socket.write_all(bytes).await.unwrap();
        assert_eq!(read_out(&mut socket).await.unwrap_or_default(), b"");
    }
    // A client that leaves in the middle of the preface gives its place back.
    let mut socket = edge.connect().await;
    socket.write_all(&PREFACE[..10]).await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read_out(&mut socket).await.unwrap_or_default(), b"");
    edge.check_health().await.unwrap();
}

#[tokio::test]
async fn the_33rd_connection_of_an_address_is_refused() {
    let edge = Edge::start(ConnectionLimits {
        preface_timeout: NEVER,
        ..ConnectionLimits::default()
    })
    .await;
    // Half of them are silent: connections without a preface count as well.
    let mut open = Vec::new();
    for index in 0..32 {
        let mut socket = edge.connect().await;
        if index % 2 == 0 {
            assert!(is_served(&mut socket).await, "connection {index}");
        }
        open.push(socket);
    }
    let mut refused = edge.connect().await;
    assert!(!is_served(&mut refused).await);
    // Another address has places of its own.
    assert!(is_served(&mut edge.connect_from("127.0.0.2").await).await);
    // Both kinds give their place back, as soon as the server notices.
    for _served_then_silent in [true, false] {
        drop(open.remove(0));
        let started = Instant::now();
        loop {
            let mut next = edge.connect().await;
            if is_served(&mut next).await {
                open.push(next);
                break;
            }
            assert!(started.elapsed() < PATIENCE, "its place is lost");
        }
        assert!(
            !is_served(&mut edge.connect().await).await,
            "only one was free"
        );
    }
}

#[tokio::test]
async fn connections_are_limited_in_all() {
    let edge = Edge::start(limits(2, 32, NEVER)).await;
    let mut first = edge.connect().await;
    let mut second = edge.connect_from("127.0.0.2").await;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    assert!(!is_served(&mut edge.connect_from("127.0.0.3").await).await);
    assert!(edge.check_health().await.is_err());
}

#[tokio::test]
async fn a_stopped_server_closes_its_port() {
    let edge = Edge::start(limits(100, 100, NEVER)).await;
    // One in the middle of its preface holds nothing up.
    let mut waiting = edge.connect().await;
    waiting.write_all(&PREFACE[..10]).await.unwrap();
    edge.check_health().await.unwrap();
    edge.stop.send(()).unwrap();
    let ended = tokio::time::timeout(PATIENCE, edge.server);
    ended.await.unwrap().unwrap().unwrap();
    let started = Instant::now();
    while TcpStream::connect(edge.address).await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "the port is still open");
        tokio::task::yield_now().await;
    }
}
