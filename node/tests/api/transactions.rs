//! Transactions from submission to confirmation. Each rule refuses what breaks it and explains why,
//! a replacement pays more, the mempool keeps to its limits, and clients can watch a transaction.

use pithead_api::v1;
use pithead_api::v1::SubmitTransactionOutcome as Outcome;
use pithead_api::v1::TransactionRule as Rule;
use pithead_api::v1::TransactionState as State;
use pithead_api::v1::subscribe_pending_transactions_response::Event;
use pithead_consensus::{Encode as _, Output, SignedTransaction, TransactionBody};
use pithead_testkit::process::{Network, TestNode, data_dir, end_of, next, reason, violated_field};
use pithead_testkit::{ALLOCATION, FEE, PIT, grains, key};
use tempfile::TempDir;

fn start(network: &Network, flags: &[&str]) -> (TestNode, TempDir) {
    let dir = data_dir();
    (TestNode::start_with(network, dir.path(), flags), dir)
}

/// Submits bytes that this rule has to refuse, with an explanation.
async fn refused(node: &TestNode, raw: Vec<u8>, rule: Rule) -> v1::TransactionRejection {
    let response = node.submit_raw(raw).await;
    assert_eq!(response.outcome(), Outcome::Rejected);
    let rejection = response.rejection.unwrap();
    assert_eq!(rejection.rule(), rule, "{}", rejection.message);
    assert!(!rejection.found.is_empty(), "{rejection:?}");
    assert!(!rejection.expected.is_empty(), "{rejection:?}");
    assert!(!rejection.message.is_empty(), "{rejection:?}");
    let info = node.info().await;
    assert_eq!(info.pending_transaction_count, 0, "nothing got in");
    rejection
}

/// A body of key 0, one PIT to key 1, for changing.
fn body(sequence: u64) -> TransactionBody {
    TransactionBody {
        sender: key(0).address,
        sequence,
        fee: grains(FEE),
        outputs: vec![Output {
            recipient: key(1).address,
            amount: grains(PIT),
        }],
        data: Vec::new(),
    }
}

/// The same body, signed by its sender.
fn signed(network: &Network, body: TransactionBody) -> SignedTransaction {
    key(0).sign_body(body, &network.hash())
}

#[tokio::test]
async fn transactions_that_are_malformed_by_themselves_are_refused() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let good = signed(&network, body(0));

    // Bytes: no transaction, a version of the future, one byte too many.
    refused(&node, vec![1, 2, 3], Rule::BadEncoding).await;
    let mut version = good.encode();
    version[0] = 2;
    refused(&node, version, Rule::BadEncoding).await;
    refused(&node, [good.encode(), vec![0]].concat(), Rule::BadEncoding).await;

    // Outputs: none, more than 255, one of nothing.
    for outputs in [Vec::new(), vec![body(0).outputs[0]; 256]] {
        let wrong = TransactionBody { outputs, ..body(0) };
        refused(&node, signed(&network, wrong).encode(), Rule::BadOutputs).await;
    }
    let mut zero = body(0);
    zero.outputs[0].amount = grains(0);
    refused(&node, signed(&network, zero).encode(), Rule::BadOutputs).await;

    // Size: one byte of data too many.
    let large = TransactionBody {
        data: vec![0; 1_025],
        ..body(0)
    };
    refused(&node, signed(&network, large).encode(), Rule::TooLarge).await;

    // Amounts: one beyond all money in the encoding, and a sum beyond it.
    let mut raw = good.encode();
    // version, kind, sender, sequence, fee, count, recipient: the amount is at 84.
    raw[84..92].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&node, raw, Rule::BadAmount).await;
    let mut sum = body(0);
    sum.outputs[0].amount = pithead_consensus::Amount::MAX_MONEY;
    refused(&node, signed(&network, sum).encode(), Rule::BadAmount).await;
}

#[tokio::test]
async fn keys_and_signatures_that_do_not_belong_to_the_sender_are_refused() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let good = signed(&network, body(0));

    // The key: missing, another's, malformed.
    let missing = SignedTransaction {
        key: None,
        ..good.clone()
    };
    refused(&node, missing.encode(), Rule::BadPublicKey).await;
    let anothers = SignedTransaction {
        key: Some(key(1).public.clone()),
        ..good.clone()
    };
    let rejection = refused(&node, anothers.encode(), Rule::BadPublicKey).await;
    assert!(rejection.found.contains(&network.address(1)));
    assert!(rejection.expected.contains(&network.address(0)));
    let mut raw = good.encode();
    let modulus_end = raw.len() - 256;
    raw[modulus_end - 1] &= 0xfe;
    refused(&node, raw, Rule::BadPublicKey).await;

    // The signature: altered content, another's, another chain's.
    let mut altered = good.clone();
    altered.body.outputs[0].amount = grains(2 * PIT);
    refused(&node, altered.encode(), Rule::BadSignature).await;
    let foreign = SignedTransaction {
        signature: key(1).sign(&good.body.signing_message(&network.hash())),
        ..good.clone()
    };
    refused(&node, foreign.encode(), Rule::BadSignature).await;
    let other = Network::with(|file| file.name = "another".to_owned());
    let replayed = other.pay(0, 0, 1, PIT, FEE);
    refused(&node, replayed.encode(), Rule::BadSignature).await;
}

