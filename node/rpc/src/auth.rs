//! Roles: who may call what, and the token files that open the closed ones.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use rand::RngCore as _;
use thiserror::Error;
use tonic::Status;
use tower::{Layer, Service};

use super::limits::Answer;
use super::status;

/// Bytes of a token; the file holds them as hex.
const TOKEN_BYTES: usize = 32;
/// Characters of a token.
const TOKEN_CHARS: usize = 2 * TOKEN_BYTES;

/// What a method is for, and so who may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Health and reflection: anyone.
    Public,
    /// Queries: anyone who reaches the port.
    Read,
    /// Transactions: anyone who reaches the port.
    Submit,
    /// Mining: needs the mine or the admin token.
    Mine,
    /// Operating the node: needs the admin token.
    Admin,
}

/// The role of a method by its path, `/package.Service/Method`; `None` for a
/// service that this node does not have.
#[must_use]
pub fn role_of_method(path: &str) -> Option<Role> {
    let (service, _method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "pithead.v1.ChainService" | "pithead.v1.NetworkService" => Some(Role::Read),
        "pithead.v1.TransactionService" => Some(Role::Submit),
        "pithead.v1.MiningService" => Some(Role::Mine),
        "pithead.v1.AdminService" => Some(Role::Admin),
        "grpc.health.v1.Health"
        | "grpc.reflection.v1.ServerReflection"
        | "grpc.reflection.v1alpha.ServerReflection" => Some(Role::Public),
        _ => None,
    }
}

/// Why the tokens can't be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// A token file could not be read or written.
    #[error("token file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is there, but it holds something else. It is not overwritten: it
    /// may be somebody's.
    #[error(
        "token file {path} holds something else than a token of {TOKEN_CHARS} hex digits: remove it, or name another file"
    )]
    NotAToken {
        /// The file.
        path: PathBuf,
    },
    /// The same token would open mining and administration.
    #[error(
        "the token files {mine} and {admin} hold the same token, so every miner could administer the node: remove one of them and start again"
    )]
    SameToken {
        /// The file for mining.
        mine: PathBuf,
        /// The file for administration.
        admin: PathBuf,
    },
}

/// The tokens of the closed roles and where they are written.
#[derive(Clone)]
pub struct Tokens {
    mine: Arc<Token>,
    admin: Arc<Token>,
}

struct Token {
    value: String,
    path: PathBuf,
}

impl Tokens {
    /// Reads the tokens, or makes new ones in files that only the node's user
    /// can read. A token that is there is kept, so that miners elsewhere go on
    /// working when the node restarts.
    ///
    /// # Errors
    /// [`TokenError`] if a file can't be read or written, holds something
    /// else, or both hold the same token.
    pub fn write(mine: &Path, admin: &Path) -> Result<Self, TokenError> {
        let tokens = Self {
            mine: Arc::new(Token::load_or_create(mine)?),
            admin: Arc::new(Token::load_or_create(admin)?),
        };
        if tokens.mine.is(&tokens.admin.value) {
            return Err(TokenError::SameToken {
                mine: mine.to_owned(),
                admin: admin.to_owned(),
            });
        }
        Ok(tokens)
    }
}

impl Token {
    fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(text) = read_existing(path).map_err(failed)? {
            if !is_token(&text) {
                return Err(TokenError::NotAToken {
                    path: path.to_owned(),
                });
            }
            restrict(path).map_err(failed)?;
            return Ok(Self {
                value: text,
                path: path.to_owned(),
            });
        }
        let mut bytes = [0; TOKEN_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        let value = hex::encode(bytes);
        write_private(path, &value).map_err(failed)?;
        Ok(Self {
            value,
            path: path.to_owned(),
        })
    }

    /// Takes the same time wherever the first difference is.
    fn is(&self, shown: &str) -> bool {
        let (a, b) = (self.value.as_bytes(), shown.as_bytes());
        let diff = a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b));
        a.len() == b.len() && std::hint::black_box(diff) == 0
    }
}

/// A token file's content without the line's end; `None` if there is no such
/// file, or nothing in it.
fn read_existing(path: &Path) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    // Enough to see that it is no token; the path may be of anything.
    file.take(4 * TOKEN_CHARS as u64).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn is_token(text: &str) -> bool {
    text.len() == TOKEN_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Takes the file away from others, if they have it.
fn restrict(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

fn write_private(path: &Path, value: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let temporary = path.with_extension("token.new");
    // A leftover of a crash may have other permissions.
    if temporary.exists() {
        fs::remove_file(&temporary)?;
    }
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{value}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Lets a request through if it shows the token of its method's role.
#[derive(Clone)]
pub struct AuthLayer {
    tokens: Tokens,
    mine_open: bool,
}

impl AuthLayer {
    /// `mine_open` opens mining to everyone who reaches the port.
    #[must_use]
    pub fn new(tokens: Tokens, mine_open: bool) -> Self {
        Self { tokens, mine_open }
    }

    fn check<B>(&self, request: &http::Request<B>) -> Result<(), Status> {
        // Unknown methods go on: the router knows how to refuse them.
        let needed = match role_of_method(request.uri().path()) {
            None | Some(Role::Public | Role::Read | Role::Submit) => return Ok(()),
            Some(Role::Mine) if self.mine_open => return Ok(()),
            Some(Role::Mine) => ("mine", &self.tokens.mine),
            Some(Role::Admin) => ("admin", &self.tokens.admin),
        };
        let (role, token) = needed;
        let file = token.path.display();
        match bearer(request.headers()) {
            Bearer::None => Err(status::unauthenticated(
                "TOKEN_REQUIRED",
                format!(
                    "this method needs the {role} token: send the metadata \"authorization: Bearer TOKEN\" with the content of {file} on the node's machine"
                ),
            )),
            Bearer::Malformed => Err(status::unauthenticated(
                "TOKEN_MALFORMED",
                format!(
                    "the metadata authorization is not \"Bearer TOKEN\" with a token of {TOKEN_CHARS} hex digits: the {role} token is in {file} on the node's machine"
                ),
            )),
            Bearer::Token(shown) if token.is(shown) || self.tokens.admin.is(shown) => Ok(()),
            Bearer::Token(_) => Err(status::permission_denied(
                "TOKEN_REFUSED",
                format!(
                    "the token shown is not the {role} token; it is in {file} on the node's machine"
                ),
            )),
        }
    }
}

/// What a request shows.
enum Bearer<'a> {
    None,
    Malformed,
    Token(&'a str),
}

/// The token of an authorization header; its scheme is of any case (RFC 9110
/// §11.1).
fn bearer(headers: &http::HeaderMap) -> Bearer<'_> {
    let Some(value) = headers.get(http::header::AUTHORIZATION) else {
        return Bearer::None;
    };
    match value.to_str().ok().and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && is_token(token) => {
            Bearer::Token(token)
        }
        _ => Bearer::Malformed,
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorised {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind an [`AuthLayer`].
#[derive(Clone)]
pub struct Authorised<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S, B> Service<http::Request<B>> for Authorised<S>
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
        match self.layer.check(&request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(refused) => {
                let answer = refused.into_http();
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}
