//! The edge of a running node. No other spelling of a method's path gets around its role, long
//! headers are refused, and the node serves on after it ran out of files.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use pithead_api::v1;
use pithead_testkit::process::{Network, PATIENCE, TestNode, data_dir, node_command};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

async fn chain_info(node: &TestNode) -> Result<(), Status> {
    let request = v1::GetChainInfoRequest::default();
    node.chain().get_chain_info(request).await.map(drop)
}

async fn check_health(channel: Channel) -> Result<(), Status> {
    let request = HealthCheckRequest::default();
    HealthClient::new(channel).check(request).await.map(drop)
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
async fn no_spelling_of_a_closed_method_gets_around_its_role() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
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
async fn headers_are_limited() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
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

    /// The next log line with this message. All lines before it have to be JSON objects, too.
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
    // For each of these connections the node holds a file open while it waits for the preface.
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