#[tokio::test]
async fn transactions_that_the_senders_account_does_not_allow_are_refused() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let good = signed(&network, body(0));

    // The sequence: too far ahead, and one that needs a key that is not on record yet.
    let far = signed(&network, body(17)).encode();
    let rejection = refused(&node, far, Rule::BadSequence).await;
    assert_eq!(
        (rejection.found, rejection.expected),
        ("17".into(), "0".into())
    );
    let second = signed(&network, body(1)).encode();
    refused(&node, second, Rule::BadSequence).await;

    // The balance and the fee.
    let rich = network.pay(0, 0, 1, ALLOCATION, FEE);
    let rejection = refused(&node, rich.encode(), Rule::InsufficientBalance).await;
    assert!(rejection.found.contains("1000"), "{rejection:?}");
    let poor = network.pay(5, 0, 1, 1, FEE);
    refused(&node, poor.encode(), Rule::InsufficientBalance).await;
    let cheap = network.pay(0, 0, 1, PIT, good.size() as u64 - 1);
    refused(&node, cheap.encode(), Rule::FeeTooLow).await;

    // A used sequence, and a key that is on record already.
    node.accept(&good).await;
    node.mine(&network, 1).await;
    let used = network.pay(0, 0, 2, PIT, FEE).encode();
    let rejection = refused(&node, used, Rule::BadSequence).await;
    assert_eq!(
        (rejection.found, rejection.expected),
        ("0".into(), "1".into())
    );
    let superfluous = SignedTransaction {
        key: Some(key(0).public.clone()),
        ..signed(&network, body(1))
    };
    refused(&node, superfluous.encode(), Rule::BadPublicKey).await;

    // After all that, the node takes a good one at the least fee.
    let size = network.pay(0, 1, 1, PIT, FEE).size() as u64;
    node.accept(&network.pay(0, 1, 1, PIT, size)).await;
}

#[tokio::test]
async fn a_replacement_pays_ten_per_cent_more() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let first = network.pay(0, 0, 1, PIT, 10_000);
    let first_txid = node.accept(&first).await;
    let response = node.submit(&first).await;
    assert_eq!(response.outcome(), Outcome::Duplicate);
    assert_eq!(response.txid, first_txid);
    // Signed again it is the same transaction: the txid leaves the signature out.
    let response = node.submit(&network.pay(0, 0, 1, PIT, 10_000)).await;
    assert_eq!(response.outcome(), Outcome::Duplicate);

    let response = node.submit(&network.pay(0, 0, 2, PIT, 10_999)).await;
    assert_eq!(response.outcome(), Outcome::Rejected);
    let rejection = response.rejection.unwrap();
    assert_eq!(rejection.rule(), Rule::ReplacementFeeTooLow);
    assert!(rejection.expected.contains("0.00011"), "{rejection:?}");

    let mut watch = watch(&node, &first_txid, 0).await;
    assert_eq!(
        next(&mut watch).await.status.unwrap().state(),
        State::Pending
    );
    let response = node.submit(&network.pay(0, 0, 2, PIT, 11_000)).await;
    assert_eq!(response.outcome(), Outcome::Replaced);
    assert_eq!(response.replaced_txid, first_txid);
    let status = next(&mut watch).await.status.unwrap();
    assert_eq!(status.state(), State::Replaced);
    assert_eq!(status.detail, response.txid);
    assert!(end_of(&mut watch).await.is_none(), "a fate ends the stream");
    let info = mempool(&node).await;
    assert_eq!((info.transaction_count, info.total_fees), (1, 11_000));

    node.mine(&network, 1).await;
    let again = node.submit(&network.pay(0, 0, 2, PIT, 11_000)).await;
    assert_eq!(again.outcome(), Outcome::Duplicate, "it is mined");
}

async fn mempool(node: &TestNode) -> v1::GetMempoolInfoResponse {
    node.transactions()
        .get_mempool_info(v1::GetMempoolInfoRequest {})
        .await
        .unwrap()
        .into_inner()
}

