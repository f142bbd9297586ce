//! The role token of a request: how a client proves to a node that it may mine
//! or administer. A node checks the token on its own; this file knows only how
//! it travels.

use std::fmt;

use thiserror::Error;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

/// A token whose text is no HTTP header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the token holds characters that can't be sent")]
pub struct BadTokenError;

/// A role token, ready to go along with requests as
/// `authorization: Bearer TOKEN`. Its text never appears in logs.
#[derive(Clone)]
pub struct BearerToken(MetadataValue<Ascii>);

impl BearerToken {
    /// Takes the content of a node's token file; white space around it does not
    /// matter.
    ///
    /// # Errors
    /// [`BadTokenError`] if the text holds anything but visible ASCII.
    pub fn new(text: &str) -> Result<Self, BadTokenError> {
        format!("Bearer {}", text.trim())
            .parse()
            .map(Self)
            .map_err(|_| BadTokenError)
    }

    /// Adds the token to a request.
    pub fn authorize<T>(&self, request: &mut Request<T>) {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_goes_along_without_the_space_around_it() {
        let mut request = Request::new(());
        BearerToken::new(" secret\n")
            .unwrap()
            .authorize(&mut request);
        let sent = request.metadata().get("authorization").unwrap();
        assert_eq!(sent, "Bearer secret");
    }

    #[test]
    fn a_token_that_can_not_be_sent_is_refused() {
        assert_eq!(BearerToken::new("a\nb").unwrap_err(), BadTokenError);
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = BearerToken::new("secret").unwrap();
        assert!(!format!("{token:?}").contains("secret"));
    }
}
