//! The bytes of request-response: one message a stream, its length in front, in
//! the encoding of `pithead_core::sync`. A stream that ends before its message does was
//! lost, which is nobody's fault: only a whole message can break the protocol.

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

/// An answer is written so many bytes at a time…
const WRITE_BYTES: usize = 64 << 10;
/// …and given up if the other side takes longer than this for them: less than
/// 13 KiB a second can't bring an answer across in time anyway.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of answers from all peers that are being received; what is more waits.
const INCOMING_BYTES_MAX: usize = 128 << 20;
/// Answers up to this size never wait.
const INCOMING_SMALL_BYTES: usize = 256 << 10;
/// What of it is taken at a time.
const INCOMING_UNIT_BYTES: usize = 64 << 10;

/// A request, as read or to be written.
#[derive(Debug, Clone)]
pub(crate) enum WireRequest {
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
pub(crate) enum WireResponse {
    /// To be sent: encoded away from the swarm's task.
    Encoded(Arc<[u8]>),
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

/// How a peer declines: it closes without a word.
#[derive(Debug)]
struct Declined;

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("declined")
    }
}

impl std::error::Error for Declined {}

/// Whether a failed stream ended in the middle of a message: it was lost.
#[must_use]
pub(crate) fn is_cut_off(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// Whether a failed stream shows that the other side breaks the protocol, rather
/// than that it is gone.
#[must_use]
pub(crate) fn is_breach(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Breach>())
}

fn breach(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Breach(reason))
}

/// Reads and writes messages within their limits.
#[derive(Debug, Clone)]
pub(crate) struct SyncCodec {
    /// Most bytes of any response.
    response_bytes_max: usize,
    /// Most bytes of the response to what was asked on this stream.
    expected_bytes_max: usize,
    /// Units that may still be received, over all streams.
    incoming: Arc<Semaphore>,
}

impl SyncCodec {
    /// For a network whose responses take at most so many bytes.
    #[must_use]
    pub(crate) fn new(response_bytes_max: usize) -> Self {
        let units = INCOMING_BYTES_MAX / INCOMING_UNIT_BYTES;
        Self {
            response_bytes_max,
            expected_bytes_max: 0,
            incoming: Arc::new(Semaphore::new(units)),
        }
    }

    /// Waits until an answer of so many bytes may be received; small ones may at
    /// once.
    async fn make_way(&self, bytes: usize) -> io::Result<Option<SemaphorePermit<'_>>> {
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
            Err(error) if is_breach(&error) => {
                return Ok(WireRequest::Malformed(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let raw = read_message(io, length).await?;
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
        let Some(length) = read_length(io, self.expected_bytes_max).await? else {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, Declined));
        };
        let _place = self.make_way(length).await?;
        let raw = read_message(io, length).await?;
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
            WireRequest::Sound { request, .. } => {
                // The same codec reads the answer.
                self.expected_bytes_max = request.response_bytes_max(self.response_bytes_max);
                write_message(io, &request.encode()).await
            }
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
            WireResponse::Encoded(raw) => write_message(io, &raw).await,
            // Only ever made by reading.
            WireResponse::Decoded { response, .. } => write_message(io, &response.encode()).await,
        }
    }
}

/// The length of the message that follows, at most `max`; `None` if the other side
/// closed without a word.
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
        return Err(breach(format!("{length} bytes where {max} may come")));
    }
    Ok(Some(length))
}

/// So many bytes. Memory grows with what has come, never with what is promised.
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

