//! How bytes get from node to node: TCP with Noise and Yamux, or QUIC; names are
//! resolved; and nothing is dialled that is out of reach.

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport as _, dns, noise, quic, tcp, yamux};

use crate::policy::dial_scope::{Reach, Within};

/// Whoever connects has so long for the handshake (protocol §12).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection has so long to be set up by whoever dials: the way there, and the
/// handshake.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(6);
/// Streams of one connection in all.
const MUXED_STREAMS_MAX: usize = 128;
/// Bytes under way on one QUIC connection: one response.
const QUIC_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A QUIC connection without a sign of life ends after so long, milliseconds.
const QUIC_IDLE_MS: u32 = 30_000;

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Streams over one connection, where the transport has none of its own.
pub(crate) fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MUXED_STREAMS_MAX);
    config
}

/// All ways to other nodes, but for relays.
///
/// # Errors
/// Where the system lacks something, such as the settings of its resolver.
pub(crate) fn build(
    key: &Keypair,
    reach: Reach,
) -> Result<Within<Boxed<(PeerId, StreamMuxerBox)>>, BoxedError> {
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
    Ok(Within {
        inner: timed.boxed(),
        reach,
    })
}
