//! What the subcommands share: the options of all of them, the node, its chain
//! and the user's wallets.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use pithead_api::v1;
use pithead_client::{
    ChainIdentity, Client, ConnectOptions, DEFAULT_NODE_URL, ExpectedNetwork, Wallet, WalletName,
    Wallets,
};
use pithead_consensus::{Address, AddressPrefix};

use super::names::WalletNames;
use crate::terminal::output::{ColorChoice, Printer, note};
use crate::terminal::report::ErrorWithHint;

/// How long a node may take to name its network, when nothing else is asked of it.
const GLANCE_TIMEOUT: Duration = Duration::from_millis(700);

/// Options of every subcommand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// The node to ask.
    #[arg(long, global = true, value_name = "URL", env = "PITHEAD_NODE", default_value = DEFAULT_NODE_URL)]
    pub(crate) node: String,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Folder of the wallets [default: pithead/wallets in the user's data folder].
    #[arg(long, global = true, value_name = "DIR", env = "PITHEAD_WALLET_DIR")]
    pub(crate) wallet_dir: Option<PathBuf>,
    /// Refuse a node of any other network: a name (main, test, dev) or a genesis hash.
    #[arg(long, global = true, value_name = "NAME|HASH", env = "PITHEAD_NETWORK")]
    pub(crate) network: Option<ExpectedNetwork>,
    /// Token file of the node, for `workers`, `peers add` and its like, and `mine-blocks` [default: where a node on this machine keeps it].
    #[arg(long, global = true, value_name = "FILE", env = "PITHEAD_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// When to colour.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value = "auto"
    )]
    pub(crate) color: ColorChoice,
}

/// What a subcommand needs besides its own arguments.
pub(crate) struct Context {
    args: GlobalArgs,
    /// Writes the results.
    pub(crate) out: Printer,
}

/// The roles of a node's API that need a token.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TokenRole {
    /// The role for MiningService.
    Mine,
    /// The role for AdminService.
    Admin,
}

impl TokenRole {
    fn token_file(self) -> &'static str {
        match self {
            Self::Mine => "mine.token",
            Self::Admin => "admin.token",
        }
    }
}

impl Context {
    pub(crate) fn new(args: GlobalArgs) -> Self {
        let out = Printer::new(args.color);
        Self { args, out }
    }

    /// Whether the result is to be JSON.
    pub(crate) fn json(&self) -> bool {
        self.args.json
    }

