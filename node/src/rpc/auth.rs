//! Roles: who may call what, and the token files that open the closed ones.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
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

/// A token file could not be read or written.
#[derive(Debug, Error)]
#[error("token file {path}: {source}")]
pub struct TokenError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
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
    /// [`TokenError`] if a file can't be read or written.
    pub fn write(mine: &Path, admin: &Path) -> Result<Self, TokenError> {
        Ok(Self {
            mine: Arc::new(Token::load_or_create(mine)?),
            admin: Arc::new(Token::load_or_create(admin)?),
        })
    }
}

impl Token {
    fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError {
            path: path.to_owned(),
            source,
        };
        match fs::read_to_string(path) {
            Ok(text) if is_token(text.trim()) => {
                restrict(path).map_err(failed)?;
                return Ok(Self {
                    value: text.trim().to_owned(),
                    path: path.to_owned(),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
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
        a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

fn is_token(text: &str) -> bool {
    text.len() == 2 * TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn restrict(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
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
        let shown = request
            .headers()
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        match shown {
            None => Err(status::unauthenticated(
                "TOKEN_REQUIRED",
                format!(
                    "this method needs the {role} token: send the metadata \"authorization: Bearer TOKEN\" with the content of {file} on the node's machine"
                ),
            )),
            Some(shown) if token.is(shown) || self.tokens.admin.is(shown) => Ok(()),
            Some(_) => Err(status::permission_denied(
                "TOKEN_REFUSED",
                format!(
                    "the token shown is not the {role} token; it is in {file} on the node's machine"
                ),
            )),
        }
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
