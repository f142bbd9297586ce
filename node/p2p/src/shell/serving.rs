//! Events of requests that peers make: each is queued within its limits, answered on the blocking
//! pool, and sent. The core takes no part. `policy::answers` decides which is next.

use std::io;

use libp2p::PeerId;
use libp2p::request_response::{InboundFailure, InboundRequestId, ResponseChannel};
use tracing::{debug, info};

use crate::policy::answers::{PendingRequest, class_of};
use crate::shell::Shell;
use crate::shell::answer_workers::EncodedAnswer;
use crate::wire::codec::{WireRequest, WireResponse};
use pithead_core::sync::{Offence, Request};

/// Answers in a row that a source may leave unread before its peer is disconnected.
const UNREAD_MAX: u32 = 3;

impl Shell {
    /// A peer has sent a request. Dropping the channel declines it.
    pub(super) fn on_request(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        wire: WireRequest,
        channel: ResponseChannel<WireResponse>,
    ) {
        self.admit(peer);
        let (request, bytes) = match wire {
            WireRequest::Valid { request, bytes } => (request, bytes),
            WireRequest::Malformed(reason) => {
                debug!(%peer, %reason, "a malformed request");
                return self.report_offence(&peer, Offence::Malformed);
            }
        };
        self.peers.count_bytes(&peer, 0, bytes);
        let status = match &request {
            Request::Status(status) => Some(*status),
            _ => None,
        };
        let pending = PendingRequest {
            peer,
            source: self.peers.source(&peer),
            class: class_of(&request, &self.recent),
            request,
            channel,
        };
        let now_ms = self.now_ms();
        if !self.serving.admit(id, pending, now_ms) {
            debug!(%peer, "request declined: the peer asks too much");
            return;
        }
        if let Some(status) = status {
            self.note_status(&peer, status);
        }
        self.serve_waiting();
    }

    /// Begins all answers whose turn it is.
    pub(super) fn serve_waiting(&mut self) {
        let now_ms = self.now_ms();
        while let Some((id, pending)) = self.serving.start_next(now_ms) {
            self.make_answer(id, pending);
        }
    }

    fn make_answer(
        &mut self,
        id: InboundRequestId,
        pending: PendingRequest<ResponseChannel<WireResponse>>,
    ) {
        let PendingRequest {
            peer,
            source,
            class,
            request,
            channel,
        } = pending;
        self.serving.making(id, peer, source, channel);
        if let Some(raw) = self.recent.answer(&request) {
            let raw = Some(raw);
            return self.send_answer(EncodedAnswer { id, raw });
        }
        self.workers.make(id, class, request, self.recent.clone());
    }

    /// Sends an answer that is ready.
    pub(super) fn send_answer(&mut self, answer: EncodedAnswer) {
        let EncodedAnswer { id, raw } = answer;
        let Some((peer, source, channel)) = self.serving.made(&id) else {
            return;
        };
        let Some(raw) = raw else {
            self.serving.forget(&id);
            return self.serve_waiting();
        };
        self.peers.count_bytes(&peer, raw.len(), 0);
        let now_ms = self.now_ms();
        self.serving.sending(id, &source, raw.len(), now_ms);
        let sync = &mut self.swarm.behaviour_mut().sync;
        let sent = sync.send_response(channel, WireResponse::Encoded(raw));
        if sent.is_err() {
            // The peer is gone.
            self.serving.forget(&id);
        }
    }

    /// An answer was sent whole.
    pub(super) fn on_answer_sent(&mut self, id: &InboundRequestId) {
        self.serving.sent(id);
        self.serve_waiting();
    }

    /// A request of a peer has ended without an answer, or in the middle of it.
    pub(super) fn on_answer_failed(&mut self, id: &InboundRequestId, error: &InboundFailure) {
        let timed_out = match error {
            InboundFailure::Timeout => true,
            InboundFailure::Io(error) => error.kind() == io::ErrorKind::TimedOut,
            _ => false,
        };
        if timed_out {
            let now_ms = self.now_ms();
            if let Some((peer, unread_in_a_row)) = self.serving.not_read(id, now_ms) {
                debug!(%peer, unread_in_a_row, "an answer was not read in time");
                if unread_in_a_row >= UNREAD_MAX {
                    info!(%peer, "disconnecting a peer that does not read its answers");
                    self.disconnect(&peer);
                }
            }
        } else {
            self.serving.forget(id);
        }
        self.serve_waiting();
    }
}
