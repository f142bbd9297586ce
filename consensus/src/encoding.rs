//! The fixed binary encoding of protocol §1: little-endian integers, no
//! optional trailing bytes, limits checked before anything is allocated.

use thiserror::Error;

use crate::amount::{Amount, AmountOutOfRangeError};
use crate::key::PublicKeyError;

/// Some bytes are not the encoding of a value (protocol §1).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The input ended inside a field.
    #[error("the input ends inside {field}: {needed} bytes needed, {left} left")]
    UnexpectedEnd {
        field: &'static str,
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that were left.
        left: usize,
    },
    /// Input was left over after the value.
    #[error("{count} bytes follow the end of the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A field holds a value that this version does not define.
    #[error("{field} is {found}, expected {expected}")]
    BadValue {
        field: &'static str,
        found: u64,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// A length exceeds its limit.
    #[error("{field} is {found}, at most {max} allowed")]
    OverLimit {
        field: &'static str,
        found: usize,
        max: usize,
    },
    /// An amount exceeds [`Amount::MAX_MONEY`].
    #[error("{field}: {error}")]
    AmountOutOfRange {
        field: &'static str,
        error: AmountOutOfRangeError,
    },
    /// A public key does not have the form of protocol §2.
    #[error(transparent)]
    BadPublicKey(#[from] PublicKeyError),
}

/// A value with a consensus encoding.
pub trait Encode {
    /// Appends the encoding to `out`.
    fn encode_to(&self, out: &mut Vec<u8>);

    /// The encoding, by itself.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out
    }
}

/// A value that can be read from its consensus encoding.
pub trait Decode: Sized {
    /// Reads one value and leaves the rest of the input in `reader`.
    ///
    /// # Errors
    /// [`DecodeError`] if the input does not start with an encoded value.
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Reads one value that takes up the whole input.
    ///
    /// # Errors
    /// [`DecodeError`] if the input is not exactly one encoded value.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode_from(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// Reads fields off the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`] if fewer are left.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) =
            self.rest
                .split_first_chunk::<N>()
                .ok_or(DecodeError::UnexpectedEnd {
                    field,
                    needed: N,
                    left: self.rest.len(),
                })?;
        self.rest = rest;
        Ok(*head)
    }

    /// Reads `count` bytes; the caller has checked `count` against its limit.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`] if fewer are left.
    pub fn bytes(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::UnexpectedEnd {
                field,
                needed: count,
                left: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(head)
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`] at the end of the input.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(u8::from_le_bytes)
    }

    /// Reads a 16-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`] at the end of the input.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Reads a 32-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`] at the end of the input.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Reads a 64-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`] at the end of the input.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Reads an amount.
    ///
    /// # Errors
    /// [`DecodeError`] at the end of the input, or above [`Amount::MAX_MONEY`].
    pub fn amount(&mut self, field: &'static str) -> Result<Amount, DecodeError> {
        Amount::from_grains(self.u64(field)?)
            .map_err(|error| DecodeError::AmountOutOfRange { field, error })
    }

    /// Reads one byte that has only one allowed value in this version.
    pub(crate) fn expect(
        &mut self,
        field: &'static str,
        wanted: u8,
        expected: &'static str,
    ) -> Result<(), DecodeError> {
        let found = self.u8(field)?;
        if found == wanted {
            Ok(())
        } else {
            Err(DecodeError::BadValue {
                field,
                found: u64::from(found),
                expected,
            })
        }
    }

    /// Reads a 32-bit count of items of at least `item_bytes` bytes each. It refuses
    /// a count that the rest of the input can't hold, so that the caller may allocate
    /// that many items.
    pub(crate) fn count(
        &mut self,
        field: &'static str,
        item_bytes: usize,
    ) -> Result<usize, DecodeError> {
        let found = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        let max = self.left().checked_div(item_bytes).unwrap_or(0);
        if found > max {
            return Err(DecodeError::OverLimit { field, found, max });
        }
        Ok(found)
    }

    /// Checks that the whole input was read.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] if anything is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { count }),
        }
    }
}

/// Joins parts into an array, for encodings of fixed size. Callers pass exactly `N`
/// bytes: missing bytes would stay zero, surplus bytes would be dropped.
pub(crate) fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0u8; N];
    let bytes = parts.iter().flat_map(|part| part.iter());
    for (slot, byte) in out.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    out
}
