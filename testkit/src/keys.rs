//! The eight test-only keys, and what they sign. Start with [`key`].

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256};
use pithead_consensus::approval::{Approval, Checkpoint, Link, SignedApproval};
use pithead_consensus::{
    Address, Amount, BlockHash, Height, Output, PublicKey, Signature, SignedTransaction,
    TransactionBody,
};

/// The committed keys. They are public: only tests may use them.
const PEMS: [&str; 8] = [
    include_str!("../keys/test-only-key-0.pem"),
    include_str!("../keys/test-only-key-1.pem"),
    include_str!("../keys/test-only-key-2.pem"),
    include_str!("../keys/test-only-key-3.pem"),
    include_str!("../keys/test-only-key-4.pem"),
    include_str!("../keys/test-only-key-5.pem"),
    include_str!("../keys/test-only-key-6.pem"),
    include_str!("../keys/test-only-key-7.pem"),
];

/// The number of test keys.
pub const KEYS: usize = PEMS.len();

/// A test-only key pair.
pub struct TestKey {
    /// Its PKCS#8 file, unencrypted.
    pub pem: &'static str,
    pub public: PublicKey,
    pub address: Address,
    pair: KeyPair,
}

/// Test key number `index`, 0 to 7.
pub fn key(index: usize) -> &'static TestKey {
    static KEYS: OnceLock<Vec<TestKey>> = OnceLock::new();
    &KEYS.get_or_init(|| PEMS.iter().map(|pem| TestKey::read(pem)).collect())[index]
}

impl TestKey {
    fn read(pem: &'static str) -> Self {
        let pair = KeyPair::from_pkcs8(&der_of_pem(pem)).expect("a test key is PKCS#8");
        // PKCS#1: nine bytes of tags and lengths, the modulus, the exponent.
        let modulus = &pair.public_key().as_ref()[9..265];
        let public = PublicKey::from_modulus(modulus).expect("a test key is RSA-2048");
        Self {
            pem,
            address: Address::of_key(&public),
            public,
            pair,
        }
    }

    /// An RSASSA-PSS signature of protocol §2.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = Box::new([0; 256]);
        self.pair
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                message,
                bytes.as_mut_slice(),
            )
            .expect("RSA-2048 signs");
        Signature(bytes)
    }

    /// Signs a body, with the key sent along if the sequence is 0.
    pub fn sign_body(&self, body: TransactionBody, genesis: &BlockHash) -> SignedTransaction {
        SignedTransaction {
            key: (body.sequence == 0).then(|| self.public.clone()),
            signature: self.sign(&body.signing_message(genesis)),
            body,
        }
    }

    /// A signed payment, amounts in grains.
    pub fn pay(
        &self,
        genesis: &BlockHash,
        sequence: u64,
        fee: u64,
        outputs: &[(Address, u64)],
    ) -> SignedTransaction {
        let body = TransactionBody {
            sender: self.address,
            sequence,
            fee: grains(fee),
            outputs: outputs
                .iter()
                .map(|(recipient, amount)| Output {
                    recipient: *recipient,
                    amount: grains(*amount),
                })
                .collect(),
            data: Vec::new(),
        };
        self.sign_body(body, genesis)
    }

    /// A signed approval.
    pub fn approve(&self, genesis: &BlockHash, link: Link) -> SignedApproval {
        let approval = Approval {
            validator: self.address,
            link,
        };
        SignedApproval {
            signature: self.sign(&approval.signing_message(genesis)),
            approval,
        }
    }
}

/// An amount; it has to be in range.
pub fn grains(grains: u64) -> Amount {
    Amount::from_grains(grains).expect("in range")
}

/// A checkpoint at a height, on the branch with this number.
pub fn checkpoint(height: u64, branch: u8) -> Checkpoint {
    let mut hash = [branch; 32];
    hash[..8].copy_from_slice(&height.to_le_bytes());
    Checkpoint {
        height: Height(height),
        hash: BlockHash(hash),
    }
}

/// A link between two checkpoints of branch 0.
pub fn link(source: u64, target: u64) -> Link {
    Link {
        source: checkpoint(source, 0),
        target: checkpoint(target, 0),
    }
}

fn der_of_pem(pem: &str) -> Vec<u8> {
    let base64 = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"));
    let mut bytes = Vec::new();
    let (mut buffer, mut bits) = (0u32, 0);
    for digit in base64.flat_map(str::bytes).filter(|&byte| byte != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
        }
    }
    bytes
}
