//! Every method of the five services answers what `proto/` documents, errors
//! with their details among them.

use pithead_api::v1;
use pithead_api::v1::get_block_request::Block as Which;
use pithead_api::v1::{BlockTag, BlockView};
use pithead_consensus::{Block, Decode as _, Encode as _, Hash256, merkle};
use pithead_testkit::process::{Network, TestNode, data_dir, reason, violated_field};
use pithead_testkit::{ALLOCATION, FEE, PIT, key};
use tempfile::TempDir;
use tonic::Code;

fn start(network: &Network) -> (TestNode, TempDir) {
    let dir = data_dir();
    (TestNode::start(network, dir.path()), dir)
}

async fn get_block(node: &TestNode, which: Which, view: BlockView) -> v1::Block {
    let request = v1::GetBlockRequest {
        block: Some(which),
        view: view.into(),
        ..Default::default()
    };
    let response = node.chain().get_block(request).await.unwrap();
    response.into_inner().block.unwrap()
}

async fn block_error(node: &TestNode, request: v1::GetBlockRequest) -> tonic::Status {
    node.chain().get_block(request).await.unwrap_err()
}

#[tokio::test]
async fn chain_info_is_what_the_genesis_and_the_tip_say() {
    let network = Network::with(|file| file.reward_maturity = 2);
    let (node, _dir) = start(&network);
    let info = node.info().await;
    assert_eq!(info.network, "unit tests");
    assert_eq!(info.address_prefix, "dpit");
    assert_eq!(info.genesis_hash, network.hash().to_string());
    assert_eq!(info.tip.as_ref().unwrap().hash, info.genesis_hash);
    assert_eq!(
        info.tip.as_ref().unwrap().raw,
        network.genesis.block.header.to_bytes().to_vec()
    );
    assert_eq!((info.supply, info.next_subsidy), (4 * ALLOCATION, 50 * PIT));
    assert_eq!(info.next_bits, network.file.bits);
    assert!((info.next_difficulty - 2.0).abs() < 0.01);
    let parameters = info.parameters.unwrap();
    assert_eq!(
        parameters.block_interval_secs,
        network.file.block_interval_secs
    );
    assert_eq!(parameters.half_life_secs, network.file.half_life_secs);
    assert_eq!(parameters.max_block_bytes, network.file.max_block_bytes);
    assert_eq!(parameters.pow_limit_bits, network.file.pow_limit_bits);
    assert_eq!(parameters.reward_maturity, 2);
    assert_eq!(
        (parameters.max_outputs, parameters.max_data_bytes),
        (255, 1_024)
    );

    node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    node.mine(&network, 3).await;
    let info = node.info().await;
    assert_eq!(info.tip.unwrap().height, 3);
    assert_eq!(info.transaction_count, 1);
    // Block 3 paid out block 1, fee included; two rewards are on their way.
    assert_eq!(info.supply, 4 * ALLOCATION + 50 * PIT);
    let miner = node.account(&network, 7).await;
    assert_eq!(miner.balance, 50 * PIT + FEE);
    assert_eq!(miner.immature_rewards, 100 * PIT);
    let block = get_block(&node, Which::Height(3), BlockView::Header).await;
    assert_eq!(block.matured_reward_height, Some(1));
}

#[tokio::test]
async fn accounts_show_what_is_confirmed_and_what_is_pending() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let never = node.account(&network, 6).await;
    assert_eq!(
        (never.balance, never.sequence, never.next_sequence),
        (0, 0, 0)
    );
    assert!(never.public_key.is_empty());
    node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    let sender = node.account(&network, 0).await;
    assert_eq!(
        (sender.balance, sender.pending_balance),
        (ALLOCATION, ALLOCATION - PIT - FEE)
    );
    assert_eq!((sender.sequence, sender.next_sequence), (0, 1));
    let recipient = node.account(&network, 1).await;
    assert_eq!(
        (recipient.balance, recipient.pending_balance),
        (ALLOCATION, ALLOCATION + PIT)
    );
    let hash = node.mine(&network, 1).await;
    let sender = node.account(&network, 0).await;
    assert_eq!(
        (sender.balance, sender.sequence),
        (ALLOCATION - PIT - FEE, 1)
    );
    assert_eq!(sender.public_key, key(0).public.modulus().to_vec());
    assert_eq!((sender.height, sender.block_hash), (1, hash));

    let mut chain = node.chain();
    for address in ["", "dpit1nonsense", "pit1qqqq"] {
        let request = v1::GetAccountRequest {
            address: address.to_owned(),
        };
        let status = chain.get_account(request).await.unwrap_err();
        assert_eq!(violated_field(&status), "address");
    }
}

