//! The transports between nodes: TCP with Noise and Yamux, or QUIC. Host names are resolved, and
//! only addresses in the node's dial scope are dialled.

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport as _, dns, noise, quic, tcp, yamux};

use crate::policy::dial_scope::{DialScope, ScopedTransport};

/// How long an inbound handshake may take (node policy).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an outbound connection may take: the connection itself and the handshake.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(6);
/// Open streams of one connection.
const MUXED_STREAMS_MAX: usize = 128;
/// Flow-control window of a QUIC connection, bytes: one response.
const QUIC_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A QUIC connection on which nothing arrives ends after so long, milliseconds.
const QUIC_IDLE_MS: u32 = 30_000;

/// An error of libp2p's builders, which have no common type.
pub(crate) type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Yamux, for transports without streams of their own.
pub(crate) fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MUXED_STREAMS_MAX);
    config
}

/// All transports but relays.
///
/// # Errors
/// An error if the system lacks something, such as the settings of its resolver.
pub(crate) fn build(
    key: &Keypair,
    dial_scope: DialScope,
) -> Result<ScopedTransport<Boxed<(PeerId, StreamMuxerBox)>>, BoxedError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let mut config = quic::Config::new(key);
    config.handshake_timeout = HANDSHAKE_TIMEOUT;
    config.max_concurrent_stream_limit = MUXED_STREAMS_MAX as u32;
    config.max_stream_data = QUIC_WINDOW_BYTES;
    config.max_connection_data = QUIC_WINDOW_BYTES;
    config.max_idle_timeout = QUIC_IDLE_MS;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let either = tcp.or_transport(quic).map(|either, _| either.into_inner());
    let named = dns::tokio::Transport::system(either)?;
    let timed = TransportTimeout::with_ingoing_timeout(named, HANDSHAKE_TIMEOUT);
    Ok(ScopedTransport {
        inner: timed.boxed(),
        dial_scope,
    })
}
