//! A client that follows the chain sees every block connect and disconnect, through a
//! reorganisation, a broken connection and a restart of the node.

use pithead_api::v1;
use pithead_api::v1::get_block_request::Block as Which;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_testkit::process::{Network, TestNode, data_dir, next, reason, violated_field};
use pithead_testkit::{FEE, PIT, key};

type Steps = tonic::Streaming<v1::SubscribeChainResponse>;

async fn follow(node: &TestNode, known: &[&str], view: v1::BlockView) -> Steps {
    let request = v1::SubscribeChainRequest {
        known_hashes: known.iter().map(|hash| (*hash).to_owned()).collect(),
        view: view.into(),
    };
    let stream = node.chain().subscribe_chain(request).await;
    stream.unwrap().into_inner()
}

/// The next step, in short: a sign, the block's hash, and the cursor after it. The sign is `=` for
/// the start, `+` for a block that connects, `-` for one that disconnects.
async fn step(stream: &mut Steps) -> (char, String, String) {
    let response = next(stream).await;
    let hash = |block: v1::Block| block.header.unwrap().hash;
    let (sign, hash) = match response.event.unwrap() {
        Event::Start(header) => ('=', header.hash),
        Event::Connected(block) => ('+', hash(block)),
        Event::Disconnected(block) => ('-', hash(block)),
        other => panic!("{other:?}"),
    };
    (sign, hash, response.cursor)
}

/// Mines blocks on a node one by one; returns their hashes.
async fn mine(node: &TestNode, network: &Network, count: usize, reward: usize) -> Vec<String> {
    let mut hashes = Vec::new();
    node.settle(network).await;
    for _ in 0..count {
        let block = node.next_block(&key(reward).address, network).await;
        node.extend(&block).await;
        hashes.push(block.header.hash().to_string());
    }
    hashes
}

async fn get_block(node: &TestNode, hash: &str, view: v1::BlockView) -> v1::Block {
    let request = v1::GetBlockRequest {
        block: Some(Which::Hash(hash.to_owned())),
        view: view.into(),
        ..Default::default()
    };
    let response = node.chain().get_block(request).await.unwrap();
    response.into_inner().block.unwrap()
}

/// Hands the four blocks of a longer branch, by their hashes, from one node to another.
async fn hand_over(from: &TestNode, to: &TestNode, branch: &[String]) {
    for (index, hash) in branch.iter().enumerate() {
        let raw = get_block(from, hash, v1::BlockView::Raw).await.raw;
        let answer = to
            .mining()
            .submit_block(v1::SubmitBlockRequest { raw })
            .await;
        let outcome = answer.unwrap().into_inner().outcome();
        // Blocks found within one second differ a little in difficulty, so the
        // branch may win with its fourth block only, never before its third.
        if index < 2 {
            assert_eq!(outcome, v1::SubmitOutcome::AcceptedSide);
        }
    }
    assert_eq!(to.info().await.tip.unwrap().hash, branch[3]);
}

