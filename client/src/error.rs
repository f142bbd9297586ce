//! Failures between a client and a node, in words for the user: transport failures
//! and gRPC statuses with their `google.rpc` details. It knows no single command.

use std::time::Duration;

use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A field of a request that the node refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Name of the field, as in `proto/`.
    pub field: String,
    /// The node's sentence on what is wrong with the field.
    pub description: String,
}

/// Why a request got no useful answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The node's address is not a URL that can be used.
    #[error("{url:?} is not the address of a node: {reason}")]
    BadUrl {
        /// The text that should be a URL.
        url: String,
        /// What is wrong with the URL.
        reason: String,
    },
    /// No node listens at the URL.
    #[error("no node answers at {url}: {reason}")]
    NotRunning {
        /// URL of the node.
        url: String,
        /// What the operating system said.
        reason: String,
    },
    /// The connection broke during a request or a stream.
    #[error("the connection to the node at {url} was lost: {reason}")]
    ConnectionLost {
        /// URL of the node.
        url: String,
        /// The innermost cause that the transport names.
        reason: String,
    },
    /// The node did not answer in time.
    #[error("the node at {url} did not answer within {} s", waited.as_secs())]
    Timeout {
        /// URL of the node.
        url: String,
        /// How long the client waited.
        waited: Duration,
    },
    /// The node does not understand the request.
    #[error("{}", sentence(message, violations))]
    InvalidArgument {
        /// The node's sentence on the failure.
        message: String,
        /// The fields that the node refuses.
        violations: Vec<FieldViolation>,
    },
    /// The node does not have what the request names.
    #[error("{message}")]
    NotFound {
        /// The node's sentence on the failure.
        message: String,
    },
    /// The method needs a token; the request has none, or a wrong one.
    #[error("the node asks for a token: {message}")]
    Unauthenticated {
        /// The node's sentence on the failure.
        message: String,
    },
    /// The token does not allow the method.
    #[error("the node refuses: {message}")]
    PermissionDenied {
        /// The node's sentence on the failure.
        message: String,
    },
    /// The node limits requests, even after the client waited as long as it asked.
    #[error("the node is limiting requests: {message}")]
    RateLimited {
        /// The node's sentence on the failure.
        message: String,
        /// How long the node asks the client to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// The node can't answer now, because it is syncing or stopping.
    #[error("the node can't answer now: {message}")]
    Unavailable {
        /// The node's sentence on the failure.
        message: String,
    },
    /// The node does not serve the method.
    #[error("the node does not serve this: {message}")]
    Unimplemented {
        /// The node's sentence on the failure.
        message: String,
    },
    /// The node answered with any other status.
    #[error("the node answered {code:?}: {message}")]
    Status {
        /// The gRPC code of the status.
        code: Code,
        /// The node's sentence on the failure.
        message: String,
    },
    /// The node's answer lacks something or contradicts itself.
    #[error("the node's answer is malformed: {what}")]
    BadAnswer {
        /// What is missing, or what contradicts what.
        what: String,
    },
}

impl ClientError {
    /// Reads a status that came from the node at `url`.
    #[must_use]
    pub fn from_status(status: &Status, url: &str) -> Self {
        let message = status.message().to_owned();
        let details = status.get_error_details();
        match status.code() {
            Code::InvalidArgument => Self::InvalidArgument {
                message,
                violations: details.bad_request().map_or_else(Vec::new, |request| {
                    let violations = request.field_violations.iter();
                    violations
                        .map(|violation| FieldViolation {
                            field: violation.field.clone(),
                            description: violation.description.clone(),
                        })
                        .collect()
                }),
            },
            Code::NotFound => Self::NotFound { message },
            Code::Unauthenticated => Self::Unauthenticated { message },
            Code::PermissionDenied => Self::PermissionDenied { message },
            Code::ResourceExhausted => Self::RateLimited {
                message,
                retry_after: details.retry_info().and_then(|info| info.retry_delay),
            },
            Code::Unimplemented => Self::Unimplemented { message },
            // A status from the node carries an ErrorInfo. A status that the transport
            // on this side makes up does not.
            Code::Unavailable if details.error_info().is_some() => Self::Unavailable { message },
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
                if std::error::Error::source(status).is_some() || is_transport(&message) =>
            {
                Self::ConnectionLost {
                    url: url.to_owned(),
                    reason: innermost(status),
                }
            }
            Code::Unavailable => Self::Unavailable { message },
            code => Self::Status { code, message },
        }
    }

    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BadUrl { .. } => {
                Some("write it like http://127.0.0.1:7310 (--node or PITHEAD_NODE)".to_owned())
            }
            Self::NotRunning { .. } | Self::ConnectionLost { .. } => Some(
                "is it running? start one with `pithead devnet` or `pithead-node`, or name another with --node URL (PITHEAD_NODE)"
                    .to_owned(),
            ),
            Self::Timeout { .. } => {
                Some("is that address a Pithead node? it may also be overloaded".to_owned())
            }
            Self::Unauthenticated { .. } | Self::PermissionDenied { .. } => Some(
                "give the node's token file: --token-file DATA_DIR/admin.token (or mine.token for `workers`; PITHEAD_TOKEN_FILE)"
                    .to_owned(),
            ),
            Self::RateLimited { retry_after, .. } => Some(match retry_after {
                Some(delay) => format!("try again in {} s", delay.as_secs().max(1)),
                None => "try again in a minute".to_owned(),
            }),
            Self::Unavailable { .. } => Some("try again in a moment".to_owned()),
            _ => None,
        }
    }

    /// Whether the same request may succeed over a new connection.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        matches!(
            self,
            Self::NotRunning { .. }
                | Self::ConnectionLost { .. }
                | Self::Timeout { .. }
                | Self::Unavailable { .. }
        )
    }
}

/// The node's sentence, and the violations that the sentence does not mention.
fn sentence(message: &str, violations: &[FieldViolation]) -> String {
    let mut text = message.to_owned();
    for violation in violations {
        if !message.contains(&violation.description) {
            text.push_str(&format!("; {}: {}", violation.field, violation.description));
        }
    }
    text
}

/// Whether tonic or hyper made up the status because the connection broke.
fn is_transport(message: &str) -> bool {
    [
        "transport error",
        "h2 protocol error",
        "error reading a body",
        "connection",
    ]
    .iter()
    .any(|part| message.contains(part))
}

/// The innermost cause of an error, which says most: "connection refused" rather
/// than "transport error".
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().to_lowercase()
}
