//! What tests ask a running node to do and to tell, one call each: blocks, transactions,
//! accounts, peers. Each call has to succeed.

use std::time::Instant;

use pithead_api::v1;
use pithead_consensus::{
    Address, Block, BlockCommitment, BlockHeader, Decode as _, Encode as _, SignedTransaction,
};

use super::network::Network;
use super::node::TestNode;
use super::program::{PATIENCE, POLL};
use crate::chain::mine;
use crate::key;

impl TestNode {
    /// Mines a block on the node's current template, and does not hand it in.
    pub async fn next_block(&self, reward: &Address, network: &Network) -> Block {
        let template = self
            .mining()
            .get_block_template(v1::GetBlockTemplateRequest {
                reward_address: network.text(reward),
                include_transactions: true,
            })
            .await
            .unwrap()
            .into_inner();
        let mut header = BlockHeader::decode(&template.header).unwrap();
        mine(&mut header);
        Block {
            header,
            commitment: BlockCommitment::decode(&template.commitment).unwrap(),
            transactions: template
                .transactions
                .iter()
                .map(|raw| SignedTransaction::decode(raw).unwrap())
                .collect(),
        }
    }

    /// Hands in a block.
    pub async fn submit_block(&self, block: &Block) -> v1::SubmitBlockResponse {
        self.mining()
            .submit_block(v1::SubmitBlockRequest {
                raw: block.encode().into(),
            })
            .await
            .unwrap()
            .into_inner()
    }

    /// Hands in a block that has to become the tip.
    pub async fn extend(&self, block: &Block) {
        let response = self.submit_block(block).await;
        assert_eq!(
            response.outcome(),
            v1::SubmitOutcome::AcceptedBlock,
            "{}",
            response.detail
        );
    }

    /// Waits until the template holds every pending transaction that can be mined.
    pub async fn settle(&self, network: &Network) {
        let pending = self
            .transactions()
            .list_pending_transactions(v1::ListPendingTransactionsRequest {
                page_size: 1_000,
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner();
        let ready = pending
            .transactions
            .iter()
            .filter(|each| each.ready)
            .count();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = v1::GetBlockTemplateRequest {
                reward_address: network.address(7),
                include_transactions: false,
            };
            let template = self.mining().get_block_template(request).await.unwrap();
            if template.into_inner().transaction_count as usize >= ready {
                return;
            }
            assert!(Instant::now() < deadline, "the template does not follow");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Mines blocks, the first of them with all pending transactions; returns the last one's hash.
    pub async fn mine(&self, network: &Network, count: usize) -> String {
        let mut hash = String::new();
        self.settle(network).await;
        for _ in 0..count {
            let block = self.next_block(&key(7).address, network).await;
            hash = block.header.hash().to_string();
            self.extend(&block).await;
        }
        hash
    }

    /// Submits a transaction.
    pub async fn submit(&self, transaction: &SignedTransaction) -> v1::SubmitTransactionResponse {
        self.submit_raw(transaction.encode()).await
    }

    /// Submits bytes as a transaction.
    pub async fn submit_raw(&self, raw: Vec<u8>) -> v1::SubmitTransactionResponse {
        use v1::submit_transaction_request::Transaction;
        self.transactions()
            .submit_transaction(v1::SubmitTransactionRequest {
                transaction: Some(Transaction::Raw(raw.into())),
            })
            .await
            .unwrap()
            .into_inner()
    }

    /// Submits a transaction that has to be accepted; returns its txid.
    pub async fn accept(&self, transaction: &SignedTransaction) -> String {
        let response = self.submit(transaction).await;
        assert_eq!(
            response.outcome(),
            v1::SubmitTransactionOutcome::Accepted,
            "{:?}",
            response.rejection
        );
        response.txid
    }

    /// The account of a test key.
    pub async fn account(&self, network: &Network, index: usize) -> v1::GetAccountResponse {
        self.chain()
            .get_account(v1::GetAccountRequest {
                address: network.address(index),
            })
            .await
            .unwrap()
            .into_inner()
    }

    pub async fn info(&self) -> v1::GetChainInfoResponse {
        self.chain()
            .get_chain_info(v1::GetChainInfoRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    pub async fn height(&self) -> u64 {
        self.info().await.tip.unwrap().height
    }

    /// The first page of its peers.
    pub async fn peers(&self) -> Vec<v1::Peer> {
        let request = v1::ListPeersRequest::default();
        let response = self.network().list_peers(request).await;
        response.unwrap().into_inner().peers
    }

    /// Where it listens for other nodes, its identity among them, and how it is doing.
    pub async fn node_info(&self) -> v1::GetNodeInfoResponse {
        let info = self
            .network()
            .get_node_info(v1::GetNodeInfoRequest {})
            .await;
        info.unwrap().into_inner()
    }

    /// The first address at which other nodes reach it, with its identity.
    pub async fn listen_address(&self) -> String {
        self.node_info().await.listen_addresses.remove(0)
    }

    /// How many approvals it has of the checkpoint at a height; 0 if it has no such block.
    pub async fn approvals_at(&self, height: u64) -> usize {
        let request = v1::ListApprovalsRequest {
            checkpoint: Some(v1::list_approvals_request::Checkpoint::Height(height)),
        };
        let listed = self.chain().list_approvals(request).await;
        listed.map_or(0, |listed| listed.into_inner().approvals.len())
    }
}
