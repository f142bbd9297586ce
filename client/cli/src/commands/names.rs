//! What an address is called: the name of its wallet if it is one of the user's,
//! and the address of the same account on each built-in network.

use std::collections::BTreeMap;

use pithead_client::chain::NETWORKS;
use pithead_consensus::{Address, AddressPrefix};

use crate::terminal::words::short_address;

/// Names of the user's wallets by their addresses on one chain.
pub(crate) type WalletNames = BTreeMap<String, String>;

/// An address in full, with the name of its wallet if it is one of ours.
pub(crate) fn named(names: &WalletNames, address: &str) -> String {
    match names.get(address) {
        Some(name) => format!("{address} ({name})"),
        None => address.to_owned(),
    }
}

/// The name of an address's wallet, else the address cut short.
pub(crate) fn short_named(names: &WalletNames, address: &str) -> String {
    names
        .get(address)
        .cloned()
        .unwrap_or_else(|| short_address(address))
}

/// The text of an address on each built-in network, by the network's name.
pub(crate) fn on_each_network(address: &Address) -> BTreeMap<&'static str, String> {
    let texts = NETWORKS.iter().filter_map(|network| {
        let prefix = AddressPrefix::new(&network.genesis_file().address_prefix).ok()?;
        Some((network.name(), address.to_text(&prefix)))
    });
    texts.collect()
}

/// The label of a field that shows an address on a built-in network.
pub(crate) fn address_label(network: &str) -> &'static str {
    match network {
        "main" => "address (main)",
        "test" => "address (test)",
        _ => "address (dev)",
    }
}