#[tokio::test]
async fn blocks_are_found_by_hash_height_and_tag() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let txid = node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    node.settle(&network).await;
    let mined = node.next_block(&key(7).address, &network).await;
    node.extend(&mined).await;
    let hash = mined.header.hash().to_string();
    for which in [
        Which::Hash(hash.clone()),
        Which::Height(1),
        Which::Tag(BlockTag::Head.into()),
    ] {
        let block = get_block(&node, which, BlockView::Full).await;
        assert_eq!(block.header.as_ref().unwrap().hash, hash);
        assert_eq!((block.transaction_count, block.txids.len()), (1, 1));
        assert_eq!(block.transactions[0].txid, txid);
        assert_eq!(block.transactions[0].raw, mined.transactions[0].encode());
        assert_eq!((block.subsidy, block.fees), (50 * PIT, FEE));
        assert!(block.best_chain);
        assert_eq!(block.confirmations, 1);
        assert_eq!(block.size_bytes as usize, mined.encode().len());
        let commitment = block.commitment.unwrap();
        assert_eq!(commitment.raw, mined.commitment.to_bytes().to_vec());
        assert_eq!(commitment.reward_address, network.address(7));
    }
    for tag in [BlockTag::Approved, BlockTag::Final] {
        let block = get_block(&node, Which::Tag(tag.into()), BlockView::Header).await;
        assert_eq!(block.header.unwrap().height, 0, "nobody votes yet");
    }
    let raw = get_block(&node, Which::Height(1), BlockView::Raw).await.raw;
    assert_eq!(Block::decode(&raw).unwrap(), mined);

    let ask = |block: Which| v1::GetBlockRequest {
        block: Some(block),
        ..Default::default()
    };
    for which in [Which::Height(2), Which::Hash("00".repeat(32))] {
        let status = block_error(&node, ask(which)).await;
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(reason(&status), "BLOCK_NOT_FOUND");
    }
    let status = block_error(&node, ask(Which::Hash("abc".to_owned()))).await;
    assert_eq!(violated_field(&status), "hash");
    let status = block_error(&node, ask(Which::Tag(99))).await;
    assert_eq!(violated_field(&status), "tag");
    let view = v1::GetBlockRequest {
        view: 99,
        ..Default::default()
    };
    assert_eq!(violated_field(&block_error(&node, view).await), "view");
    let page = v1::GetBlockRequest {
        page_token: "xyz".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        violated_field(&block_error(&node, page).await),
        "page_token"
    );
}

