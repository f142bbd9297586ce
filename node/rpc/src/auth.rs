//! Roles: which method needs which token, and the check of a request's token.

use tonic::Status;
use tower::Layer;

use crate::middleware::{CheckedService, RequestCheck};
use crate::status;
use crate::tokens::{ApiTokens, TOKEN_CHARS, is_token};

/// The purpose of a method, which decides the token that the method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessRole {
    /// Health and reflection: no token.
    Public,
    /// Queries: no token.
    Read,
    /// Transactions: no token.
    Submit,
    /// Mining: the mine token or the admin token.
    Mine,
    /// Operating the node: the admin token.
    Admin,
}

/// The role of a method, which is that of its service. `path` is `/package.Service/Method`. `None`
/// for a service that this node does not have.
#[must_use]
pub fn role_of_method(path: &str) -> Option<AccessRole> {
    let (service, _method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "pithead.v1.ChainService" | "pithead.v1.NetworkService" => Some(AccessRole::Read),
        "pithead.v1.TransactionService" => Some(AccessRole::Submit),
        "pithead.v1.MiningService" => Some(AccessRole::Mine),
        "pithead.v1.AdminService" => Some(AccessRole::Admin),
        "grpc.health.v1.Health"
        | "grpc.reflection.v1.ServerReflection"
        | "grpc.reflection.v1alpha.ServerReflection" => Some(AccessRole::Public),
        _ => None,
    }
}

/// Lets a request through if it shows the token that its method needs.
#[derive(Clone)]
pub struct AuthLayer {
    tokens: ApiTokens,
    mine_open: bool,
}

impl AuthLayer {
    /// With `mine_open`, mining needs no token.
    #[must_use]
    pub fn new(tokens: ApiTokens, mine_open: bool) -> Self {
        Self { tokens, mine_open }
    }
}

impl RequestCheck for AuthLayer {
    fn check<B>(&self, request: &http::Request<B>) -> Result<(), Status> {
        let (role, token) = match role_of_method(request.uri().path()) {
            // The router answers a method that does not exist.
            None | Some(AccessRole::Public | AccessRole::Read | AccessRole::Submit) => {
                return Ok(());
            }
            Some(AccessRole::Mine) if self.mine_open => return Ok(()),
            Some(AccessRole::Mine) => ("mine", &self.tokens.mine),
            Some(AccessRole::Admin) => ("admin", &self.tokens.admin),
        };
        let file = token.path.display();
        match bearer(request.headers()) {
            ShownToken::Missing => Err(status::unauthenticated(
                "TOKEN_REQUIRED",
                format!(
                    "this method needs the {role} token: send the metadata \"authorization: Bearer TOKEN\" with the content of {file} on the node's machine"
                ),
            )),
            ShownToken::Malformed => Err(status::unauthenticated(
                "TOKEN_MALFORMED",
                format!(
                    "the metadata authorization is not \"Bearer TOKEN\" with a token of {TOKEN_CHARS} hex digits: the {role} token is in {file} on the node's machine"
                ),
            )),
            ShownToken::Shown(shown) if token.is(shown) || self.tokens.admin.is(shown) => Ok(()),
            ShownToken::Shown(_) => Err(status::permission_denied(
                "TOKEN_REFUSED",
                format!(
                    "the token shown is not the {role} token; it is in {file} on the node's machine"
                ),
            )),
        }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = CheckedService<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckedService::new(inner, self.clone())
    }
}

/// What a request's authorization header shows.
enum ShownToken<'a> {
    Missing,
    Malformed,
    Shown(&'a str),
}

/// Reads the authorization header; its scheme may be written in any case (RFC 9110 §11.1).
fn bearer(headers: &http::HeaderMap) -> ShownToken<'_> {
    let Some(value) = headers.get(http::header::AUTHORIZATION) else {
        return ShownToken::Missing;
    };
    match value.to_str().ok().and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && is_token(token) => {
            ShownToken::Shown(token)
        }
        _ => ShownToken::Malformed,
    }
}
