//! Keys and their files: other programs read them, two other implementations
//! accept their signatures, and unsuitable keys are refused.

use std::process::Command;

use pithead_client::key_file::write_private_file;
use pithead_client::{KeyError, Passphrase, SigningKey, WalletError, WalletName, Wallets};
use pithead_consensus::{Address, Amount, Output, TransactionBody};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned()).unwrap()
}

#[test]
fn a_file_of_two_different_keys_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wallets = Wallets::in_folder(folder.path());
    let (one, two) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let mut text = one.to_pem(None).unwrap().to_string();
    text.push_str(&two.public_pem().unwrap());
    let name: WalletName = "odd".parse().unwrap();
    write_private_file(&wallets.path_of(&name), text.as_bytes()).unwrap();
    let wallet = wallets.open(&name).unwrap();
    assert!(matches!(
        wallet.unlock(None),
        Err(WalletError::Mismatch { .. })
    ));
}

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
fn names_that_could_mislead_are_refused() {
    for bad in ["", ".hidden", "-f", "a/b", "a b", "ä", &"x".repeat(33)] {
        assert!(bad.parse::<WalletName>().is_err(), "{bad:?}");
    }
    for good in ["a", "alice", "cold-2.old_1", &"x".repeat(32)] {
        assert_eq!(good.parse::<WalletName>().unwrap().as_str(), good);
    }
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

/// Whether a program can be run; says so where a check must be left out.
fn available(program: &str, args: &[&str]) -> bool {
    let found = Command::new(program)
        .args(args)
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: {program} {args:?} does not run here");
    }
    found
}

#[test]
fn openssl_and_python_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let modulus = hex::encode(key.public_key().modulus());
    let exported = folder.path().join("exported.pem");
    let text = key.to_portable_pem(Some(&passphrase("moss"))).unwrap();
    write_private_file(&exported, text.as_bytes()).unwrap();
    let path = exported.to_str().unwrap();
    if available("openssl", &["version"]) {
        let output = Command::new("openssl")
            .args([
                "rsa",
                "-in",
                path,
                "-passin",
                "pass:moss",
                "-noout",
                "-modulus",
            ])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.trim().to_lowercase(), format!("modulus={modulus}"));
        // And the other way: OpenSSL's own key files, encrypted and PKCS#1.
        let made = folder.path().join("openssl.key");
        for args in [
            &["-aes-256-cbc", "-passout", "pass:moss"][..],
            &["-traditional"],
        ] {
            let status = Command::new("openssl")
                .args(["genrsa"])
                .args(args)
                .args(["-out", made.to_str().unwrap(), "2048"])
                .output()
                .unwrap()
                .status;
            assert!(status.success(), "{args:?}");
            let text = std::fs::read_to_string(&made).unwrap();
            let encrypted = SigningKey::is_encrypted_pem(&text);
            assert_eq!(encrypted, args[0] != "-traditional");
            SigningKey::from_pem(&text, encrypted.then(|| passphrase("moss")).as_ref()).unwrap();
        }
    }
    if available("python3", &["-c", "import cryptography"]) {
        let script = "import sys
from cryptography.hazmat.primitives import serialization
pem = open(sys.argv[1], 'rb').read()
key = serialization.load_pem_private_key(pem, b'moss')
print('%x' % key.public_key().public_numbers().n)
try:
    serialization.load_pem_private_key(pem, b'wrong')
    sys.exit('a wrong passphrase opened it')
except ValueError:
    pass";
        let kept = folder.path().join("kept.pem");
        let text = key.to_pem(Some(&passphrase("moss"))).unwrap();
        write_private_file(&kept, text.as_bytes()).unwrap();
        for path in [&exported, &kept] {
            let output = Command::new("python3")
                .args(["-c", script, path.to_str().unwrap()])
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{errors}");
            assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), modulus);
        }
    }
}
