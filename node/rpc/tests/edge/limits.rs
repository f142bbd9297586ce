//! Requests a minute. Each client address has a limit of its own, mining on the node's own machine is
//! exempt, and a refused client learns how long to wait.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pithead_rpc::limits::RateLimitLayer;
use pithead_rpc::listener::counted_ip;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer as _, ServiceExt as _};

const READ: &str = "/pithead.v1.ChainService/GetBlock";
const MINE: &str = "/pithead.v1.MiningService/SubmitSolution";

/// What a request from `ip` gets: the service's answer, or a refusal.
async fn call(limits: &RateLimitLayer, ip: impl Into<IpAddr>, path: &str) -> Result<(), Status> {
    let service = tower::service_fn(|_request: http::Request<tonic::body::Body>| async {
        Ok::<_, Infallible>(http::Response::new(tonic::body::Body::empty()))
    });
    let request = http::Request::post(path)
        .extension(TcpConnectInfo {
            local_addr: None,
            remote_addr: Some((ip.into(), 40_000).into()),
        })
        .body(tonic::body::Body::empty())
        .unwrap();
    let response = limits.layer(service).oneshot(request).await.unwrap();
    match Status::from_header_map(response.headers()) {
        None => Ok(()),
        Some(status) => Err(status),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// How long the answer says to wait; it has to be a refusal by this limit.
#[track_caller]
fn told_to_wait(answer: Result<(), Status>) -> Duration {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "RATE_LIMITED");
    assert_eq!(info.domain, "pithead");
    details.retry_info().unwrap().retry_delay.unwrap()
}

/// One request a minute: even on a slow machine, no request becomes free again during a test.
fn one_a_minute(burst: u32) -> RateLimitLayer {
    RateLimitLayer::new(1, burst)
}

#[tokio::test]
async fn requests_beyond_the_burst_must_wait_as_long_as_told() {
    let limits = one_a_minute(3);
    for _ in 0..3 {
        call(&limits, ip("192.0.2.1"), READ).await.unwrap();
    }
    let wait = told_to_wait(call(&limits, ip("192.0.2.1"), READ).await);
    assert!(
        wait > Duration::from_secs(30) && wait <= Duration::from_secs(60),
        "{wait:?}"
    );
    // Another address is not held up, and a refusal does not lengthen the wait.
    call(&limits, ip("192.0.2.2"), READ).await.unwrap();
    let again = told_to_wait(call(&limits, ip("192.0.2.1"), READ).await);
    assert!(again <= wait, "{again:?} after {wait:?}");
}

#[tokio::test]
async fn requests_come_back_at_the_rate() {
    // One every 20 ms.
    let limits = RateLimitLayer::new(3_000, 1);
    call(&limits, ip("192.0.2.1"), READ).await.unwrap();
    loop {
        match call(&limits, ip("192.0.2.1"), READ).await {
            Ok(()) => break,
            refused => {
                let wait = told_to_wait(refused);
                assert!(wait <= Duration::from_millis(20), "{wait:?}");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

#[tokio::test]
async fn every_path_counts_alike() {
    let limits = one_a_minute(3);
    for path in [READ, "/grpc.health.v1.Health/Check", "/no.such/Method"] {
        call(&limits, ip("192.0.2.1"), path).await.unwrap();
    }
    told_to_wait(call(&limits, ip("192.0.2.1"), MINE).await);
}

#[tokio::test]
async fn zero_is_no_limit() {
    let limits = RateLimitLayer::new(0, 1);
    for _ in 0..1_000 {
        call(&limits, ip("192.0.2.1"), READ).await.unwrap();
    }
}

#[tokio::test]
async fn mining_on_this_machine_is_exempt_and_nothing_else_is() {
    for own in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
        let limits = one_a_minute(1);
        for _ in 0..10 {
            call(&limits, ip(own), MINE).await.unwrap();
        }
        // They were not counted, either.
        call(&limits, ip(own), READ).await.unwrap();
        told_to_wait(call(&limits, ip(own), READ).await);
        call(&limits, ip(own), MINE).await.unwrap();
    }
    for other in ["192.0.2.1", "2001:db8::1", "::2", "::ffff:192.0.2.1"] {
        let limits = one_a_minute(1);
        call(&limits, ip(other), MINE).await.unwrap();
        told_to_wait(call(&limits, ip(other), MINE).await);
    }
}

#[test]
fn an_address_counts_as_its_subscriber() {
    for (found, counted) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::", "2001:db8:1:3::"),
        ("::1", "::"),
    ] {
        assert_eq!(counted_ip(ip(found)), ip(counted), "{found}");
    }
}

#[tokio::test]
async fn a_64_of_ipv6_is_one_and_so_is_a_mapped_address() {
    let limits = one_a_minute(1);
    call(&limits, ip("2001:db8::1"), READ).await.unwrap();
    told_to_wait(call(&limits, ip("2001:db8::ffff:1"), READ).await);
    call(&limits, ip("2001:db8:0:1::1"), READ).await.unwrap();
    call(&limits, ip("192.0.2.1"), READ).await.unwrap();
    told_to_wait(call(&limits, ip("::ffff:192.0.2.1"), READ).await);
}

#[tokio::test]
async fn only_so_many_addresses_are_remembered() {
    let limits = one_a_minute(1);
    let other = |index: u32| Ipv4Addr::from_bits(0x0a00_0000 + index);
    call(&limits, ip("192.0.2.1"), READ).await.unwrap();
    for index in 0..19_999 {
        call(&limits, other(index), READ).await.unwrap();
    }
    told_to_wait(call(&limits, ip("192.0.2.1"), READ).await);
    // That address was just used. The address that was unused for longest makes room.
    call(&limits, other(19_999), READ).await.unwrap();
    told_to_wait(call(&limits, ip("192.0.2.1"), READ).await);
    call(&limits, other(0), READ).await.unwrap();
}

#[tokio::test]
async fn the_largest_numbers_do_not_overflow() {
    for (per_minute, burst) in [(1, u32::MAX), (u32::MAX, u32::MAX), (u32::MAX, 0), (1, 0)] {
        let limits = RateLimitLayer::new(per_minute, burst);
        call(&limits, ip("192.0.2.1"), READ).await.unwrap();
    }
    // A burst of 0 counts as 1: no request could pass otherwise.
    let limits = one_a_minute(0);
    call(&limits, ip("192.0.2.1"), READ).await.unwrap();
    told_to_wait(call(&limits, ip("192.0.2.1"), READ).await);
}
