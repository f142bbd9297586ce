//! Text that is not an address of the network.

use bech32::primitives::iter::{ByteIterExt as _, Fe32IterExt as _};
use bech32::{Bech32, Bech32m, Fe32, Hrp};
use pithead_consensus::address::ParseAddressError;
use pithead_consensus::{Address, AddressPrefix};

use pithead_testkit::key;

fn prefix() -> AddressPrefix {
    AddressPrefix::new("pit").unwrap()
}

fn read(text: &str) -> ParseAddressError {
    Address::from_text(text, &prefix()).unwrap_err()
}

#[test]
fn rejects_bad_prefix() {
    for found in ["", "Pit", "pit-1", "pit pit", "pït", "abcdefghijklmnopq"] {
        let error = ParseAddressError::BadPrefix {
            found: found.to_owned(),
        };
        assert_eq!(AddressPrefix::new(found), Err(error));
    }
}

#[test]
fn rejects_malformed() {
    let good = key(0).address.to_text(&prefix());
    let mixed = good.replace("pit1", "PIT1");
    // The older checksum of the same payload.
    let bech32 = bech32::encode::<Bech32>(Hrp::parse("pit").unwrap(), &key(0).address.0).unwrap();
    let cut = &good[..good.len() - 1];
    let longer = format!("{good}q");
    for text in [
        "", "pit", "pit1", "hello", "é", cut, &longer, &mixed, &bech32,
    ] {
        assert!(
            matches!(read(text), ParseAddressError::Malformed { .. }),
            "{text}"
        );
    }
    // With padding bits set, the checksum is good but the text is a second one.
    let hrp = Hrp::parse("pit").unwrap();
    let mut digits: Vec<_> = key(0).address.0.iter().copied().bytes_to_fes().collect();
    let last = digits.pop().unwrap().to_u8();
    digits.push(Fe32::try_from(last | 1).unwrap());
    let padded: String = digits
        .into_iter()
        .with_checksum::<Bech32m>(&hrp)
        .chars()
        .collect();
    assert!(matches!(read(&padded), ParseAddressError::Malformed { .. }));
}

#[test]
fn says_what_is_malformed() {
    let good = key(0).address.to_text(&prefix());
    let last = if good.ends_with('q') { "p" } else { "q" };
    for (text, reason) in [
        (good.replacen("pit1", "pit1b", 1), "'b' does not occur"),
        (good[..good.len() - 1].to_owned() + last, "checksum"),
        (good.replace("pit1", "PIT1"), "mixed-case"),
        ("xyz".to_owned(), "separator"),
    ] {
        let said = read(&text).to_string();
        assert!(said.contains(reason), "{text}: {said}");
    }
}

#[test]
fn rejects_wrong_network() {
    let other = AddressPrefix::new("tpit").unwrap();
    let error = ParseAddressError::WrongNetwork {
        found: "tpit".to_owned(),
        expected: "pit".to_owned(),
    };
    assert_eq!(read(&key(0).address.to_text(&other)), error);
}

#[test]
fn rejects_bad_length() {
    for found in [0, 1, 20, 31, 33] {
        let payload = vec![7; found];
        let text = bech32::encode::<Bech32m>(Hrp::parse("pit").unwrap(), &payload).unwrap();
        assert_eq!(read(&text), ParseAddressError::BadLength { found });
    }
}
