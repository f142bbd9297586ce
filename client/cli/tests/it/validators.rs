//! Making a network with validators: key files, public files and the genesis,
//! through the command.

use std::path::Path;
use std::process::Output;

use pithead_client::{Passphrase, SigningKey, ValidatorFile};
use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Address, AddressPrefix};

use crate::support::{NO_NODE, failure, json, pithead_with, stderr, stdout, wallets};

/// Runs the command in that folder.
async fn run(folder: &Path, args: &[&str]) -> Output {
    pithead_with(NO_NODE, folder, args, &[("PITHEAD_PASSPHRASE", "moss")]).await
}

/// The path of a file there.
fn at(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// Makes so many validators in a folder; returns their addresses on dev.
fn validators(folder: &Path, count: usize) -> Vec<String> {
    let prefix = AddressPrefix::new("dpit").unwrap();
    let make = |number: usize| {
        let key = SigningKey::generate().unwrap();
        let path = folder.join(format!("validator-{number:02}.pem"));
        ValidatorFile::create(&path, &key, None, &prefix).unwrap();
        key.address().to_text(&prefix)
    };
    (1..=count).map(make).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validators_key_is_kept_like_a_wallets() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = at(folder, "anna.pem");
    let new = [
        "validator",
        "new",
        "--out",
        &file,
        "--json",
        "--address-prefix",
        "our",
    ];
    let made = json(&run(folder, &new).await);
    let address = made["address"].as_str().unwrap();
    assert!(address.starts_with("our1"), "{address}");
    assert_eq!(made["encrypted"], true);
    let public = at(folder, "anna.public.toml");
    assert_eq!(made["public_path"], public);

    // The private key is in the key file only, and opens with the passphrase.
    let text = std::fs::read_to_string(&file).unwrap();
    let phrase = Passphrase::new("moss".to_owned()).unwrap();
    let key = SigningKey::from_pem(&text, Some(&phrase)).unwrap();
    let modulus = hex::encode(key.public_key().modulus());
    assert_eq!(made["public_key"], modulus);
    let lines = std::fs::read_to_string(&public).unwrap();
    assert_eq!(
        lines,
        format!("[[validators]]\naddress = \"{address}\"\npublic_key = \"{modulus}\"\n")
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(&public) & 0o444, 0o444);
    }

    // If one of the two files exists, `new` fails and writes neither.
    for gone in [&public, &file] {
        let kept = std::fs::read(gone).unwrap();
        std::fs::remove_file(gone).unwrap();
        let text = failure(&run(folder, &new).await, 1);
        assert!(text.contains("never overwritten"), "{text}");
        assert!(!Path::new(gone).exists());
        std::fs::write(gone, kept).unwrap();
    }

    // Both show the same, without the passphrase.
    for shown in [&file, &public] {
        let show = ["validator", "show", shown, "--network", "dev", "--json"];
        let value = json(&run(folder, &show).await);
        let dev = key.address().to_text(&AddressPrefix::new("dpit").unwrap());
        assert_eq!(value[0]["address"], dev);
        assert_eq!(value[0]["public_key"], modulus);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_file_that_was_altered_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    validators(folder, 2);
    let read = |number: usize| {
        let name = format!("validator-{number:02}.public.toml");
        std::fs::read_to_string(folder.join(name)).unwrap()
    };
    let (one, two) = (read(1), read(2));
    let address_of_two = two.lines().nth(1).unwrap();
    let odd = one.replace(one.lines().nth(1).unwrap(), address_of_two);
    let file = at(folder, "odd.toml");
    for (text, reason) in [
        (odd.as_str(), "not that of the key"),
        (
            "[[validators]]\naddress = \"x\"\npublic_key = \"00\"\n",
            "public_key of x",
        ),
        ("name = 3", "neither a key in PEM nor"),
        ("-----BEGIN CERTIFICATE-----", "no PEM private key"),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = failure(&run(folder, &["validator", "show", &file]).await, 1);
        assert!(said.contains(reason), "{reason} in {said}");
        assert!(said.contains("odd.toml"), "{said}");
    }
    // An encrypted key from elsewhere does not say whose it is.
    let key = SigningKey::generate().unwrap();
    let phrase = Passphrase::new("moss".to_owned()).unwrap();
    std::fs::write(&file, key.to_portable_pem(Some(&phrase)).unwrap().as_str()).unwrap();
    let said = failure(&run(folder, &["validator", "show", &file]).await, 1);
    assert!(said.contains("hint: name its public file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_genesis_with_validators_is_one_that_nodes_accept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let keys = folder.join("keys");
    std::fs::create_dir(&keys).unwrap();
    let listed = validators(&keys, 5);
    let alice = wallets(folder, &["alice"])[0];
    let out = at(folder, "net.toml");
    let keys = keys.to_str().unwrap();
    let mut args = vec!["genesis", "new", "--name", "ours", "--out", &out, "--json"];
    args.extend(["--validators", keys, "--allocation", "alice=12.5"]);
    args.extend(["--time", "1800000000", "--checkpoint-interval", "3"]);
    args.extend(["--bits", "0x1f0fffff", "--reward-maturity", "7"]);
    let said = json(&run(folder, &args).await);

    let text = std::fs::read_to_string(&out).unwrap();
    let genesis = GenesisFile::from_toml(&text).unwrap().check().unwrap();
    assert_eq!(
        said["genesis_hash"],
        genesis.params.genesis_hash.to_string()
    );
    // Private and public file of each count once, in the order of their names.
    let found = genesis.validators.iter();
    let found: Vec<String> = found
        .map(|key| Address::of_key(key).to_text(&genesis.prefix))
        .collect();
    assert_eq!(found, listed);
    assert_eq!(genesis.params.approval_quorum, 4);
    assert_eq!(genesis.params.checkpoint_interval, 3);
    assert_eq!(genesis.params.reward_maturity, 7);
    // What was not given is the preset's.
    assert_eq!(genesis.params.block_interval_secs, 2);
    assert_eq!(genesis.prefix.as_str(), "dpit");
    assert_eq!(genesis.allocations[&alice].to_string(), "12.50");

    let text = failure(&run(folder, &args).await, 1);
    assert!(text.contains("is there already"), "{text}");
    let shown = stdout(&run(folder, &["genesis", "show", &out]).await);
    for part in [
        genesis.params.genesis_hash.to_string(),
        "4 of 5 validators: any two quorums share 3 of them, and 1 may be away".to_owned(),
        "every 3 blocks".to_owned(),
        "12.50".to_owned(),
        listed[4].clone(),
    ] {
        assert!(shown.contains(&part), "{part} in {shown}");
    }

    // The same options make the same genesis; any other option makes another.
    let again = at(folder, "again.toml");
    args[5] = &again;
    let same = json(&run(folder, &args).await);
    assert_eq!(same["genesis_hash"], said["genesis_hash"]);
    let other = at(folder, "other.toml");
    args[5] = &other;
    args.extend(["--quorum", "5"]);
    let differs = json(&run(folder, &args).await);
    assert_ne!(differs["genesis_hash"], said["genesis_hash"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_quorum_is_refused_with_the_least_that_is_safe() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let keys = folder.join("keys");
    std::fs::create_dir(&keys).unwrap();
    validators(&keys, 4);
    let out = at(folder, "net.toml");
    let mut base = vec!["genesis", "new", "--name", "ours", "--out", &out];
    let without = [base.clone(), vec!["--quorum", "2"]].concat();
    let text = failure(&run(folder, &without).await, 2);
    assert!(text.contains("there are none"), "{text}");
    base.extend(["--validators", keys.to_str().unwrap()]);
    for (quorum, parts) in [
        (
            "2",
            ["3 × 2 = 6", "2 × 4 = 8", "need not share", "quorum is 3"],
        ),
        ("5", ["never come together", "only 4", "--quorum", "error"]),
    ] {
        let args = [base.clone(), vec!["--quorum", quorum]].concat();
        let text = failure(&run(folder, &args).await, 2);
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    assert!(!Path::new(&out).exists());
    // The default quorum, and the reason that the command gives.
    let output = run(folder, &base).await;
    assert!(stdout(&output).contains("3 of 4 validators"));
    assert!(
        stderr(&output).contains("the least that is safe"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn allocations_leave_room_for_the_first_years_subsidies() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let out = at(folder, "net.toml");
    let address = Address([7; 32]).to_text(&AddressPrefix::new("dpit").unwrap());
    // 2027-01-15: all blocks of the first year issue 25 PIT.
    let mut args = vec!["genesis", "new", "--name", "ours", "--out", &out];
    args.extend(["--time", "1800000000", "--allocation"]);
    let too_much = format!("{address}=1605800000.00000001");
    let text = failure(
        &run(folder, &[args.clone(), vec![&too_much]].concat()).await,
        1,
    );
    let sum = "1605800000.00000001 PIT allocated + 15768000 blocks × 25.00 PIT = 2000000000.00000001 PIT, at most 2000000000 PIT";
    assert!(text.contains(sum), "{text}");
    assert!(!Path::new(&out).exists());
    let most = format!("{address}=1605800000");
    stdout(&run(folder, &[args, vec![&most]].concat()).await);
    assert!(Path::new(&out).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_genesis_must_not_say_is_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let out = at(folder, "net.toml");
    let keys = folder.join("keys");
    std::fs::create_dir(&keys).unwrap();
    validators(&keys, 1);
    let twice = at(&keys, "validator-01.pem");
    let stranger = Address([7; 32]).to_text(&AddressPrefix::new("pit").unwrap());
    let stranger = format!("{stranger}=1");
    for (args, code, part) in [
        (
            vec!["--validators", twice.as_str(), twice.as_str()],
            1,
            "listed twice",
        ),
        (
            vec!["--validators", folder.to_str().unwrap()],
            1,
            "no validator in",
        ),
        (vec!["--validators", "nowhere.pem"], 1, "nowhere.pem"),
        (vec!["--allocation", "bob=1"], 1, "no wallet"),
        (vec!["--allocation", "bob"], 2, "TO=AMOUNT"),
        (vec!["--allocation", &stranger], 1, "allocations"),
        (vec!["--block-interval-secs", "0"], 1, "block_interval_secs"),
        (vec!["--bits", "0x207fffffff"], 2, "compact target"),
        (vec!["--bits", "0x20ffffff"], 1, "bits"),
    ] {
        let mut all = vec!["genesis", "new", "--name", "ours", "--out", &out];
        all.extend(&args);
        let text = failure(&run(folder, &all).await, code);
        assert!(text.contains(part), "{args:?}: {part} in {text}");
        assert!(!Path::new(&out).exists(), "{args:?}");
    }
    std::fs::write(&out, "name = \"x\"").unwrap();
    let text = failure(&run(folder, &["genesis", "show", &out]).await, 1);
    assert!(text.contains("can't be read"), "{text}");
}
