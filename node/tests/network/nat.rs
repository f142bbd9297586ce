//! Nodes where networks are not flat: behind a router that lets nobody in, and on
//! a local network that knows nobody else.
//!
//! The networks are this test's own: it starts itself anew inside namespaces, by
//! `unshare`, without any privileges. Where the system does not allow that, or has
//! no `nft`, it says so and ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_api::v1::admin_service_client::AdminServiceClient;
use pithead_api::v1::network_service_client::NetworkServiceClient;
use pithead_testkit::process::{Network, PATIENCE, data_dir};
use tempfile::TempDir;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

/// Set within the namespaces.
const INSIDE: &str = "NAT_TEST_INSIDE";
/// Where every node listens for peers.
const PORT: u16 = 7311;
/// Where its API is.
const RPC_PORT: u16 = 7310;

/// Runs a line of shell.
fn sh(line: &str) {
    run(Command::new("sh").args(["-ec", line]), line);
}

fn run(command: &mut Command, line: &str) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A machine: a network namespace, held by a process that sleeps.
struct Machine {
    holder: Child,
    name: &'static str,
}

impl Machine {
    fn new(name: &'static str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo here; exec sleep 1000"]);
        let mut holder = command.stdout(Stdio::piped()).spawn().unwrap();
        // It is in its namespace once it can speak.
        let mut word = [0; 4];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
        let machine = Self { holder, name };
        machine.sh("ip link set lo up");
        machine
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        command.arg(program);
        command
    }

    fn sh(&self, line: &str) -> String {
        run(self.enter("sh").args(["-ec", line]), line)
    }

