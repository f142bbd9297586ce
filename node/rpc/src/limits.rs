//! Limits on requests and messages (protocol §12).

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use lru::LruCache;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};

use super::listener::counted_ip;
use super::status;

/// Largest message that is read, but for methods that take a block.
pub const DECODE_BYTES_MAX: usize = 64 * 1024;
/// Largest message that is sent.
pub const ENCODE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest header list.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// How often an idle connection is asked whether it lives.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses whose rates are remembered; the least recent goes first.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is not zero");

/// Most requests at once that an address can be given: the limiter multiplies it
/// by the nanoseconds between two requests, at most a minute, in 64 bits.
const BURST_MAX: NonZeroU32 = NonZeroU32::new(1_000_000).expect("it is not zero");

/// Requests a minute for each address. Loopback mining is exempt.
#[derive(Clone)]
pub struct RateLimitLayer {
    limiter: Option<Arc<Limiter>>,
}

struct Limiter {
    quota: Quota,
    by_ip: Mutex<LruCache<IpAddr, Arc<DefaultDirectRateLimiter>>>,
    clock: DefaultClock,
}

impl RateLimitLayer {
    /// `per_minute` requests, `burst` of them at once; 0 a minute: no limit.
    #[must_use]
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|per_minute| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            let burst = burst.min(BURST_MAX);
            Arc::new(Limiter {
                quota: Quota::per_minute(per_minute).allow_burst(burst),
                by_ip: Mutex::new(LruCache::new(ADDRESSES_MAX)),
                clock: DefaultClock::default(),
            })
        });
        Self { limiter }
    }
}

impl Limiter {
    /// How long the address must wait; `None` if it may go on.
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

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimited<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimited {
            inner,
            limiter: self.limiter.clone(),
        }
    }
}

/// A service behind a [`RateLimitLayer`].
#[derive(Clone)]
pub struct RateLimited<S> {
    inner: S,
    limiter: Option<Arc<Limiter>>,
}

/// A boxed response.
pub(super) type Answer<E> =
    Pin<Box<dyn std::future::Future<Output = Result<http::Response<tonic::body::Body>, E>> + Send>>;

impl<S, B> Service<http::Request<B>> for RateLimited<S>
where
    S: Service<http::Request<B>, Response = http::Response<tonic::body::Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let wait = self.limiter.as_ref().and_then(|limiter| {
            let ip = remote_ip(&request)?;
            let mining = request
                .uri()
                .path()
                .starts_with("/pithead.v1.MiningService/");
            // Not the counted address: a /64 that holds ::1 is not loopback.
            if mining && ip.to_canonical().is_loopback() {
                None
            } else {
                limiter.wait(ip)
            }
        });
        match wait {
            None => Box::pin(self.inner.call(request)),
            Some(wait) => {
                // Rounded up: who waits as long as told is let in.
                let seconds = (wait.as_secs_f64() * 10.0).ceil() / 10.0;
                let answer = status::retry_after(
                    "RATE_LIMITED",
                    format!("too many requests from your address: wait {seconds:.1} s"),
                    wait,
                )
                .into_http();
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}

fn remote_ip<B>(request: &http::Request<B>) -> Option<IpAddr> {
    let info = request.extensions().get::<TcpConnectInfo>()?;
    info.remote_addr().map(|address| address.ip())
}
