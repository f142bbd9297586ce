//! The bytes of request-response: one message a stream, in the encoding of
//! `crate::sync`, each side closing its half when it has said all.

use std::fmt;
use std::io;

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::request_response::Codec;
use pithead_consensus::{Decode as _, Encode as _};

use crate::sync::{REQUEST_BYTES_MAX, Request, Response};

/// A request, as read or to be written.
#[derive(Debug, Clone)]
pub(super) enum WireRequest {
    /// One that is sound.
    Sound {
        /// What is asked.
        request: Request,
        /// Encoded bytes, once it was read.
        bytes: usize,
    },
    /// What came is none. An error would not do: the swarm keeps those of reading
    /// a request to itself.
    Malformed(String),
}

/// A response, in the form that each side has use for.
#[derive(Debug)]
pub(super) enum WireResponse {
    /// To be sent: encoded away from the swarm's task.
    Encoded(Vec<u8>),
    /// Received.
    Decoded {
        /// What was answered.
        response: Response,
        /// Bytes that it took.
        bytes: usize,
    },
}

/// What came is no message of this protocol.
#[derive(Debug)]
struct Breach(String);

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Breach {}

/// Whether a failed stream shows that the other side breaks the protocol, rather
/// than that it is gone.
#[must_use]
pub(super) fn is_breach(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Breach>())
}

fn breach(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Breach(reason))
}

/// Reads and writes messages within their limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct SyncCodec {
    /// Most bytes of a response.
    pub(super) response_bytes_max: usize,
}

impl Codec for SyncCodec {
    type Protocol = StreamProtocol;
    type Request = WireRequest;
    type Response = WireResponse;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<WireRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        let raw = match read_to_end(io, REQUEST_BYTES_MAX).await {
            Ok(raw) => raw,
            Err(error) if is_breach(&error) => {
                return Ok(WireRequest::Malformed(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        Ok(match Request::decode(&raw) {
            Ok(request) => WireRequest::Sound {
                request,
                bytes: raw.len(),
            },
            Err(error) => WireRequest::Malformed(error.to_string()),
        })
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<WireResponse>
    where
        T: AsyncRead + Unpin + Send,
    {
        let raw = read_to_end(io, self.response_bytes_max).await?;
        if raw.is_empty() {
            // How a peer declines: it closes without a word.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let response = Response::decode(&raw).map_err(|error| breach(error.to_string()))?;
        let bytes = raw.len();
        Ok(WireResponse::Decoded { response, bytes })
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: WireRequest,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match request {
            WireRequest::Sound { request, .. } => io.write_all(&request.encode()).await,
            // Only ever made by reading.
            WireRequest::Malformed(reason) => Err(breach(reason)),
        }
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: WireResponse,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match response {
            WireResponse::Encoded(raw) => io.write_all(&raw).await,
            // Only ever made by reading.
            WireResponse::Decoded { response, .. } => io.write_all(&response.encode()).await,
        }
    }
}

/// Everything up to the end of the stream; more than `max` bytes break the
/// protocol. Memory grows with what has come, never with what is promised.
async fn read_to_end<T>(io: &mut T, max: usize) -> io::Result<Vec<u8>>
where
    T: AsyncRead + Unpin + Send,
{
    let mut raw = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    io.take(limit).read_to_end(&mut raw).await?;
    if raw.len() > max {
        return Err(breach(format!("more than {max} bytes")));
    }
    Ok(raw)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    const PROTOCOL: StreamProtocol = StreamProtocol::new("/test");

    fn codec() -> SyncCodec {
        SyncCodec {
            response_bytes_max: 1_000,
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let request = Request::Headers {
            locator: vec![pithead_consensus::BlockHash([7; 32])],
            stop: None,
        };
        let mut wire = Cursor::new(Vec::new());
        let written = WireRequest::Sound {
            request: request.clone(),
            bytes: 0,
        };
        codec()
            .write_request(&PROTOCOL, &mut wire, written)
            .await
            .unwrap();
        let raw = wire.into_inner();
        let mut wire = Cursor::new(raw.clone());
        let read = codec().read_request(&PROTOCOL, &mut wire).await.unwrap();
        let WireRequest::Sound {
            request: found,
            bytes,
        } = read
        else {
            panic!("{read:?}");
        };
        assert_eq!((found, bytes), (request, raw.len()));
    }

    #[tokio::test]
    async fn a_breach_is_told_from_a_lost_connection() {
        let mut read = Vec::new();
        for raw in [vec![9], vec![0; 3], vec![2; 1_001], Vec::new()] {
            let mut wire = Cursor::new(raw);
            let result = codec().read_response(&PROTOCOL, &mut wire).await;
            read.push(is_breach(&result.unwrap_err()));
        }
        assert_eq!(read, [true, true, true, false]);
        for raw in [vec![4; REQUEST_BYTES_MAX + 1], vec![9], Vec::new()] {
            let mut wire = Cursor::new(raw);
            let result = codec().read_request(&PROTOCOL, &mut wire).await;
            assert!(matches!(result, Ok(WireRequest::Malformed(_))));
        }
    }
}
