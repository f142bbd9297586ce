//! The RSA keys of a run: those that own the allocations, those of the validators, and
//! the signer that notes everything that an honest validator signs.
//!
//! All keys are the same in every run and known to anybody who has this code, so they must
//! never be used on a real network. Start reading at [`SimKey`].

use std::sync::OnceLock;

use pithead_consensus::key::{MODULUS_LEN, SIGNATURE_LEN};
use pithead_consensus::{
    Address, Approval, BlockHash, Decode as _, Link, PublicKey, Signature, SignedApproval,
};
use pithead_core::finality::Signer;
use pithead_testkit::{KEYS, key};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Pss, RsaPrivateKey};
use sha2::{Digest as _, Sha256};

use crate::nodes::vote_journal::SimVoteJournal;
use crate::rng::SimRng;

/// The most validators that a run can have.
pub(crate) const VALIDATORS_MAX: usize = 25;
/// Bits of an RSA modulus (protocol §2).
const KEY_BITS: usize = 2048;
/// Bytes of a signature's salt (protocol §2).
const SALT_BYTES: usize = 32;
/// Bytes of an approval's body (protocol §9): version, validator, source, target.
const BODY_BYTES: usize = 1 + 32 + 2 * (8 + 32);

/// A private key of the simulation with its public key and address.
pub(crate) struct SimKey {
    private: RsaPrivateKey,
    pub(crate) public: PublicKey,
    pub(crate) address: Address,
}

/// The keys that own the allocations and make all payments: the published test keys.
///
/// # Errors
/// The text of the first error, if a key can't be read.
pub(crate) fn wallet_keys() -> Result<Vec<SimKey>, String> {
    let keys = (0..KEYS).map(|index| SimKey::from_pem(key(index).pem));
    keys.collect()
}

/// The keys of all possible validators, by validator number: first the published test
/// keys, then keys that are generated from the validator's number.
pub(crate) fn validator_keys() -> &'static [SimKey] {
    static ALL: OnceLock<Vec<SimKey>> = OnceLock::new();
    ALL.get_or_init(|| {
        // Generating an RSA key takes long: each gets a thread of its own.
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..VALIDATORS_MAX)
                .map(|number| scope.spawn(move || validator_key(number)))
                .collect();
            let made = makers.into_iter().filter_map(|maker| maker.join().ok());
            made.flatten().collect()
        })
    })
}

/// The number of the validator with this address; `None` if it is no validator's.
pub(crate) fn validator_number(address: &Address) -> Option<usize> {
    let mut keys = validator_keys().iter();
    keys.position(|key| key.address == *address)
}

fn validator_key(number: usize) -> Option<SimKey> {
    // The published keys of the testkit come first.
    if number < KEYS {
        return SimKey::from_pem(key(number).pem).ok();
    }
    let mut rng = SimRng::new(number as u64, "validator key");
    let private = RsaPrivateKey::new(&mut rng, KEY_BITS).ok()?;
    SimKey::new(private).ok()
}

impl SimKey {
    fn new(private: RsaPrivateKey) -> Result<Self, String> {
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

    fn from_pem(pem: &str) -> Result<Self, String> {
        let private = RsaPrivateKey::from_pkcs8_pem(pem).map_err(|error| error.to_string())?;
        Self::new(private)
    }

    /// Signs a message with a salt from `rng`, so that the same seed gives the same
    /// signature. The node's own signer draws its salts from the operating system
    /// instead.
    pub(crate) fn sign(&self, message: &[u8], rng: &mut SimRng) -> Option<Signature> {
        let hash = Sha256::digest(message);
        let padding = Pss::new_with_salt::<Sha256>(SALT_BYTES);
        let signature = self.private.sign_with_rng(rng, padding, &hash).ok()?;
        let signature: [u8; SIGNATURE_LEN] = signature.try_into().ok()?;
        Some(Signature(Box::new(signature)))
    }

    /// Signs a vote's message. The salt follows from the message, so that signing a
    /// vote twice gives the same bytes.
    fn sign_vote(&self, message: &[u8]) -> Option<Signature> {
        let hash = Sha256::digest(message);
        let (seed, _) = hash.split_first_chunk::<8>()?;
        let mut rng = SimRng::new(u64::from_le_bytes(*seed), "salt");
        self.sign(message, &mut rng)
    }

    /// Signs a vote without looking at earlier ones: this is how validators lie.
    pub(crate) fn approve(&self, link: Link, genesis: &BlockHash) -> Option<SignedApproval> {
        let approval = Approval {
            validator: self.address,
            link,
        };
        let signature = self.sign_vote(&approval.signing_message(genesis))?;
        Some(SignedApproval {
            approval,
            signature,
        })
    }
}

/// The signer of an honest validator's node. It notes each signature in the journal,
/// which checks it against all earlier ones.
pub(crate) struct RecordingSigner {
    key: &'static SimKey,
    journal: SimVoteJournal,
}

impl RecordingSigner {
    pub(crate) fn new(key: &'static SimKey, journal: SimVoteJournal) -> Self {
        Self { key, journal }
    }
}

impl Signer for RecordingSigner {
    fn address(&self) -> Address {
        self.key.address
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, String> {
        // The message ends with the approval's body (protocol §2).
        let at = message.len().saturating_sub(BODY_BYTES);
        match Approval::decode(message.get(at..).unwrap_or_default()) {
            Ok(approval) if approval.validator == self.key.address => {
                self.journal.note_signed(&approval.link);
            }
            _ => self.journal.note_foreign(),
        }
        let signature = self.key.sign_vote(message);
        signature.ok_or_else(|| "the validator's key can't sign this message".to_owned())
    }
}
