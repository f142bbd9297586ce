//! The program behind `cargo devnet`. An alias of cargo can't run two commands, so
//! it runs this one, which builds the three programs in release mode and then
//! becomes `pithead devnet`. It uses the standard library only, so that it builds
//! in a second.

use std::ffi::{OsStr, OsString};
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

fn devnet(arguments: &[OsString]) -> Result<ExitCode, String> {
    let folder = release_folder()?;
    build(&workspace()?, &folder)?;
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

/// The folder of release builds, which is the one that this program is in.
fn release_folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe()
        .map_err(|error| format!("the path of this program can't be found out: {error}"))?;
    own.parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("{} is in no folder", own.display()))
}

/// The root folder of the workspace, looked for when this program runs: several
/// clones may share one build folder, and this program with it.
///
/// `cargo run` names the folder of this package in `CARGO_MANIFEST_DIR`. Without
/// it the current folder has to be inside the clone.
fn workspace() -> Result<PathBuf, String> {
    let current = std::env::current_dir()
        .map_err(|error| format!("the current folder can't be found out: {error}"))?;
    let named = std::env::var_os("CARGO_MANIFEST_DIR");
    find_workspace(named.as_deref(), &current).ok_or_else(|| {
        format!(
            "{} is in no clone of Pithead: change to the folder of the clone and run `cargo devnet` there",
            current.display()
        )
    })
}

/// Walks up from the folder that cargo names, else from the current one.
fn find_workspace(named: Option<&OsStr>, current: &Path) -> Option<PathBuf> {
    let starts = named.map(Path::new).into_iter().chain([current]);
    starts
        .flat_map(Path::ancestors)
        .find(|folder| {
            folder.join("Cargo.toml").is_file() && folder.join("xtask/Cargo.toml").is_file()
        })
        .map(Path::to_path_buf)
}

/// Builds the programs of the workspace next to this one.
fn build(workspace: &Path, folder: &Path) -> Result<(), String> {
    // Cargo tells its own path to the programs that it runs.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(["build", "--release"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"));
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
