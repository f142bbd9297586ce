//! `pithead wallet`: keys are kept in private files, exported and imported.

use std::path::Path;

use pithead_client::{Passphrase, Wallets};

use crate::support::{NO_NODE, failure, json, pithead_with, stdout};

async fn run(folder: &Path, args: &[&str], phrase: &str) -> std::process::Output {
    pithead_with(NO_NODE, folder, args, &[("PITHEAD_PASSPHRASE", phrase)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_goes_round_through_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("kept");
    let made = json(&run(&store, &["wallet", "new", "alice", "--json"], "moss").await);
    let address = made["addresses"]["dev"].as_str().unwrap();
    assert!(address.starts_with("dpit1"), "{address}");
    assert_eq!(made["encrypted"], true);

    let listed = stdout(&run(&store, &["wallet", "list", "--network", "dev"], "").await);
    assert!(listed.contains(address), "{listed}");
    let shown = stdout(&run(&store, &["wallet", "show", "alice"], "").await);
    assert!(
        shown.contains(made["public_key"].as_str().unwrap()),
        "{shown}"
    );

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store), 0o700);
        assert_eq!(mode(&store.join("alice.pem")), 0o600);
    }
    let before = std::fs::read(store.join("alice.pem")).unwrap();
    let text = failure(&run(&store, &["wallet", "new", "alice"], "moss").await, 1);
    assert!(text.contains("never overwritten"), "{text}");
    assert_eq!(std::fs::read(store.join("alice.pem")).unwrap(), before);
    assert_eq!(
        std::fs::read_dir(&store).unwrap().count(),
        1,
        "nothing is left lying about"
    );

    let file = folder.path().join("alice-copy.pem");
    let export = ["wallet", "export", "alice", "--out", file.to_str().unwrap()];
    let text = failure(&run(&store, &export, "wrong").await, 1);
    assert!(text.contains("wrong passphrase"), "{text}");
    assert!(!file.exists());
    stdout(&run(&store, &export, "moss").await);
    let text = failure(&run(&store, &export, "moss").await, 1);
    assert!(text.contains("alice-copy.pem"), "{text}");

    let import = [
        "wallet",
        "import",
        "again",
        file.to_str().unwrap(),
        "--json",
    ];
    let text = failure(&run(&store, &import, "wrong").await, 1);
    assert!(text.contains("wrong passphrase"), "{text}");
    let text = failure(&run(&store, &import, "").await, 1);
    assert!(text.contains("--passphrase-file"), "{text}");
    let imported = json(&run(&store, &import, "moss").await);
    assert_eq!(imported["public_key"], made["public_key"]);

    let text = failure(&run(&store, &["wallet", "show", "bob"], "").await, 1);
    assert!(text.contains("known wallets: again, alice"), "{text}");
    let text = failure(&run(&store, &["wallet", "new", "../bob"], "moss").await, 2);
    assert!(text.contains("can't be a wallet's name"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_passphrase_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("phrase");
    std::fs::write(&file, "\n").unwrap();
    let args = [
        "wallet",
        "new",
        "alice",
        "--passphrase-file",
        file.to_str().unwrap(),
    ];
    let text = failure(&run(folder.path(), &args, "").await, 1);
    assert!(text.contains("empty"), "{text}");
    assert!(text.contains("--no-passphrase"), "{text}");
    std::fs::write(&file, "moss\r\n").unwrap();
    stdout(&run(folder.path(), &args, "").await);
    let alice = Wallets::in_folder(folder.path())
        .open(&"alice".parse().unwrap())
        .unwrap();
    let phrase = Passphrase::new("moss".to_owned()).unwrap();
    alice.unlock(Some(&phrase)).unwrap();
}
