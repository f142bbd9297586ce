//! The core's queue: the commands that the core's thread takes, in which order, and the share of
//! the queue that peers may fill. Knows nothing of how commands are handled: that is `thread`.
//!
//! A submitted block on the present tip goes ahead of the rest, so that a new tip never waits
//! behind blocks that came too late to be one. Start reading at [`CoreQueue::next`].

use std::sync::Arc;

use pithead_consensus::BlockHash;
use pithead_core::chain::AcceptError;
use pithead_core::node::{Answer, Event};
use pithead_core::sync::PeerEvent;
use thiserror::Error;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Events that may wait for the core.
const QUEUE_EVENTS_MAX: usize = 1_024;
/// Of these, the most that may come from peers. The other half is always left to the API.
const QUEUE_PEER_EVENTS_MAX: usize = 512;

/// Blocks on the present tip that may wait ahead of the queue. Further ones join the queue.
const TIP_BLOCKS_MAX: usize = 16;

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
    /// A block waits ahead of the queue. This wakes the thread if the queue is empty.
    TipBlock,
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

/// The sending end of the queue.
#[derive(Clone)]
pub(crate) struct CommandSender {
    commands: mpsc::Sender<CoreCommand>,
    tip_blocks: mpsc::Sender<CoreCommand>,
}

impl CommandSender {
    /// Puts a command at the end of the queue. Waits while the queue is full.
    pub(crate) async fn send(&self, command: CoreCommand) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }

    /// Puts a block on the present tip ahead of the queue, if there is room.
    pub(crate) async fn send_tip_block(&self, command: CoreCommand) -> Result<(), Stopped> {
        match self.tip_blocks.try_send(command) {
            Ok(()) => {
                // If the queue is full, the thread is awake and looks here first.
                let _ = self.commands.try_send(CoreCommand::TipBlock);
                Ok(())
            }
            Err(TrySendError::Full(command)) => self.send(command).await,
            Err(TrySendError::Closed(_)) => Err(Stopped),
        }
    }

    /// A sender that does not keep the core's thread alive.
    pub(crate) fn downgrade(&self) -> mpsc::WeakSender<CoreCommand> {
        self.commands.downgrade()
    }
}

/// The core's end of the queue.
pub(crate) struct CoreQueue {
    commands: mpsc::Receiver<CoreCommand>,
    tip_blocks: mpsc::Receiver<CoreCommand>,
    /// For blocks that went ahead and are no longer on the tip.
    back: mpsc::WeakSender<CoreCommand>,
    /// The last command went ahead, so that one of the others is next.
    others_first: bool,
}

impl CoreQueue {
    /// The next command; `None` once all senders are gone. Blocks on the tip, `tip`, and other
    /// commands take turns. While the queue is empty, the core goes on with work that it put off,
    /// if it `has_more`.
    pub(crate) fn next(&mut self, tip: BlockHash, has_more: bool) -> Option<CoreCommand> {
        if !std::mem::take(&mut self.others_first)
            && let Some(block) = self.next_tip_block(tip)
        {
            self.others_first = true;
            return Some(block);
        }
        loop {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {
                    if let Some(block) = self.next_tip_block(tip) {
                        return Some(block);
                    }
                    if has_more {
                        return Some(CoreCommand::unanswered(Event::Continue));
                    }
                    self.commands.blocking_recv()?
                }
            };
            // A wake-up has done its work: the queue is not empty, or was looked at again.
            if !matches!(command, CoreCommand::TipBlock) {
                return Some(command);
            }
        }
    }

    /// The next block that waits ahead of the queue and is still on the tip. Those that are not
    /// have lost their race: they join the queue.
    fn next_tip_block(&mut self, tip: BlockHash) -> Option<CoreCommand> {
        while let Ok(command) = self.tip_blocks.try_recv() {
            match parent_of(&command) {
                Some(parent) if parent != tip => self.put_back(command, parent),
                _ => return Some(command),
            }
        }
        None
    }

    /// Puts a block at the end of the queue. If there is no room, it is refused: the blocks of a
    /// tip that is gone have no claim to more.
    fn put_back(&self, command: CoreCommand, parent: BlockHash) {
        let refused = match self.back.upgrade() {
            Some(commands) => commands.try_send(command).err(),
            None => return,
        };
        let Some(TrySendError::Full(CoreCommand::Handle {
            answer: Some(answer),
            ..
        })) = refused
        else {
            return;
        };
        // The asker may have stopped waiting.
        let _ = answer.send(Answer::Block(Err(AcceptError::TooManySiblings { parent })));
    }
}

/// The parent of the block that a command hands in.
fn parent_of(command: &CoreCommand) -> Option<BlockHash> {
    match command {
        CoreCommand::Handle {
            event: Event::Block(block),
            ..
        } => Some(block.header.prev),
        _ => None,
    }
}

/// Makes the queue: its sending end, the core's end, and the end for peers' events.
pub(crate) fn core_queue() -> (CommandSender, CoreQueue, PeerEvents) {
    let (commands, queue) = mpsc::channel(QUEUE_EVENTS_MAX);
    let (tip_blocks, tip_block_queue) = mpsc::channel(TIP_BLOCKS_MAX);
    let events = PeerEvents {
        commands: commands.clone(),
        places: Arc::new(Semaphore::new(QUEUE_PEER_EVENTS_MAX)),
    };
    let queue = CoreQueue {
        commands: queue,
        tip_blocks: tip_block_queue,
        back: commands.downgrade(),
        others_first: false,
    };
    let sender = CommandSender {
        commands,
        tip_blocks,
    };
    (sender, queue, events)
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
