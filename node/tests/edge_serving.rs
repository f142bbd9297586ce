//! The edge of a running node: that the program puts listener, roles and limits
//! in front of its services, and writes its log as asked.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pithead_api::v1;
use pithead_api::v1::admin_service_client::AdminServiceClient;
use pithead_api::v1::mining_service_client::MiningServiceClient;
use serde_json::Value;
use support::{Network, PATIENCE, TestNode, data_dir, node_command, reason};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

async fn chain_info(node: &TestNode) -> Result<(), Status> {
    let request = v1::GetChainInfoRequest::default();
    node.chain().get_chain_info(request).await.map(drop)
}

async fn check_health(channel: Channel) -> Result<(), Status> {
    let request = HealthCheckRequest::default();
    HealthClient::new(channel).check(request).await.map(drop)
}

async fn list_workers(mut client: MiningServiceClient<support::Line>) -> Result<(), Status> {
    let request = v1::ListWorkersRequest::default();
    client.list_workers(request).await.map(drop)
}

/// Calls a method by its path, with a message of no fields.
async fn call_path(channel: Channel, path: &'static str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    client.unary(Request::new(()), path, codec).await.map(drop)
}

#[tokio::test]
async fn closed_services_open_to_their_tokens_only() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    chain_info(&node).await.unwrap();
    check_health(node.channel()).await.unwrap();

    let request = v1::ListWorkersRequest::default();
    let bare = MiningServiceClient::new(node.channel())
        .list_workers(request)
        .await;
    let status = bare.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::Unauthenticated, "TOKEN_REQUIRED".into())
    );
    assert!(
        status
            .message()
            .contains(&dir.path().join("mine.token").display().to_string())
    );
    let with = |token: &str| MiningServiceClient::new(node.line_with(token));
    let status = list_workers(with(&"00".repeat(32))).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::PermissionDenied, "TOKEN_REFUSED".into())
    );
    let status = list_workers(with("secret")).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::Unauthenticated, "TOKEN_MALFORMED".into())
    );
    list_workers(with(&node.token("mine"))).await.unwrap();
    list_workers(with(&node.token("admin"))).await.unwrap();

    let mut admin = AdminServiceClient::new(node.line_with(&node.token("mine")));
    let status = admin.stop(v1::StopRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    chain_info(&node).await.expect("it was not stopped");
}

#[tokio::test]
async fn mining_can_be_opened_and_administration_can_not() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start_with(&network, dir.path(), &["--mine-without-token"]);
    let request = v1::ListWorkersRequest::default();
    let mut mining = MiningServiceClient::new(node.channel());
    mining.list_workers(request).await.unwrap();
    let mut admin = AdminServiceClient::new(node.channel());
    let status = admin.stop(v1::StopRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn methods_that_do_not_exist_are_unimplemented() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    for path in [
        "/pithead.v1.ChainService/NoSuchMethod",
        "/pithead.v1.NoSuchService/Method",
        "/no.such.Service/Method",
    ] {
        let status = call_path(node.channel(), path).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
    // No spelling of a closed method gets around its role.
    for path in [
        "//pithead.v1.AdminService/Stop",
        "/pithead.v1.AdminService%2FStop",
        "/pithead.v1.%41dminService/Stop",
        "/pithead.v1.AdminService//Stop",
        "/pithead.v1.AdminService/Stop/",
        "/x/../pithead.v1.AdminService/Stop",
    ] {
        let status = call_path(node.channel(), path).await.unwrap_err();
        let refused = [Code::Unimplemented, Code::Unauthenticated].contains(&status.code());
        assert!(refused, "{path}: {status:?}");
    }
    chain_info(&node).await.expect("it was not stopped");
}

#[tokio::test]
async fn requests_are_limited_but_for_mining_on_this_machine() {
    let network = Network::easy();
    let dir = data_dir();
    // One a minute: none comes back during the test.
    let flags = ["--rpc-requests-per-minute", "1", "--rpc-burst", "4"];
    let node = TestNode::start_with(&network, dir.path(), &flags);
    for _ in 0..3 {
        chain_info(&node).await.unwrap();
    }
    // Health counts as well, and so does another connection.
    check_health(node.channel()).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address())).unwrap();
    for status in [
        chain_info(&node).await.unwrap_err(),
        check_health(endpoint.connect().await.unwrap())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason(&status), "RATE_LIMITED");
        let details = status.get_error_details();
        let delay = details.retry_info().unwrap().retry_delay.unwrap();
        assert!(
            delay > Duration::ZERO && delay <= Duration::from_secs(60),
            "{delay:?}"
        );
    }
    for _ in 0..10 {
        list_workers(node.mining()).await.unwrap();
    }
}

#[tokio::test]
async fn messages_and_headers_are_limited() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let request = |length: usize| v1::GetAccountRequest {
        address: "a".repeat(length),
    };
    // What fits is read, and refused for what it says.
    let status = node.chain().get_account(request(60_000)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().len() < 1_000,
        "the answer does not repeat it"
    );
    let status = node.chain().get_account(request(70_000)).await.unwrap_err();
    let refused = [Code::OutOfRange, Code::ResourceExhausted].contains(&status.code());
    assert!(refused, "{status:?}");

    let mut request = Request::new(v1::GetChainInfoRequest::default());
    let value = "x".repeat(20_000).parse().unwrap();
    request.metadata_mut().insert("x-long", value);
    node.chain().get_chain_info(request).await.unwrap_err();
    chain_info(&node).await.expect("it serves on");
}

/// A node whose log is read line by line as JSON; killed when dropped.
struct LoggingNode {
    child: Child,
    lines: Receiver<Value>,
}

impl LoggingNode {
    /// Starts it under a limit on open files.
    fn start(network: &Network, dir: &std::path::Path, files_max: u32, flags: &[&str]) -> Self {
        let node = node_command(network, dir);
        let mut command = Command::new("sh");
        command.arg("-c");
        command.arg(format!("ulimit -n {files_max} && exec \"$0\" \"$@\""));
        command.arg(node.get_program()).args(node.get_args());
        command.args(["--log-format", "json"]).args(flags);
        for (name, value) in node.get_envs() {
            assert_eq!(value, None, "the environment is only cleaned");
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that says this; every line has to be an object on the way.
    fn wait_for(&self, message: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect(message);
            for key in ["timestamp", "level", "message"] {
                assert!(line[key].is_string(), "no {key} in {line}");
            }
            if line["message"] == message {
                return line;
            }
        }
    }
}

impl Drop for LoggingNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_out_of_files_does_not_end_the_listener() {
    let network = Network::easy();
    let dir = data_dir();
    let flags = ["--rpc-max-connections-per-ip", "1000"];
    let node = LoggingNode::start(&network, dir.path(), 64, &flags);
    let address = node.wait_for("serving the API")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    // They wait for a preface, each with a file of the node's.
    let crowd: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    let line = node.wait_for("accepting a connection failed");
    assert_eq!(line["level"], "WARN");
    drop(crowd);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let served = async { check_health(endpoint.connect().await.unwrap()).await };
    tokio::time::timeout(PATIENCE, served)
        .await
        .unwrap()
        .unwrap();
}
