//! Payments between the published test keys, submitted anywhere at any time.

use std::sync::PoisonError;

use pithead_consensus::key::{MODULUS_LEN, SIGNATURE_LEN};
use pithead_consensus::{
    Address, Amount, BlockHash, Output, PublicKey, Signature, SignedTransaction, TransactionBody,
};
use pithead_core::node::{Answer, Event, TransactionVerdict};
use pithead_core::store::schema;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Pss, RsaPrivateKey};
use sha2::{Digest as _, Sha256};

use crate::dice::Dice;
use crate::schedule::Happening;
use crate::world::{Simulation, Violation};

/// What a payment moves, grains: a hundredth of a PIT.
const AMOUNT: u64 = 1_000_000;
/// What it offers to miners, grains.
const FEE: u64 = 1_000;
/// Bytes of a salt (protocol §2).
const SALT_BYTES: usize = 32;
/// Keys that everybody has: for tests only.
pub(crate) const KEYS: [&str; 8] = [
    include_str!("../../testkit/keys/test-only-key-0.pem"),
    include_str!("../../testkit/keys/test-only-key-1.pem"),
    include_str!("../../testkit/keys/test-only-key-2.pem"),
    include_str!("../../testkit/keys/test-only-key-3.pem"),
    include_str!("../../testkit/keys/test-only-key-4.pem"),
    include_str!("../../testkit/keys/test-only-key-5.pem"),
    include_str!("../../testkit/keys/test-only-key-6.pem"),
    include_str!("../../testkit/keys/test-only-key-7.pem"),
];

struct Wallet {
    private: RsaPrivateKey,
    public: PublicKey,
    address: Address,
}

/// The owners of the allocations.
pub(crate) struct Wallets(Vec<Wallet>);

impl Wallets {
    pub(crate) fn new() -> Result<Self, String> {
        let wallets = KEYS.iter().map(|pem| Wallet::new(pem));
        wallets.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.0.iter().map(|wallet| wallet.address)
    }
}

impl Wallet {
    fn new(pem: &str) -> Result<Self, String> {
        let private = RsaPrivateKey::from_pkcs8_pem(pem).map_err(|error| error.to_string())?;
        let mut modulus = private.n().to_bytes_be();
        while modulus.len() < MODULUS_LEN {
            modulus.insert(0, 0);
        }
        let public = PublicKey::from_modulus(&modulus).map_err(|error| error.to_string())?;
        Ok(Self {
            private,
            address: Address::of_key(&public),
            public,
        })
    }

    /// Signs with a salt from the dice, so that the same seed makes the same
    /// transaction. (The node's own signer draws its salts from the system.)
    fn sign(
        &self,
        body: TransactionBody,
        genesis: &BlockHash,
        dice: &mut Dice,
    ) -> Option<SignedTransaction> {
        let hash = Sha256::digest(body.signing_message(genesis));
        let padding = Pss::new_with_salt::<Sha256>(SALT_BYTES);
        let signature = self.private.sign_with_rng(dice, padding, &hash).ok()?;
        let signature: [u8; SIGNATURE_LEN] = signature.try_into().ok()?;
        Some(SignedTransaction {
            key: (body.sequence == 0).then(|| self.public.clone()),
            body,
            signature: Signature(Box::new(signature)),
        })
    }
}

impl Simulation {
    pub(crate) fn schedule_payment(&mut self) {
        let rate = self.settings.payments_per_hour;
        if rate > 0.0 {
            let wait = self.dice.wallets.exponential(3_600.0 / rate);
            self.after((wait * 1e6) as u64, Happening::Pay);
        }
    }

    /// Lets somebody pay somebody through some honest node, going by what
    /// that node knows.
    pub(crate) fn pay(&mut self) -> Result<(), Violation> {
        if !self.mining {
            return Ok(());
        }
        self.schedule_payment();
        let index = self.dice.wallets.below(self.members.len());
        let payer = self.dice.wallets.below(self.wallets.0.len());
        let payee = self.dice.wallets.below(self.wallets.0.len());
        let member = &self.members[index];
        let Some(node) = member.node.as_ref().filter(|_| member.is_honest()) else {
            return Ok(());
        };
        let sender = self.wallets.0[payer].address;
        let account = node
            .chain()
            .store()
            .snapshot()
            .and_then(|snapshot| schema::account(snapshot.as_ref(), &sender));
        let account = account.map_err(|error| self.storage_failed(index, &error))?;
        let sequence = {
            let mempool = node.mempool().read();
            let mempool = mempool.unwrap_or_else(PoisonError::into_inner);
            mempool.next_sequence(&sender, account.sequence)
        };
        let Some(transaction) = self.payment(payer, payee, sequence) else {
            return Ok(());
        };
        let event = Event::Transaction(Box::new(transaction));
        // A node may refuse it: the payer's account may be at its limit there.
        if let Some(Answer::Transaction(Ok(TransactionVerdict::Accepted))) =
            self.handle(index, event)?
        {
            self.measure.payments += 1;
        }
        Ok(())
    }

    pub(crate) fn payment(
        &mut self,
        payer: usize,
        payee: usize,
        sequence: u64,
    ) -> Option<SignedTransaction> {
        let body = TransactionBody {
            sender: self.wallets.0[payer].address,
            sequence,
            fee: Amount::from_grains(FEE).ok()?,
            outputs: vec![Output {
                recipient: self.wallets.0[payee].address,
                amount: Amount::from_grains(AMOUNT).ok()?,
            }],
            data: Vec::new(),
        };
        let genesis = self.genesis.params.genesis_hash;
        self.wallets.0[payer].sign(body, &genesis, &mut self.dice.wallets)
    }
}
