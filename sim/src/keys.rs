//! Validators' keys, and the pen that signs with one and notes what it signs.

use std::sync::OnceLock;

use pithead_consensus::key::{MODULUS_LEN, SIGNATURE_LEN};
use pithead_consensus::{
    Address, Approval, BlockHash, Decode as _, Link, PublicKey, Signature, SignedApproval,
};
use pithead_core::finality::Signer;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Pss, RsaPrivateKey};
use sha2::{Digest as _, Sha256};

use crate::dice::Dice;
use crate::record::Record;
use crate::wallets::KEYS;

/// Most validators of a run.
pub(crate) const VALIDATORS_MAX: usize = 25;
const KEY_BITS: usize = 2048;
/// Bytes of a salt (protocol §2).
const SALT_BYTES: usize = 32;
/// Bytes of an approval's body (protocol §9): version, validator, source, target.
const BODY_BYTES: usize = 1 + 32 + 2 * (8 + 32);

/// A validator's key.
pub(crate) struct ValidatorKey {
    private: RsaPrivateKey,
    pub(crate) public: PublicKey,
    pub(crate) address: Address,
}

/// The keys, the same in every run: the published test keys, then others made
/// from their number.
pub(crate) fn keys() -> &'static [ValidatorKey] {
    static ALL: OnceLock<Vec<ValidatorKey>> = OnceLock::new();
    ALL.get_or_init(|| {
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..VALIDATORS_MAX)
                .map(|number| scope.spawn(move || make_key(number)))
                .collect();
            let made = makers.into_iter().filter_map(|maker| maker.join().ok());
            made.flatten().collect()
        })
    })
}

/// Which validator has this address.
pub(crate) fn number_of(address: &Address) -> Option<usize> {
    keys().iter().position(|key| key.address == *address)
}

fn make_key(number: usize) -> Option<ValidatorKey> {
    let private = match KEYS.get(number) {
        Some(pem) => RsaPrivateKey::from_pkcs8_pem(pem).ok()?,
        None => {
            let mut dice = Dice::new(number as u64, "validator key");
            RsaPrivateKey::new(&mut dice, KEY_BITS).ok()?
        }
    };
    let mut modulus = private.n().to_bytes_be();
    while modulus.len() < MODULUS_LEN {
        modulus.insert(0, 0);
    }
    let public = PublicKey::from_modulus(&modulus).ok()?;
    Some(ValidatorKey {
        address: Address::of_key(&public),
        private,
        public,
    })
}

impl ValidatorKey {
    /// Signs with a salt from the message, so that a run replays exactly. (The
    /// node's own signer draws its salts from the system.)
    fn sign(&self, message: &[u8]) -> Option<Signature> {
        let hash = Sha256::digest(message);
        let (seed, _) = hash.split_first_chunk::<8>()?;
        let mut dice = Dice::new(u64::from_le_bytes(*seed), "salt");
        let padding = Pss::new_with_salt::<Sha256>(SALT_BYTES);
        let signature = self.private.sign_with_rng(&mut dice, padding, &hash).ok()?;
        let signature: [u8; SIGNATURE_LEN] = signature.try_into().ok()?;
        Some(Signature(Box::new(signature)))
    }

    /// A liar's approval of anything.
    pub(crate) fn approve(&self, link: Link, genesis: &BlockHash) -> Option<SignedApproval> {
        let approval = Approval {
            validator: self.address,
            link,
        };
        let signature = self.sign(&approval.signing_message(genesis))?;
        Some(SignedApproval {
            approval,
            signature,
        })
    }
}

/// The pen of an honest validator's node: no signature comes about elsewhere.
pub(crate) struct Pen {
    key: &'static ValidatorKey,
    record: Record,
}

impl Pen {
    pub(crate) fn new(key: &'static ValidatorKey, record: Record) -> Self {
        Self { key, record }
    }
}

impl Signer for Pen {
    fn address(&self) -> Address {
        self.key.address
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, String> {
        // The body is what the message ends with (protocol §2).
        let at = message.len().saturating_sub(BODY_BYTES);
        match Approval::decode(message.get(at..).unwrap_or_default()) {
            Ok(approval) if approval.validator == self.key.address => {
                self.record.note_signed(&approval.link);
            }
            _ => self.record.note_foreign(),
        }
        let signature = self.key.sign(message);
        signature.ok_or_else(|| "the key does not sign".to_owned())
    }
}
