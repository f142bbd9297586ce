//! The checks of certificates, their links, proofs of misbehaviour and validators' votes: each by
//! itself, with all signatures. Start reading at [`check_certificates`].

use pithead_consensus::approval::finality::certificates_conflict;
use pithead_consensus::{
    Certificate, Checkpoint, Decode as _, Encode as _, Genesis, Link, SignedApproval, Validators,
};

use super::VerifyError;
use super::rows::{check_count, for_each_row};
use crate::finality::{KeptProof, Proof};
use crate::store::{Snapshot, Table};

/// Checks every certificate and its link, and every proof.
pub(super) fn check_certificates(
    stored: &dyn Snapshot,
    genesis: &Genesis,
) -> Result<(), VerifyError> {
    let validators = Validators::of_genesis(genesis);
    let count = for_each_row(stored, Table::Certificates, |key, value| {
        let wrong = |what: String| VerifyError::row(Table::Certificates, key, what);
        let certificate = Certificate::decode(value).map_err(|error| wrong(error.to_string()))?;
        certificate
            .check(&validators)
            .map_err(|error| wrong(error.to_string()))?;
        let link = certificate.link();
        if link.target.height.0.to_be_bytes() != key {
            return Err(wrong(format!("it is for height {}", link.target.height)));
        }
        if stored.get(Table::Links, key)? != Some(link.encode()) {
            return Err(VerifyError::row(
                Table::Links,
                key,
                "it is not the certificate's link",
            ));
        }
        Ok(())
    })?;
    check_count(stored, Table::Links, count)?;
    for_each_row(stored, Table::Evidence, |key, value| {
        let kept = KeptProof::decode(value);
        let proves = kept.is_ok_and(|kept| match kept.proof {
            Proof::Votes(evidence) => evidence.check(&validators).is_ok(),
            Proof::Certificates(a, b) => {
                certificates_conflict(a.link(), b.link())
                    && a.check(&validators).is_ok()
                    && b.check(&validators).is_ok()
            }
        });
        if proves {
            Ok(())
        } else {
            Err(VerifyError::row(Table::Evidence, key, "it proves nothing"))
        }
    })?;
    check_final_path(stored, genesis)?;
    for_each_row(stored, Table::LeadingVotes, |key, value| {
        let wrong = |what: String| VerifyError::row(Table::LeadingVotes, key, what);
        let signed = SignedApproval::decode(value).map_err(|error| wrong(error.to_string()))?;
        if signed.approval.validator.0 != key {
            return Err(wrong("it is another validator's vote".to_owned()));
        }
        validators
            .check(&signed)
            .map_err(|error| wrong(error.to_string()))
    })?;
    Ok(())
}

/// Checks that the final checkpoints follow one another by the links, from the genesis up.
fn check_final_path(stored: &dyn Snapshot, genesis: &Genesis) -> Result<(), VerifyError> {
    let mut below = Checkpoint::genesis(genesis.params.genesis_hash);
    for_each_row(stored, Table::FinalPath, |key, value| {
        let link = stored.get(Table::Links, key)?;
        let link = link.and_then(|bytes| Link::decode(&bytes).ok());
        match link {
            Some(link) if link.source == below && link.target.hash.0 == value => {
                below = link.target;
                Ok(())
            }
            _ => Err(VerifyError::row(
                Table::FinalPath,
                key,
                "no link leads there from the final checkpoint below",
            )),
        }
    })?;
    Ok(())
}
