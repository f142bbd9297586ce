//! `pithead peers`: the nodes that a node is connected to, and what to do with
//! them.

use clap::{Args, Subcommand};
use pithead_api::v1;
use pithead_client::Client;
use serde_json::json;

use super::context::{Context, Role};
use crate::output::{Column, table};
use crate::show::{bytes, iso, peer_latency};

/// Peers or bans asked for at a time.
const PAGE: u32 = 1_000;

/// Arguments of `peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    command: Option<PeersCommand>,
}

/// What to do with peers; each needs the node's admin token.
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
    /// Show who is banned, and until when.
    Bans,
}

pub(crate) async fn run(context: &Context, args: PeersArgs) -> anyhow::Result<()> {
    let Some(command) = args.command else {
        return list(context).await;
    };
    let (client, _) = context.connect_as(Role::Admin).await?;
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
        PeersCommand::Bans => return list_bans(context, &client).await,
    };
    if context.json() {
        return context.out.json(&done.json);
    }
    Ok(context.out.line(done.text)?)
}

/// What has been done, for people and for programs.
struct Done {
    text: String,
    json: serde_json::Value,
}

/// Whether a node has nothing to do with others: then it has no identity among
/// them.
async fn is_offline(client: &Client) -> anyhow::Result<bool> {
    let info = client
        .read(|| {
            let mut network = client.network();
            async move { network.get_node_info(v1::GetNodeInfoRequest {}).await }
        })
        .await?;
    Ok(info.peer_id.is_empty())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let client = context.connect().await?;
    let mut peers = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListPeersRequest {
            page_size: PAGE,
            page_token,
        };
        let page = client
            .read(|| {
                let (mut network, request) = (client.network(), request.clone());
                async move { network.list_peers(request).await }
            })
            .await?;
        peers.extend(page.peers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let offline = peers.is_empty() && is_offline(&client).await?;
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

async fn list_bans(context: &Context, client: &Client) -> anyhow::Result<()> {
    let mut bans = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListBansRequest {
            page_size: PAGE,
            page_token,
        };
        let page = client.call(client.admin().list_bans(request)).await?;
        bans.extend(page.bans);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if context.json() {
        let bans: Vec<_> = bans
            .iter()
            .map(|ban| json!({ "peer": ban.peer, "end_time": iso(ban.end_time.as_ref()) }))
            .collect();
        return context.out.json(&json!({ "bans": bans }));
    }
    if bans.is_empty() {
        return Ok(context.out.line("nobody is banned")?);
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
        "latency_ms": latency.map(crate::show::milliseconds),
        "score": peer.score,
        "connected_time": iso(peer.connected_time.as_ref()),
        "bytes_sent": peer.bytes_sent,
        "bytes_received": peer.bytes_received,
    })
}
