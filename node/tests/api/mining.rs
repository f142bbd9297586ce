//! Mining over the API. A miner gets work at once and at every new tip, no two miners search the
//! same nonces, every solution and block gets its answer, and the node shows what each miner did.

use pithead_api::v1;
use pithead_api::v1::SubmitOutcome as Outcome;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_consensus::{Block, BlockCommitment, BlockHeader, Decode as _, Target};
use pithead_testkit::chain::mine;
use pithead_testkit::process::{Network, TestNode, data_dir, next, now, reason, violated_field};
use pithead_testkit::{FEE, PIT, key};
use tempfile::TempDir;

type Work = tonic::Streaming<v1::SubscribeWorkResponse>;

fn start(network: &Network) -> (TestNode, TempDir) {
    let dir = data_dir();
    // No new work comes just because time passes.
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

/// A solution with the first nonce whose hash meets the block target or, with `meets` false, misses
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

/// Hands in solutions that are refused, made from a good one.
async fn assert_refused_solutions(
    node: &TestNode,
    network: &Network,
    good: &v1::SubmitSolutionRequest,
) {
    let refused = async |wrong: v1::SubmitSolutionRequest, outcome| {
        assert_eq!(answer(node, &wrong).await.outcome(), outcome);
    };
    for time in [network.file.time - 1, u32::try_from(now()).unwrap() + 3_600] {
        let late = v1::SubmitSolutionRequest {
            time,
            ..good.clone()
        };
        refused(late, Outcome::BadTime).await;
    }
    let version = v1::SubmitSolutionRequest {
        version: 0x6000_0000,
        ..good.clone()
    };
    refused(version, Outcome::Invalid).await;
    let unknown = v1::SubmitSolutionRequest {
        work_id: "no such work".to_owned(),
        ..good.clone()
    };
    refused(unknown, Outcome::UnknownWork).await;
    let short = v1::SubmitSolutionRequest {
        extra_nonce: vec![0; 3].into(),
        ..good.clone()
    };
    let status = node.mining().submit_solution(short).await.unwrap_err();
    assert_eq!(violated_field(&status), "extra_nonce");
}

/// A block of a piece of work, with an extra nonce of its own.
fn nth_solution(
    work: &v1::SubscribeWorkResponse,
    number: u32,
) -> (v1::SubmitSolutionRequest, Block) {
    let extra = number.to_le_bytes();
    let (mut header, commitment) = header_of(work, extra);
    mine(&mut header);
    let solution = v1::SubmitSolutionRequest {
        work_id: work.work_id.clone(),
        extra_nonce: extra.to_vec().into(),
        time: header.time,
        nonce: header.nonce,
        version: header.version,
        first_hash_ms: None,
    };
    let block = Block {
        header,
        commitment,
        transactions: Vec::new(),
    };
    (solution, block)
}

/// At an easy target a miner finds blocks on one tip by the hundred. One becomes the tip, a few
/// are stored, and the next tip comes at once.
#[tokio::test]
async fn of_a_thousand_solutions_on_one_tip_a_few_are_stored() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut stream = subscribe(&node, &network, "one").await;
    let work = next(&mut stream).await;
    let mut counts = std::collections::BTreeMap::new();
    for number in 0..1_000 {
        let found = answer(&node, &nth_solution(&work, number).0).await;
        *counts.entry(found.outcome().as_str_name()).or_insert(0) += 1;
    }
    let expected = [
        (Outcome::AcceptedBlock.as_str_name(), 1),
        (Outcome::AcceptedSide.as_str_name(), 3),
        (Outcome::StaleWork.as_str_name(), 996),
    ];
    assert_eq!(counts, std::collections::BTreeMap::from(expected));
    // Whole blocks come past the worker's limit. The node has its own.
    let mut outcomes = Vec::new();
    for number in 1_000..1_020 {
        let block = nth_solution(&work, number).1;
        outcomes.push(node.submit_block(&block).await.outcome());
    }
    assert_eq!(outcomes[..5], [Outcome::AcceptedSide; 5]);
    assert_eq!(outcomes[5..], [Outcome::StaleWork; 15]);
    let worker = only_worker(&node).await;
    assert_eq!((worker.accepted_blocks, worker.side_blocks), (1, 3));
    assert_eq!((worker.stale, worker.rejected), (999, 0));

    let work = next(&mut stream).await;
    let found = answer(&node, &nth_solution(&work, 0).0).await;
    assert_eq!(found.outcome(), Outcome::AcceptedBlock, "{}", found.detail);
    assert_eq!(node.height().await, 2);
}

/// The only worker of a node.
async fn only_worker(node: &TestNode) -> v1::Worker {
    let workers = node.mining().list_workers(v1::ListWorkersRequest {}).await;
    let mut workers = workers.unwrap().into_inner().workers;
    assert_eq!(workers.len(), 1);
    workers.remove(0)
}

#[tokio::test]
async fn every_solution_gets_its_answer_and_counts_for_its_miner() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut stream = subscribe(&node, &network, "one").await;
    let work = next(&mut stream).await;

    let miss = answer(&node, &solve(&work, false)).await;
    assert_eq!(miss.outcome(), Outcome::HighHash, "{}", miss.detail);
    let good = solve(&work, true);
    assert_refused_solutions(&node, &network, &good).await;

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
    assert_eq!(node.info().await.tip.unwrap().height, 2);

    let worker = only_worker(&node).await;
    // Two blocks that became the tip; one that came too late.
    assert_eq!(worker.stale_rate, 1.0 / 3.0);
    assert_eq!((worker.accepted_blocks, worker.side_blocks), (2, 1));
    assert_eq!(worker.accepted_shares, 2);
    // High hash, two bad times, bad version, duplicate.
    assert_eq!((worker.stale, worker.rejected), (1, 5));
    assert_eq!(worker.first_hash_ms, Some(3));
    assert!(worker.hash_rate > 0.0);
}

#[tokio::test]
async fn a_worker_is_shown_with_what_it_tells_of_itself() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut stream = subscribe(&node, &network, "one").await;
    next(&mut stream).await;
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

    let worker = only_worker(&node).await;
    // A value that is no number is left out.
    let shown = v1::MinerTelemetry {
        temperature_celsius: None,
        ..telemetry
    };
    assert_eq!(worker.telemetry, Some(shown));
    assert_eq!(
        (worker.name.as_str(), worker.agent.as_str()),
        ("one", "tests/1")
    );
    assert_eq!(worker.reward_address, network.address(7));
    assert!(worker.connected);
    assert!(worker.remote_address.starts_with("127.0.0.1:"));
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
    // The node notices the closed connection a moment later.
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

/// A restarted node never uses a work id or a part of the search space of an earlier run again.
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

/// Work that is sent later than its template was made carries the time of sending.
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
    // The clock may pass to the next second between the two readings.
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
    // Blocks that are handed in bring it into step.
    let mut mirror = network.mirror();
    for _ in 0..3 {
        let block = mirror.assemble(Vec::new(), key(7).address, 2);
        mirror.connect(block.clone()).unwrap();
        node.extend(&block).await;
    }
    let work = next(&mut subscribe(&node, &network, "one").await).await;
    assert_eq!(work.height, 4, "the first work is on the tip");
}
