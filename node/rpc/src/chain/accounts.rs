//! Accounts: what one holds, and the transactions that it was part of.

use pithead_api::v1;
use pithead_consensus::{Address, Amount, Height, SignedTransaction};
use pithead_core::store::Table;
use pithead_core::store::schema::{self, ChainEntry, Place};
use tonic::Status;

use crate::api::{bad_field, internal};
use crate::page::{PAGE_BYTES_MAX, page_size, read_token, shown_size, token};
use crate::reader::{ChainReader, MinedTransactions};
use crate::status;

/// Transactions of a page, unless the caller says otherwise, and at most.
const TRANSACTIONS_PAGE: usize = 50;
const TRANSACTIONS_PAGE_MAX: usize = 500;
/// Bytes of blocks that are read for one page of an account's transactions. Each transaction may
/// be in another block, and a block is read as a whole.
const BLOCK_BYTES_READ_MAX: usize = 32 * 1024 * 1024;

pub(super) fn account(
    reader: &ChainReader<'_>,
    address: &Address,
) -> Result<v1::GetAccountResponse, Status> {
    let account = schema::account(reader.snapshot(), address).map_err(internal)?;
    let mempool = reader.api().mempool();
    let spent: u64 = mempool
        .of_sender(address)
        .map(|pending| pending.total().grains())
        .sum();
    let incoming: u64 = mempool.incoming(address).grains();
    let next_sequence = mempool.next_sequence(address, account.sequence);
    drop(mempool);
    Ok(v1::GetAccountResponse {
        address: reader.api().chain.address_text(address),
        balance: account.balance.grains(),
        sequence: account.sequence,
        pending_balance: (account.balance.grains() + incoming)
            .saturating_sub(spent)
            .min(Amount::MAX_MONEY.grains()),
        next_sequence,
        immature_rewards: immature_rewards(reader, address)?,
        public_key: account
            .key
            .map_or_else(Vec::new, |key| key.modulus().to_vec())
            .into(),
        height: reader.tip().height.0,
        block_hash: reader.tip().hash().to_string(),
    })
}

/// The account's rewards that are not paid out yet (protocol §5).
fn immature_rewards(reader: &ChainReader<'_>, address: &Address) -> Result<u64, Status> {
    let maturity = u64::from(reader.api().engine.genesis().params.reward_maturity);
    if maturity == 0 {
        return Ok(0);
    }
    // Block h pays the reward of block h - maturity.
    let tip = reader.tip().height.0;
    let first = (tip + 1).saturating_sub(maturity).max(1);
    let mut total = 0u64;
    for height in first..=tip {
        let reward = reader.entry_at(Height(height))?.reward();
        if reward.address == *address {
            total = total.saturating_add(reward.amount.grains());
        }
    }
    Ok(total.min(Amount::MAX_MONEY.grains()))
}

/// The newest transactions of an account first.
pub(super) fn list_transactions(
    reader: &ChainReader<'_>,
    request: &v1::ListAccountTransactionsRequest,
) -> Result<v1::ListAccountTransactionsResponse, Status> {
    let address = reader
        .api()
        .chain
        .address("address", &request.address)
        .map_err(bad_field)?;
    let size = page_size(request.page_size, TRANSACTIONS_PAGE, TRANSACTIONS_PAGE_MAX);
    // Keys are the address and then the place. A page ends below the place in its token.
    let place_end = read_token::<12>(&request.page_token)?.unwrap_or([0xff; 12]);
    let from = address.0.to_vec();
    let to = [address.0.as_slice(), &place_end].concat();
    let found = reader
        .snapshot()
        .range(Table::AccountTransactions, &from, &to, size + 1, true)
        .map_err(internal)?;
    let mut mined = MinedTransactions::new(reader);
    let mut transactions = Vec::new();
    let mut last = None;
    let mut bytes = 0;
    for (key, _) in found.iter().take(size) {
        if bytes > PAGE_BYTES_MAX || mined.bytes_read > BLOCK_BYTES_READ_MAX {
            break;
        }
        let place = key
            .get(32..)
            .and_then(Place::from_bytes)
            .ok_or_else(|| status::internal("the account's history is damaged"))?;
        let (transaction, entry) = mined.at(place)?;
        bytes += shown_size(transaction.size());
        transactions.push(account_transaction(
            reader,
            &address,
            transaction,
            place,
            entry,
        ));
        last = Some(place);
    }
    let more = found.len() > transactions.len();
    Ok(v1::ListAccountTransactionsResponse {
        transactions,
        next_page_token: last
            .filter(|_| more)
            .map_or_else(String::new, |place| token(&place.to_bytes())),
    })
}

/// A transaction with what it took from the account and what it brought.
fn account_transaction(
    reader: &ChainReader<'_>,
    address: &Address,
    transaction: &SignedTransaction,
    place: Place,
    entry: &ChainEntry,
) -> v1::AccountTransaction {
    let chain = &reader.api().chain;
    let body = &transaction.body;
    let txid = transaction.txid(&chain.genesis_hash);
    let credit = body
        .outputs
        .iter()
        .filter(|output| output.recipient == *address)
        .map(|output| output.amount.grains())
        .sum();
    let debit = if body.sender == *address {
        body.total().map_or(0, Amount::grains)
    } else {
        0
    };
    v1::AccountTransaction {
        transaction: Some(chain.transaction(transaction, &txid)),
        status: Some(reader.mined_status(place, entry)),
        debit,
        credit,
    }
}
