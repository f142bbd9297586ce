//! Wycheproof's RSA signatures. Those that protocol §2 allows are accepted. All others
//! are refused, even if they are good signatures of another kind.

use pithead_consensus::{PublicKey, Signature};
use wycheproof::{HashFunction, Mgf, TestResult, rsa_pkcs1_verify, rsa_pss_verify};

/// Whether this modulus, message and signature pass every check of §2. The
/// exponent is not passed on: consensus keys have only one.
fn accepts(modulus: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let Ok(key) = PublicKey::from_modulus(modulus) else {
        return false;
    };
    signature
        .try_into()
        .is_ok_and(|bytes| key.verifies(message, &Signature(Box::new(bytes))))
}

#[test]
fn takes_exactly_the_pss_signatures_of_protocol_2() {
    let (mut accepted, mut invalid, mut foreign) = (0, 0, 0);
    let (mut other_salt, mut other_hash, mut other_size) = (0, 0, 0);
    for name in rsa_pss_verify::TestName::all() {
        let set = rsa_pss_verify::TestSet::load(name).unwrap();
        for group in &set.test_groups {
            let is_sha256 = group.hash == HashFunction::Sha2_256
                && group.mgf == Mgf::Mgf1
                && group.mgf_hash == Some(HashFunction::Sha2_256);
            let allowed = is_sha256
                && group.salt_size == 32
                && group.key_size == 2048
                && group.key.e.as_slice() == [1, 0, 1];
            for test in &group.tests {
                let verdict = accepts(&group.key.n, &test.msg, &test.sig);
                match test.result {
                    TestResult::Valid if allowed => {
                        accepted += 1;
                        assert!(verdict, "{name:?} {}: {}", test.tc_id, test.comment);
                        continue;
                    }
                    TestResult::Valid if group.key_size != 2048 => other_size += 1,
                    TestResult::Valid if !is_sha256 => other_hash += 1,
                    TestResult::Valid => other_salt += 1,
                    // Its salt length is ours and not its group's, so it is bad there
                    // and good here.
                    TestResult::Invalid
                        if is_sha256
                            && group.key_size == 2048
                            && group.salt_size != 32
                            && test.comment == "s_len changed to 32" =>
                    {
                        foreign += 1;
                        assert!(verdict, "{name:?} {}: {}", test.tc_id, test.comment);
                        continue;
                    }
                    TestResult::Invalid => invalid += 1,
                    // The set has no such test today. A signature that is merely
                    // tolerable elsewhere is refused here.
                    TestResult::Acceptable => {}
                }
                assert!(!verdict, "{name:?} {}: {}", test.tc_id, test.comment);
            }
        }
    }
    println!(
        "{accepted} accepted, and {foreign} from other groups; refused: {invalid} invalid, {other_salt} of another salt length, \
         {other_hash} of another hash, {other_size} of another key size"
    );
    assert!(accepted > 0 && invalid > 0 && other_salt > 0 && other_hash > 0 && other_size > 0);
}

#[test]
fn refuses_every_pkcs1_v1_5_signature() {
    let mut valid = 0;
    for name in rsa_pkcs1_verify::TestName::all() {
        let set = rsa_pkcs1_verify::TestSet::load(name).unwrap();
        for group in &set.test_groups {
            for test in &group.tests {
                valid += usize::from(test.result == TestResult::Valid);
                if test.comment == "RSASSA-PSS signature"
                    && group.hash == HashFunction::Sha2_256
                    && group.key_size == 2048
                {
                    // It is bad in its group because it is of our scheme.
                    assert_eq!(test.result, TestResult::Invalid);
                    continue;
                }
                assert!(
                    !accepts(&group.key.n, &test.msg, &test.sig),
                    "{name:?} {}: {}",
                    test.tc_id,
                    test.comment
                );
            }
        }
    }
    assert!(valid > 0);
}