/// Writes a message as fast as the other side takes it, and gives up if that is too
/// slow to get anywhere.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    const PROTOCOL: StreamProtocol = StreamProtocol::new("/test");

    fn codec() -> SyncCodec {
        SyncCodec::new(1_000)
    }

    /// A message as it is on the wire.
    fn framed(raw: &[u8]) -> Vec<u8> {
        let length = u32::try_from(raw.len()).unwrap();
        [&length.to_le_bytes(), raw].concat()
    }

    /// A codec that has asked for the mempool's ids, or something else.
    async fn asked(request: Request) -> SyncCodec {
        let mut codec = codec();
        let written = WireRequest::Sound { request, bytes: 0 };
        let mut wire = Cursor::new(Vec::new());
        codec
            .write_request(&PROTOCOL, &mut wire, written)
            .await
            .unwrap();
        codec
    }

    async fn read(codec: &mut SyncCodec, wire: Vec<u8>) -> io::Result<WireResponse> {
        codec.read_response(&PROTOCOL, &mut Cursor::new(wire)).await
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
        assert_eq!((found, bytes), (request, raw.len() - 4));
    }

    #[tokio::test]
    async fn a_breach_is_told_from_a_lost_connection() {
        let mut codec = asked(Request::Blocks(Vec::new())).await;
        let whole = framed(&Response::Blocks(Vec::new()).encode());
        assert!(read(&mut codec, whole.clone()).await.is_ok());
        for breach in [framed(&[9]), framed(&[]), framed(&[2; 1_001])] {
            let error = read(&mut codec, breach).await.unwrap_err();
            assert!(is_breach(&error) && !is_cut_off(&error), "{error}");
        }
        // Wherever it is cut off.
        for length in 1..whole.len() {
            let error = read(&mut codec, whole[..length].to_vec()).await;
            let error = error.unwrap_err();
            assert!(is_cut_off(&error) && !is_breach(&error), "{error}");
        }
        let declined = read(&mut codec, Vec::new()).await.unwrap_err();
        assert!(!is_cut_off(&declined) && !is_breach(&declined));
    }

    #[tokio::test]
    async fn a_malformed_request_is_told_from_a_lost_one() {
        let too_long = framed(&[4; REQUEST_BYTES_MAX + 1]);
        for raw in [too_long, framed(&[9]), framed(&[])] {
            let mut wire = Cursor::new(raw);
            let result = codec().read_request(&PROTOCOL, &mut wire).await;
            assert!(matches!(result, Ok(WireRequest::Malformed(_))));
        }
        for raw in [Vec::new(), vec![1], vec![1, 0, 0, 0]] {
            let mut wire = Cursor::new(raw);
            let result = codec().read_request(&PROTOCOL, &mut wire).await;
            assert!(is_cut_off(&result.unwrap_err()));
        }
    }

    #[tokio::test]
    async fn each_kind_of_answer_has_its_own_limit() {
        let status = pithead_core::sync::Status {
            best_hash: pithead_consensus::BlockHash::ZERO,
            height: pithead_consensus::Height(0),
            chain_work: pithead_consensus::Work::ZERO,
            approved: pithead_consensus::Checkpoint {
                height: pithead_consensus::Height(0),
                hash: pithead_consensus::BlockHash::ZERO,
            },
        };
        let mut codec = asked(Request::Status(status)).await;
        let answer = Response::Status(status).encode();
        assert!(read(&mut codec, framed(&answer)).await.is_ok());
        // A length alone is enough to know.
        let longer = u32::try_from(answer.len() + 1).unwrap();
        let error = read(&mut codec, longer.to_le_bytes().to_vec()).await;
        assert!(is_breach(&error.unwrap_err()));
    }

    /// Takes so many bytes, and then no more.
    struct Full(usize);

    impl AsyncWrite for Full {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            raw: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            let taken = raw.len().min(self.0);
            self.0 -= taken;
            if taken == 0 {
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(Ok(taken))
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn poll_close(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_is_given_up() {
        let started = tokio::time::Instant::now();
        let answer = WireResponse::Encoded(Arc::from(vec![7; 1 << 20]));
        let mut wire = Full(300_000);
        let result = codec().write_response(&PROTOCOL, &mut wire, answer).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), WRITE_PATIENCE.as_secs());
    }
}
