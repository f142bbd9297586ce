//! Keys: two other implementations accept their signatures, and unsuitable keys are refused.
#![allow(clippy::unwrap_used)]

use pithead_consensus::{Address, Amount, Output, TransactionBody};
use pithead_keys::{KeyError, SigningKey};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};

#[test]
fn keys_of_another_kind_are_refused() {
    let mut random = rsa::rand_core::OsRng;
    let pem = |key: &rsa::RsaPrivateKey| key.to_pkcs8_pem(LineEnding::LF).unwrap();
    let short = rsa::RsaPrivateKey::new(&mut random, 1024).unwrap();
    assert_eq!(
        SigningKey::from_pem(&pem(&short), None).unwrap_err(),
        KeyError::WrongSize { found: 1024 }
    );
    let three = rsa::BigUint::from(3u8);
    let small_exponent = rsa::RsaPrivateKey::new_with_exp(&mut random, 2048, &three).unwrap();
    assert!(matches!(
        SigningKey::from_pem(&pem(&small_exponent), None).unwrap_err(),
        KeyError::WrongExponent { .. } | KeyError::Malformed(_)
    ));
    assert_eq!(
        SigningKey::from_pem("-----BEGIN CERTIFICATE-----", None).unwrap_err(),
        KeyError::NoPrivateKey
    );
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(
        SigningKey::from_pem(broken, None).unwrap_err(),
        KeyError::Malformed(_)
    ));
}

#[test]
fn signatures_satisfy_consensus_and_the_crate_rsa() {
    use rsa::signature::Verifier as _;
    let key = SigningKey::generate().unwrap();
    let message = b"a message";
    let signature = key.sign(message).unwrap();
    assert!(key.public_key().verifies(message, &signature));
    assert!(!key.public_key().verifies(b"another", &signature));

    let modulus = rsa::BigUint::from_bytes_be(key.public_key().modulus());
    let public = rsa::RsaPublicKey::new(modulus, rsa::BigUint::from(65_537u32)).unwrap();
    let verifier = rsa::pss::VerifyingKey::<sha2::Sha256>::new_with_salt_len(public, 32);
    let second = rsa::pss::Signature::try_from(signature.0.as_slice()).unwrap();
    verifier.verify(message, &second).unwrap();
    assert!(verifier.verify(b"another", &second).is_err());

    // The key goes along with the first transaction, and only with it.
    let genesis = pithead_consensus::genesis::Network::Dev.genesis().unwrap();
    for sequence in [0, 1] {
        let body = TransactionBody {
            sender: key.address(),
            sequence,
            fee: Amount::ZERO,
            outputs: vec![Output {
                recipient: Address([1; 32]),
                amount: Amount::from_grains(1).unwrap(),
            }],
            data: Vec::new(),
        };
        let hash = genesis.params.genesis_hash;
        let signed = key.sign_transaction(body.clone(), &hash).unwrap();
        assert_eq!(signed.key.is_some(), sequence == 0);
        assert_eq!(signed.size(), body.signed_size());
        assert!(
            key.public_key()
                .verifies(&body.signing_message(&hash), &signed.signature)
        );
    }
}
