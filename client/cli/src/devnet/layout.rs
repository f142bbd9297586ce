//! The folder of a devnet: where its genesis, keys, nodes and logs are kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use pithead_consensus::genesis::GenesisFile;

/// The paths in the folder of a devnet.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    folder: PathBuf,
}

impl Layout {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn genesis(&self) -> PathBuf {
        self.folder.join("genesis.toml")
    }

    /// The name of a node, counted from 1: its folder and its log are called so.
    pub(super) fn node_name(number: u32) -> String {
        match number {
            1 => "node".to_owned(),
            _ => format!("node-{number}"),
        }
    }

    /// The data directory of a node.
    pub(super) fn node_data(&self, number: u32) -> PathBuf {
        self.folder.join(Self::node_name(number))
    }

    pub(super) fn wallets(&self) -> PathBuf {
        self.folder.join("wallets")
    }

    /// The key that a node votes with, in `validators()`.
    pub(super) fn validator_key(&self, number: u32) -> PathBuf {
        let name = format!("validator-{number:02}.pem");
        self.validators().join(name)
    }

    /// The folder of the validators' keys.
    pub(super) fn validators(&self) -> PathBuf {
        self.folder.join("validators")
    }

    /// Reads the genesis of a network that is there.
    pub(super) fn read_genesis(&self) -> Result<GenesisFile> {
        let path = self.genesis();
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(GenesisFile::from_toml(&text)?)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// The file in which a node writes the address of its API once it serves.
    pub(super) fn ready_file(&self, number: u32) -> PathBuf {
        let name = Self::node_name(number);
        self.folder.join(format!("{name}.address"))
    }

    /// The file with the mine token of a node.
    pub(super) fn mine_token(&self, number: u32) -> PathBuf {
        self.node_data(number).join("mine.token")
    }

    /// Whether the folder holds a devnet.
    pub(super) fn exists(&self) -> bool {
        self.genesis().is_file()
    }

    /// Refuses a folder that holds anything else.
    pub(super) fn check_free(&self) -> Result<()> {
        match fs::read_dir(&self.folder) {
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => bail!(
                    "{} is not empty and holds no devnet: name a new or empty folder",
                    self.folder.display()
                ),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("looking into {}", self.folder.display()))
            }
        }
    }
}
