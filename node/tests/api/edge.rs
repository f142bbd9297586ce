//! The edge of the API. Connections that say nothing or the wrong thing are closed, and every limit
//! of docs/node-policy.md holds without harm to other clients.

use std::time::Duration;

use pithead_api::v1;
use pithead_rpc::listener::{ConnectionLimits, counted_ip, incoming};
use pithead_testkit::key;
use pithead_testkit::process::{Network, PATIENCE, TestNode, data_dir, next, reason};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

fn start(network: &Network, flags: &[&str]) -> (TestNode, TempDir) {
    let dir = data_dir();
    (TestNode::start_with(network, dir.path(), flags), dir)
}

/// Everything that the other side sends until it closes.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    // A reset is an end too.
    let _ = read.expect("an end in time");
    bytes
}

#[tokio::test]
async fn http_1_is_told_what_this_port_speaks() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{answer}"
    );
    assert!(answer.contains("grpcurl -plaintext"), "{answer}");
}

#[tokio::test]
async fn a_connection_without_its_preface_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ConnectionLimits {
        preface_timeout: Duration::from_millis(200),
        ..ConnectionLimits::default()
    };
    let mut accepted = incoming(listener, limits);
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    assert_eq!(read_all(&mut silent).await, b"");
    assert_eq!(read_all(&mut half).await, b"");
    // One that comes in two pieces is fine, and the server reads all of it.
    let mut good = TcpStream::connect(address).await.unwrap();
    good.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    good.write_all(b"SM\r\n\r\nand more").await.unwrap();
    let mut connection = accepted.next().await.unwrap().unwrap();
    let mut bytes = [0; 32];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more");
    assert_eq!(
        ConnectionLimits::default().preface_timeout,
        Duration::from_secs(10)
    );
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &["--rpc-max-connections-per-ip", "3"]);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(node.address()).await.unwrap());
    }
    let mut fourth = TcpStream::connect(node.address()).await.unwrap();
    assert_eq!(read_all(&mut fourth).await, b"", "it is closed at once");
    // A closed connection makes room for another.
    open.clear();
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut chain = node.chain();
    while chain
        .get_chain_info(v1::GetChainInfoRequest {})
        .await
        .is_err()
    {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[test]
fn addresses_are_counted_by_subscriber() {
    let counted = |text: &str| counted_ip(text.parse().unwrap()).to_string();
    assert_eq!(counted("192.0.2.1"), "192.0.2.1");
    assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(counted("2001:db8:1:2::9"), "2001:db8:1:2::");
    assert_ne!(counted("2001:db8:1:3::9"), "2001:db8:1:2::");
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let network = Network::easy();
    let flags = ["--rpc-requests-per-minute", "1", "--rpc-burst", "5"];
    let (node, _dir) = start(&network, &flags);
    for _ in 0..5 {
        node.info().await;
    }
    let status = node
        .chain()
        .get_chain_info(v1::GetChainInfoRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status), "RATE_LIMITED");
    let details = status.get_error_details();
    let delay = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(
        delay > Duration::ZERO && delay <= Duration::from_secs(60),
        "{delay:?}"
    );
    // Mining from this machine is exempt.
    for _ in 0..20 {
        node.mining()
            .list_workers(v1::ListWorkersRequest {})
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn oversize_messages_are_refused_but_blocks_may_be_large() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let request = v1::BuildTransactionRequest {
        sender: network.address(0),
        data: vec![0; 70 * 1024].into(),
        ..Default::default()
    };
    let status = node
        .transactions()
        .build_transaction(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    // The same size is no trouble where a block is expected …
    let submit = |size: usize| {
        let mut mining = node.mining();
        async move {
            let raw = vec![0; size].into();
            mining.submit_block(v1::SubmitBlockRequest { raw }).await
        }
    };
    let answer = submit(1_900_000).await.unwrap().into_inner();
    assert_eq!(answer.outcome(), v1::SubmitOutcome::Invalid);
    // … but a block has a limit, too.
    let status = submit(2_200_000).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_eq!(node.height().await, 0, "the node goes on");
}

#[tokio::test]
async fn streams_of_one_connection_are_limited() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &["--rpc-max-streams", "2"]);
    let mut streams = Vec::new();
    for _ in 0..2 {
        let answer = node
            .chain()
            .subscribe_chain(v1::SubscribeChainRequest::default())
            .await;
        let mut stream = answer.unwrap().into_inner();
        next(&mut stream).await;
        streams.push(stream);
    }
    // On the same connection the next one waits for a place …
    let mut chain = node.chain();
    let mut third = Box::pin(chain.get_chain_info(v1::GetChainInfoRequest {}));
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut third).await;
    assert!(waited.is_err(), "it waits");
    // … on another it does not.
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut elsewhere = v1::chain_service_client::ChainServiceClient::new(channel);
    elsewhere
        .get_chain_info(v1::GetChainInfoRequest {})
        .await
        .unwrap();
    streams.pop();
    tokio::time::timeout(PATIENCE, third)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn methods_and_services_that_do_not_exist_are_unimplemented() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let mut grpc = tonic::client::Grpc::new(node.channel());
    for path in [
        "/pithead.v1.ChainService/Nothing",
        "/pithead.v1.Nothing/Get",
    ] {
        grpc.ready().await.unwrap();
        let codec: tonic_prost::ProstCodec<v1::GetChainInfoRequest, v1::GetChainInfoResponse> =
            tonic_prost::ProstCodec::default();
        let request = tonic::Request::new(v1::GetChainInfoRequest {});
        let status = grpc
            .unary(request, path.parse().unwrap(), codec)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn garbage_after_the_preface_does_not_hurt_other_clients() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(&[0xff; 4_096]).await.unwrap();
    read_all(&mut stream).await;
    // Bytes that are no transaction.
    assert_eq!(node.submit_raw(vec![0xff; 300]).await.txid, "");
    node.extend(&node.next_block(&key(7).address, &network).await)
        .await;
}