#[tokio::test]
async fn long_answers_come_in_pages() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut txids = std::collections::BTreeSet::new();
    for sequence in 0..7 {
        let payment = network.pay(0, sequence, 1, PIT, FEE + sequence);
        txids.insert(node.accept(&payment).await);
    }
    // Pending ones, best fee rate first.
    let mut token = String::new();
    let mut found = Vec::new();
    for (page, size) in [(0, 3), (1, 3), (2, 1)] {
        let request = v1::ListPendingTransactionsRequest {
            page_size: 3,
            page_token: token,
            sender: network.address(0),
        };
        let answer = node.transactions().list_pending_transactions(request).await;
        let answer = answer.unwrap().into_inner();
        assert_eq!(answer.total_count, 7);
        assert_eq!(answer.transactions.len(), size, "page {page}");
        found.extend(
            answer
                .transactions
                .into_iter()
                .map(|each| each.transaction.unwrap().txid),
        );
        token = answer.next_page_token;
    }
    assert!(token.is_empty());
    assert_eq!(
        found
            .iter()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>(),
        txids
    );

    node.mine(&network, 5).await;
    // The transactions of block 1, three a page.
    let (mut token, mut found) = (String::new(), Vec::new());
    loop {
        let request = v1::GetBlockRequest {
            block: Some(Which::Height(1)),
            view: BlockView::Full.into(),
            page_size: 3,
            page_token: token,
        };
        let answer = node.chain().get_block(request).await.unwrap().into_inner();
        let block = answer.block.unwrap();
        assert!(block.transactions.len() <= 3);
        assert_eq!(block.transaction_count, 7);
        found.extend(block.transactions.into_iter().map(|each| each.sequence));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, [0, 1, 2, 3, 4, 5, 6]);

    // The account's history, newest first.
    let (mut token, mut found) = (String::new(), Vec::new());
    loop {
        let request = v1::ListAccountTransactionsRequest {
            address: network.address(1),
            page_size: 2,
            page_token: token,
        };
        let answer = node.chain().list_account_transactions(request).await;
        let answer = answer.unwrap().into_inner();
        for each in answer.transactions {
            assert_eq!((each.debit, each.credit), (0, PIT));
            assert_eq!(each.status.unwrap().confirmations, 5);
            found.push(each.transaction.unwrap().sequence);
        }
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, [6, 5, 4, 3, 2, 1, 0]);

    // Blocks, newest first, and headers, oldest first.
    let (mut token, mut found) = (String::new(), Vec::new());
    loop {
        let request = v1::ListBlocksRequest {
            page_size: 4,
            page_token: token,
            start_height: None,
        };
        let answer = node
            .chain()
            .list_blocks(request)
            .await
            .unwrap()
            .into_inner();
        found.extend(
            answer
                .blocks
                .into_iter()
                .map(|block| block.header.unwrap().height),
        );
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, [5, 4, 3, 2, 1, 0]);
    let request = v1::ListBlocksRequest {
        page_size: 2,
        page_token: String::new(),
        start_height: Some(1),
    };
    let answer = node
        .chain()
        .list_blocks(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.blocks.len(), 2);
    assert!(answer.next_page_token.is_empty());
    let headers = |known_hashes: Vec<String>, page_size: u32| {
        let mut chain = node.chain();
        async move {
            let request = v1::ListHeadersRequest {
                known_hashes,
                page_size,
            };
            let answer = chain.list_headers(request).await.unwrap().into_inner();
            let heights = answer.headers.into_iter().map(|header| header.height);
            heights.collect::<Vec<_>>()
        }
    };
    assert_eq!(headers(Vec::new(), 3).await, [0, 1, 2]);
    let known = get_block(&node, Which::Height(2), BlockView::Header).await;
    let known = vec!["00".repeat(32), known.header.unwrap().hash];
    assert_eq!(headers(known, 0).await, [3, 4, 5]);
    let status = node
        .chain()
        .list_headers(v1::ListHeadersRequest {
            known_hashes: vec!["00".repeat(32); 102],
            page_size: 0,
        })
        .await
        .unwrap_err();
    assert_eq!(violated_field(&status), "known_hashes");
}

#[tokio::test]
async fn a_transaction_is_proven_against_its_header() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let mut payments = Vec::new();
    for sequence in 0..5 {
        let payment = network.pay(0, sequence, 1, PIT, FEE);
        node.accept(&payment).await;
        payments.push(payment);
    }
    let proof = |txid: String| {
        let mut chain = node.chain();
        async move {
            let request = v1::GetTransactionProofRequest { txid };
            chain
                .get_transaction_proof(request)
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let txid = payments[3].txid(&network.hash()).to_string();
    let status = proof(txid.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(reason(&status), "TRANSACTION_NOT_FOUND");

    node.mine(&network, 1).await;
    let proof = proof(txid.clone()).await.unwrap();
    assert_eq!((proof.position, proof.transaction_count), (3, 5));
    assert_eq!(proof.raw_transaction, payments[3].encode());
    let path: Vec<_> = proof
        .path
        .iter()
        .map(|hash| Hash256(hash.as_ref().try_into().unwrap()))
        .collect();
    let leaf = merkle::leaf_hash(&proof.raw_transaction);
    let root = merkle::root_of_path(leaf, 3, 5, &path).unwrap();
    let commitment = proof.commitment.unwrap();
    assert_eq!(commitment.transactions_root, root.to_string());
    let commitment = pithead_consensus::BlockCommitment::decode(&commitment.raw).unwrap();
    let header = proof.header.unwrap();
    assert_eq!(commitment.transactions_root, root);
    assert_eq!(commitment.merkle_root().to_string(), header.merkle_root);

    let request = v1::GetTransactionRequest { txid };
    let found = node
        .chain()
        .get_transaction(request)
        .await
        .unwrap()
        .into_inner();
    let status = found.status.unwrap();
    assert_eq!(status.state(), v1::TransactionState::Mined);
    assert_eq!((status.block_hash, status.position), (header.hash, 3));
    let shown = found.transaction.unwrap();
    assert_eq!((shown.sender, shown.fee), (network.address(0), FEE));
    assert_eq!(shown.outputs[0].recipient, network.address(1));
    let request = v1::GetTransactionRequest {
        txid: "00".repeat(32),
    };
    let status = node.chain().get_transaction(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::NotFound, "TRANSACTION_NOT_FOUND".into())
    );
}

fn order(network: &Network) -> v1::BuildTransactionRequest {
    v1::BuildTransactionRequest {
        sender: network.address(0),
        outputs: vec![v1::TransactionOutput {
            recipient: network.address(1),
            amount: PIT,
        }],
        data: b"for the rent".to_vec().into(),
        fee: None,
        sequence: None,
    }
}

#[tokio::test]
async fn a_built_transaction_is_signed_and_submitted_in_parts() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    for sequence in 0..2 {
        let built = node.transactions().build_transaction(order(&network)).await;
        let built = built.unwrap().into_inner();
        assert_eq!(built.sequence, sequence, "pending ones are counted");
        assert_eq!(built.public_key_required, sequence == 0);
        assert_eq!(built.fee, u64::from(built.size_bytes), "one grain a byte");
        let public_key = if built.public_key_required {
            key(0).public.modulus().to_vec()
        } else {
            Vec::new()
        };
        let parts = v1::SignedParts {
            body: built.body,
            public_key: public_key.into(),
            signature: key(0).sign(&built.signing_message).0.to_vec().into(),
        };
        let request = v1::SubmitTransactionRequest {
            transaction: Some(v1::submit_transaction_request::Transaction::Parts(parts)),
        };
        let answer = node.transactions().submit_transaction(request).await;
        let answer = answer.unwrap().into_inner();
        assert_eq!(answer.outcome(), v1::SubmitTransactionOutcome::Accepted);
        assert_eq!(answer.txid, built.txid);
    }
    let given = v1::BuildTransactionRequest {
        fee: Some(5_000),
        sequence: Some(9),
        ..order(&network)
    };
    let built = node
        .transactions()
        .build_transaction(given)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((built.fee, built.sequence), (5_000, 9));
    assert!(!built.public_key_required);
}

