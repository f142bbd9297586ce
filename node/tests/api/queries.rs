//! Queries answer what `proto/` documents: about the chain, accounts, blocks, transactions and the
//! node. An error names its reason and the field to correct.

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
