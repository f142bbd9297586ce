//! Long answers come in pages: a client that asks for one page after the other gets every
//! entry once and in the documented order, and no page is larger than a message may be.

use std::collections::BTreeSet;

use pithead_api::v1;
use pithead_api::v1::BlockView;
use pithead_api::v1::get_block_request::Block as Which;
use pithead_testkit::process::{Network, TestNode, data_dir, violated_field};
use pithead_testkit::{FEE, PIT, key};

/// Asks for one page after the other, by the token that comes with each, to the last.
async fn all_pages<T>(mut ask: impl AsyncFnMut(String) -> (T, String)) -> Vec<T> {
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next_token) = ask(token).await;
        pages.push(page);
        if next_token.is_empty() {
            return pages;
        }
        token = next_token;
    }
}

/// The transaction ids of each page of pending transactions, with the total that it tells.
async fn pending_pages(node: &TestNode, page_size: u32, sender: &str) -> Vec<(Vec<String>, u64)> {
    all_pages(async |page_token| {
        let request = v1::ListPendingTransactionsRequest {
            page_size,
            page_token,
            sender: sender.to_owned(),
        };
        let answer = node.transactions().list_pending_transactions(request).await;
        let answer = answer.unwrap().into_inner();
        let transactions = answer.transactions.into_iter();
        let txids = transactions.map(|each| each.transaction.unwrap().txid);
        let page = (txids.collect(), answer.total_count);
        (page, answer.next_page_token)
    })
    .await
}

/// The history of test key 1's account, page by page.
async fn history_pages(
    node: &TestNode,
    network: &Network,
    page_size: u32,
) -> Vec<Vec<v1::AccountTransaction>> {
    all_pages(async |page_token| {
        let request = v1::ListAccountTransactionsRequest {
            address: network.address(1),
            page_size,
            page_token,
        };
        let answer = node.chain().list_account_transactions(request).await;
        let answer = answer.unwrap().into_inner();
        (answer.transactions, answer.next_page_token)
    })
    .await
}

#[tokio::test]
async fn transactions_come_in_pages() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let mut txids = BTreeSet::new();
    for sequence in 0..7 {
        let payment = network.pay(0, sequence, 1, PIT, FEE + sequence);
        txids.insert(node.accept(&payment).await);
    }
    // Pending ones, best fee rate first.
    let pages = pending_pages(&node, 3, &network.address(0)).await;
    assert!(pages.iter().all(|(_, total)| *total == 7));
    let sizes: Vec<usize> = pages.iter().map(|(page, _)| page.len()).collect();
    assert_eq!(sizes, [3, 3, 1]);
    let found: BTreeSet<String> = pages.into_iter().flat_map(|(page, _)| page).collect();
    assert_eq!(found, txids);

    node.mine(&network, 5).await;
    // The transactions of block 1, three a page.
    let pages = all_pages(async |page_token| {
        let request = v1::GetBlockRequest {
            block: Some(Which::Height(1)),
            view: BlockView::Full.into(),
            page_size: 3,
            page_token,
        };
        let answer = node.chain().get_block(request).await.unwrap().into_inner();
        (answer.block.unwrap(), answer.next_page_token)
    })
    .await;
    for block in &pages {
        assert!(block.transactions.len() <= 3);
        assert_eq!(block.transaction_count, 7);
    }
    let found = pages.into_iter().flat_map(|block| block.transactions);
    let found: Vec<u64> = found.map(|each| each.sequence).collect();
    assert_eq!(found, [0, 1, 2, 3, 4, 5, 6]);

    // The account's history, newest first.
    let mut found = Vec::new();
    for each in history_pages(&node, &network, 2)
        .await
        .into_iter()
        .flatten()
    {
        assert_eq!((each.debit, each.credit), (0, PIT));
        assert_eq!(each.status.unwrap().confirmations, 5);
        found.push(each.transaction.unwrap().sequence);
    }
    assert_eq!(found, [6, 5, 4, 3, 2, 1, 0]);
}

#[tokio::test]
async fn blocks_and_headers_come_in_pages() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    node.mine(&network, 5).await;
    // Blocks, newest first.
    let list_blocks = async |page_size, page_token, start_height| {
        let request = v1::ListBlocksRequest {
            page_size,
            page_token,
            start_height,
        };
        let answer = node.chain().list_blocks(request).await;
        let answer = answer.unwrap().into_inner();
        let headers = answer.blocks.into_iter().map(|block| block.header.unwrap());
        (headers.collect::<Vec<_>>(), answer.next_page_token)
    };
    let pages = all_pages(async |token| list_blocks(4, token, None).await).await;
    let found: Vec<u64> = pages.iter().flatten().map(|header| header.height).collect();
    assert_eq!(found, [5, 4, 3, 2, 1, 0]);
    let (headers, next_token) = list_blocks(2, String::new(), Some(1)).await;
    assert_eq!(headers.len(), 2);
    assert!(next_token.is_empty());

    // Headers, oldest first.
    let headers = |known_hashes: Vec<String>, page_size: u32| {
        let mut chain = node.chain();
        async move {
            let request = v1::ListHeadersRequest {
                known_hashes,
                page_size,
            };
            let answer = chain.list_headers(request).await?.into_inner();
            let heights = answer.headers.into_iter().map(|header| header.height);
            Ok::<_, tonic::Status>(heights.collect::<Vec<_>>())
        }
    };
    assert_eq!(headers(Vec::new(), 3).await.unwrap(), [0, 1, 2]);
    let (known, _) = list_blocks(1, String::new(), Some(2)).await;
    let known = vec!["00".repeat(32), known[0].hash.clone()];
    assert_eq!(headers(known, 0).await.unwrap(), [3, 4, 5]);
    let status = headers(vec!["00".repeat(32); 102], 0).await.unwrap_err();
    assert_eq!(violated_field(&status), "known_hashes");
}

#[tokio::test]
async fn pages_of_large_transactions_end_early() {
    // One block takes all of them.
    let network = Network::with(|file| file.max_account_changes = 100_000);
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    // As many outputs as there may be, so that some eighty fill a page.
    let outputs = vec![(key(1).address, 1); pithead_consensus::transaction::MAX_OUTPUTS];
    let mut sent = BTreeSet::new();
    for sender in [0, 2] {
        for sequence in 0..60 {
            let transaction = key(sender).pay(&network.hash(), sequence, PIT, &outputs);
            sent.insert(node.accept(&transaction).await);
        }
    }
    let pending = pending_pages(&node, 1_000, "").await;
    let pending: Vec<Vec<String>> = pending.into_iter().map(|(page, _)| page).collect();

    node.mine(&network, 1).await;
    let mut mined = Vec::new();
    for page in history_pages(&node, &network, 1_000).await {
        let txids = page.into_iter().map(|each| each.transaction.unwrap().txid);
        mined.push(txids.collect::<Vec<_>>());
    }
    for pages in [pending, mined] {
        let found: Vec<&String> = pages.iter().flatten().collect();
        assert_eq!((pages.len(), found.len()), (2, sent.len()));
        assert!(found.iter().all(|txid| sent.contains(*txid)));
    }
}
