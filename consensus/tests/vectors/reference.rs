//! The vectors of the reference implementation in Python (`tests/reference/`).

use pithead_consensus::approval::{Approval, Checkpoint, Link, SignedApproval};
use pithead_consensus::check::{BlockError, TransactionError};
use pithead_consensus::difficulty::{Ancestors, expected_bits};
use pithead_consensus::genesis::{GenesisFile, Network};
use pithead_consensus::hash::tagged;
use pithead_consensus::subsidy::subsidy;
use pithead_consensus::{
    Account, Address, AddressPrefix, Amount, Block, BlockCommitment, BlockHash, BlockHeader,
    CompactTarget, Decode, Encode, Hash256, Height, Output, PublicKey, Signature,
    SignedTransaction, Target, TransactionBody, merkle,
};
use serde_json::Value;

use pithead_testkit::chain::{MemoryTree, SmallChain};
use pithead_testkit::{KEYS, grains, key};

/// One section of the vectors, never empty.
fn section(name: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(include_str!("../../../tests/reference/vectors.json")).unwrap();
    let list = all[name].as_array().unwrap().clone();
    assert!(!list.is_empty());
    list
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn number32(value: &Value) -> u32 {
    number(value).try_into().unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn network(name: &Value) -> Network {
    [Network::Main, Network::Test, Network::Dev]
        .into_iter()
        .find(|network| network.name() == name)
        .unwrap()
}

#[test]
fn addresses() {
    for (index, case) in section("keys").iter().enumerate() {
        let public = PublicKey::from_modulus(&bytes(&case["modulus"])).unwrap();
        assert_eq!(public, key(index).public);
        let address = Address::of_key(&public);
        assert_eq!(address.0, array(&case["payload"]));
        for (prefix, text) in case["texts"].as_object().unwrap() {
            let prefix = AddressPrefix::new(prefix).unwrap();
            assert_eq!(address.to_text(&prefix), *text);
            assert_eq!(
                Address::from_text(text.as_str().unwrap(), &prefix),
                Ok(address)
            );
        }
    }
}

#[test]
fn geneses() {
    let mut presets = 0;
    for case in section("geneses") {
        let file = GenesisFile::from_toml(case["toml"].as_str().unwrap()).unwrap();
        let genesis = file.check().unwrap();
        assert_eq!(
            genesis.block.commitment.transactions_root.0,
            tagged("pithead/genesis", &bytes(&case["encoding"]))
        );
        assert_eq!(genesis.block.encode(), bytes(&case["block"]));
        assert_eq!(genesis.params.genesis_hash.0, array(&case["hash"]));
        if !case["preset"].is_null() {
            assert_eq!(network(&case["preset"]).genesis().unwrap(), genesis);
            presets += 1;
        }
    }
    assert_eq!(presets, 3);
}

#[test]
fn transactions() {
    for case in section("transactions") {
        let genesis = BlockHash(array(&case["genesis_hash"]));
        let transaction = SignedTransaction {
            body: TransactionBody {
                sender: Address(array(&case["sender"])),
                sequence: number(&case["sequence"]),
                fee: grains(number(&case["fee"])),
                outputs: list(&case["outputs"])
                    .iter()
                    .map(|output| Output {
                        recipient: Address(array(&output[0])),
                        amount: grains(number(&output[1])),
                    })
                    .collect(),
                data: bytes(&case["data"]),
            },
            key: case["key"]
                .as_str()
                .map(|_| PublicKey::from_modulus(&bytes(&case["key"])).unwrap()),
            signature: Signature(Box::new(array(&case["signature"]))),
        };
        assert_eq!(transaction.body.encode(), bytes(&case["body"]));
        assert_eq!(
            transaction.body.signing_message(&genesis),
            bytes(&case["message"])
        );
        assert_eq!(transaction.txid(&genesis).0, array(&case["txid"]));
        assert_eq!(transaction.encode(), bytes(&case["encoded"]));
        assert_eq!(transaction.size(), transaction.encode().len());
        assert_eq!(transaction.body.signed_size(), transaction.size());
        assert_eq!(transaction.leaf_hash().0, array(&case["leaf"]));
        assert_eq!(
            SignedTransaction::decode(&bytes(&case["encoded"])),
            Ok(transaction.clone())
        );
        // Signed in Python, verified here.
        let signer = (0..KEYS)
            .map(key)
            .find(|key| key.address == transaction.body.sender)
            .unwrap();
        assert!(
            signer
                .public
                .verifies(&bytes(&case["message"]), &transaction.signature)
        );
    }
}

#[test]
fn headers_and_commitments() {
    for case in section("headers") {
        let fields = &case["header"];
        let header = BlockHeader {
            version: number32(&fields["version"]),
            prev: BlockHash(array(&fields["prev"])),
            merkle_root: Hash256(array(&fields["merkle_root"])),
            time: number32(&fields["time"]),
            bits: CompactTarget(number32(&fields["bits"])),
            nonce: number32(&fields["nonce"]),
        };
        let fields = &case["commitment"];
        let commitment = BlockCommitment {
            transactions_root: Hash256(array(&fields["transactions_root"])),
            state_root: Hash256(array(&fields["state_root"])),
            reward_address: Address(array(&fields["reward_address"])),
            extra_nonce: array(&fields["extra_nonce"]),
        };
        assert_eq!(header.encode(), bytes(&case["header_bytes"]));
        assert_eq!(commitment.encode(), bytes(&case["commitment_bytes"]));
        assert_eq!(commitment.merkle_root(), header.merkle_root);
        assert_eq!(header.hash().0, array(&case["hash"]));
        assert_eq!(header.hash().to_string(), case["shown"]);
        assert_eq!(case["shown"].as_str().unwrap().parse(), Ok(header.hash()));
    }
}

#[test]
fn merkle_roots() {
    for case in section("merkle") {
        let leaves: Vec<Hash256> = list(&case["leaves"])
            .iter()
            .map(|leaf| merkle::leaf_hash(&bytes(leaf)))
            .collect();
        assert_eq!(
            merkle::root(&leaves).0,
            array(&case["root"]),
            "{} leaves",
            leaves.len()
        );
    }
}

#[test]
fn state_roots() {
    let mut tree = MemoryTree::default();
    for (version, case) in section("states").iter().enumerate() {
        let changes: Vec<(Address, Account)> = list(&case["changes"])
            .iter()
            .map(|change| {
                let account = Account {
                    balance: grains(number(&change[1])),
                    sequence: number(&change[2]),
                    key: None,
                };
                (Address(array(&change[0])), account)
            })
            .collect();
        let root = tree.update(version as u64, &changes);
        assert_eq!(root.0, array(&case["root"]), "version {version}");
    }
}

#[test]
fn difficulty() {
    for case in section("difficulty") {
        let params = network(&case["network"]).genesis().unwrap().params;
        let ancestors = Ancestors {
            parent_time: number32(&case["parent_time"]),
            parent_bits: CompactTarget(number32(&case["parent_bits"])),
            grandparent_time: case["grandparent_time"]
                .as_u64()
                .map(|time| time.try_into().unwrap()),
        };
        let expected = CompactTarget(number32(&case["expected"]));
        assert_eq!(expected_bits(&params, &ancestors), expected, "{case}");
    }
}

#[test]
fn targets_and_work() {
    for case in section("targets") {
        let target = Target::from_le_bytes(array(&case["target"])).unwrap();
        assert_eq!(target.work().to_be_bytes(), array(&case["work"]));
        let bits = CompactTarget(number32(&case["bits"]));
        assert_eq!(target.to_compact(), bits);
        let decoded = Target::from_le_bytes(array(&case["decoded"])).unwrap();
        assert_eq!(bits.to_target(), Ok(decoded));
    }
}

#[test]
fn subsidies() {
    for case in section("subsidies") {
        let amount = subsidy(number32(&case["parent_time"]));
        assert_eq!(amount.grains(), number(&case["grains"]), "{case}");
    }
}

#[test]
fn amounts() {
    for case in section("amounts") {
        let amount = grains(number(&case["grains"]));
        let text = case["text"].as_str().unwrap();
        assert_eq!(amount.to_string(), text);
        assert_eq!(text.parse::<Amount>(), Ok(amount));
    }
}

#[test]
fn approvals() {
    for case in section("approvals") {
        let genesis = BlockHash(array(&case["genesis_hash"]));
        let end = |height: &str, hash: &str| Checkpoint {
            height: Height(number(&case[height])),
            hash: BlockHash(array(&case[hash])),
        };
        let approval = Approval {
            validator: Address(array(&case["validator"])),
            link: Link {
                source: end("source_height", "source_hash"),
                target: end("target_height", "target_hash"),
            },
        };
        assert_eq!(approval.encode(), bytes(&case["encoded"]));
        assert_eq!(approval.signing_message(&genesis), bytes(&case["message"]));
        let signed = SignedApproval::decode(&bytes(&case["signed"])).unwrap();
        assert_eq!(signed.approval, approval);
        assert_eq!(signed.encode(), bytes(&case["signed"]));
        let key = PublicKey::from_modulus(&bytes(&case["modulus"])).unwrap();
        assert!(key.verifies(&bytes(&case["message"]), &signed.signature));
    }
}

/// A chain that Python mined. It has rewards that mature later and a halving, and it
/// uses every rule of §3 to §7.
#[test]
fn a_whole_chain() {
    let all: Value =
        serde_json::from_str(include_str!("../../../tests/reference/vectors.json")).unwrap();
    let case = &all["chain"];
    let file = GenesisFile::from_toml(case["toml"].as_str().unwrap()).unwrap();
    let mut chain = SmallChain::new(&file);
    let genesis = chain.genesis.params.genesis_hash;
    assert_eq!(genesis.0, array(&case["genesis_hash"]));
    let mut subsidies = std::collections::BTreeSet::new();
    for expected in list(&case["blocks"]) {
        let encoded = bytes(&expected["block"]);
        let block = Block::decode(&encoded).unwrap();
        assert_eq!(block.encode(), encoded);
        assert_eq!(block.size(), encoded.len());
        assert_eq!(block.header.hash().0, array(&expected["hash"]));
        let txids: Vec<_> = block
            .transactions
            .iter()
            .map(|tx| tx.txid(&genesis).0)
            .collect();
        let python: Vec<[u8; 32]> = list(&expected["txids"]).iter().map(array).collect();
        assert_eq!(txids, python);

        let connected = chain.connect(block).unwrap();
        assert_eq!(connected.subsidy.grains(), number(&expected["subsidy"]));
        assert_eq!(connected.fees.grains(), number(&expected["fees"]));
        subsidies.insert(connected.subsidy);
        let accounts: Vec<_> = chain
            .accounts
            .0
            .iter()
            .map(|(address, account)| (address.0, account.balance.grains(), account.sequence))
            .collect();
        let python: Vec<_> = list(&expected["accounts_after"])
            .iter()
            .map(|account| (array(&account[0]), number(&account[1]), number(&account[2])))
            .collect();
        assert_eq!(accounts, python);
        assert_eq!(
            chain.roots[chain.height()].0,
            array(&expected["state_root_after"])
        );
    }
    assert!(chain.height() >= 8);
    assert_eq!(subsidies.len(), 2, "the chain crosses a halving");
}

/// The word of the reference for the rule that a block breaks.
fn broken_rule(error: &BlockError) -> &'static str {
    match error {
        BlockError::TooManyAccountChanges { .. } => "too many account changes",
        BlockError::BalanceOutOfRange { .. } => "balance out of range",
        BlockError::Transaction {
            error: TransactionError::OpeningTooSmall { .. },
            ..
        } => "opening too small",
        other => panic!("{other}"),
    }
}

/// A payment of the section `ledger`: the key's number, sequence, fee and outputs.
fn payment(value: &Value, genesis: &BlockHash) -> SignedTransaction {
    let outputs: Vec<_> = list(&value[3])
        .iter()
        .map(|output| (Address(array(&output[0])), number(&output[1])))
        .collect();
    let signer = key(usize::try_from(number(&value[0])).unwrap());
    signer.pay(genesis, number(&value[1]), number(&value[2]), &outputs)
}

#[test]
fn ledger() {
    let mut broken = std::collections::BTreeSet::new();
    for case in section("ledger") {
        let name = &case["name"];
        let file = GenesisFile::from_toml(case["toml"].as_str().unwrap()).unwrap();
        let mut chain = SmallChain::new(&file);
        let genesis = chain.genesis.params.genesis_hash;
        let mut supply = chain.balances();
        let mut rule = Value::Null;
        for block in list(&case["blocks"]) {
            assert!(rule.is_null(), "{name}: only the last block may be invalid");
            let payments = list(&block[1]);
            let payments = payments.iter().map(|value| payment(value, &genesis));
            let reward = Address(array(&block[0]));
            let block = chain.assemble(payments.collect(), reward, 2);
            match chain.connect(block) {
                Ok(connected) => supply = connected.change.supply_after(supply).unwrap(),
                Err(error) => rule = broken_rule(&error).into(),
            }
        }
        assert_eq!(rule, case["broken"], "{name}");
        broken.extend(rule.as_str().map(str::to_owned));
        let after = list(&case["accounts_after"]).iter();
        let python =
            after.map(|each| (Address(array(&each[0])), number(&each[1]), number(&each[2])));
        let accounts = chain.accounts.0.iter();
        let accounts = accounts
            .map(|(address, account)| (*address, account.balance.grains(), account.sequence));
        assert_eq!(
            accounts.collect::<Vec<_>>(),
            python.collect::<Vec<_>>(),
            "{name}"
        );
        assert_eq!(supply.to_string(), case["supply"], "{name}");
        assert_eq!(supply, chain.balances(), "{name}");
    }
    assert_eq!(broken.len(), 3, "{broken:?}");
}
