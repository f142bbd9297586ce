//! Roles and tokens. Every method has a role, only the owner of the node can read its token files,
//! and a closed role opens only to its own token and the administrator's.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pithead_rpc::auth::{AccessRole, AuthLayer, role_of_method};
use pithead_rpc::tokens::{ApiTokens, TokenError};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer as _, ServiceExt as _};

/// A directory for token files, and their paths in it.
struct Files {
    dir: TempDir,
    mine: PathBuf,
    admin: PathBuf,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            mine: dir.path().join("mine.token"),
            admin: dir.path().join("admin.token"),
            dir,
        }
    }

    fn write(&self) -> Result<ApiTokens, TokenError> {
        ApiTokens::read_or_create(&self.mine, &self.admin)
    }
}

fn content(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The paths of every method that a descriptor set describes.
fn methods(descriptor_set: &[u8]) -> Vec<String> {
    let set = FileDescriptorSet::decode(descriptor_set).unwrap();
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    paths
}

#[test]
fn every_method_has_a_role() {
    let own = methods(pithead_api::FILE_DESCRIPTOR_SET);
    for path in &own {
        let role = role_of_method(path).unwrap_or_else(|| panic!("{path} has no role"));
        assert_ne!(
            role,
            AccessRole::Public,
            "{path} is not for everyone by nature"
        );
    }
    // The walk found the services; a change of their roles is no accident.
    for (path, role) in [
        ("/pithead.v1.ChainService/GetBlock", AccessRole::Read),
        ("/pithead.v1.NetworkService/GetNodeInfo", AccessRole::Read),
        (
            "/pithead.v1.TransactionService/SubmitTransaction",
            AccessRole::Submit,
        ),
        ("/pithead.v1.MiningService/SubscribeWork", AccessRole::Mine),
        ("/pithead.v1.MiningService/ListWorkers", AccessRole::Mine),
        ("/pithead.v1.AdminService/Stop", AccessRole::Admin),
    ] {
        assert!(own.iter().any(|known| known == path), "{path} is gone");
        assert_eq!(role_of_method(path), Some(role), "{path}");
    }
    let public = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    for path in public.into_iter().flat_map(methods) {
        assert_eq!(role_of_method(&path), Some(AccessRole::Public), "{path}");
    }
}

#[test]
fn paths_of_no_service_have_no_role() {
    for path in [
        "",
        "/",
        "pithead.v1.AdminService/Stop",
        "/pithead.v1.AdminService",
        "//pithead.v1.AdminService/Stop",
        "/pithead.v1.adminservice/Stop",
        "/pithead.v2.AdminService/Stop",
    ] {
        assert_eq!(role_of_method(path), None, "{path}");
    }
    // An unknown method is as closed as the rest of its service.
    let unknown = role_of_method("/pithead.v1.AdminService/Unknown");
    assert_eq!(unknown, Some(AccessRole::Admin));
}

#[test]
fn tokens_are_made_once_for_their_owner_only() {
    let files = Files::new();
    files.write().unwrap();
    let (mine, admin) = (content(&files.mine), content(&files.admin));
    for (token, path) in [(&mine, &files.mine), (&admin, &files.admin)] {
        assert_eq!(hex::decode(token).unwrap().len(), 32);
        assert_eq!(mode(path), 0o600);
    }
    assert_ne!(mine, admin);
    assert_eq!(
        std::fs::read_dir(files.dir.path()).unwrap().count(),
        2,
        "no leftovers"
    );

    // A second start keeps them, and takes them back from others.
    std::fs::set_permissions(&files.mine, std::fs::Permissions::from_mode(0o644)).unwrap();
    files.write().unwrap();
    assert_eq!((content(&files.mine), content(&files.admin)), (mine, admin));
    assert_eq!(mode(&files.mine), 0o600);

    // A removed one is replaced by another.
    std::fs::remove_file(&files.mine).unwrap();
    let mine = files.write().map(|_| content(&files.mine)).unwrap();
    assert_ne!(mine, content(&files.admin));

    let other = Files::new();
    other.write().unwrap();
    assert_ne!(content(&other.mine), mine);
}

#[test]
fn tokens_are_made_in_new_directories_and_empty_files() {
    let files = Files::new();
    let deep = files.dir.path().join("a/b/mine");
    std::fs::write(&files.admin, "\n").unwrap();
    // A file that a crash left behind, readable by all.
    std::fs::write(files.admin.with_extension("token.new"), "x").unwrap();
    ApiTokens::read_or_create(&deep, &files.admin).unwrap();
    assert_eq!(content(&deep).len(), 64);
    assert_eq!(content(&files.admin).len(), 64);
    assert_eq!((mode(&deep), mode(&files.admin)), (0o600, 0o600));
}

#[test]
fn files_that_hold_no_token_are_left_alone() {
    let long = "ab".repeat(33);
    let not_hex = "g".repeat(64);
    for text in ["precious", "ab", &long, &not_hex, &"x".repeat(10_000)] {
        let files = Files::new();
        std::fs::write(&files.mine, text).unwrap();
        let error = files.write().err().unwrap();
        assert!(matches!(&error, TokenError::NotAToken { path } if *path == files.mine));
        assert_eq!(content(&files.mine), text, "it is as it was");
        assert!(!error.to_string().contains(text), "and not told to the log");
    }
    // The same for a path that is a directory.
    let files = Files::new();
    std::fs::create_dir(&files.mine).unwrap();
    let error = files.write().err().unwrap();
    assert!(matches!(&error, TokenError::Io { path, .. } if *path == files.mine));
    let error = ApiTokens::read_or_create(Path::new("/dev/null/mine"), &files.admin)
        .err()
        .unwrap();
    assert!(error.to_string().contains("/dev/null/mine"), "{error}");
}

#[test]
fn one_token_in_both_files_is_refused() {
    let files = Files::new();
    let token = "5a".repeat(32);
    std::fs::write(&files.mine, &token).unwrap();
    std::fs::write(&files.admin, format!("{token}\n")).unwrap();
    let error = files.write().err().unwrap();
    assert!(matches!(error, TokenError::SameToken { .. }), "{error}");
    assert!(!error.to_string().contains(&token), "{error}");
}

/// Sends a request with this header; returns the service's answer or a refusal.
async fn call(auth: &AuthLayer, path: &str, header: Option<&str>) -> Result<(), Status> {
    let service = tower::service_fn(|_request: http::Request<tonic::body::Body>| async {
        Ok::<_, Infallible>(http::Response::new(tonic::body::Body::empty()))
    });
    let mut request = http::Request::post(path);
    if let Some(header) = header {
        request = request.header("authorization", header);
    }
    let request = request.body(tonic::body::Body::empty()).unwrap();
    let response = auth.layer(service).oneshot(request).await.unwrap();
    match Status::from_header_map(response.headers()) {
        None => Ok(()),
        Some(status) => {
            // A refusal is a gRPC answer like any other.
            assert_eq!(response.status(), http::StatusCode::OK);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            Err(status)
        }
    }
}

#[track_caller]
fn assert_refused(answer: Result<(), Status>, code: Code, reason: &str, file: &Path) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        (reason, "pithead")
    );
    let text = status.message();
    assert!(
        text.contains(file.to_str().unwrap()),
        "says where it is: {text}"
    );
    assert!(!text.contains(&content(file)), "but not what it is: {text}");
}

