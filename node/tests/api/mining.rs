//! Mining over the API: work as it comes, every answer to a solution and to a
//! block, and what the node remembers of each miner.

use pithead_api::v1;
use pithead_api::v1::SubmitOutcome as Outcome;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_consensus::{Block, BlockCommitment, BlockHeader, Decode as _, Target};
use pithead_core::store::MemoryStore;
use pithead_rpc::workers::{
    BlockCredit, JudgeContext, SolutionVerdict, SubmittedSolution, WorkBook, WorkSettings, WorkerId,
};
use pithead_testkit::chain::mine;
use pithead_testkit::process::{Network, TestNode, data_dir, next, now, reason, violated_field};
use pithead_testkit::{FEE, PIT, key};
use tempfile::TempDir;

type Work = tonic::Streaming<v1::SubscribeWorkResponse>;

fn start(network: &Network) -> (TestNode, TempDir) {
    let dir = data_dir();
    // New work only for the reasons that a test gives.
    let flags = ["--template-refresh-secs", "600"];
    (TestNode::start_with(network, dir.path(), &flags), dir)
}

async fn subscribe(node: &TestNode, network: &Network, worker: &str) -> Work {
    node.mining()
        .subscribe_work(v1::SubscribeWorkRequest {
            reward_address: network.address(7),
            worker: worker.to_owned(),
            agent: "tests/1".to_owned(),
        })
        .await
        .unwrap()
        .into_inner()
}

fn target(bytes: &[u8]) -> Target {
    Target::from_le_bytes(bytes.try_into().unwrap()).unwrap()
}

/// The header of a piece of work with the miner's part of the extra nonce.
fn header_of(work: &v1::SubscribeWorkResponse, extra: [u8; 4]) -> (BlockHeader, BlockCommitment) {
    let mut header = BlockHeader::decode(&work.header).unwrap();
    let mut commitment = BlockCommitment::decode(&work.commitment).unwrap();
    commitment.extra_nonce[4..].copy_from_slice(&extra);
    header.merkle_root = commitment.merkle_root();
    (header, commitment)
}

/// The first nonce whose hash meets the block target, or the first that misses
/// the share target.
fn solve(work: &v1::SubscribeWorkResponse, meets: bool) -> v1::SubmitSolutionRequest {
    let (mut header, _) = header_of(work, [0; 4]);
    let limit = target(if meets {
        &work.target
    } else {
        &work.share_target
    });
    while limit.is_met_by(&header.hash()) != meets {
        header.nonce += 1;
    }
    v1::SubmitSolutionRequest {
        work_id: work.work_id.clone(),
        extra_nonce: vec![0; 4].into(),
        time: header.time,
        nonce: header.nonce,
        version: 0,
        first_hash_ms: Some(3),
    }
}

async fn answer(
    node: &TestNode,
    solution: &v1::SubmitSolutionRequest,
) -> v1::SubmitSolutionResponse {
    let response = node.mining().submit_solution(solution.clone()).await;
    response.unwrap().into_inner()
}

#[tokio::test]
async fn work_comes_at_once_and_again_at_every_tip() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut stream = subscribe(&node, &network, "one").await;
    let first = next(&mut stream).await;
    assert!(first.clean);
    assert_eq!((first.height, first.transaction_count), (1, 0));
    assert_eq!((first.reward, first.fees), (50 * PIT, 0));
    assert_eq!(first.version_mask, VERSION_ROLL_MASK);
    let (header, commitment) = header_of(&first, [0; 4]);
    assert_eq!(header.prev, network.hash());
    assert_eq!(commitment.reward_address, key(7).address);
    assert_eq!(header.to_bytes().as_slice(), first.header);
    let times = |work: &v1::SubscribeWorkResponse| {
        let seconds = |time: &Option<prost_types::Timestamp>| time.as_ref().unwrap().seconds;
        (seconds(&work.min_time), seconds(&work.max_time))
    };
    assert_eq!(times(&first).0, i64::from(network.file.time));
    assert!(times(&first).1 >= now() as i64);

    node.mine(&network, 1).await;
    let second = next(&mut stream).await;
    assert!(second.clean, "work for the old tip is stale");
    assert_eq!(second.height, 2);
    assert_ne!(second.work_id, first.work_id);

    // A pending transaction leads to new work on the same tip.
    node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    let third = next(&mut stream).await;
    assert!(!third.clean, "the work before still counts");
    assert_eq!((third.height, third.transaction_count), (2, 1));
    assert_eq!((third.fees, third.reward), (FEE, 50 * PIT + FEE));
}