    /// Connects to the node.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        Ok(Client::connect_with(&ConnectOptions::new(&self.args.node)).await?)
    }

    /// Connects to the node and checks which chain it follows.
    pub(crate) async fn connect_to_chain(
        &self,
    ) -> anyhow::Result<(Client, ChainIdentity, v1::GetChainInfoResponse)> {
        let client = self.connect().await?;
        let info = client.chain_info().await?;
        let chain = ChainIdentity::of(&info, self.args.network.as_ref())?;
        Ok((client, chain, info))
    }

    /// Connects with the token of a role. The token comes from the file that the user
    /// names, or else from the file of a node on this machine.
    pub(crate) async fn connect_as(
        &self,
        role: TokenRole,
    ) -> anyhow::Result<(Client, ChainIdentity)> {
        let (client, chain, _) = self.connect_to_chain().await?;
        let Some(token) = self.token(role, &chain)? else {
            // The node refuses, and says which token it needs.
            return Ok((client, chain));
        };
        let options = ConnectOptions {
            token: Some(token),
            ..ConnectOptions::new(&self.args.node)
        };
        Ok((Client::connect_with(&options).await?, chain))
    }

    fn token(&self, role: TokenRole, chain: &ChainIdentity) -> anyhow::Result<Option<String>> {
        if let Some(path) = &self.args.token_file {
            let token = std::fs::read_to_string(path).map_err(|error| ErrorWithHint {
                error: format!("the token file {} can't be read: {error}", path.display()),
                hint: "the node writes it into its data directory, readable only by its own user"
                    .to_owned(),
            })?;
            return Ok(Some(token.trim().to_owned()));
        }
        // A token that this program found by itself never leaves this machine.
        if !is_loopback(&self.args.node) {
            return Ok(None);
        }
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let base = variable("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".local/share")));
        // The network's name comes from the node: only one that is a plain file
        // name may become part of a path.
        let plain = !chain.network.is_empty()
            && chain
                .network
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric());
        let token = base.filter(|_| plain).and_then(|base| {
            let folder = base.join("pithead").join(&chain.network);
            std::fs::read_to_string(folder.join(role.token_file())).ok()
        });
        Ok(token.map(|token| token.trim().to_owned()))
    }

    /// The folder of the user's wallets.
    pub(crate) fn wallets(&self) -> anyhow::Result<Wallets> {
        Ok(match &self.args.wallet_dir {
            Some(folder) => Wallets::in_folder(folder),
            None => Wallets::of_user()?,
        })
    }

    /// The prefix of the addresses to show when no node is needed otherwise: that of
    /// the network that the user names, else of the node if one answers, else `pit`.
    pub(crate) async fn shown_prefix(&self) -> anyhow::Result<AddressPrefix> {
        if let Some(ExpectedNetwork::Name(name)) = &self.args.network {
            let networks = pithead_client::chain::NETWORKS;
            if let Some(network) = networks.iter().find(|network| network.name() == name) {
                return Ok(AddressPrefix::new(&network.genesis_file().address_prefix)?);
            }
        }
        let glance = async {
            let client = self.connect().await?;
            anyhow::Ok(client.chain_info().await?)
        };
        if let Ok(Ok(info)) = tokio::time::timeout(GLANCE_TIMEOUT, glance).await {
            return Ok(ChainIdentity::of(&info, self.args.network.as_ref())?.prefix);
        }
        if !self.json() {
            note(format!(
                "no node answers at {}: showing addresses of the network main (choose with --network)",
                self.args.node
            ));
        }
        Ok(AddressPrefix::new("pit")?)
    }

    /// The address that a wallet's name or an address in text form stands for.
    pub(crate) fn resolve(&self, chain: &ChainIdentity, text: &str) -> anyhow::Result<Address> {
        if let Ok(name) = text.parse::<WalletName>() {
            return match self.wallets()?.open(&name) {
                Ok(wallet) => Ok(wallet.address()),
                Err(error) => Err(error.into()),
            };
        }
        Ok(chain.parse_address(text)?)
    }

    /// The wallet that a name or an address stands for.
    pub(crate) fn wallet(&self, chain: &ChainIdentity, text: &str) -> anyhow::Result<Wallet> {
        let wallets = self.wallets()?;
        if let Ok(name) = text.parse::<WalletName>() {
            return Ok(wallets.open(&name)?);
        }
        let address = chain.parse_address(text)?;
        let found = self.all_wallets()?.into_iter();
        let mut matching = found.filter(|wallet| wallet.address() == address);
        matching.next().ok_or_else(|| wallets.unknown(text).into())
    }

    /// Every wallet that can be read; notes the others on standard error.
    pub(crate) fn all_wallets(&self) -> anyhow::Result<Vec<Wallet>> {
        let wallets = self.wallets()?;
        let mut found = Vec::new();
        for name in wallets.names()? {
            match wallets.open(&name) {
                Ok(wallet) => found.push(wallet),
                Err(error) => note(format!("wallet {name} left out: {error}")),
            }
        }
        Ok(found)
    }

    /// The names of the wallets by their addresses on this chain, to show `bob` where
    /// an address is bob's.
    pub(crate) fn names(&self, chain: &ChainIdentity) -> WalletNames {
        let Ok(wallets) = self.wallets() else {
            return WalletNames::new();
        };
        let names = wallets.names().unwrap_or_default();
        let opened = names.iter().filter_map(|name| wallets.open(name).ok());
        opened
            .map(|wallet| {
                (
                    chain.address_text(&wallet.address()),
                    wallet.name.to_string(),
                )
            })
            .collect()
    }
}

fn is_loopback(url: &str) -> bool {
    let host = url.strip_prefix("http://").unwrap_or(url);
    let host = host.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn a_guessed_token_stays_on_this_machine() {
        for url in [
            "http://127.0.0.1:7310",
            "http://localhost:1",
            "http://[::1]:7310/",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "http://10.0.0.1:7310",
            "http://127.0.0.1.example.org:7310",
            "http://localhost@example.org:7310",
            "http://example.org/127.0.0.1",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
