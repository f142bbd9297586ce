//! Tests of the codec.

#![allow(clippy::unwrap_used)]

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

/// A codec that has written this request, and now expects the response.
async fn asked(request: Request) -> SyncCodec {
    let mut codec = codec();
    let written = WireRequest::Valid { request, bytes: 0 };
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
async fn written_requests_are_read_back() {
    let request = Request::Headers {
        locator: vec![pithead_consensus::BlockHash([7; 32])],
        stop: None,
    };
    let mut wire = Cursor::new(Vec::new());
    let written = WireRequest::Valid {
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
    let WireRequest::Valid {
        request: found,
        bytes,
    } = read
    else {
        panic!("{read:?}");
    };
    assert_eq!((found, bytes), (request, raw.len() - 4));
}

#[tokio::test]
async fn a_violation_is_told_from_a_lost_connection() {
    let mut codec = asked(Request::Blocks(Vec::new())).await;
    let whole = framed(&Response::Blocks(Vec::new()).encode());
    assert!(read(&mut codec, whole.clone()).await.is_ok());
    for violation in [framed(&[9]), framed(&[]), framed(&[2; 1_001])] {
        let error = read(&mut codec, violation).await.unwrap_err();
        assert!(is_violation(&error) && !is_cut_off(&error), "{error}");
    }
    // A message that is cut off anywhere is lost, and violates nothing.
    for length in 1..whole.len() {
        let error = read(&mut codec, whole[..length].to_vec()).await;
        let error = error.unwrap_err();
        assert!(is_cut_off(&error) && !is_violation(&error), "{error}");
    }
    let declined = read(&mut codec, Vec::new()).await.unwrap_err();
    assert!(!is_cut_off(&declined) && !is_violation(&declined));
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
    // The length alone shows the violation.
    let longer = u32::try_from(answer.len() + 1).unwrap();
    let error = read(&mut codec, longer.to_le_bytes().to_vec()).await;
    assert!(is_violation(&error.unwrap_err()));
}

/// A stream that takes this many bytes and then no more.
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
