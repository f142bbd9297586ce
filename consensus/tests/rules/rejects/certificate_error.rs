//! Certificates that approve nothing.

use pithead_consensus::approval::ApprovalError;
use pithead_consensus::approval::certificate::CertificateError;
use pithead_consensus::{Certificate, Decode, Encode, SignedApproval, Validators};

use super::approval_error::{network, validators};
use pithead_testkit::{key, link};

fn approvals(validators: &Validators, signers: &[usize]) -> Vec<SignedApproval> {
    let genesis = validators.genesis().hash;
    let sign = |index: &usize| key(*index).approve(&genesis, link(0, 10));
    signers.iter().map(sign).collect()
}

/// The certificate of these approvals, unchecked, as a peer might send it.
fn claimed(approvals: &[SignedApproval]) -> Certificate {
    let mut bytes = vec![1];
    approvals[0].approval.link.encode_to(&mut bytes);
    bytes.extend((approvals.len() as u32).to_le_bytes());
    for each in approvals {
        bytes.extend(each.approval.validator.0);
        bytes.extend(each.signature.0.as_slice());
    }
    Certificate::decode(&bytes).unwrap()
}

fn refused(validators: &Validators, approvals: &[SignedApproval]) -> CertificateError {
    let error = claimed(approvals).check(validators).unwrap_err();
    assert_eq!(
        Certificate::build(validators, approvals),
        Err(error.clone())
    );
    error
}

#[test]
fn rejects_no_validators() {
    let none = Validators::of_genesis(&network(0, 0).check().unwrap());
    let approvals = approvals(&none, &[0, 1, 2]);
    assert_eq!(refused(&none, &approvals), CertificateError::NoValidators);
    // An empty certificate meets a quorum of 0, but is still refused.
    let mut bytes = vec![1];
    link(0, 10).encode_to(&mut bytes);
    bytes.extend(0u32.to_le_bytes());
    let empty = Certificate::decode(&bytes).unwrap();
    assert_eq!(empty.check(&none), Err(CertificateError::NoValidators));
}

#[test]
fn rejects_mixed_links() {
    let validators = validators();
    let mut approvals = approvals(&validators, &[0, 1]);
    approvals.push(key(2).approve(&validators.genesis().hash, link(0, 20)));
    let error = CertificateError::MixedLinks { found: link(0, 20) };
    assert_eq!(Certificate::build(&validators, &approvals), Err(error));
}

#[test]
fn rejects_duplicate_validator() {
    let validators = validators();
    // Two different signatures on one message are still one approval. This check comes
    // before any signature is checked, so it hides a bad one.
    let mut approvals = approvals(&validators, &[0, 1, 0]);
    approvals[1].signature.0[0] ^= 1;
    let error = CertificateError::DuplicateValidator {
        validator: key(0).address,
    };
    assert_eq!(refused(&validators, &approvals), error);
}

#[test]
fn rejects_too_few_approvals() {
    let validators = validators();
    let approvals = approvals(&validators, &[0, 1]);
    let error = CertificateError::TooFewApprovals {
        found: 2,
        needed: 3,
    };
    assert_eq!(refused(&validators, &approvals), error);
    let none = CertificateError::TooFewApprovals {
        found: 0,
        needed: 3,
    };
    assert_eq!(Certificate::build(&validators, &[]), Err(none));
}

#[test]
fn rejects_approval() {
    let validators = validators();
    let strangers = approvals(&validators, &[0, 1, 6]);
    let error = ApprovalError::NotAValidator {
        validator: key(6).address,
    };
    assert_eq!(refused(&validators, &strangers), error.into());

    let mut forged = approvals(&validators, &[0, 1, 2, 3]);
    forged[2].signature.0[77] ^= 1;
    let error = ApprovalError::BadSignature {
        validator: key(2).address,
    };
    assert_eq!(refused(&validators, &forged), error.into());
}
