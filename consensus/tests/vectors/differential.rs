//! The same random inputs to crates by other authors: `bitcoin` for headers, targets
//! and work, `rsa` for signatures. Both must agree with `pithead-consensus`.

use bitcoin::hashes::Hash as _;
use pithead_consensus::{
    BlockHash, BlockHeader, CompactTarget, Decode, Encode, Hash256, PublicKey, Signature, Target,
};
use proptest::prelude::*;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::pss::{BlindedSigningKey, VerifyingKey};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Verifier as _};
use rsa::traits::PublicKeyParts as _;
use sha2::Sha256;

use pithead_testkit::{KEYS, key};

prop_compose! {
    fn headers()(
        version: u32,
        prev: [u8; 32],
        merkle_root: [u8; 32],
        time: u32,
        bits: u32,
        nonce: u32,
    ) -> BlockHeader {
        BlockHeader {
            version,
            prev: BlockHash(prev),
            merkle_root: Hash256(merkle_root),
            time,
            bits: CompactTarget(bits),
            nonce,
        }
    }
}

proptest! {
    #[test]
    fn header_hash_is_bitcoins(header in headers()) {
        let theirs = bitcoin::block::Header {
            version: bitcoin::block::Version::from_consensus(header.version.cast_signed()),
            prev_blockhash: bitcoin::BlockHash::from_byte_array(header.prev.0),
            merkle_root: bitcoin::TxMerkleNode::from_byte_array(header.merkle_root.0),
            time: header.time,
            bits: bitcoin::CompactTarget::from_consensus(header.bits.0),
            nonce: header.nonce,
        };
        prop_assert_eq!(bitcoin::consensus::encode::serialize(&theirs), header.encode());
        prop_assert_eq!(theirs.block_hash().to_byte_array(), header.hash().0);
        prop_assert_eq!(theirs.block_hash().to_string(), header.hash().to_string());
        prop_assert_eq!(BlockHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn compact_targets_are_bitcoins(bits: u32) {
        // The other crate reads every number, ours only canonical ones.
        if let Ok(target) = CompactTarget(bits).to_target() {
            let theirs = bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(bits));
            prop_assert_eq!(theirs.to_le_bytes(), target.to_le_bytes());
            prop_assert_eq!(theirs.to_compact_lossy().to_consensus(), bits);
        }
    }

    #[test]
    fn targets_round_and_weigh_as_bitcoins(mut bytes: [u8; 32], zeros in 0..32usize) {
        bytes[32 - zeros..].fill(0);
        let Some(target) = Target::from_le_bytes(bytes) else {
            return Ok(());
        };
        let theirs = bitcoin::Target::from_le_bytes(bytes);
        let compact = theirs.to_compact_lossy();
        prop_assert_eq!(target.to_compact().0, compact.to_consensus());
        let back = target.to_compact().to_target().unwrap();
        prop_assert_eq!(back.to_le_bytes(), bitcoin::Target::from_compact(compact).to_le_bytes());
        prop_assert!(back <= target);
        prop_assert_eq!(target.work().to_be_bytes(), theirs.to_work().to_be_bytes());
    }

    #[test]
    fn hashes_meet_targets_as_bitcoins(hash: [u8; 32], bytes: [u8; 32]) {
        let Some(target) = Target::from_le_bytes(bytes) else {
            return Ok(());
        };
        let theirs = bitcoin::Target::from_le_bytes(bytes);
        let met = theirs.is_met_by(bitcoin::BlockHash::from_byte_array(hash));
        prop_assert_eq!(target.is_met_by(&BlockHash(hash)), met);
        prop_assert!(target.is_met_by(&BlockHash(bytes)), "equal is enough");
    }
}

proptest! {
    // The `rsa` crate signs a few hundred times a second.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn signatures_pass_between_the_libraries(
        index in 0..KEYS,
        message in proptest::collection::vec(any::<u8>(), 0..300),
        seed: u64,
        bit in 0..2048usize,
    ) {
        use rsa::rand_core::SeedableRng as _;
        let ours = key(index);
        let theirs = rsa::RsaPrivateKey::from_pkcs8_pem(strip(ours.pem)).unwrap();
        prop_assert_eq!(
            theirs.n().to_bytes_be(),
            ours.public.modulus().to_vec()
        );
        let verifying = VerifyingKey::<Sha256>::new(theirs.to_public_key());

        // The other crate signs, ours verifies.
        let mut rng = SplitMix::seed_from_u64(seed);
        let signing = BlindedSigningKey::<Sha256>::new_with_salt_len(theirs.clone(), 32);
        let bytes = signing.sign_with_rng(&mut rng, &message).to_bytes();
        let signature = Signature(Box::new(bytes.as_ref().try_into().unwrap()));
        prop_assert!(ours.public.verifies(&message, &signature));

        // Ours signs, the other crate verifies.
        let made = ours.sign(&message);
        let made_theirs = rsa::pss::Signature::try_from(made.0.as_slice()).unwrap();
        prop_assert!(verifying.verify(&message, &made_theirs).is_ok());
        prop_assert!(ours.public.verifies(&message, &made));

        // A changed bit of signature, message or key makes the signature bad.
        let mut tampered = made.clone();
        tampered.0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!ours.public.verifies(&message, &tampered));
        let mut longer = message.clone();
        longer.push(0);
        prop_assert!(!ours.public.verifies(&longer, &made));
        prop_assert!(!key((index + 1) % KEYS).public.verifies(&message, &made));
        let mut modulus = *ours.public.modulus();
        modulus[bit / 8] ^= 1 << (bit % 8);
        if let Ok(altered) = PublicKey::from_modulus(&modulus) {
            prop_assert!(!altered.verifies(&message, &made));
        }

        // A signature with another salt length is bad.
        let short = BlindedSigningKey::<Sha256>::new_with_salt_len(theirs, 20);
        let bytes = short.sign_with_rng(&mut rng, &message).to_bytes();
        let signature = Signature(Box::new(bytes.as_ref().try_into().unwrap()));
        prop_assert!(!ours.public.verifies(&message, &signature));
    }
}

/// The PEM block without the line above it.
fn strip(pem: &str) -> &str {
    &pem[pem.find("-----BEGIN").unwrap()..]
}

/// A seeded generator for the version of `rand_core` that `rsa` 0.9 takes:
/// SplitMix64, for salts and blinding in tests only.
struct SplitMix(u64);

impl rsa::rand_core::SeedableRng for SplitMix {
    type Seed = [u8; 8];

    fn from_seed(seed: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(seed))
    }
}

impl rsa::rand_core::RngCore for SplitMix {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        rsa::rand_core::impls::fill_bytes_via_next(self, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for SplitMix {}
