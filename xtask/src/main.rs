//! What stands behind `cargo devnet`: an alias can't run two commands, so it
//! runs this, which builds the three programs in release mode and then becomes
//! `pithead devnet`. Standard library only, so that it builds in a second.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The packages whose programs a devnet is made of.
const PACKAGES: [&str; 3] = ["pithead-node", "pithead-miner", "pithead-cli"];
/// The program that runs the devnet.
const PITHEAD: &str = "pithead";
const USAGE: &str = "usage: cargo devnet [OPTIONS]\n       \
    builds everything in release mode, then runs `pithead devnet`; \
    `cargo devnet --help` lists its options";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = match arguments.next() {
        Some(name) if name == "devnet" => devnet(&arguments.collect::<Vec<_>>()),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn devnet(arguments: &[std::ffi::OsString]) -> Result<ExitCode, String> {
    let folder = release_folder()?;
    build(&folder)?;
    let program = folder.join(format!("{PITHEAD}{}", std::env::consts::EXE_SUFFIX));
    if !program.is_file() {
        return Err(format!(
            "{} is not there although the build succeeded; is a target triple set in a cargo configuration? Then run `pithead devnet` yourself",
            program.display()
        ));
    }
    let mut command = Command::new(&program);
    command.arg("devnet").args(arguments);
    become_command(command)
}

/// The folder of release builds: the one that this very program was built to.
fn release_folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe()
        .map_err(|error| format!("the path of this program can't be found out: {error}"))?;
    own.parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("{} is in no folder", own.display()))
}

/// Builds the programs next to this one.
fn build(folder: &Path) -> Result<(), String> {
    // Cargo names itself to what it runs; by hand, the one in the path will do.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(["build", "--release"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    // Wherever cargo was called from, the workspace is that of this program,
    // and the programs belong beside it.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    command.arg("--manifest-path").arg(manifest);
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status = command
        .status()
        .map_err(|error| format!("{} can't be run: {error}", cargo.display()))?;
    if status.success() {
        Ok(())
    } else {
        Err("the build failed: see the messages above. Needed are Rust 1.90 or newer and a C compiler (cc)".to_owned())
    }
}

/// Lets the command take this process's place, so that Ctrl-C and the exit
/// status are its own.
#[cfg(unix)]
fn become_command(mut command: Command) -> Result<ExitCode, String> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(format!("{command:?} can't be run: {error}"))
}

/// Runs the command and passes its exit status on.
#[cfg(not(unix))]
fn become_command(mut command: Command) -> Result<ExitCode, String> {
    let status = command
        .status()
        .map_err(|error| format!("{command:?} can't be run: {error}"))?;
    Ok(
        match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(code) => ExitCode::from(code),
            None => ExitCode::FAILURE,
        },
    )
}
