//! Text that is not an amount.

use pithead_consensus::Amount;
use pithead_consensus::amount::ParseAmountError;

fn read(text: &str) -> ParseAmountError {
    text.parse::<Amount>().unwrap_err()
}

#[test]
fn rejects_malformed() {
    for text in [
        "", ".", "1.", ".5", "-1", "+1", "1,5", "1e3", " 1", "1 ", "0x10", "1.2.3", "1_000", "NaN",
        "٣", "1.٣",
    ] {
        assert!(
            matches!(read(text), ParseAmountError::Malformed { .. }),
            "{text:?}"
        );
    }
}

#[test]
fn rejects_too_precise() {
    for text in ["0.000000001", "1.123456789", "1.000000000"] {
        assert!(
            matches!(read(text), ParseAmountError::TooPrecise { .. }),
            "{text}"
        );
    }
}

#[test]
fn rejects_out_of_range() {
    for text in [
        "2000000000.00000001",
        "2000000001",
        "99999999999999999999999",
        "184467440738",
    ] {
        assert!(
            matches!(read(text), ParseAmountError::OutOfRange { .. }),
            "{text}"
        );
    }
    assert_eq!("2000000000".parse(), Ok(Amount::MAX_MONEY));
}