#[tokio::test]
async fn orders_that_can_not_be_built_name_their_field() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let good = order(&network);
    let output = good.outputs[0].clone();
    let with_outputs = |outputs| v1::BuildTransactionRequest {
        outputs,
        ..good.clone()
    };
    let cases = [
        (
            "sender",
            v1::BuildTransactionRequest {
                sender: String::new(),
                ..good.clone()
            },
        ),
        ("outputs", with_outputs(Vec::new())),
        ("outputs", with_outputs(vec![output.clone(); 256])),
        (
            "outputs[1].amount",
            with_outputs(vec![
                output.clone(),
                v1::TransactionOutput {
                    amount: 0,
                    ..output.clone()
                },
            ]),
        ),
        (
            "outputs[0].recipient",
            with_outputs(vec![v1::TransactionOutput {
                recipient: "?".into(),
                ..output.clone()
            }]),
        ),
        (
            "data",
            v1::BuildTransactionRequest {
                data: vec![0; 1_025].into(),
                ..good.clone()
            },
        ),
        (
            "fee",
            v1::BuildTransactionRequest {
                fee: Some(u64::MAX),
                ..good.clone()
            },
        ),
    ];
    for (field, request) in cases {
        let status = node
            .transactions()
            .build_transaction(request)
            .await
            .unwrap_err();
        assert_eq!(violated_field(&status), field);
    }
    let request = v1::SubmitTransactionRequest { transaction: None };
    let status = node
        .transactions()
        .submit_transaction(request)
        .await
        .unwrap_err();
    assert_eq!(violated_field(&status), "transaction");
}

#[tokio::test]
async fn the_node_tells_what_it_is() {
    let network = Network::with(|file| {
        file.validators = (0..2)
            .map(|index| pithead_consensus::genesis::ValidatorEntry {
                address: file.allocations[index].address.clone(),
                public_key: hex::encode(key(index).public.modulus()),
            })
            .collect();
        file.approval_quorum = 2;
    });
    let (node, _dir) = start(&network);
    let mut client = node.network();
    let info = client.get_node_info(v1::GetNodeInfoRequest {}).await;
    let info = info.unwrap().into_inner();
    assert!(info.agent.starts_with("pithead-node/"));
    assert_eq!(info.genesis_hash, network.hash().to_string());
    assert_eq!((info.process_id, info.protocol_version), (node.pid(), 1));
    assert!(!info.syncing && info.data_bytes > 0);
    let validators = client.list_validators(v1::ListValidatorsRequest {}).await;
    let validators = validators.unwrap().into_inner();
    assert_eq!(validators.approval_quorum, 2);
    assert_eq!(validators.validators.len(), 2);
    assert_eq!(validators.validators[1].address, network.address(1));
    assert_eq!(
        validators.validators[1].public_key,
        key(1).public.modulus().to_vec()
    );
}