#[tokio::test]
async fn a_follower_sees_every_block_through_a_reorganisation_and_after_a_break() {
    let network = Network::easy();
    let (dir, other_dir) = (data_dir(), data_dir());
    let node = TestNode::start(&network, dir.path());
    let other = TestNode::start(&network, other_dir.path());
    let genesis = network.hash().to_string();

    let mut live = follow(&node, &[], v1::BlockView::Unspecified).await;
    assert_eq!(
        step(&mut live).await,
        ('=', genesis.clone(), genesis.clone())
    );
    node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    let a = mine(&node, &network, 3, 6).await;
    for hash in &a {
        assert_eq!(step(&mut live).await, ('+', hash.clone(), hash.clone()));
    }

    // The other node hands over a longer branch.
    let b = mine(&other, &network, 4, 7).await;
    hand_over(&other, &node, &b).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(_, _, cursor)| *cursor != b[3]) {
        seen.push(step(&mut live).await);
    }
    let expected: Vec<_> = [
        ('-', &a[2], &a[1]),
        ('-', &a[1], &a[0]),
        ('-', &a[0], &genesis),
        ('+', &b[0], &b[0]),
        ('+', &b[1], &b[1]),
        ('+', &b[2], &b[2]),
        ('+', &b[3], &b[3]),
    ]
    .map(|(sign, hash, cursor)| (sign, hash.clone(), cursor.clone()))
    .to_vec();
    assert_eq!(seen, expected);

    // A client that lost its connection on the old branch resumes without a gap.
    let mut resumed = follow(&node, &[&a[1]], v1::BlockView::Header).await;
    assert_eq!(step(&mut resumed).await, ('=', a[1].clone(), a[1].clone()));
    for expected in &expected[1..] {
        assert_eq!(step(&mut resumed).await, *expected);
    }
    // The node passes over unknown hashes as long as it knows one of them.
    let unknown = "00".repeat(32);
    let mut third = follow(&node, &[&unknown, &b[2]], v1::BlockView::Header).await;
    assert_eq!(step(&mut third).await.1, b[2]);
    assert_eq!(step(&mut third).await, expected[6]);

    // The transaction of the old branch is pending again.
    assert_eq!(node.info().await.pending_transaction_count, 1);
    let next_hash = mine(&node, &network, 1, 7).await.remove(0);
    for stream in [&mut live, &mut resumed, &mut third] {
        let expected = ('+', next_hash.clone(), next_hash.clone());
        assert_eq!(step(stream).await, expected);
    }
    assert_eq!(
        node.account(&network, 1).await.balance,
        pithead_testkit::ALLOCATION + PIT
    );

    // A block off the best chain is still found, and says so.
    let block = get_block(&node, &a[2], v1::BlockView::Unspecified).await;
    assert!(!block.best_chain);
    assert_eq!(block.confirmations, 0);
    assert!(node.terminate().await.success());
    pithead_testkit::process::verify(&network, dir.path());
}

#[tokio::test]
async fn a_cursor_outlives_a_restart() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let hashes = mine(&node, &network, 2, 7).await;
    let mut stream = follow(&node, &[], v1::BlockView::Unspecified).await;
    let cursor = step(&mut stream).await.2;
    assert_eq!(cursor, hashes[1]);
    let later = mine(&node, &network, 2, 7).await;
    node.kill();
    let node = TestNode::start(&network, dir.path());
    let mut stream = follow(&node, &[&cursor], v1::BlockView::Unspecified).await;
    assert_eq!(step(&mut stream).await.0, '=');
    for hash in later {
        assert_eq!(step(&mut stream).await, ('+', hash.clone(), hash));
    }
}

#[tokio::test]
async fn blocks_come_with_as_much_as_was_asked_for() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let genesis = network.hash().to_string();
    let txid = node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    let hash = mine(&node, &network, 1, 7).await.remove(0);
    for (view, txids, transactions, raw) in [
        (v1::BlockView::Unspecified, 1, 0, false),
        (v1::BlockView::Header, 0, 0, false),
        (v1::BlockView::Txids, 1, 0, false),
        (v1::BlockView::Full, 1, 1, false),
        (v1::BlockView::Raw, 0, 0, true),
    ] {
        let mut stream = follow(&node, &[&genesis], view).await;
        next(&mut stream).await;
        let Some(Event::Connected(block)) = next(&mut stream).await.event else {
            panic!("a block joins");
        };
        assert_eq!(block.header.unwrap().hash, hash);
        assert_eq!(block.transaction_count, 1);
        assert_eq!(
            (block.txids.len(), block.transactions.len()),
            (txids, transactions)
        );
        assert!(block.txids.iter().all(|found| *found == txid));
        assert_eq!(!block.raw.is_empty(), raw);
    }
}

#[tokio::test]
async fn unknown_cursors_and_malformed_hashes_are_refused() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let refused = |known_hashes: Vec<String>, view: i32| {
        let mut client = node.chain();
        async move {
            let request = v1::SubscribeChainRequest { known_hashes, view };
            client.subscribe_chain(request).await.unwrap_err()
        }
    };
    let status = refused(vec!["00".repeat(32)], 0).await;
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(reason(&status), "CURSOR_NOT_FOUND");
    let good = network.hash().to_string();
    let status = refused(vec![good.clone(), "nonsense".to_owned()], 0).await;
    assert_eq!(violated_field(&status), "known_hashes[1]");
    let status = refused(vec![good.clone(); 102], 0).await;
    assert_eq!(violated_field(&status), "known_hashes");
    let status = refused(vec![good], 99).await;
    assert_eq!(violated_field(&status), "view");
}
