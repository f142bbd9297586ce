//! The steps that need several nodes: the nodes find each other, and they agree
//! on the chain.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::processes::Devnet;
use super::view::{DevnetView, NodeRow};

/// How long the nodes may take to find each other or to agree.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two looks at the nodes.
const POLL: Duration = Duration::from_millis(100);

/// Step: every node finds peers.
pub(super) async fn connected(devnet: &Devnet, view: &DevnetView) -> Result<()> {
    let count = devnet.nodes().count();
    if count == 1 {
        return Ok(());
    }
    view.step(&format!("{count} nodes find each other from one address"));
    let began = Instant::now();
    // With two peers each, the network does not depend on the first node.
    let wanted = 2.min(count - 1);
    loop {
        let mut fewest = usize::MAX;
        for node in devnet.nodes() {
            fewest = fewest.min(node.info().await?.peer_count as usize);
        }
        if fewest >= wanted {
            break;
        }
        if began.elapsed() > TIMEOUT {
            bail!("after {} s a node has {fewest} peers", TIMEOUT.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
    view.done(format!(
        "each has {wanted} peers or more after {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Step: all nodes come to have the same tip, and know the block at the height
/// `secured`, if there is one, to be final.
pub(super) async fn agreed(devnet: &Devnet, view: &DevnetView, secured: Option<u64>) -> Result<()> {
    let count = devnet.nodes().count();
    if count == 1 {
        return Ok(());
    }
    view.step("All nodes have the same chain");
    let began = Instant::now();
    let mut rows = Vec::new();
    let (height, hash) = loop {
        // Two blocks of one height may divide the nodes for a moment.
        rows.clear();
        let mut tips = Vec::new();
        let mut all_final = true;
        for node in devnet.nodes() {
            let info = node.info().await?;
            let chain = node.client.chain_info().await?;
            let tip = chain.tip.unwrap_or_default();
            rows.push(NodeRow {
                name: node.name.clone(),
                url: node.url.clone(),
                peers: info.peer_count,
                height: tip.height,
                miners: info.worker_count,
                secured: secured.map(|_| (chain.approved_height, chain.final_height)),
            });
            all_final &= secured.is_none_or(|height| chain.final_height >= height);
            tips.push((tip.height, tip.hash));
        }
        if let Some(first) = tips.first()
            && tips.iter().all(|tip| tip == first)
            && all_final
        {
            break first.clone();
        }
        if began.elapsed() > TIMEOUT {
            view.nodes(&rows);
            bail!("the nodes do not agree after {} s", TIMEOUT.as_secs());
        }
        tokio::time::sleep(POLL).await;
    };
    view.nodes(&rows);
    view.done(format!("block {height} {hash} is the tip of all {count}"));
    if let Some(secured) = secured {
        view.done(format!("block {secured} is final on all {count}"));
    }
    Ok(())
}
