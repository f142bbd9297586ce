//! A check that every request passes before its handler runs. A request that fails the check is
//! answered with a status.
//!
//! It knows no check itself: `auth` and `limits` have one each.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// Judges requests by their path, their headers and where they come from.
pub(crate) trait RequestCheck {
    /// Lets a request through, or says with which status to answer it.
    fn check<B>(&self, request: &http::Request<B>) -> Result<(), Status>;
}

/// A service that answers only the requests that pass a check.
#[derive(Clone)]
pub struct CheckedService<S, C> {
    inner: S,
    check: C,
}

impl<S, C> CheckedService<S, C> {
    pub(crate) fn new(inner: S, check: C) -> Self {
        Self { inner, check }
    }
}

/// The answer of a [`CheckedService`], as it is being made.
type ResponseFuture<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S, C, B> Service<http::Request<B>> for CheckedService<S, C>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    C: RequestCheck,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match self.check.check(&request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => {
                let response = status.into_http();
                Box::pin(async move { Ok(response) })
            }
        }
    }
}
