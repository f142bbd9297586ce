//! Access to the API. Methods for mining and administration need a token, all others need none, and
//! every service offers health, reflection and compression.

use pithead_api::v1;
use pithead_api::v1::admin_service_client::AdminServiceClient;
use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_rpc::auth::{AccessRole, role_of_method};
use pithead_testkit::process::{AuthorizedChannel, Network, TestNode, data_dir, reason};
use prost::Message as _;
use tempfile::TempDir;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn start(network: &Network) -> (TestNode, TempDir) {
    let dir = data_dir();
    (TestNode::start(network, dir.path()), dir)
}

#[tokio::test]
async fn methods_that_are_not_served_yet_say_so() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut chain = node.chain();
    let statuses = [chain
        .get_account_proof(v1::GetAccountProofRequest::default())
        .await
        .unwrap_err()];
    for status in statuses {
        assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
        assert_eq!(reason(&status), "NOT_SERVED_YET");
        assert!(
            status.message().contains("not served by this version"),
            "{status:?}"
        );
    }
}

/// Calls a method of the role mine.
async fn list_workers(channel: AuthorizedChannel) -> Result<(), Status> {
    let request = v1::ListWorkersRequest {};
    let mut client = MiningServiceClient::new(channel);
    client.list_workers(request).await.map(drop)
}

/// Calls a method of the role admin.
async fn set_log_filter(channel: AuthorizedChannel) -> Result<(), Status> {
    let filter = "info".to_owned();
    let mut client = AdminServiceClient::new(channel);
    let answer = client.set_log_filter(v1::SetLogFilterRequest { filter });
    answer.await.map(drop)
}

#[tokio::test]
async fn closed_roles_need_their_token() {
    use std::os::unix::fs::PermissionsExt as _;
    let network = Network::easy();
    let (node, dir) = start(&network);
    for role in ["mine", "admin"] {
        let path = dir.path().join(format!("{role}.token"));
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mut open = MiningServiceClient::new(node.channel());
    let status = open
        .list_workers(v1::ListWorkersRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(reason(&status), "TOKEN_REQUIRED");
    assert!(
        status.message().contains("mine.token"),
        "{}",
        status.message()
    );
    let mut open = AdminServiceClient::new(node.channel());
    let status = open.stop(v1::StopRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(
        status.message().contains("admin.token"),
        "{}",
        status.message()
    );
    for malformed in ["", "abc"] {
        let status = list_workers(node.channel_with(malformed))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(reason(&status), "TOKEN_MALFORMED");
    }
    let wrong = "0".repeat(64);
    let status = list_workers(node.channel_with(&wrong)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(reason(&status), "TOKEN_REFUSED");
    list_workers(node.channel_with(&node.token("mine")))
        .await
        .unwrap();
    list_workers(node.channel_with(&node.token("admin")))
        .await
        .unwrap();
    let status = set_log_filter(node.channel_with(&node.token("mine")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    set_log_filter(node.channel_with(&node.token("admin")))
        .await
        .unwrap();
}

/// Miners on other machines go on with the token that they have.
#[tokio::test]
async fn tokens_outlive_a_restart_and_mining_can_be_opened() {
    let network = Network::easy();
    let (node, dir) = start(&network);
    let before = (node.token("mine"), node.token("admin"));
    assert!(node.terminate().await.success());
    let node = TestNode::start_with(&network, dir.path(), &["--mine-without-token"]);
    assert_eq!((node.token("mine"), node.token("admin")), before);
    let mut open = MiningServiceClient::new(node.channel());
    open.list_workers(v1::ListWorkersRequest {}).await.unwrap();
    let mut open = AdminServiceClient::new(node.channel());
    assert!(
        open.stop(v1::StopRequest {}).await.is_err(),
        "administration stays closed"
    );
}

#[test]
fn every_method_has_a_role() {
    let set = prost_types::FileDescriptorSet::decode(pithead_api::FILE_DESCRIPTOR_SET).unwrap();
    let mut count = 0;
    for file in &set.file {
        for service in &file.service {
            let expected = match service.name() {
                "ChainService" | "NetworkService" => AccessRole::Read,
                "TransactionService" => AccessRole::Submit,
                "MiningService" => AccessRole::Mine,
                "AdminService" => AccessRole::Admin,
                other => panic!("no role was decided for {other}"),
            };
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                assert_eq!(role_of_method(&path), Some(expected), "{path}");
                count += 1;
            }
        }
    }
    assert_eq!(count, 11 + 7 + 6 + 4 + 9);
    assert_eq!(role_of_method("/pithead.v1.OtherService/Get"), None);
    assert_eq!(role_of_method("nonsense"), None);
}

#[tokio::test]
async fn health_is_told_per_service() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut health = HealthClient::new(node.channel());
    for service in [
        "",
        "pithead.v1.ChainService",
        "pithead.v1.TransactionService",
        "pithead.v1.MiningService",
        "pithead.v1.NetworkService",
        "pithead.v1.AdminService",
    ] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest {
        service: "other".to_owned(),
    };
    assert_eq!(
        health.check(request).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn every_service_takes_and_sends_compressed_messages() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let network = Network::easy();
    let (node, _dir) = start(&network);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut chain = node
            .chain()
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let answer = chain
            .get_chain_info(v1::GetChainInfoRequest {})
            .await
            .unwrap();
        let used = answer.metadata().get("grpc-encoding").cloned();
        assert!(used.is_some(), "the answer is compressed");
        let mut transactions = node.transactions().send_compressed(encoding);
        transactions
            .get_mempool_info(v1::GetMempoolInfoRequest {})
            .await
            .unwrap();
        let mut mining = node.mining().send_compressed(encoding);
        mining
            .list_workers(v1::ListWorkersRequest {})
            .await
            .unwrap();
        let mut net = node.network().send_compressed(encoding);
        net.get_node_info(v1::GetNodeInfoRequest {}).await.unwrap();
        let mut admin = node.admin().send_compressed(encoding);
        let filter = "info".to_owned();
        admin
            .set_log_filter(v1::SetLogFilterRequest { filter })
            .await
            .unwrap();
        let mut health = HealthClient::new(node.channel())
            .send_compressed(encoding)
            .accept_compressed(encoding);
        health.check(HealthCheckRequest::default()).await.unwrap();
        let mut reflection = ServerReflectionClient::new(node.channel())
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let answers = reflection
            .server_reflection_info(tokio_stream::once(list))
            .await;
        let answer: ServerReflectionResponse =
            pithead_testkit::process::next(&mut answers.unwrap().into_inner()).await;
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("a list of services");
        };
        let names: Vec<_> = list
            .service
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        for service in ["Chain", "Transaction", "Mining", "Network", "Admin"] {
            let name = format!("pithead.v1.{service}Service");
            assert!(names.contains(&name.as_str()), "{name} in {names:?}");
        }
    }
}
