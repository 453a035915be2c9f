//! Argon2id (RFC 9106) and its PHC strings. The one place that knows the algorithm and its cost.
//!
//! Only Argon2id is read: the configuration is written with `bascule user hash`, and a second algorithm would be a second
//! cost that tells known users from unknown ones.

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc::PasswordHash,
};

/// The recommended length of a salt, in bytes (RFC 9106, 3.1). 8 to 48 are taken.
pub const SALT_LEN: usize = 16;
/// The most memory that a hash in the configuration may ask for, in KiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// The most passes that a hash in the configuration may ask for.
const PASSES_MAX: u32 = 16;
/// The most lanes that a hash in the configuration may ask for.
const LANES_MAX: u32 = 16;

/// Why a password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to hash the password: {0}")]
pub struct HashError(argon2::password_hash::Error);

/// The Argon2id PHC string of a password, at the cost this version recommends (19 MiB, 2 passes, 1 lane). The salt is random
/// and [`SALT_LEN`] bytes long; randomness is the caller's.
pub fn hash_password(password: &[u8], salt: &[u8]) -> Result<String, HashError> {
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password, salt)
        .map_err(HashError)?;
    Ok(hash.to_string())
}

/// A parsed hash, known to be within bounds.
pub(crate) struct Hash {
    phc: PasswordHash,
    params: Params,
}

impl Hash {
    /// Reads a PHC string; the error completes "password_hash of user x ...".
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let phc = PasswordHash::new(text)
            .map_err(|_| "is not a PHC string ($argon2id$v=19$m=..,t=..,p=..$salt$hash)")?;
        if phc.algorithm.as_str() != Algorithm::Argon2id.as_str() {
            return Err("is not of Argon2id");
        }
        if phc.version.is_some_and(|v| v != Version::V0x13 as u32) {
            return Err("is not of version 19");
        }
        if phc.salt.is_none() || phc.hash.is_none() {
            return Err("lacks its salt or its hash");
        }
        let params = Params::try_from(&phc).map_err(|_| "has parameters that Argon2 refuses")?;
        if params.m_cost() > MEMORY_KIB_MAX
            || params.t_cost() > PASSES_MAX
            || params.p_cost() > LANES_MAX
        {
            return Err("costs more than m=262144 (KiB), t=16, p=16");
        }
        Ok(Self { phc, params })
    }

    /// Whether it is this password's. Compares in constant time.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        Argon2::default()
            .verify_password(password, &self.phc)
            .is_ok()
    }

    /// What a verification costs.
    pub(crate) const fn cost(&self) -> &Params {
        &self.params
    }
}

/// As much work as verifying a hash of that cost; the answer is always no.
pub(crate) fn waste(password: &[u8], cost: &Params) {
    let mut out = [0u8; Params::DEFAULT_OUTPUT_LEN];
    let done = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.clone()).hash_password_into(
        password,
        &[0u8; SALT_LEN],
        &mut out,
    );
    // The work must not be optimised away, and its failure has no one to tell: the peer is refused either way.
    std::hint::black_box((done.is_ok(), out));
}

/// The costlier of the two, by memory times passes.
pub(crate) fn costlier<'a>(a: &'a Params, b: &'a Params) -> &'a Params {
    let work = |p: &Params| u64::from(p.m_cost()) * u64::from(p.t_cost());
    if work(b) > work(a) { b } else { a }
}
