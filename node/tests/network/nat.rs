//! Nodes where networks are not flat: a node behind a router that lets no connection in is
//! reached through a relay, and nodes on a local network find each other with no address given.
//!
//! Both run in network namespaces. Where the system allows none, or has no `nft`, they are left
//! out.

use pithead_api::v1;
use pithead_testkit::process::{Network, PATIENCE, TestNode, data_dir};
use tempfile::TempDir;

use super::namespaces::{Machine, Otherwise, enter, sh};

/// Where every node listens for peers.
const PORT: u16 = 7311;
/// Where its API is.
const RPC_PORT: u16 = 7310;

/// A switch, to which this namespace is connected, too.
fn lay_out(own_address: &str) {
    sh(&format!(
        "ip link set lo up
         ip link add switch type bridge
         ip addr add {own_address}/24 dev switch
         ip link set switch up"
    ));
}

/// A machine of this name that is plugged into the switch, with an address of its own.
fn plugged_in(name: &str, address: &str) -> Machine {
    let machine = Machine::new();
    let pid = machine.pid();
    sh(&format!(
        "ip link add {name} type veth peer name outer netns {pid}
         ip link set {name} master switch up"
    ));
    machine.sh(&format!(
        "ip addr add {address}/24 dev outer
         ip link set outer up
         ip route add 224.0.0.0/4 dev outer"
    ));
    machine
}

/// Starts a node on a machine, with the log that these tests read.
fn start(
    machine: &Machine,
    address: &str,
    network: &Network,
    flags: &[&str],
) -> (TestNode, TempDir) {
    let dir = data_dir();
    let rpc = format!("{address}:{RPC_PORT}");
    let flags = [&["--log-filter", "info,pithead_node=debug"], flags].concat();
    let node = machine.start_node(network, dir.path(), &rpc, &flags);
    (node, dir)
}

/// A node's view of one of its peers.
async fn peer(node: &TestNode, id: &str) -> Option<v1::Peer> {
    let mut peers = node.peers().await.into_iter();
    peers.find(|peer| peer.peer_id == id)
}

