//! The encoding of requests and responses between nodes. Each stream carries one message: its
//! length in four bytes, then the encoding of `pithead_core::sync`.
//!
//! 1. If a stream ends in the middle of a message, the message is lost and no peer is penalised.
//! 2. If it ends without a byte, the peer has declined the request.
//! 3. Only a whole message, or a length beyond its limit, can violate the protocol.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::request_response::Codec;
use pithead_consensus::{Decode as _, Encode as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use pithead_core::sync::{REQUEST_BYTES_MAX, Request, Response};

/// Bytes of a message that are written at a time.
const WRITE_BYTES: usize = 64 << 10;
/// The other side has so long to read them; otherwise the answer is given up. At less than 13 KiB
/// a second it could not arrive in time anyway.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of answers that are being received from all peers. Further answers wait.
const INCOMING_BYTES_MAX: usize = 128 << 20;
/// Answers up to this size are received without waiting.
const INCOMING_SMALL_BYTES: usize = 256 << 10;
/// The unit in which [`INCOMING_BYTES_MAX`] is given out.
const INCOMING_UNIT_BYTES: usize = 64 << 10;

/// A request that was read or is to be written.
#[derive(Debug, Clone)]
pub(crate) enum WireRequest {
    /// A request that decodes.
    Valid {
        request: Request,
        /// Its encoded size if it was read, 0 if it is to be written.
        bytes: usize,
    },
    /// Bytes that are no request, and why. Reading does not return an error for them, because the
    /// swarm does not report errors of reading a request.
    Malformed(String),
}

/// A response, in the form that each side uses.
#[derive(Debug)]
pub(crate) enum WireResponse {
    /// A response to be sent. It is encoded on another thread than the swarm's.
    Encoded(Arc<[u8]>),
    /// A response that was received.
    Decoded {
        response: Response,
        /// Its encoded size.
        bytes: usize,
    },
}

/// The other side has sent something that is no message of this protocol.
#[derive(Debug)]
struct ProtocolViolation(String);

impl fmt::Display for ProtocolViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProtocolViolation {}

/// The peer has declined the request, by closing the stream without a byte.
#[derive(Debug)]
struct RequestDeclined;

impl fmt::Display for RequestDeclined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("declined")
    }
}

impl std::error::Error for RequestDeclined {}

/// Whether a failed stream ended in the middle of a message.
#[must_use]
pub(crate) fn is_cut_off(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// Whether a failed stream shows that the other side violates the protocol, rather than that the
/// connection was lost.
#[must_use]
pub(crate) fn is_violation(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<ProtocolViolation>())
}

fn violation(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, ProtocolViolation(reason))
}

/// Reads and writes messages within their limits. Each stream has a clone of its own.
#[derive(Debug, Clone)]
pub(crate) struct SyncCodec {
    /// The most bytes of any response.
    response_bytes_max: usize,
    /// The most bytes of a response to the request that was written to this stream.
    expected_bytes_max: usize,
    /// Units that may still be received, shared by all streams.
    incoming: Arc<Semaphore>,
}

impl SyncCodec {
    /// A codec for a network whose responses have at most `response_bytes_max` bytes.
    #[must_use]
    pub(crate) fn new(response_bytes_max: usize) -> Self {
        let units = INCOMING_BYTES_MAX / INCOMING_UNIT_BYTES;
        Self {
            response_bytes_max,
            expected_bytes_max: 0,
            incoming: Arc::new(Semaphore::new(units)),
        }
    }

    /// Waits until an answer of `bytes` may be received. Small answers don't wait.
    async fn reserve_incoming(&self, bytes: usize) -> io::Result<Option<SemaphorePermit<'_>>> {
        if bytes <= INCOMING_SMALL_BYTES {
            return Ok(None);
        }
        let all = INCOMING_BYTES_MAX / INCOMING_UNIT_BYTES;
        let units = bytes.div_ceil(INCOMING_UNIT_BYTES).min(all);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let place = self.incoming.acquire_many(units).await;
        place.map(Some).map_err(io::Error::other)
    }
}

impl Codec for SyncCodec {
    type Protocol = StreamProtocol;
    type Request = WireRequest;
    type Response = WireResponse;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<WireRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        let length = match read_length(io, REQUEST_BYTES_MAX).await {
            Ok(Some(length)) => length,
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if is_violation(&error) => {
                return Ok(WireRequest::Malformed(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let raw = read_message(io, length).await?;
        Ok(match Request::decode(&raw) {
            Ok(request) => WireRequest::Valid {
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
        let Some(length) = read_length(io, self.expected_bytes_max).await? else {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                RequestDeclined,
            ));
        };
        let _place = self.reserve_incoming(length).await?;
        let raw = read_message(io, length).await?;
        let response = Response::decode(&raw).map_err(|error| violation(error.to_string()))?;
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
            WireRequest::Valid { request, .. } => {
                // The same clone of the codec reads the answer.
                self.expected_bytes_max = request.response_bytes_max(self.response_bytes_max);
                write_message(io, &request.encode()).await
            }
            // Only reading makes this.
            WireRequest::Malformed(reason) => Err(violation(reason)),
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
            WireResponse::Encoded(raw) => write_message(io, &raw).await,
            // Only reading makes this.
            WireResponse::Decoded { response, .. } => write_message(io, &response.encode()).await,
        }
    }
}

/// Reads the length of the message that follows, at most `max`. Returns `None` if the other side
/// has closed the stream without a byte.
async fn read_length<T>(io: &mut T, max: usize) -> io::Result<Option<usize>>
where
    T: AsyncRead + Unpin + Send,
{
    let mut first = [0; 1];
    if io.read(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut rest = [0; 3];
    io.read_exact(&mut rest).await?;
    let ([a], [b, c, d]) = (first, rest);
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > max {
        return Err(violation(format!(
            "a message of {length} bytes, where at most {max} are allowed"
        )));
    }
    Ok(Some(length))
}

/// Reads a message of `length` bytes. Memory grows with the bytes that have arrived, not with the
/// length that the other side claims.
async fn read_message<T>(io: &mut T, length: usize) -> io::Result<Vec<u8>>
where
    T: AsyncRead + Unpin + Send,
{
    let mut raw = Vec::new();
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    io.take(limit).read_to_end(&mut raw).await?;
    if raw.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(raw)
}

/// Writes a message, and gives up if the other side reads it too slowly.
async fn write_message<T>(io: &mut T, raw: &[u8]) -> io::Result<()>
where
    T: AsyncWrite + Unpin + Send,
{
    let length = u32::try_from(raw.len()).map_err(io::Error::other)?;
    io.write_all(&length.to_le_bytes()).await?;
    for part in raw.chunks(WRITE_BYTES) {
        let written = tokio::time::timeout(WRITE_PATIENCE, io.write_all(part)).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
    Ok(())
}