async fn watch(
    node: &TestNode,
    txid: &str,
    confirmations: u64,
) -> tonic::Streaming<v1::WatchTransactionResponse> {
    node.transactions()
        .watch_transaction(v1::WatchTransactionRequest {
            txid: txid.to_owned(),
            confirmations,
        })
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn sequences_may_leave_gaps_up_to_a_limit() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    // Next due is 1; 17 skips sixteen, 18 one too many.
    node.accept(&network.pay(0, 17, 1, PIT, FEE)).await;
    let response = node.submit(&network.pay(0, 18, 1, PIT, FEE)).await;
    assert_eq!(response.rejection.unwrap().rule(), Rule::BadSequence);
    let account = node.account(&network, 0).await;
    assert_eq!((account.sequence, account.next_sequence), (0, 1));
    // The ready transaction is mined; the one behind the gap stays pending.
    node.mine(&network, 1).await;
    let account = node.account(&network, 0).await;
    assert_eq!((account.sequence, account.next_sequence), (1, 1));
    let left = node
        .transactions()
        .list_pending_transactions(v1::ListPendingTransactionsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(left.total_count, 1);
    assert!(!left.transactions[0].ready);
}

#[tokio::test]
async fn a_sender_has_at_most_64_pending() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    for sequence in 0..64 {
        node.accept(&network.pay(0, sequence, 1, PIT, FEE)).await;
    }
    let response = node.submit(&network.pay(0, 64, 1, PIT, FEE)).await;
    assert_eq!(response.rejection.unwrap().rule(), Rule::TooManyPending);
    // Replacing one of them is still possible, and so are other senders.
    let response = node.submit(&network.pay(0, 63, 1, PIT, 2 * FEE)).await;
    assert_eq!(response.outcome(), Outcome::Replaced);
    node.accept(&network.pay(1, 0, 0, PIT, FEE)).await;
    // Pending transactions reserve their part of the balance.
    node.accept(&network.pay(2, 0, 0, ALLOCATION - 2 * FEE, FEE))
        .await;
    let response = node.submit(&network.pay(2, 1, 0, 1, FEE)).await;
    let rejection = response.rejection.unwrap();
    assert_eq!(rejection.rule(), Rule::InsufficientBalance);
    assert!(rejection.found.contains("pending"), "{rejection:?}");
    // Everything that is ready fits one block.
    node.mine(&network, 1).await;
    assert_eq!(node.info().await.pending_transaction_count, 0);
    assert_eq!(node.account(&network, 0).await.sequence, 64);
}

#[tokio::test]
async fn watching_follows_a_transaction_to_its_confirmations() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let txid = node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    let mut stream = watch(&node, &txid, 3).await;
    let status = next(&mut stream).await.status.unwrap();
    assert_eq!(status.state(), State::Pending);
    assert!(status.received_time.is_some());
    for confirmations in 1..=3 {
        let hash = node.mine(&network, 1).await;
        let status = next(&mut stream).await.status.unwrap();
        assert_eq!(status.state(), State::Mined);
        assert_eq!(status.confirmations, confirmations);
        assert_eq!((status.block_height, status.position), (1, 0));
        if confirmations == 1 {
            assert_eq!(status.block_hash, hash);
        }
    }
    assert!(end_of(&mut stream).await.is_none());

    let mut unknown = watch(&node, &"00".repeat(32), 0).await;
    let status = end_of(&mut unknown).await.unwrap();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(reason(&status), "TRANSACTION_NOT_FOUND");
    let mut client = node.transactions();
    let bad = client.watch_transaction(v1::WatchTransactionRequest {
        txid: "xyz".to_owned(),
        confirmations: 0,
    });
    assert_eq!(violated_field(&bad.await.unwrap_err()), "txid");
}