/// Waits longer than other tests do: nodes take their time to find out whether they can be
/// reached.
async fn until<T>(node: &TestNode, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    node.until_within(4 * PATIENCE, what, look).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_a_router_is_reached_through_a_relay() {
    let test = "nat::a_node_behind_a_router_is_reached_through_a_relay";
    if !enter(test, &["nft", "list", "ruleset"], Otherwise::LeaveOut) {
        return;
    }
    lay_out("11.0.0.254");
    let public = plugged_in("public", "11.0.0.1");
    let other = plugged_in("other", "11.0.0.2");
    let (router, home) = (plugged_in("router", "11.0.0.3"), Machine::new());
    put_behind(&router, &home);
    // Only this test's own namespace has a route to the hidden node: the way to its API.
    sh("ip route add 10.0.0.0/24 via 11.0.0.3");

    let network = Network::easy();
    let listen = format!("/ip4/0.0.0.0/tcp/{PORT}");
    let flags = ["--listen", &listen, "--mdns=false", "--upnp=false"];
    let external = format!("/ip4/11.0.0.1/tcp/{PORT}");
    let bootnode = format!("11.0.0.1:{PORT}");
    let at_public = [&flags[..], &["--external-address", &external]].concat();
    let others = [&flags[..], &["--bootnode", &bootnode]].concat();
    let (relay, _relay_dir) = start(&public, "11.0.0.1", &network, &at_public);
    // One outbound peer: it does not look for others by itself.
    let few = [&others[..], &["--max-peers", "2"]].concat();
    let (hidden, _hidden_dir) = start(&home, "10.0.0.2", &network, &few);
    let (asker, _asker_dir) = start(&other, "11.0.0.2", &network, &others);

    // The hidden node finds out that no other node reaches it, and asks the only one that relays.
    let relay_id = relay.node_info().await.peer_id;
    let through = format!("/p2p/{relay_id}/p2p-circuit/");
    let address = until(&hidden, "a relay takes it", async || {
        let addresses = hidden.node_info().await.listen_addresses.into_iter();
        addresses.into_iter().find(|one| one.contains(&through))
    })
    .await;
    // The others were found to be reachable. The connections that showed it are closed again:
    // each of the two nodes keeps one to the relay.
    until(&asker, "the other is reachable", async || {
        let addresses = asker.node_info().await.external_addresses;
        (!addresses.is_empty()).then_some(())
    })
    .await;
    until(&asker, "one connection each", async || {
        let connected = public.sh("ss -Htn state established sport = :7311 or dport = :7311");
        (connected.lines().count() == 2).then_some(())
    })
    .await;

    // They may have met while the hidden node looked around, but that connection soon ends.
    let added = asker.admin().add_peer(v1::AddPeerRequest { address }).await;
    assert!(added.is_ok(), "{added:?}: {}", asker.log());
    let hidden_id = hidden.node_info().await.peer_id;
    let circuit = format!("address={external}/p2p/{relay_id}/p2p-circuit/p2p/{hidden_id}");
    until(&asker, "it is reached through the relay", async || {
        asker.log().contains(&circuit).then_some(())
    })
    .await;
    let asker_id = asker.node_info().await.peer_id;
    until(&hidden, "it knows who came", async || {
        peer(&hidden, &asker_id).await.filter(|peer| peer.inbound)
    })
    .await;
    let outbound = async || peer(&asker, &hidden_id).await.filter(|peer| !peer.inbound);
    until(&asker, "it is connected to", outbound).await;
    // Both then do without the relay.
    for (node, id) in [(&asker, &hidden_id), (&hidden, &asker_id)] {
        until(node, "the relay is needed no longer", async || {
            let peer = peer(node, id).await?;
            (!peer.address.contains("p2p-circuit")).then_some(())
        })
        .await;
    }
}

/// Puts a machine behind a router that forwards connections from inside only.
fn put_behind(router: &Machine, home: &Machine) {
    let (pid, home_pid) = (router.pid(), home.pid());
    sh(&format!(
        "ip link add inner netns {pid} type veth peer name inner netns {home_pid}"
    ));
    router.sh("ip addr add 10.0.0.1/24 dev inner
         ip link set inner up
         echo 1 > /proc/sys/net/ipv4/ip_forward
         nft add table ip nat
         nft 'add chain ip nat out { type nat hook postrouting priority 100; }'
         nft add rule ip nat out oifname outer masquerade
         nft 'add chain ip nat in { type filter hook input priority 0; }'
         nft add rule ip nat in iifname outer drop");
    home.sh("ip addr add 10.0.0.2/24 dev inner
         ip link set inner up
         ip route add default via 10.0.0.1");
}

/// No router on this network could be asked for an open port, and that does no harm. What a
/// node makes of a router's answer is not tested anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_find_each_other_without_being_told() {
    let test = "nat::neighbours_find_each_other_without_being_told";
    if !enter(test, &["ip", "link", "show"], Otherwise::LeaveOut) {
        return;
    }
    lay_out("192.168.5.254");
    let left = plugged_in("left", "192.168.5.1");
    let right = plugged_in("right", "192.168.5.2");
    let network = Network::easy();
    let listen = format!("/ip4/0.0.0.0/tcp/{PORT}");
    let flags = ["--listen", listen.as_str()];
    let (left, _left_dir) = start(&left, "192.168.5.1", &network, &flags);
    let (right, _right_dir) = start(&right, "192.168.5.2", &network, &flags);
    let (left_id, right_id) = (
        left.node_info().await.peer_id,
        right.node_info().await.peer_id,
    );
    for (node, other) in [(&left, &right_id), (&right, &left_id)] {
        until(node, "they find each other", async || {
            peer(node, other).await
        })
        .await;
    }
}
