//! How many of a network's validators must approve a checkpoint (protocol §9), and
//! what follows from this number. It is arithmetic for the user who makes a
//! genesis; it asks no node.

use std::fmt;

use thiserror::Error;

/// A safe quorum: if two certificates conflict, they prove that more than a third
/// of the validators broke a rule. Example: any two quorums of 20 of 25 validators
/// have at least 15 validators in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    validators: u32,
    quorum: u32,
}

/// Why a genesis with this quorum is refused (protocol §9: 3·quorum > 2·n).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QuorumError {
    /// The network has no validators.
    #[error("a quorum of {quorum} needs validators, and there are none")]
    NoValidators {
        /// The quorum that was asked for.
        quorum: u32,
    },
    /// The quorum is larger than the number of validators.
    #[error("{quorum} approvals can never come together: there are only {validators} validators")]
    Unreachable {
        /// The quorum that was asked for.
        quorum: u32,
        /// How many validators the network has.
        validators: u32,
    },
    /// Two quorums could have too few validators in common.
    #[error(
        "a quorum of {quorum} of {validators} validators is unsafe: 3 × {quorum} = {} does not exceed 2 × {validators} = {}. {}. The least safe quorum is {}: any two then share {}",
        3 * u64::from(*quorum), 2 * u64::from(*validators), risk(*validators, *quorum),
        Quorum::least_safe(*validators), shared(*validators, Quorum::least_safe(*validators))
    )]
    Unsafe {
        /// The quorum that was asked for.
        quorum: u32,
        /// How many validators the network has.
        validators: u32,
    },
}

impl Quorum {
    /// Takes a quorum if it is safe.
    ///
    /// # Errors
    /// [`QuorumError`] with the arithmetic.
    pub fn new(validators: u32, quorum: u32) -> Result<Self, QuorumError> {
        if validators == 0 {
            return Err(QuorumError::NoValidators { quorum });
        }
        if quorum > validators {
            return Err(QuorumError::Unreachable { quorum, validators });
        }
        if 3 * u64::from(quorum) <= 2 * u64::from(validators) {
            return Err(QuorumError::Unsafe { quorum, validators });
        }
        Ok(Self { validators, quorum })
    }

    /// The quorum if the user chooses none: four fifths, rounded up, as the
    /// reference network's 20 of 25. With four validators it is 3, the least safe
    /// quorum: four fifths would be all four, and a single absent validator would
    /// stop finality. `None` without validators.
    #[must_use]
    pub fn default_of(validators: u32) -> Option<Self> {
        let four_fifths = (u64::from(validators) * 4).div_ceil(5);
        let quorum = match validators {
            0 => return None,
            4 => Self::least_safe(validators),
            _ => u32::try_from(four_fifths).unwrap_or(validators),
        };
        Some(Self { validators, quorum })
    }

    /// The reason for the choice of [`Self::default_of`], in words.
    #[must_use]
    pub fn why_default(self) -> String {
        match self.validators {
            4 => "the least that is safe; four fifths would be all four, and nobody could be away"
                .to_owned(),
            _ => "four fifths, rounded up, as the reference network's 20 of 25".to_owned(),
        }
    }

    /// The least safe quorum of so many validators.
    #[must_use]
    pub fn least_safe(validators: u32) -> u32 {
        let least = u64::from(validators) * 2 / 3 + 1;
        u32::try_from(least).unwrap_or(u32::MAX)
    }

    /// How many validators there are.
    #[must_use]
    pub fn validators(self) -> u32 {
        self.validators
    }

    /// How many approvals make a certificate.
    #[must_use]
    pub fn get(self) -> u32 {
        self.quorum
    }

    /// How many validators any two quorums have in common at least. If two
    /// certificates conflict, at least so many validators broke a rule.
    #[must_use]
    pub fn shared(self) -> u32 {
        shared(self.validators, self.quorum)
    }

    /// How many validators may be away without stopping finality.
    #[must_use]
    pub fn spare(self) -> u32 {
        self.validators.saturating_sub(self.quorum)
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} validators: any two quorums share {} of them, and {} may be away",
            self.quorum,
            self.validators,
            self.shared(),
            self.spare()
        )
    }
}

/// How many validators two quorums have in common at least.
fn shared(validators: u32, quorum: u32) -> u32 {
    u32::try_from((2 * u64::from(quorum)).saturating_sub(u64::from(validators))).unwrap_or(u32::MAX)
}

/// The danger of an unsafe quorum, in words.
fn risk(validators: u32, quorum: u32) -> String {
    match shared(validators, quorum) {
        0 => format!(
            "Two quorums of {quorum} need not share a single validator: two conflicting blocks could be approved, and nobody would have lied"
        ),
        count => format!(
            "Two quorums of {quorum} may share only {count}, no more than a third of all: so few liars could have two conflicting blocks approved"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_safe_is_what_the_protocol_accepts() {
        for validators in 1..=60 {
            for quorum in 0..=validators + 1 {
                let safe = 3 * quorum > 2 * validators && quorum <= validators;
                let found = Quorum::new(validators, quorum);
                assert_eq!(found.is_ok(), safe, "{quorum} of {validators}");
                // More than a third is in both of any two.
                if let Ok(found) = found {
                    assert!(3 * found.shared() > validators);
                }
            }
            let least = Quorum::least_safe(validators);
            assert!(Quorum::new(validators, least).is_ok());
            assert!(Quorum::new(validators, least - 1).is_err());
            let default = Quorum::default_of(validators).unwrap();
            assert_eq!(Quorum::new(validators, default.get()), Ok(default));
        }
        assert_eq!(Quorum::default_of(0), None);
    }

    #[test]
    fn the_default_is_that_of_the_reference_network() {
        let of = |validators| Quorum::default_of(validators).unwrap();
        assert_eq!((of(25).get(), of(25).shared(), of(25).spare()), (20, 15, 5));
        assert_eq!((of(4).get(), of(4).spare()), (3, 1));
        assert_eq!((of(5).get(), of(7).get(), of(1).get()), (4, 6, 1));
    }

    #[test]
    fn an_unsafe_quorum_is_refused_with_its_arithmetic() {
        let text = Quorum::new(25, 16).unwrap_err().to_string();
        for part in [
            "3 × 16 = 48",
            "2 × 25 = 50",
            "may share only 7",
            "quorum is 17",
            "share 9",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(
            Quorum::new(25, 12)
                .unwrap_err()
                .to_string()
                .contains("need not share")
        );
        assert!(
            Quorum::new(3, 4)
                .unwrap_err()
                .to_string()
                .contains("only 3")
        );
        assert!(Quorum::new(0, 1).is_err());
    }
}