#[tokio::test]
async fn no_two_subscribers_search_the_same_space() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut prefixes = std::collections::BTreeSet::new();
    let mut streams = Vec::new();
    for _ in 0..5 {
        // The very same miner, five times.
        let mut stream = subscribe(&node, &network, "same").await;
        let work = next(&mut stream).await;
        prefixes.insert(work.commitment[96..100].to_vec());
        assert_eq!(
            work.commitment[100..],
            [0; 4],
            "the miner's part is left free"
        );
        streams.push(stream);
    }
    assert_eq!(prefixes.len(), 5);
}

#[tokio::test]
async fn every_solution_gets_its_answer() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut stream = subscribe(&node, &network, "one").await;
    let work = next(&mut stream).await;

    let miss = answer(&node, &solve(&work, false)).await;
    assert_eq!(miss.outcome(), Outcome::HighHash, "{}", miss.detail);
    let good = solve(&work, true);
    for time in [network.file.time - 1, u32::try_from(now()).unwrap() + 3_600] {
        let late = v1::SubmitSolutionRequest {
            time,
            ..good.clone()
        };
        assert_eq!(answer(&node, &late).await.outcome(), Outcome::BadTime);
    }
    let version = v1::SubmitSolutionRequest {
        version: 0x6000_0000,
        ..good.clone()
    };
    assert_eq!(answer(&node, &version).await.outcome(), Outcome::Invalid);
    let unknown = v1::SubmitSolutionRequest {
        work_id: "no such work".to_owned(),
        ..good.clone()
    };
    assert_eq!(
        answer(&node, &unknown).await.outcome(),
        Outcome::UnknownWork
    );
    let short = v1::SubmitSolutionRequest {
        extra_nonce: vec![0; 3].into(),
        ..good.clone()
    };
    let status = node.mining().submit_solution(short).await.unwrap_err();
    assert_eq!(violated_field(&status), "extra_nonce");

    let found = answer(&node, &good).await;
    assert_eq!(found.outcome(), Outcome::AcceptedBlock, "{}", found.detail);
    assert_eq!(found.block_hash, node.info().await.tip.unwrap().hash);
    let again = answer(&node, &good).await;
    assert_eq!(again.outcome(), Outcome::Duplicate);
    assert_eq!(again.block_hash, found.block_hash);

    // Another block for the same work comes second.
    let (mut header, _) = header_of(&work, [1; 4]);
    mine(&mut header);
    let second = v1::SubmitSolutionRequest {
        extra_nonce: vec![1; 4].into(),
        nonce: header.nonce,
        ..good.clone()
    };
    let side = answer(&node, &second).await;
    assert_eq!(side.outcome(), Outcome::AcceptedSide, "{}", side.detail);
    assert_eq!(side.block_hash, header.hash().to_string());

    // Rolled version bits and a later time make another valid block.
    let work = next(&mut stream).await;
    let (mut header, _) = header_of(&work, [0; 4]);
    header.version |= VERSION_ROLL_MASK & 0x0000_2000;
    header.time += 1;
    mine(&mut header);
    let rolled = v1::SubmitSolutionRequest {
        work_id: work.work_id.clone(),
        time: header.time,
        nonce: header.nonce,
        version: header.version,
        ..good.clone()
    };
    assert_eq!(
        answer(&node, &rolled).await.outcome(),
        Outcome::AcceptedBlock
    );

    let telemetry = v1::MinerTelemetry {
        kernel: "by-hand".to_owned(),
        threads: 2,
        hash_rate: 1e6,
        first_hash_p99_ms: Some(1.5),
        temperature_celsius: Some(f64::NAN),
        ..v1::MinerTelemetry::default()
    };
    let report = |worker: &str, kernel: &str| v1::ReportTelemetryRequest {
        worker: worker.to_owned(),
        reward_address: network.address(7),
        telemetry: Some(v1::MinerTelemetry {
            kernel: kernel.to_owned(),
            ..telemetry.clone()
        }),
    };
    let told = node
        .mining()
        .report_telemetry(report("one", "by-hand"))
        .await;
    told.unwrap();
    for (worker, kernel, code) in [
        ("two", "by-hand", tonic::Code::NotFound),
        ("one", "a\nb", tonic::Code::InvalidArgument),
        ("one", &"x".repeat(33), tonic::Code::InvalidArgument),
    ] {
        let refused = node.mining().report_telemetry(report(worker, kernel)).await;
        assert_eq!(refused.unwrap_err().code(), code);
    }

    let workers = node.mining().list_workers(v1::ListWorkersRequest {}).await;
    let workers = workers.unwrap().into_inner().workers;
    assert_eq!(workers.len(), 1);
    let worker = &workers[0];
    // What is no number was not said.
    let shown = v1::MinerTelemetry {
        temperature_celsius: None,
        ..telemetry
    };
    assert_eq!(worker.telemetry, Some(shown));
    // Two blocks that became the tip; one that came too late.
    assert_eq!(worker.stale_rate, 1.0 / 3.0);
    assert_eq!(
        (worker.name.as_str(), worker.agent.as_str()),
        ("one", "tests/1")
    );
    assert_eq!(worker.reward_address, network.address(7));
    assert!(worker.connected);
    assert_eq!((worker.accepted_blocks, worker.side_blocks), (2, 1));
    assert_eq!(worker.accepted_shares, 2);
    // High hash, two bad times, bad version, duplicate.
    assert_eq!((worker.stale, worker.rejected), (1, 5));
    assert_eq!(worker.first_hash_ms, Some(3));
    assert!(worker.hash_rate > 0.0);
    assert!(worker.remote_address.starts_with("127.0.0.1:"));
    assert_eq!(node.info().await.tip.unwrap().height, 2);
}

