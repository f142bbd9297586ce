//! The core's queue: the commands that the core's thread takes, and the share of the queue that
//! peers may fill. Knows nothing of how commands are handled: that is `thread`.

use std::sync::Arc;

use pithead_core::node::{Answer, Event};
use pithead_core::sync::PeerEvent;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Events that may wait for the core.
const QUEUE_EVENTS_MAX: usize = 1_024;
/// Of these, the most that may come from peers. The other half is always left to the API.
const QUEUE_PEER_EVENTS_MAX: usize = 512;

/// The core no longer answers, because the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// A command for the core's thread.
pub(crate) enum CoreCommand {
    /// Lets the core handle one event.
    Handle {
        event: Event,
        /// Where the answer goes, if the sender waits for one.
        answer: Option<oneshot::Sender<Answer>>,
        /// A peer's place in the queue. It is free again once the event was handled.
        place: Option<OwnedSemaphorePermit>,
    },
    /// Ends the thread after everything that was queued before.
    Stop,
}

impl CoreCommand {
    /// An event whose sender expects no answer.
    pub(crate) fn unanswered(event: Event) -> Self {
        Self::Handle {
            event,
            answer: None,
            place: None,
        }
    }
}

/// Makes the queue: its sending end, the core's end, and the end for peers' events.
pub(crate) fn core_queue() -> (
    mpsc::Sender<CoreCommand>,
    mpsc::Receiver<CoreCommand>,
    PeerEvents,
) {
    let (commands, queue) = mpsc::channel(QUEUE_EVENTS_MAX);
    let events = PeerEvents {
        commands: commands.clone(),
        places: Arc::new(Semaphore::new(QUEUE_PEER_EVENTS_MAX)),
    };
    (commands, queue, events)
}

/// Takes peers' events to the core. It is bounded: peers that send faster than the core works
/// have to wait.
#[derive(Clone)]
pub struct PeerEvents {
    commands: mpsc::Sender<CoreCommand>,
    places: Arc<Semaphore>,
}

impl PeerEvents {
    /// Hands an event to the core. Waits while peers fill their share of the queue.
    ///
    /// # Errors
    /// [`Stopped`] if the node is stopping.
    pub async fn send(&self, event: PeerEvent) -> Result<(), Stopped> {
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.map_err(|_| Stopped)?;
        let command = CoreCommand::Handle {
            event: Event::Peer(event),
            answer: None,
            place: Some(place),
        };
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}
