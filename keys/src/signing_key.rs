//! A private key in memory: generated or read, written as PKCS#8 text, and used for signatures.
//! Finding and decoding PEM text is in `pem`.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use pithead_consensus::key::SIGNATURE_LEN;
use pithead_consensus::{
    Address, BlockHash, PublicKey, Signature, SignedTransaction, TransactionBody,
};
use rsa::RsaPrivateKey;
use rsa::pkcs8::pkcs5::pbes2;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::rand_core::{OsRng, RngCore as _};
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::passphrase::Passphrase;
use crate::pem::{DecodedKey, LABEL_ENCRYPTED, LABEL_PLAIN, PrivateKeyPem, block};
use crate::public::{KEY_BITS, consensus_key};

/// Scrypt's cost parameters N and p; r is 8. They set the cost of each guess at a
/// passphrase.
#[derive(Debug, Clone, Copy)]
struct ScryptCost {
    n: u64,
    p: u16,
}

/// The cost for keys that are kept here: 128 MiB for each guess.
const SCRYPT_KEPT: ScryptCost = ScryptCost { n: 1 << 17, p: 1 };
/// The cost for keys that other programs read: OpenSSL gives scrypt no more than
/// 32 MiB. OWASP's password storage recommendations rate both costs as equal.
const SCRYPT_PORTABLE: ScryptCost = ScryptCost { n: 1 << 14, p: 5 };

/// An RSA-2048 private key that signs transactions.
pub struct SigningKey {
    pair: RsaKeyPair,
    private: RsaPrivateKey,
    public: PublicKey,
}

impl SigningKey {
    /// Generates a key. Takes a few tenths of a second.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let private = RsaPrivateKey::new(&mut OsRng, KEY_BITS)
            .map_err(|error| KeyError::Failed(error.to_string()))?;
        Self::new(DecodedKey(private))
    }

    /// Checks that a decoded key is one of protocol §2, and prepares it for signing.
    ///
    /// # Errors
    /// [`KeyError::WrongSize`], [`KeyError::WrongExponent`] or [`KeyError::Malformed`].
    pub fn new(decoded: DecodedKey) -> Result<Self, KeyError> {
        let DecodedKey(private) = decoded;
        let public = consensus_key(&private.to_public_key())?;
        let der = private
            .to_pkcs8_der()
            .map_err(|error| KeyError::Malformed(error.to_string()))?;
        let pair = RsaKeyPair::from_pkcs8(der.as_bytes())
            .map_err(|error| KeyError::Malformed(error.to_string()))?;
        Ok(Self {
            pair,
            private,
            public,
        })
    }

    /// Reads the first private key of a PEM file: PKCS#8, encrypted with a
    /// passphrase or not, or unencrypted PKCS#1.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with the key or with the passphrase.
    pub fn from_pem(text: &str, passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        let pem = PrivateKeyPem::find(text).ok_or(KeyError::NoPrivateKey)?;
        Self::new(pem.decode(passphrase.map(Passphrase::bytes))?)
    }

    /// Whether a PEM file's private key is encrypted.
    #[must_use]
    pub fn is_encrypted_pem(text: &str) -> bool {
        block(text, LABEL_ENCRYPTED).is_some()
    }

    /// Writes the key as PKCS#8 PEM for keeping: encrypted (PBES2 with scrypt at
    /// its strongest and AES-256-CBC) if there is a passphrase.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, KeyError> {
        self.write_pem(passphrase, SCRYPT_KEPT)
    }

    /// Writes the key as PKCS#8 PEM for other programs: as [`Self::to_pem`], but
    /// within the 32 MiB that OpenSSL allows scrypt.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn to_portable_pem(
        &self,
        passphrase: Option<&Passphrase>,
    ) -> Result<Zeroizing<String>, KeyError> {
        self.write_pem(passphrase, SCRYPT_PORTABLE)
    }

    fn write_pem(
        &self,
        passphrase: Option<&Passphrase>,
        cost: ScryptCost,
    ) -> Result<Zeroizing<String>, KeyError> {
        let failed = |error: &dyn fmt::Display| KeyError::Failed(error.to_string());
        let plain = self
            .private
            .to_pkcs8_der()
            .map_err(|error| failed(&error))?;
        let Some(passphrase) = passphrase else {
            return plain
                .to_pem(LABEL_PLAIN, LineEnding::LF)
                .map_err(|error| failed(&error));
        };
        let (mut salt, mut iv) = ([0u8; 16], [0u8; 16]);
        let fill = |bytes: &mut [u8]| OsRng.try_fill_bytes(bytes).map_err(|error| failed(&error));
        fill(&mut salt)?;
        fill(&mut iv)?;
        let parameters = pbes2::Parameters {
            kdf: pbes2::Kdf::Scrypt(pbes2::ScryptParams {
                salt: &salt,
                cost_parameter: cost.n,
                block_size: 8,
                parallelization: cost.p,
                key_length: None,
            }),
            encryption: pbes2::EncryptionScheme::Aes256Cbc { iv: &iv },
        };
        let encrypted = rsa::pkcs8::PrivateKeyInfo::try_from(plain.as_bytes())
            .and_then(|info| info.encrypt_with_params(parameters, passphrase.bytes()))
            .map_err(|error| failed(&error))?;
        encrypted
            .to_pem(LABEL_ENCRYPTED, LineEnding::LF)
            .map_err(|error| failed(&error))
    }

    /// The public key as PEM (SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// [`KeyError::Failed`], which does not happen with a checked key.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        self.private
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| KeyError::Failed(error.to_string()))
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The address of the public key, the same on every network.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of_key(&self.public)
    }

    /// Signs a message: RSASSA-PSS, SHA-256, a salt of 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, KeyError> {
        let mut signature = Box::new([0u8; SIGNATURE_LEN]);
        self.pair
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                message,
                signature.as_mut_slice(),
            )
            .map_err(|_| KeyError::Failed("signing".to_owned()))?;
        Ok(Signature(signature))
    }

    /// Signs a transaction for the chain with this genesis; the public key goes
    /// along if it is the account's first (protocol §3).
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn sign_transaction(
        &self,
        body: TransactionBody,
        genesis_hash: &BlockHash,
    ) -> Result<SignedTransaction, KeyError> {
        let signature = self.sign(&body.signing_message(genesis_hash))?;
        let key = (body.sequence == 0).then(|| self.public.clone());
        Ok(SignedTransaction {
            body,
            key,
            signature,
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.address())
    }
}