#[tokio::test]
async fn workers_are_listed_connected_ones_first() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut gone = subscribe(&node, &network, "a-gone").await;
    let mut here = subscribe(&node, &network, "here").await;
    next(&mut gone).await;
    next(&mut here).await;
    let info = || async {
        let answer = node
            .network()
            .get_node_info(v1::GetNodeInfoRequest {})
            .await;
        answer.unwrap().into_inner()
    };
    assert_eq!(info().await.worker_count, 2);
    drop(gone);
    // The node learns of it from the connection, a moment later.
    while info().await.worker_count != 1 {
        tokio::task::yield_now().await;
    }
    let list = node.mining().list_workers(v1::ListWorkersRequest {}).await;
    let list = list.unwrap().into_inner().workers;
    let named: Vec<_> = list
        .iter()
        .map(|worker| (worker.name.as_str(), worker.connected))
        .collect();
    assert_eq!(named, [("here", true), ("a-gone", false)]);
}

#[tokio::test]
async fn every_block_gets_its_answer() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut mirror = network.mirror();
    let first = mirror.assemble(vec![network.pay(0, 0, 1, PIT, FEE)], key(7).address, 2);
    mirror.connect(first.clone()).unwrap();
    let second = mirror.assemble(Vec::new(), key(7).address, 2);

    let outcome = |block: Block| {
        let node = &node;
        async move { node.submit_block(&block).await.outcome() }
    };
    assert_eq!(
        outcome(second.clone()).await,
        Outcome::NotSynced,
        "its parent is missing"
    );
    let mut missed = first.clone();
    while missed
        .header
        .bits
        .to_target()
        .unwrap()
        .is_met_by(&missed.header.hash())
    {
        missed.header.nonce += 1;
    }
    assert_eq!(outcome(missed).await, Outcome::HighHash);
    let mut mutated = first.clone();
    mutated.transactions.clear();
    assert_eq!(outcome(mutated).await, Outcome::Invalid);
    let mut early = first.clone();
    early.header.time = network.file.time - 1;
    mine(&mut early.header);
    assert_eq!(outcome(early).await, Outcome::BadTime);
    let mut ahead = network.mirror().assemble(Vec::new(), key(7).address, 2);
    ahead.header.time = u32::try_from(now()).unwrap() + 3_600;
    mine(&mut ahead.header);
    assert_eq!(outcome(ahead).await, Outcome::BadTime);

    assert_eq!(outcome(first.clone()).await, Outcome::AcceptedBlock);
    assert_eq!(
        node.height().await,
        2,
        "the waiting child followed its parent"
    );
    assert_eq!(outcome(first).await, Outcome::Duplicate);
    let side = network.mirror().assemble(Vec::new(), key(6).address, 2);
    assert_eq!(outcome(side).await, Outcome::AcceptedSide);
    let response = node
        .mining()
        .submit_block(v1::SubmitBlockRequest {
            raw: vec![0; 10].into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(response.outcome(), Outcome::Invalid);
    assert!(response.block_hash.is_empty() && !response.detail.is_empty());
}

#[tokio::test]
async fn requests_for_work_are_checked() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let field = |address: String, worker: String| {
        let mut mining = node.mining();
        async move {
            let request = v1::SubscribeWorkRequest {
                reward_address: address,
                worker,
                agent: String::new(),
            };
            let status = mining.subscribe_work(request).await.unwrap_err();
            violated_field(&status)
        }
    };
    let good = network.address(7);
    assert_eq!(field(String::new(), String::new()).await, "reward_address");
    let mut typo = good.clone();
    typo.pop();
    assert_eq!(field(typo, String::new()).await, "reward_address");
    let main = pithead_consensus::AddressPrefix::new("pit").unwrap();
    let foreign = key(7).address.to_text(&main);
    assert_eq!(field(foreign, String::new()).await, "reward_address");
    assert_eq!(field(good.clone(), "x".repeat(65)).await, "worker");
    assert_eq!(field(good, "a\nb".to_owned()).await, "worker");
}

