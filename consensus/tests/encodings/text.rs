//! Amounts and addresses as text: both survive writing and reading, and typing errors
//! are refused.

use pithead_consensus::{Address, AddressPrefix, Amount};
use proptest::prelude::*;

use pithead_testkit::key;

proptest! {
    #[test]
    fn amounts_survive_text(grains in 0..=Amount::MAX_MONEY.grains()) {
        let amount = Amount::from_grains(grains).unwrap();
        prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
    }

    #[test]
    fn amount_parser_takes_any_text(text in "\\PC*|[0-9.]{0,30}") {
        if let Ok(amount) = text.parse::<Amount>() {
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
        }
    }

    #[test]
    fn addresses_survive_text(payload: [u8; 32], prefix in "[a-z0-9]{1,16}") {
        let prefix = AddressPrefix::new(&prefix).unwrap();
        let text = Address(payload).to_text(&prefix);
        prop_assert_eq!(Address::from_text(&text, &prefix), Ok(Address(payload)));
        let upper = text.to_ascii_uppercase();
        prop_assert_eq!(Address::from_text(&upper, &prefix), Ok(Address(payload)));
    }

    #[test]
    fn address_parser_takes_any_text(text in "\\PC*|pit1[a-z0-9]{0,70}") {
        let prefix = AddressPrefix::new("pit").unwrap();
        prop_assert!(Address::from_text(&text, &prefix).is_err());
    }
}

#[test]
fn every_single_character_typo_is_refused() {
    let prefix = AddressPrefix::new("pit").unwrap();
    let text = key(0).address.to_text(&prefix);
    let mut tried = 0;
    for place in 0..text.len() {
        for letter in ' '..='~' {
            let typo = format!("{}{letter}{}", &text[..place], &text[place + 1..]);
            if typo != text {
                assert!(Address::from_text(&typo, &prefix).is_err(), "{typo}");
                tried += 1;
            }
        }
        let dropped = format!("{}{}", &text[..place], &text[place + 1..]);
        assert!(Address::from_text(&dropped, &prefix).is_err(), "{dropped}");
        if let Some(next) = text.get(place + 1..place + 2) {
            let swapped = format!(
                "{}{next}{}{}",
                &text[..place],
                &text[place..=place],
                &text[place + 2..]
            );
            assert!(
                swapped == text || Address::from_text(&swapped, &prefix).is_err(),
                "{swapped}"
            );
        }
    }
    assert!(tried > 5_000);
}
