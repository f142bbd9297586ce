//! `pithead peers`: shows, adds, removes and bans the nodes that a node is
//! connected to.

use clap::{Args, Subcommand};
use pithead_api::v1;
use serde_json::json;

use super::context::{Context, TokenRole};
use crate::terminal::output::{Column, table};
use crate::terminal::show::peer_latency;
use crate::terminal::words::{bytes, iso, milliseconds};

/// Arguments of `peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    command: Option<PeersCommand>,
}

/// Subcommands of `peers`; each needs the node's admin token.
#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// Connect to a peer and keep the connection up.
    Add {
        /// Its multiaddress, or HOST:PORT.
        #[arg(value_name = "ADDRESS")]
        address: String,
    },
    /// Disconnect a peer and forget it.
    Remove {
        /// Its identity.
        #[arg(value_name = "PEER")]
        peer: String,
    },
    /// Refuse a peer or a host for a while.
    Ban {
        /// A peer's identity, or an IP address.
        #[arg(value_name = "PEER|IP")]
        peer: String,
        /// For how many seconds.
        #[arg(long, value_name = "SECS", default_value_t = 86_400, value_parser = clap::value_parser!(i64).range(1..))]
        secs: i64,
    },
    /// End a ban.
    Unban {
        /// A peer's identity, or an IP address.
        #[arg(value_name = "PEER|IP")]
        peer: String,
    },
    /// Show the banned peers and hosts, and when each ban ends.
    Bans,
}

pub(crate) async fn run(context: &Context, args: PeersArgs) -> anyhow::Result<()> {
    let Some(command) = args.command else {
        return list(context).await;
    };
    let (client, _) = context.connect_as(TokenRole::Admin).await?;
    let mut admin = client.admin();
    let done = match command {
        PeersCommand::Add { address } => {
            let request = v1::AddPeerRequest { address };
            let added = client.call(admin.add_peer(request)).await?;
            Done {
                text: format!("connected to {}", added.peer_id),
                json: json!({ "action": "add", "peer_id": added.peer_id }),
            }
        }
        PeersCommand::Remove { peer } => {
            let peer_id = peer.clone();
            let request = v1::RemovePeerRequest { peer_id };
            client.call(admin.remove_peer(request)).await?;
            Done {
                text: format!("removed {peer}"),
                json: json!({ "action": "remove", "peer_id": peer }),
            }
        }
        PeersCommand::Ban { peer, secs } => {
            let request = v1::BanPeerRequest {
                peer: peer.clone(),
                duration: Some(prost_types::Duration {
                    seconds: secs,
                    nanos: 0,
                }),
            };
            client.call(admin.ban_peer(request)).await?;
            Done {
                text: format!("banned {peer}"),
                json: json!({ "action": "ban", "peer": peer, "secs": secs }),
            }
        }
        PeersCommand::Unban { peer } => {
            let request = v1::UnbanPeerRequest { peer: peer.clone() };
            client.call(admin.unban_peer(request)).await?;
            Done {
                text: format!("{peer} is banned no longer"),
                json: json!({ "action": "unban", "peer": peer }),
            }
        }
        PeersCommand::Bans => return list_bans(context, &client.bans().await?),
    };
    if context.json() {
        return context.out.json(&done.json);
    }
    Ok(context.out.line(done.text)?)
}

/// The outcome of a subcommand, for people and for programs.
struct Done {
    text: String,
    json: serde_json::Value,
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let client = context.connect().await?;
    let peers = client.peers().await?;
    // A node that keeps to itself has no identity among peers.
    let offline = peers.is_empty() && client.node_info().await?.peer_id.is_empty();
    if context.json() {
        let peers: Vec<_> = peers.iter().map(peer_json).collect();
        return context
            .out
            .json(&json!({ "offline": offline, "peers": peers }));
    }
    if offline {
        return Ok(context
            .out
            .line("no peers: the node keeps to itself, since it was started with --offline")?);
    }
    if peers.is_empty() {
        return Ok(context
            .out
            .line("no peers: name one with `pithead peers add ADDRESS`")?);
    }
    let columns = [
        Column::Left("peer"),
        Column::Left("address"),
        Column::Left("agent"),
        Column::Left("direction"),
        Column::Right("height"),
        Column::Right("latency"),
        Column::Right("score"),
        Column::Right("sent"),
        Column::Right("received"),
        Column::Left("since"),
    ];
    let rows = peers.iter().map(|peer| {
        vec![
            peer.peer_id.clone(),
            peer.address.clone(),
            peer.agent.clone(),
            direction(peer).to_owned(),
            peer.height.to_string(),
            peer_latency(peer),
            format!("{:.1}", peer.score),
            bytes(peer.bytes_sent),
            bytes(peer.bytes_received),
            iso(peer.connected_time.as_ref()),
        ]
    });
    Ok(context.out.line(table(&columns, rows))?)
}

fn list_bans(context: &Context, bans: &[v1::Ban]) -> anyhow::Result<()> {
    if context.json() {
        let bans: Vec<_> = bans
            .iter()
            .map(|ban| json!({ "peer": ban.peer, "end_time": iso(ban.end_time.as_ref()) }))
            .collect();
        return context.out.json(&json!({ "bans": bans }));
    }
    if bans.is_empty() {
        return Ok(context.out.line("no peer or host is banned")?);
    }
    let columns = [Column::Left("peer"), Column::Left("until")];
    let rows = bans
        .iter()
        .map(|ban| vec![ban.peer.clone(), iso(ban.end_time.as_ref())]);
    Ok(context.out.line(table(&columns, rows))?)
}

fn direction(peer: &v1::Peer) -> &'static str {
    if peer.inbound { "in" } else { "out" }
}

fn peer_json(peer: &v1::Peer) -> serde_json::Value {
    let latency = peer.latency.as_ref();
    json!({
        "peer_id": peer.peer_id,
        "address": peer.address,
        "agent": peer.agent,
        "direction": direction(peer),
        "height": peer.height,
        "latency_ms": latency.map(milliseconds),
        "score": peer.score,
        "connected_time": iso(peer.connected_time.as_ref()),
        "bytes_sent": peer.bytes_sent,
        "bytes_received": peer.bytes_received,
    })
}