/// A node that was restarted hands out nothing under an old name, and no old part
/// of the search space.
#[tokio::test]
async fn work_of_an_earlier_run_is_unknown() {
    let network = Network::easy();
    let (node, dir) = start(&network);
    let before = next(&mut subscribe(&node, &network, "one").await).await;
    assert!(node.terminate().await.success());
    let flags = ["--template-refresh-secs", "600"];
    let node = TestNode::start_with(&network, dir.path(), &flags);
    let mut stream = subscribe(&node, &network, "two").await;
    let after = next(&mut stream).await;
    assert_ne!(before.work_id, after.work_id);
    let prefix = |work: &v1::SubscribeWorkResponse| work.commitment[96..100].to_vec();
    assert_ne!(prefix(&before), prefix(&after));
    let old = answer(&node, &solve(&before, true)).await;
    assert_eq!(old.outcome(), Outcome::UnknownWork, "{}", old.detail);
    let new = answer(&node, &solve(&after, true)).await;
    assert_eq!(new.outcome(), Outcome::AcceptedBlock, "{}", new.detail);
}

/// The time of work that is handed out late is not that of its template.
#[tokio::test]
async fn work_carries_the_time_at_which_it_is_sent() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let time = |work: &v1::SubscribeWorkResponse| {
        let header = BlockHeader::decode(&work.header).unwrap();
        (
            u64::from(header.time),
            work.sent_time.unwrap().seconds as u64,
        )
    };
    let first = next(&mut subscribe(&node, &network, "one").await).await;
    // Nothing but the clock moves until the next subscription.
    let second = loop {
        let work = next(&mut subscribe(&node, &network, "one").await).await;
        if time(&work).1 > time(&first).1 + 1 {
            break work;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(second.height, first.height);
    // The second may turn over between the two.
    let (carried, sent) = time(&second);
    assert!((sent - 1..=sent).contains(&carried), "{carried}, {sent}");
}

#[tokio::test]
async fn a_node_that_is_far_behind_gives_no_work() {
    let network = Network::easy();
    let dir = data_dir();
    // Blocks are worth two hashes each: three are missing.
    let flags = ["--minimum-chain-work", "6"];
    let node = TestNode::start_with(&network, dir.path(), &flags);
    let request = v1::SubscribeWorkRequest {
        reward_address: network.address(7),
        ..v1::SubscribeWorkRequest::default()
    };
    let refused = |status: tonic::Status| {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        assert_eq!(reason(&status), "SYNCING");
        let details = tonic_types::StatusExt::get_error_details(&status);
        let heights = &details.error_info().unwrap().metadata;
        assert_eq!(heights["height"], "0");
        assert_eq!(heights["best_header_height"], "0");
    };
    refused(node.mining().subscribe_work(request).await.unwrap_err());
    let request = v1::GetBlockTemplateRequest {
        reward_address: network.address(7),
        include_transactions: false,
    };
    refused(node.mining().get_block_template(request).await.unwrap_err());
    // Its own blocks bring it into step.
    let mut mirror = network.mirror();
    for _ in 0..3 {
        let block = mirror.assemble(Vec::new(), key(7).address, 2);
        mirror.connect(block.clone()).unwrap();
        node.extend(&block).await;
    }
    let work = next(&mut subscribe(&node, &network, "one").await).await;
    assert_eq!(work.height, 4, "the first work is on the tip");
}

/// A book, and templates for it from a network whose blocks need far more hashes
/// than a share does, or about two.
struct Desk {
    store: std::sync::Arc<dyn pithead_core::store::Store>,
    genesis: pithead_consensus::Genesis,
    book: WorkBook,
    worker: WorkerId,
}

const NOW: u64 = pithead_testkit::nodes::NOW;

impl Desk {
    fn new(bits: Option<u32>) -> Self {
        let mut file = pithead_testkit::nodes::file();
        file.bits = bits.unwrap_or(file.bits);
        Self {
            store: std::sync::Arc::new(MemoryStore::new()),
            genesis: file.check().unwrap(),
            book: WorkBook::new(WorkSettings {
                run: 0x0123_4567_ffff_fffe,
                share_interval_ms: 5_000,
            }),
            worker: WorkerId {
                name: "one".to_owned(),
                reward_address: key(7).address,
            },
        }
    }

    fn node(&self) -> pithead_core::node::Node {
        pithead_testkit::nodes::open(&self.store, &self.genesis, NOW)
    }

    fn subscribe(&mut self, now: u64) -> pithead_rpc::workers::WorkSubscription {
        let worker = self.worker.clone();
        self.book
            .subscribe(worker, "tests/1".into(), "here".into(), now)
    }

    fn moment(&self, tip: pithead_consensus::BlockHash) -> JudgeContext {
        JudgeContext {
            tip,
            now: NOW,
            max_future_secs: self.genesis.params.max_future_secs,
        }
    }

    /// Accepted shares, stale ones, rejected ones.
    fn counts(&self) -> (u64, u64, u64) {
        let record = self.book.workers()[0].1;
        (record.accepted_shares, record.stale, record.rejected)
    }
}

/// The first solution of work from a nonce on.
fn share_of(
    work: &pithead_rpc::workers::AssignedWork,
    nonce: u32,
) -> (SubmittedSolution, BlockHeader) {
    let mut header = work.template.header(&work.commitment);
    header.nonce = nonce;
    while !work.share_target.is_met_by(&header.hash()) {
        header.nonce += 1;
    }
    let solution = SubmittedSolution {
        work_id: work.work_id.clone(),
        extra_nonce: [0; 4],
        time: header.time,
        nonce: header.nonce,
        version: 0,
        first_hash_ms: None,
    };
    (solution, header)
}

#[test]
fn templates_rest_while_a_node_is_far_behind() {
    use pithead_core::node::{Effect, Event};
    let desk = Desk::new(None);
    let file = pithead_testkit::nodes::file();
    let plans = [(Vec::new(), 2), (Vec::new(), 2), (Vec::new(), 2)];
    let blocks = pithead_testkit::nodes::branch(&file, &[], &key(7).address, &plans);
    let block = |index: usize| Event::Block(Box::new(blocks[index].clone()));
    let store: std::sync::Arc<dyn pithead_core::store::Store> =
        std::sync::Arc::new(MemoryStore::new());
    let mut whole = pithead_testkit::nodes::open(&store, &desk.genesis, NOW);
    (0..3).for_each(|index| drop(whole.handle(block(index), NOW)));
    let mut node = desk.node().with_sync(pithead_core::sync::SyncSettings {
        minimum_chain_work: whole.chain().tip().chain_work,
        ..pithead_core::sync::SyncSettings::default()
    });
    node.template(NOW).unwrap();
    for event in [block(0), Event::Tick, block(1), Event::Tick] {
        // Long after any template is due.
        let (_, effects) = node.handle(event, NOW + 86_400);
        let renewed = effects
            .iter()
            .any(|one| matches!(one, Effect::NewTemplate(_)));
        assert!(!renewed, "{effects:?}");
    }
    // Whoever sees that the node is in step finds work on its tip.
    let (_, effects) = node.handle(block(2), NOW + 86_400);
    let of_note = effects.iter().filter_map(|effect| match effect {
        Effect::NewTemplate(template) => Some(template.height.0),
        Effect::SyncChanged(status) if !status.syncing => Some(0),
        _ => None,
    });
    assert_eq!(of_note.collect::<Vec<_>>(), [4, 0]);
}

const HARD: Option<u32> = Some(0x1c00_ffff);

#[test]
fn shares_are_told_from_blocks_and_stale_ones_from_both() {
    let mut desk = Desk::new(HARD);
    let template = desk.node().template(NOW).unwrap();
    let subscription = desk.subscribe(NOW);
    let work = desk.book.assign(&subscription, template.clone(), NOW);
    assert!(work.share_target > template.target);
    let (solution, header) = share_of(&work, 0);
    let moment = desk.moment(template.parent);
    let judged = desk.book.judge(&solution, &moment);
    assert!(matches!(judged, SolutionVerdict::Share(hash) if hash == header.hash()));
    let judged = desk.book.judge(&solution, &moment);
    assert!(matches!(judged, SolutionVerdict::Duplicate(hash) if hash == header.hash()));
    assert_eq!(desk.counts(), (1, 0, 1));
    // At least ten seconds count, so one early share is no boast.
    let proven = work.share_target.work().to_f64() / 10.0;
    assert!((desk.book.workers()[0].1.hash_rate(NOW) - proven).abs() < 1.0);

    // The next share, but a new tip was faster.
    let (solution, header) = share_of(&work, solution.nonce + 1);
    let moment = desk.moment(header.hash());
    let judged = desk.book.judge(&solution, &moment);
    assert!(matches!(judged, SolutionVerdict::Stale(hash) if hash == header.hash()));
    assert_eq!(desk.counts(), (1, 1, 1));
}

#[test]
fn a_block_counts_as_what_the_core_says() {
    for (credit, counts, blocks) in [
        (BlockCredit::Tip, (1, 0, 0), (1, 0)),
        (BlockCredit::Side, (0, 1, 0), (0, 1)),
        (BlockCredit::Rejected, (0, 0, 1), (0, 0)),
    ] {
        let mut desk = Desk::new(None);
        let template = desk.node().template(NOW).unwrap();
        let subscription = desk.subscribe(NOW);
        let work = desk.book.assign(&subscription, template.clone(), NOW);
        let (solution, _) = share_of(&work, 0);
        let moment = desk.moment(template.parent);
        let SolutionVerdict::Block { finder, .. } = desk.book.judge(&solution, &moment) else {
            panic!("every share of this network is a block");
        };
        assert_eq!(desk.counts(), (0, 0, 0), "nothing before the verdict");
        desk.book.record_block(&finder, credit, NOW);
        assert_eq!(desk.counts(), counts);
        let record = desk.book.workers()[0].1;
        assert_eq!((record.accepted_blocks, record.side_blocks), blocks);
        assert_eq!(record.hash_rate(NOW) > 0.0, credit == BlockCredit::Tip);
    }
}

#[test]
fn a_block_is_told_after_any_number_of_shares() {
    let mut desk = Desk::new(None);
    let template = desk.node().template(NOW).unwrap();
    let subscription = desk.subscribe(NOW);
    let work = desk.book.assign(&subscription, template.clone(), NOW);
    let moment = desk.moment(template.parent);
    let mut nonce = 0;
    // More than are remembered for one piece of work.
    for _ in 0..20_010 {
        let (solution, header) = share_of(&work, nonce);
        nonce = header.nonce + 1;
        let judged = desk.book.judge(&solution, &moment);
        assert!(
            matches!(judged, SolutionVerdict::Block { .. }),
            "{judged:?}"
        );
    }
    assert!(desk.book.needs_share_target(&subscription, NOW));
}

#[test]
fn solutions_for_forgotten_work_are_its_miners_and_others_nobodys() {
    let mut desk = Desk::new(HARD);
    let template = desk.node().template(NOW).unwrap();
    let subscription = desk.subscribe(NOW);
    let work = desk.book.assign(&subscription, template.clone(), NOW);
    let (solution, _) = share_of(&work, 0);
    for _ in 0..8 {
        desk.book.assign(&subscription, template.clone(), NOW);
    }
    let moment = desk.moment(template.parent);
    let unknown = |desk: &mut Desk, work_id: &str| {
        let solution = SubmittedSolution {
            work_id: work_id.to_owned(),
            ..solution.clone()
        };
        let judged = desk.book.judge(&solution, &moment);
        assert!(matches!(judged, SolutionVerdict::UnknownWork), "{judged:?}");
        desk.counts()
    };
    assert_eq!(unknown(&mut desk, &work.work_id), (0, 1, 0));
    // Another run's, another subscription's, none at all.
    assert_eq!(work.work_id, "01234567-fffffffe-1");
    for other in ["01234568-fffffffe-1", "01234567-ffffffff-1", "nonsense"] {
        assert_eq!(unknown(&mut desk, other), (0, 1, 0));
    }
}

#[test]
fn a_thousand_reconnects_hold_no_more_than_the_limits() {
    let mut desk = Desk::new(None);
    let mut node = desk.node();
    let mut now = NOW;
    let mut prefixes = std::collections::HashSet::new();
    for _ in 0..1_000 {
        // A template of its own each time, as after a tip.
        let template = std::sync::Arc::new(pithead_core::template::BlockTemplate {
            id: prefixes.len() as u64 + 1,
            ..node.template(now).unwrap().as_ref().clone()
        });
        let subscription = desk.subscribe(now);
        assert!(prefixes.insert(subscription.number));
        desk.book.assign(&subscription, template, now);
        desk.book.unsubscribe(&subscription, now);
        let usage = desk.book.usage();
        assert!(usage.templates <= 16 && usage.work <= 16, "{usage:?}");
        assert!(
            usage.subscriptions <= 1_025 && usage.workers == 1,
            "{usage:?}"
        );
    }
    assert_eq!(desk.book.usage().templates, 16);
    // One that stays keeps its work; what the others left goes.
    now += 100;
    let stays = desk.subscribe(now);
    let template = std::sync::Arc::new(pithead_core::template::BlockTemplate {
        id: 1_001,
        ..node.template(now).unwrap().as_ref().clone()
    });
    let work = desk.book.assign(&stays, template.clone(), now);
    now += 100;
    let last = desk.subscribe(now);
    desk.book.unsubscribe(&last, now);
    let usage = desk.book.usage();
    assert_eq!(
        (usage.subscriptions, usage.work, usage.templates),
        (2, 1, 1)
    );
    let (solution, _) = share_of(&work, 0);
    let judged = desk.book.judge(&solution, &desk.moment(template.parent));
    assert!(
        matches!(judged, SolutionVerdict::Block { .. }),
        "{judged:?}"
    );
    // In time, that is too old as well.
    now += 600;
    desk.subscribe(now);
    assert_eq!(desk.book.usage().work, 0);
}