const READ: &str = "/pithead.v1.ChainService/GetBlock";
const SUBMIT: &str = "/pithead.v1.TransactionService/SubmitTransaction";
const MINE: &str = "/pithead.v1.MiningService/SubmitSolution";
const ADMIN: &str = "/pithead.v1.AdminService/Stop";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const UNKNOWN: &str = "/no.such.Service/Method";

#[tokio::test]
async fn open_roles_need_no_token_and_mind_none() {
    let auth = AuthLayer::new(Files::new().write().unwrap(), false);
    for path in [READ, SUBMIT, HEALTH, UNKNOWN] {
        for header in [None, Some("nonsense"), Some("Bearer nonsense")] {
            call(&auth, path, header).await.unwrap();
        }
    }
}

#[tokio::test]
async fn closed_roles_open_to_their_token_and_the_admins() {
    let files = Files::new();
    let auth = AuthLayer::new(files.write().unwrap(), false);
    let (mine, admin) = (content(&files.mine), content(&files.admin));
    let bearer = |token: &str| format!("Bearer {token}");
    for (path, token) in [(MINE, &mine), (MINE, &admin), (ADMIN, &admin)] {
        call(&auth, path, Some(&bearer(token))).await.unwrap();
    }
    // The scheme's name is of any case.
    call(&auth, ADMIN, Some(&format!("bearer {admin}")))
        .await
        .unwrap();

    for (path, file) in [(MINE, &files.mine), (ADMIN, &files.admin)] {
        let answer = call(&auth, path, None).await;
        assert_refused(answer, Code::Unauthenticated, "TOKEN_REQUIRED", file);
        for malformed in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            admin.clone(),
            format!("Basic {admin}"),
            format!("Bearer  {admin}"),
            format!("Bearer {admin}0"),
            format!("Bearer {}", &admin[..63]),
            format!("Bearer {}", "zz".repeat(32)),
        ] {
            let answer = call(&auth, path, Some(&malformed)).await;
            assert_refused(answer, Code::Unauthenticated, "TOKEN_MALFORMED", file);
        }
        let mut near = admin.clone();
        let last = if near.ends_with('0') { "1" } else { "0" };
        near.replace_range(63.., last);
        for wrong in ["00".repeat(32), near] {
            let answer = call(&auth, path, Some(&bearer(&wrong))).await;
            assert_refused(answer, Code::PermissionDenied, "TOKEN_REFUSED", file);
        }
    }
    let answer = call(&auth, ADMIN, Some(&bearer(&mine))).await;
    assert_refused(
        answer,
        Code::PermissionDenied,
        "TOKEN_REFUSED",
        &files.admin,
    );
}

#[tokio::test]
async fn open_mining_opens_nothing_else() {
    let files = Files::new();
    let auth = AuthLayer::new(files.write().unwrap(), true);
    call(&auth, MINE, None).await.unwrap();
    let answer = call(&auth, ADMIN, None).await;
    assert_refused(
        answer,
        Code::Unauthenticated,
        "TOKEN_REQUIRED",
        &files.admin,
    );
}
