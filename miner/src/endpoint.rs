//! Reads the address of a node as people type it, and makes the endpoint to connect
//! to. Connections are made elsewhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tonic::transport::{Endpoint, Uri};

/// The gRPC port of a node, unless its settings say otherwise.
pub const DEFAULT_PORT: u16 = 7310;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The node pings equally often. A dead connection is noticed after this interval and
/// the timeout below.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The host and port of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    authority: String,
}

/// A text that is not the address of a node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{found:?} is not the address of a node: {reason} (expected http://HOST:PORT)")]
pub struct NodeAddressError {
    found: String,
    reason: String,
}

impl FromStr for NodeAddress {
    type Err = NodeAddressError;

    fn from_str(text: &str) -> Result<Self, NodeAddressError> {
        let text = text.trim();
        let refuse = |reason: &str| NodeAddressError {
            found: text.chars().take(100).collect(),
            reason: reason.to_owned(),
        };
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = with_scheme
            .parse()
            .map_err(|error| refuse(&format!("{error}")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(refuse("this miner speaks plain HTTP/2 only, not TLS")),
            _ => return Err(refuse("the scheme must be http")),
        }
        if uri
            .path_and_query()
            .is_some_and(|path| path.as_str() != "/")
        {
            return Err(refuse("nothing may follow the port"));
        }
        let authority = uri.authority().ok_or_else(|| refuse("no host"))?;
        if authority.host().is_empty() {
            return Err(refuse("no host"));
        }
        if authority.as_str().contains('@') {
            return Err(refuse("it must not hold a user name"));
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => DEFAULT_PORT,
            None => return Err(refuse("the port is not a number from 0 to 65535")),
        };
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
        })
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

impl NodeAddress {
    /// The endpoint of the node, with time limits and keep-alive.
    ///
    /// # Errors
    /// A transport error if tonic does not take the address.
    pub fn endpoint(&self) -> Result<Endpoint, tonic::transport::Error> {
        Ok(Endpoint::from_shared(format!("http://{}", self.authority))?
            .user_agent(crate::AGENT)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        for (text, authority) in [
            ("http://127.0.0.1:7310", "127.0.0.1:7310"),
            ("http://127.0.0.1:7310/", "127.0.0.1:7310"),
            ("localhost:9", "localhost:9"),
            (" node.example ", "node.example:7310"),
            ("http://[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]:7310"),
        ] {
            let address: NodeAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), authority);
            address.endpoint().unwrap();
        }
    }

    #[test]
    fn says_what_is_wrong_with_the_rest() {
        for (text, reason) in [
            ("https://node.example:7310", "not TLS"),
            ("grpc://node.example:7310", "scheme must be http"),
            ("http://node.example:7310/v1", "nothing may follow"),
            ("http://node.example:70000", "port"),
            ("http://user@node.example", "user name"),
            ("http://", "HOST"),
            ("", "HOST"),
            ("a b", "HOST"),
        ] {
            let error = text.parse::<NodeAddress>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
