//! Moduli that are not a key of protocol §2.

use pithead_consensus::PublicKey;
use pithead_consensus::key::PublicKeyError;

use pithead_testkit::key;

#[test]
fn rejects_bad_length() {
    let good = key(0).public.modulus();
    for found in [0, 1, 255, 257, 384, 512] {
        let modulus: Vec<u8> = good.iter().cycle().copied().take(found).collect();
        let error = PublicKeyError::BadLength { found };
        assert_eq!(PublicKey::from_modulus(&modulus), Err(error));
    }
}

#[test]
fn rejects_top_bit_clear() {
    let mut modulus = *key(0).public.modulus();
    modulus[0] &= 0x7f;
    let error = Err(PublicKeyError::TopBitClear);
    assert_eq!(PublicKey::from_modulus(&modulus), error);
}

#[test]
fn rejects_even() {
    let mut modulus = *key(0).public.modulus();
    modulus[255] &= 0xfe;
    assert_eq!(PublicKey::from_modulus(&modulus), Err(PublicKeyError::Even));
}
