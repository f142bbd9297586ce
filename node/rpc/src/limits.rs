//! Limits on requests and messages (docs/node-policy.md).

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use lru::LruCache;
use tonic::Status;
use tonic::transport::server::TcpConnectInfo;
use tower::Layer;

use crate::listener::counted_ip;
use crate::middleware::{CheckedService, RequestCheck};
use crate::status;

/// Largest request in bytes, except where a request holds a block.
pub const DECODE_BYTES_MAX: usize = 64 * 1024;
/// Largest answer in bytes.
pub const ENCODE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest list of headers in bytes.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Time between two pings of an idle connection.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Time for the answer to a ping; a connection without an answer is closed.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses whose rates are remembered; the one that was quiet longest is forgotten first.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is not zero");
/// Largest burst that a setting can ask for. The limiter multiplies the burst by the nanoseconds
/// between two requests, at most a minute, in 64 bits: 10^6 · 6·10^10 still fits.
const BURST_MAX: NonZeroU32 = NonZeroU32::new(1_000_000).expect("it is not zero");

/// Limits the requests a minute of each address. Mining from the node's own machine is exempt.
#[derive(Clone)]
pub struct RateLimitLayer {
    /// `None`: no limit.
    limiter: Option<Arc<AddressLimiter>>,
}

/// One rate limiter for each address.
struct AddressLimiter {
    quota: Quota,
    by_ip: Mutex<LruCache<IpAddr, Arc<DefaultDirectRateLimiter>>>,
    clock: DefaultClock,
}

impl RateLimitLayer {
    /// Allows `per_minute` requests, `burst` of them at once; with 0 a minute there is no limit.
    #[must_use]
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|per_minute| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            let burst = burst.min(BURST_MAX);
            Arc::new(AddressLimiter {
                quota: Quota::per_minute(per_minute).allow_burst(burst),
                by_ip: Mutex::new(LruCache::new(ADDRESSES_MAX)),
                clock: DefaultClock::default(),
            })
        });
        Self { limiter }
    }
}

impl AddressLimiter {
    /// How long the address must wait before its request; `None` if it need not wait.
    fn wait(&self, ip: IpAddr) -> Option<Duration> {
        let limiter = {
            let mut by_ip = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                by_ip.get_or_insert(counted_ip(ip), || Arc::new(RateLimiter::direct(self.quota))),
            )
        };
        match limiter.check() {
            Ok(()) => None,
            Err(not_until) => Some(not_until.wait_time_from(self.clock.now())),
        }
    }
}

impl RequestCheck for RateLimitLayer {
    fn check<B>(&self, request: &http::Request<B>) -> Result<(), Status> {
        let (Some(limiter), Some(ip)) = (&self.limiter, remote_ip(request)) else {
            return Ok(());
        };
        let path = request.uri().path();
        // `ip` itself, not the address that it counts for: a /64 that holds ::1 is not loopback.
        if path.starts_with("/pithead.v1.MiningService/") && ip.to_canonical().is_loopback() {
            return Ok(());
        }
        let Some(wait) = limiter.wait(ip) else {
            return Ok(());
        };
        // Rounded up: a caller that waits as long as it is told gets its answer.
        let seconds = (wait.as_secs_f64() * 10.0).ceil() / 10.0;
        Err(status::retry_after(
            "RATE_LIMITED",
            format!("too many requests from your address: wait {seconds:.1} s"),
            wait,
        ))
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = CheckedService<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckedService::new(inner, self.clone())
    }
}

fn remote_ip<B>(request: &http::Request<B>) -> Option<IpAddr> {
    let info = request.extensions().get::<TcpConnectInfo>()?;
    info.remote_addr().map(|address| address.ip())
}
