//! What a setting is when no source gives it. The limits are those of protocol
//! §12; the others are chosen for one machine that does other work, too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// `rpc_listen`: this machine only, because the API is plaintext.
pub const RPC_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7310);
/// `rpc_requests_per_minute`, for each IP address (protocol §12).
pub const RPC_REQUESTS_PER_MINUTE: u32 = 1_000;
/// `rpc_burst`: requests at once from one IP address (protocol §12).
pub const RPC_BURST: u32 = 100;
/// `rpc_max_connections`, in all (protocol §12).
pub const RPC_MAX_CONNECTIONS: usize = 1_024;
/// `rpc_max_connections_per_ip` (protocol §12).
pub const RPC_MAX_CONNECTIONS_PER_IP: usize = 32;
/// `rpc_max_streams` of one connection (protocol §12).
pub const RPC_MAX_STREAMS: u32 = 32;
/// `rpc_drain_secs`: well within the 10 s and more that service managers wait
/// before they kill.
pub const RPC_DRAIN_SECS: u64 = 5;
/// `minimum_chain_work`: any chain will do.
pub const MINIMUM_CHAIN_WORK: super::ChainWork = super::ChainWork(pithead_consensus::Work::ZERO);
/// `min_relay_fee_rate`, grains a byte (protocol §12).
pub const MIN_RELAY_FEE_RATE: u64 = 1;
/// `mempool_bytes_max`: 64 MiB (protocol §12).
pub const MEMPOOL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// `mempool_expiry_secs`: 72 hours (protocol §12).
pub const MEMPOOL_EXPIRY_SECS: u64 = 72 * 3_600;
/// `store_cache_bytes`: 64 MiB; the database's own default is 1 GiB.
pub const STORE_CACHE_BYTES: usize = 64 * 1024 * 1024;
/// `template_refresh_secs`: a miner's block is never much older than this.
pub const TEMPLATE_REFRESH_SECS: u64 = 30;
/// `share_interval_ms`: often enough to prove a hash rate within minutes, and
/// next to nothing for the node.
pub const SHARE_INTERVAL_MS: u64 = 5_000;
/// `log_filter`.
pub const LOG_FILTER: &str = "info";
/// `listen`: everywhere, over TCP and QUIC; the port after the API's.
pub const LISTEN: [&str; 4] = [
    "/ip4/0.0.0.0/tcp/7311",
    "/ip4/0.0.0.0/udp/7311/quic-v1",
    "/ip6/::/tcp/7311",
    "/ip6/::/udp/7311/quic-v1",
];
/// `max_peers`: 10 outbound and 64 inbound (protocol §12).
pub const MAX_PEERS: usize = pithead_p2p::PEERS_MAX_DEFAULT;
