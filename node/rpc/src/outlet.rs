//! Streams of answers: how they are buffered, when they end, and what their subscriber is told
//! then.
//!
//! Start at [`open_stream`]. A handler gives it a feed: an async function that sends answers into
//! an [`Outlet`] until it has no more of them, or until it can't go on.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use pithead_engine::Stopped;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Response, Status};

use crate::api::{Api, stopped};
use crate::status;

/// Answers that are buffered for a subscriber (node policy).
pub(crate) const EVENTS_MAX: usize = 64;
/// How long a subscriber may leave its buffer full (node policy).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A stream of answers, as a handler returns it.
pub(crate) type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The sending end of a stream of answers.
#[derive(Debug)]
pub(crate) struct Outlet<T>(mpsc::Sender<Result<T, Status>>);

/// Why a stream ends before its feed has sent everything.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// The subscriber left, or it left its buffer full for too long.
    Unread,
    /// The subscriber is told this status.
    Failed(Status),
}

impl From<Status> for StreamEnd {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// Opens a stream with room for `events_max` answers and runs `feed` on a task of its own.
///
/// If the feed fails with a status, the status is the last item of the stream. If the subscriber
/// was too slow, the last item says so and what to do: `resume`.
pub(crate) fn open_stream<T, F>(
    events_max: usize,
    resume: &'static str,
    feed: impl FnOnce(Outlet<T>) -> F,
) -> Response<ResponseStream<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
{
    let (sender, answers) = mpsc::channel(events_max);
    let (too_slow_sender, too_slow_status) = oneshot::channel();
    let feeding = feed(Outlet(sender.clone()));
    tokio::spawn(async move {
        match feeding.await {
            Ok(()) => {}
            Err(StreamEnd::Unread) => {
                let _ = too_slow_sender.send(too_slow(resume));
            }
            Err(StreamEnd::Failed(status)) => {
                let _ = sender.send_timeout(Err(status), DRAIN_TIMEOUT).await;
            }
        }
        // The stream ends here at the earliest, when the reason for it is known.
        drop(sender);
    });
    Response::new(with_last(ReceiverStream::new(answers), too_slow_status))
}

impl<T> Outlet<T> {
    /// Sends one answer; waits while the buffer is full, but not for ever.
    pub(crate) async fn send(&self, answer: T) -> Result<(), StreamEnd> {
        let sent = self.0.send_timeout(Ok(answer), DRAIN_TIMEOUT).await;
        sent.map_err(|_| StreamEnd::Unread)
    }

    /// Waits until the stream has to end: the subscriber has left, or the node is stopping.
    pub(crate) async fn until_over(&self, api: &Api) -> StreamEnd {
        tokio::select! {
            () = self.0.closed() => StreamEnd::Unread,
            () = api.until_stopping() => StreamEnd::Failed(stopped(Stopped)),
        }
    }
}

/// Puts the status of a subscriber that was too slow behind the buffered answers. Its buffer was
/// full, so the status can't be in the buffer itself.
fn with_last<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    status: oneshot::Receiver<Status>,
) -> ResponseStream<T> {
    let status = std::sync::Mutex::new(Some(status));
    let last = tokio_stream::once(()).filter_map(move |()| {
        let mut receiver = status.lock().ok()?.take()?;
        receiver.try_recv().ok().map(Err)
    });
    Box::pin(answers.chain(last))
}

/// The status of a subscriber that did not keep up.
pub(crate) fn too_slow(resume: &str) -> Status {
    status::resource_exhausted(
        "SUBSCRIBER_TOO_SLOW",
        format!(
            "buffered events were not read within {} s; {resume}",
            DRAIN_TIMEOUT.as_secs()
        ),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tonic_types::StatusExt as _;

    /// The clock is the test's: a minute passes as soon as all wait for it.
    #[tokio::test(start_paused = true)]
    async fn a_subscriber_that_does_not_read_is_dropped_with_a_reason() {
        let began = tokio::time::Instant::now();
        let (sent_sender, sent) = oneshot::channel();
        let feed = |outlet: Outlet<u32>| async move {
            let mut sent = 0;
            loop {
                if let Err(end) = outlet.send(sent).await {
                    sent_sender.send(sent).unwrap();
                    return Err(end);
                }
                sent += 1;
            }
        };
        let mut answers = open_stream(EVENTS_MAX, "subscribe again", feed).into_inner();
        let sent = sent.await.unwrap();
        assert_eq!(sent as usize, EVENTS_MAX, "what the buffer holds");
        assert_eq!(began.elapsed(), DRAIN_TIMEOUT);
        // What was buffered still arrives, then the reason, then the end.
        for number in 0..sent {
            assert_eq!(answers.next().await.unwrap().unwrap(), number);
        }
        let status = answers.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "SUBSCRIBER_TOO_SLOW");
        assert!(answers.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_that_reads_slowly_but_steadily_stays() {
        let feed = |outlet: Outlet<u32>| async move {
            for number in 0..5 {
                outlet.send(number).await?;
            }
            Ok(())
        };
        let mut answers = open_stream(1, "subscribe again", feed).into_inner();
        for number in 0..5 {
            tokio::time::sleep(DRAIN_TIMEOUT - Duration::from_secs(1)).await;
            assert_eq!(answers.next().await.unwrap().unwrap(), number);
        }
        assert!(answers.next().await.is_none());
    }
}
