//! `cargo devnet` in two clones that share one build folder. Each clone here is a
//! workspace with this very xtask and programs that only say where they are from.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

/// Packages and programs that xtask builds.
const PROGRAMS: [(&str, &str); 3] = [
    ("pithead-node", "pithead-node"),
    ("pithead-miner", "pithead-miner"),
    ("pithead-cli", "pithead"),
];

fn manifest(package: &str, program: &str) -> String {
    format!(
        "[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[[bin]]\nname = \"{program}\"\npath = \"src/main.rs\"\n"
    )
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Makes a clone whose programs print `name` and their arguments.
fn make_clone(folder: &Path, name: &str) {
    let members = PROGRAMS
        .map(|(package, _)| format!("\"{package}\""))
        .join(", ");
    write(
        &folder.join("Cargo.toml"),
        &format!("[workspace]\nresolver = \"3\"\nmembers = [\"xtask\", {members}]\n"),
    );
    for (package, program) in PROGRAMS {
        let folder = folder.join(package);
        write(&folder.join("Cargo.toml"), &manifest(package, program));
        let main = format!(
            "fn main() {{ println!(\"{name}: {{:?}}\", std::env::args().skip(1).collect::<Vec<_>>()); }}\n"
        );
        write(&folder.join("src/main.rs"), &main);
    }
    let own = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let source = fs::read_to_string(own.join("src/main.rs")).unwrap();
    // Files of one age: cargo does not build xtask again for the second clone.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (file, text) in [
        ("xtask/Cargo.toml", manifest("xtask", "xtask")),
        ("xtask/src/main.rs", source),
    ] {
        let path = folder.join(file);
        write(&path, &text);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
}

/// Runs what the alias `devnet` stands for.
fn devnet(folder: &Path, target: &Path) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--offline",
            "--release",
            "--package",
            "xtask",
        ])
        .args(["--", "devnet", "--exit"])
        .env("CARGO_TARGET_DIR", target)
        .env_remove("CARGO_MANIFEST_DIR")
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn each_of_two_clones_with_one_build_folder_runs_its_own_programs() {
    let name = format!("clones-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let target = folder.join("target");
    for name in ["first", "second"] {
        let clone = folder.join(name);
        make_clone(&clone, name);
        // From a folder inside the clone, too.
        for place in [clone.clone(), clone.join("pithead-node/src")] {
            let output = devnet(&place, &target);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {errors}");
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(text, format!("{name}: [\"devnet\", \"--exit\"]\n"));
        }
        // The second clone must do without the first.
        fs::remove_dir_all(&clone).unwrap();
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn outside_a_clone_it_says_where_to_go() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("devnet")
        .env_remove("CARGO_MANIFEST_DIR")
        .current_dir("/")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("is in no clone of Pithead"), "{text}");
    assert!(text.contains("run `cargo devnet` there"), "{text}");
}
