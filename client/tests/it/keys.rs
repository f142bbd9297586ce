//! Key files: other programs read them, and a file of two different keys is refused.

use std::process::Command;

use pithead_client::key_file::write_private_file;
use pithead_client::{Passphrase, SigningKey, WalletError, WalletName, Wallets};

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
fn names_that_could_mislead_are_refused() {
    for bad in ["", ".hidden", "-f", "a/b", "a b", "ä", &"x".repeat(33)] {
        assert!(bad.parse::<WalletName>().is_err(), "{bad:?}");
    }
    for good in ["a", "alice", "cold-2.old_1", &"x".repeat(32)] {
        assert_eq!(good.parse::<WalletName>().unwrap().as_str(), good);
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