    /// Plugs it into the switch of this namespace, with an address of its own.
    fn plug(&self, address: &str) {
        let (name, pid) = (self.name, self.holder.id());
        sh(&format!(
            "ip link add {name} type veth peer name outer netns {pid}
             ip link set {name} master switch up"
        ));
        self.sh(&format!(
            "ip addr add {address}/24 dev outer
             ip link set outer up
             ip route add 224.0.0.0/4 dev outer"
        ));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A switch, to which this namespace is connected, too.
fn lay_out(own_address: &str) {
    sh(&format!(
        "ip link set lo up
         ip link add switch type bridge
         ip addr add {own_address}/24 dev switch
         ip link set switch up"
    ));
}

/// A node on a machine.
struct Node {
    child: Child,
    channel: Channel,
    admin_token: String,
    dir: TempDir,
}

impl Node {
    fn start(machine: &Machine, address: &str, network: &Network, flags: &[&str]) -> Self {
        let dir = data_dir();
        let rpc = format!("{address}:{RPC_PORT}");
        let ready = dir.path().join("ready");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = machine.enter(env!("CARGO_BIN_EXE_pithead-node"));
        command
            .arg("--genesis")
            .arg(network.path())
            .arg("--data-dir")
            .arg(dir.path())
            .args(["--rpc-listen", &rpc, "--rpc-allow-insecure"])
            .args(["--rpc-requests-per-minute", "0"])
            .args(["--log-filter", "info,pithead_node=debug"])
            .arg("--ready-file")
            .arg(&ready)
            .args(flags);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !ready.exists() {
            assert!(Instant::now() < deadline, "{}", log_of(dir.path()));
            std::thread::sleep(Duration::from_millis(20));
        }
        let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
        Self {
            child,
            channel: Endpoint::from_shared(format!("http://{rpc}"))
                .unwrap()
                .connect_lazy(),
            admin_token: token.trim().to_owned(),
            dir,
        }
    }

    fn log(&self) -> String {
        log_of(self.dir.path())
    }

    async fn info(&self) -> v1::GetNodeInfoResponse {
        let mut client = NetworkServiceClient::new(self.channel.clone());
        let response = client.get_node_info(v1::GetNodeInfoRequest {}).await;
        response.unwrap().into_inner()
    }

    async fn peer(&self, id: &str) -> Option<v1::Peer> {
        let mut client = NetworkServiceClient::new(self.channel.clone());
        let response = client.list_peers(v1::ListPeersRequest::default()).await;
        let peers = response.unwrap().into_inner().peers;
        peers.into_iter().find(|peer| peer.peer_id == id)
    }

    async fn add_peer(&self, address: &str) {
        let mut client = AdminServiceClient::new(self.channel.clone());
        let address = address.to_owned();
        let mut request = Request::new(v1::AddPeerRequest { address });
        let bearer = format!("Bearer {}", self.admin_token).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let added = client.add_peer(request).await;
        assert!(added.is_ok(), "{added:?}: {}", self.log());
    }

    /// Waits until something holds.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        // Nodes take their time to find out whether they can be reached.
        let deadline = Instant::now() + 4 * PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}

/// Starts a test anew within namespaces, if a command that it needs works there;
/// whether this already is within.
fn inside(test: &str, needs: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let allowed = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .args(needs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("left out: this system gives no network namespaces, or has no {needs:?}");
        return false;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .args(["--kill-child", "--fork"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("nat::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_a_router_is_reached_through_a_relay() {
    let test = "a_node_behind_a_router_is_reached_through_a_relay";
    if !inside(test, &["nft", "list", "ruleset"]) {
        return;
    }
    lay_out("11.0.0.254");
    let (public, other) = (Machine::new("public"), Machine::new("other"));
    let (router, home) = (Machine::new("router"), Machine::new("home"));
    public.plug("11.0.0.1");
    other.plug("11.0.0.2");
    router.plug("11.0.0.3");
    put_behind(&router, &home);
    // This test alone knows the way in, to the API.
    sh("ip route add 10.0.0.0/24 via 11.0.0.3");

    let network = Network::easy();
    let listen = format!("/ip4/0.0.0.0/tcp/{PORT}");
    let flags = ["--listen", &listen, "--mdns=false", "--upnp=false"];
    let external = format!("/ip4/11.0.0.1/tcp/{PORT}");
    let bootnode = format!("11.0.0.1:{PORT}");
    let at_public = [&flags[..], &["--external-address", &external]].concat();
    let others = [&flags[..], &["--bootnode", &bootnode]].concat();
    let relay = Node::start(&public, "11.0.0.1", &network, &at_public);
    // One outbound peer: it does not look for others by itself.
    let few = [&others[..], &["--max-peers", "2"]].concat();
    let hidden = Node::start(&home, "10.0.0.2", &network, &few);
    let asker = Node::start(&other, "11.0.0.2", &network, &others);

    // It finds out that nobody reaches it, and asks the only one who passes on.
    let relay_id = relay.info().await.peer_id;
    let through = format!("/p2p/{relay_id}/p2p-circuit/");
    let address = hidden
        .until("a relay takes it", async || {
            let addresses = hidden.info().await.listen_addresses.into_iter();
            addresses.into_iter().find(|one| one.contains(&through))
        })
        .await;
    // The others, whom everyone reaches, were found to be so; the connections that
    // showed it are closed again, and those to the relay are one each.
    asker
        .until("the other is reachable", async || {
            let addresses = asker.info().await.external_addresses;
            (!addresses.is_empty()).then_some(())
        })
        .await;
    asker
        .until("one connection each", async || {
            let connected = public.sh("ss -Htn state established sport = :7311 or dport = :7311");
            (connected.lines().count() == 2).then_some(())
        })
        .await;

    // Perhaps they met while the hidden one looked around, but that soon ends.
    asker.add_peer(&address).await;
    let hidden_id = hidden.info().await.peer_id;
    let circuit = format!("address={external}/p2p/{relay_id}/p2p-circuit/p2p/{hidden_id}");
    asker
        .until("it is reached through the relay", async || {
            asker.log().contains(&circuit).then_some(())
        })
        .await;
    let asker_id = asker.info().await.peer_id;
    hidden
        .until("it knows who came", async || {
            hidden.peer(&asker_id).await.filter(|peer| peer.inbound)
        })
        .await;
    let outbound = async || asker.peer(&hidden_id).await.filter(|peer| !peer.inbound);
    asker.until("it is connected to", outbound).await;
    // Both then do without the relay.
    for (node, id) in [(&asker, &hidden_id), (&hidden, &asker_id)] {
        node.until("the relay is needed no longer", async || {
            let peer = node.peer(id).await?;
            (!peer.address.contains("p2p-circuit")).then_some(())
        })
        .await;
    }
}

/// Puts a machine behind a router that lets out whoever wants, and in nobody.
fn put_behind(router: &Machine, home: &Machine) {
    let (pid, home_pid) = (router.holder.id(), home.holder.id());
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

/// There is no router on this network that could be asked for an open port: that
/// does no harm. What one would answer is not tested anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_find_each_other_without_being_told() {
    let test = "neighbours_find_each_other_without_being_told";
    if !inside(test, &["ip", "link", "show"]) {
        return;
    }
    lay_out("192.168.5.254");
    let (left, right) = (Machine::new("left"), Machine::new("right"));
    left.plug("192.168.5.1");
    right.plug("192.168.5.2");
    let network = Network::easy();
    let listen = format!("/ip4/0.0.0.0/tcp/{PORT}");
    let flags = ["--listen", listen.as_str()];
    let left = Node::start(&left, "192.168.5.1", &network, &flags);
    let right = Node::start(&right, "192.168.5.2", &network, &flags);
    let (left_id, right_id) = (left.info().await.peer_id, right.info().await.peer_id);
    left.until("they find each other", async || left.peer(&right_id).await)
        .await;
    right
        .until("they find each other", async || right.peer(&left_id).await)
        .await;
}
