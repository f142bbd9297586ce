//! Error statuses as the API promises them: each with `google.rpc.ErrorInfo`, and with field
//! violations or a retry delay where they apply.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every reason that Pithead gives.
pub const DOMAIN: &str = "pithead";

fn with_reason(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// INVALID_ARGUMENT: a field of the request can't be used. The violation names the field.
#[must_use]
pub fn invalid(field: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    let mut details = ErrorDetails::with_bad_request_violation(field, description.clone());
    details.set_error_info("INVALID_ARGUMENT", DOMAIN, HashMap::new());
    Status::with_error_details(
        Code::InvalidArgument,
        format!("{field}: {description}"),
        details,
    )
}

/// NOT_FOUND: the node has no block, transaction or peer of that name.
#[must_use]
pub fn not_found(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::NotFound, reason, message)
}

/// UNAVAILABLE: the node can't answer now; the same call may succeed later.
#[must_use]
pub fn unavailable(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::Unavailable, reason, message)
}

/// UNAVAILABLE: the node is far behind its peers. The details say how far.
#[must_use]
pub fn syncing(height: u64, best_header_height: u64) -> Status {
    let missing = if best_header_height > height {
        format!("it has block {height} of {best_header_height}")
    } else {
        format!("its chain of {height} blocks has too little work")
    };
    let heights = [
        ("height", height),
        ("best_header_height", best_header_height),
    ];
    let heights = heights.map(|(name, value)| (name.to_owned(), value.to_string()));
    let details = ErrorDetails::with_error_info("SYNCING", DOMAIN, HashMap::from(heights));
    Status::with_error_details(
        Code::Unavailable,
        format!("the node is syncing: {missing}; mine for another node until it has caught up"),
        details,
    )
}

/// UNAVAILABLE: the node's clock is behind those of its peers. The details say how far.
#[must_use]
pub fn clock_behind(seconds: u64) -> Status {
    let details = HashMap::from([("seconds".to_owned(), seconds.to_string())]);
    let details = ErrorDetails::with_error_info("CLOCK_BEHIND", DOMAIN, details);
    Status::with_error_details(
        Code::Unavailable,
        format!(
            "the node's clock is some {seconds} s behind its peers, so it refuses their blocks; \
             set the clock of its machine, and mine for another node until then"
        ),
        details,
    )
}

/// UNIMPLEMENTED: this version does not serve the method.
#[must_use]
pub fn unimplemented(message: impl Into<String>) -> Status {
    with_reason(Code::Unimplemented, "NOT_SERVED_YET", message)
}

/// FAILED_PRECONDITION: the state of the node does not allow the call.
#[must_use]
pub fn failed_precondition(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::FailedPrecondition, reason, message)
}

/// INTERNAL: the node failed, through no fault of the caller.
#[must_use]
pub fn internal(message: impl Into<String>) -> Status {
    with_reason(Code::Internal, "INTERNAL", message)
}

/// PERMISSION_DENIED: the caller showed a token, but not the right one.
#[must_use]
pub fn permission_denied(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::PermissionDenied, reason, message)
}

/// UNAUTHENTICATED: the caller showed no token.
#[must_use]
pub fn unauthenticated(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::Unauthenticated, reason, message)
}

/// RESOURCE_EXHAUSTED: the caller exceeded a limit.
#[must_use]
pub fn resource_exhausted(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::ResourceExhausted, reason, message)
}

/// RESOURCE_EXHAUSTED: the caller exceeded a limit, and may call again after `delay`.
#[must_use]
pub fn retry_after(reason: &str, message: impl Into<String>, delay: Duration) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(delay));
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, message, details)
}