#[tokio::test]
async fn the_mempool_can_be_followed() {
    let network = Network::easy();
    let (node, _dir) = start(&network, &[]);
    let follow = |address: String| {
        let mut client = node.transactions();
        async move {
            let request = v1::SubscribePendingTransactionsRequest { address };
            let stream = client.subscribe_pending_transactions(request).await;
            stream.unwrap().into_inner()
        }
    };
    let mut all = follow(String::new()).await;
    let mut own = follow(network.address(5)).await;
    let to_five = node.accept(&network.pay(0, 0, 5, PIT, FEE)).await;
    let other = node.accept(&network.pay(1, 0, 2, PIT, FEE)).await;
    let better = node.submit(&network.pay(1, 0, 3, PIT, 2 * FEE)).await.txid;
    node.mine(&network, 1).await;

    let mut events = Vec::new();
    for _ in 0..6 {
        events.push(match next(&mut all).await.event.unwrap() {
            Event::Added(transaction) => (transaction.txid, State::Pending, String::new()),
            Event::Removed(removed) => (removed.txid.clone(), removed.state(), removed.detail),
        });
    }
    let none = String::new;
    assert_eq!(events[0], (to_five.clone(), State::Pending, none()));
    assert_eq!(events[1], (other.clone(), State::Pending, none()));
    assert_eq!(events[2], (other, State::Replaced, better.clone()));
    assert_eq!(events[3], (better.clone(), State::Pending, none()));
    let mut mined = [events[4].clone(), events[5].clone()];
    mined.sort_by_key(|event| event.0 != to_five);
    assert_eq!(mined[0], (to_five.clone(), State::Mined, none()));
    assert_eq!(mined[1], (better, State::Mined, none()));

    // A client that asked for one address gets no events of others.
    let Event::Added(first) = next(&mut own).await.event.unwrap() else {
        panic!("it was added first");
    };
    assert_eq!(first.txid, to_five);
    let Event::Removed(second) = next(&mut own).await.event.unwrap() else {
        panic!("it was mined then");
    };
    assert_eq!((second.txid, second.state), (to_five, State::Mined.into()));
}

#[tokio::test]
async fn a_full_mempool_keeps_what_pays_most() {
    let network = Network::easy();
    let (node, dir) = start(&network, &["--mempool-bytes-max", "100000"]);
    // About 12 kB each: 255 outputs and some data. Eight fit, nine do not.
    let big = |from: usize, sequence: u64, fee: u64| {
        let outputs = vec![(key(5).address, 10_000); 255];
        let mut signed = key(from).pay(&network.hash(), sequence, fee, &outputs);
        signed.body.data = vec![0; 1_024];
        key(from).sign_body(signed.body, &network.hash())
    };
    let mut txids = Vec::new();
    for from in 0..4 {
        for sequence in 0..2 {
            // Sender 0 pays least, each sender's second less than its first.
            let fee = 100_000 * (from as u64 + 1) - 10_000 * sequence;
            txids.push(node.accept(&big(from, sequence, fee)).await);
        }
    }
    let info = mempool(&node).await;
    assert_eq!((info.transaction_count, info.max_size_bytes), (8, 100_000));
    let state = |txid: String| {
        let node = &node;
        async move { next(&mut watch(node, &txid, 0).await).await.status.unwrap() }
    };

    // The fee rate is too low to displace any other.
    let low = node.submit(&big(3, 2, 50_000)).await;
    assert_eq!(low.rejection.unwrap().rule(), Rule::MempoolFull);
    // A transaction that can't be mined next displaces no other, whatever it pays.
    let gap = node.submit(&big(3, 5, 9_000_000)).await;
    assert_eq!(gap.rejection.unwrap().rule(), Rule::MempoolFull);
    assert_eq!(mempool(&node).await.transaction_count, 8);
    // A good one displaces the worst of each sender's last transactions: sender 0's second.
    node.accept(&big(3, 2, 500_000)).await;
    let evicted = state(txids[1].clone()).await;
    assert_eq!(evicted.state(), State::Dropped);
    assert!(evicted.detail.contains("evicted"), "{}", evicted.detail);
    assert_eq!(state(txids[0].clone()).await.state(), State::Pending);

    // The others survive a crash.
    let left = mempool(&node).await;
    node.kill();
    let node = TestNode::start_with(&network, dir.path(), &["--mempool-bytes-max", "100000"]);
    let after = mempool(&node).await;
    assert_eq!(after.transaction_count, left.transaction_count);
    assert_eq!(after.total_fees, left.total_fees);
}

#[tokio::test]
async fn mempool_limits_are_told() {
    let network = Network::easy();
    let flags = ["--min-relay-fee-rate", "3", "--mempool-expiry-secs", "77"];
    let (node, _dir) = start(&network, &flags);
    let info = mempool(&node).await;
    assert_eq!((info.min_fee_rate, info.entry_fee_rate), (3, 3));
    assert_eq!(
        (info.expiry_secs, info.transaction_count, info.size_bytes),
        (77, 0, 0)
    );
    let estimate = node
        .transactions()
        .estimate_fee(v1::EstimateFeeRequest {
            target_blocks: 0,
            size_bytes: 1_000,
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((estimate.fee_rate, estimate.fee), (3, 3_000));
    let transaction = network.pay(0, 0, 1, PIT, 3_000);
    node.accept(&transaction).await;
    let info = mempool(&node).await;
    assert_eq!(info.size_bytes, transaction.size() as u64);
    assert_eq!(info.total_fees, 3_000);
}