#[tokio::test]
async fn a_dev_node_mines_by_itself_and_no_other_does() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    let request = |count| v1::MineBlocksRequest {
        count,
        reward_address: network.address(7),
    };
    let mined = node
        .admin()
        .mine_blocks(request(3))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((mined.height, mined.block_hashes.len()), (3, 3));
    assert_eq!(mined.block_hashes[2], node.info().await.tip.unwrap().hash);
    assert_eq!(node.account(&network, 7).await.balance, 150 * PIT);
    for count in [0, 1_001] {
        let status = node.admin().mine_blocks(request(count)).await.unwrap_err();
        assert_eq!(violated_field(&status), "count");
    }
    let unnamed = v1::MineBlocksRequest {
        count: 1,
        reward_address: String::new(),
    };
    let status = node.admin().mine_blocks(unnamed).await.unwrap_err();
    assert_eq!(violated_field(&status), "reward_address");

    let other = Network::with(|file| {
        file.address_prefix = "tpit".to_owned();
        file.allocations.clear();
    });
    let (node, _dir) = start(&other);
    let request = v1::MineBlocksRequest {
        count: 1,
        reward_address: other.address(7),
    };
    let status = node.admin().mine_blocks(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "NOT_A_DEV_NETWORK");
}

#[tokio::test]
async fn a_search_ends_with_the_call_that_wants_it() {
    // Nobody finds a block of this network.
    let network = Network::with(|file| {
        file.bits = 0x0101_0000;
    });
    for cut_off in [true, false] {
        let dir = data_dir();
        let mut node = TestNode::start(&network, dir.path());
        let request = v1::MineBlocksRequest {
            count: 1,
            reward_address: network.address(7),
        };
        let mut admin = node.admin();
        let mut call = Box::pin(async move { admin.mine_blocks(request).await });
        // Requests of one connection are taken up in order: once the other one is
        // answered, the search is on.
        tokio::select! {
            biased;
            answer = &mut call => panic!("{answer:?}"),
            _ = node.info() => {}
        }
        if cut_off {
            pithead_testkit::process::signal(node.pid(), "TERM");
            let status = call.await.unwrap_err();
            assert_eq!(reason(&status), "NODE_STOPPING");
        } else {
            drop(call);
            pithead_testkit::process::signal(node.pid(), "TERM");
        }
        assert!(node.wait().await.success(), "{}", node.log());
    }
}

#[tokio::test]
async fn pages_of_large_transactions_end_early() {
    let network = Network::easy();
    let (node, _dir) = start(&network);
    // As many outputs as there may be, so that some eighty fill a page.
    let outputs = vec![(key(1).address, 1); pithead_consensus::transaction::MAX_OUTPUTS];
    let mut sent = std::collections::BTreeSet::new();
    for sender in [0, 2] {
        for sequence in 0..60 {
            let transaction = key(sender).pay(&network.hash(), sequence, PIT, &outputs);
            sent.insert(node.accept(&transaction).await);
        }
    }
    let (mut token, mut found, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let request = v1::ListPendingTransactionsRequest {
            page_size: 1_000,
            page_token: token,
            sender: String::new(),
        };
        let answer = node.transactions().list_pending_transactions(request).await;
        let answer = answer.unwrap().into_inner();
        found.extend(
            answer
                .transactions
                .into_iter()
                .map(|each| each.transaction.unwrap().txid),
        );
        pages += 1;
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, found.len()), (2, sent.len()));
    assert!(found.iter().all(|txid| sent.contains(txid)));

    node.mine(&network, 1).await;
    let (mut token, mut found, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let request = v1::ListAccountTransactionsRequest {
            address: network.address(1),
            page_size: 1_000,
            page_token: token,
        };
        let answer = node.chain().list_account_transactions(request).await;
        let answer = answer.unwrap().into_inner();
        found.extend(
            answer
                .transactions
                .into_iter()
                .map(|each| each.transaction.unwrap().txid),
        );
        pages += 1;
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, found.len()), (2, sent.len()));
    assert!(found.iter().all(|txid| sent.contains(txid)));
}
