//! The signature of notifications: RSA with 2,048 bits, PKCS #1 version 1.5, over SHA-1 (`SignatureVersion` 1, the default of SNS) or
//! SHA-256 (2), and a certificate that says so.
//!
//! The key is derived from the store's secret: it is the same after a restart and on the standby, without a file that would
//! have to be kept with the journal. The derivation is fixed here and not left to a library, whose next version might find
//! other primes in the same chance. The certificate is self-signed: what receivers trust is the address it comes from.
//!
//! RustCrypto's `rsa`, because of SHA-1: the libraries under TLS do not sign with it any more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use aws::{Page, Settings, Signature, SignatureVersion, Signer, digest};
use bytes::Bytes;
use crypto_primes::{Flavor, is_prime};
use message::base64;
use rsa::{BoxedUint, Pkcs1v15Sign, PrivateKey, traits::PublicKeyParts as _};
use session::Secret;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// Where the certificate is served.
pub(crate) const PATH: &str = "/SimpleNotificationService.pem";
/// The page.
pub(crate) const PAGE: Page = Page {
    path: PATH,
    content_type: "application/x-pem-file",
    body: certificate,
};
/// Bits of each of the two primes.
const PRIME_BITS: u32 = 1024;
const EXPONENT: u64 = 65_537;
/// Signatures of which so many and as many again are remembered: half a megabyte.
const REMEMBERED_MAX: usize = 800;

fn certificate(settings: &Settings) -> Bytes {
    let pem = settings
        .signer
        .as_ref()
        .and_then(|signer| (signer.certificate)());
    pem.unwrap_or_default()
}

struct Keys {
    key: PrivateKey,
    certificate: Bytes,
}

/// Signs, from when it is told the store's secret.
///
/// What is signed of a message is the same for all subscriptions of its topic, for each attempt and for its dead letter; a
/// signature takes a millisecond, so the last ones are remembered.
#[derive(Default)]
pub struct Signing {
    keys: OnceLock<Keys>,
    remembered: Mutex<Remembered>,
}

/// The last signatures, by the digest of what they sign. When the newer ones are as many as there may be they become the older
/// ones, which go.
#[derive(Default)]
struct Remembered {
    newer: HashMap<[u8; 32], Arc<[u8]>>,
    older: HashMap<[u8; 32], Arc<[u8]>>,
}

impl Remembered {
    fn find(&mut self, digest: &[u8; 32]) -> Option<Arc<[u8]>> {
        if let Some(known) = self.newer.get(digest) {
            return Some(Arc::clone(known));
        }
        let known = self.older.remove(digest)?;
        self.put(*digest, Arc::clone(&known));
        Some(known)
    }

    fn put(&mut self, digest: [u8; 32], signature: Arc<[u8]>) {
        if self.newer.len() >= REMEMBERED_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(digest, signature);
    }
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signing")
    }
}

impl Signing {
    /// Derives the key, which takes a fraction of a second. Again is nothing: a store has one secret.
    pub fn open(&self, secret: &Secret) {
        self.keys.get_or_init(|| Keys::derive(secret));
    }

    /// What the settings hold.
    #[must_use]
    pub fn signer(self: &Arc<Self>) -> Signer {
        let (sign, certificate) = (Arc::clone(self), Arc::clone(self));
        Signer {
            sign: Arc::new(move |version, text, base_url| sign.sign(version, text, base_url)),
            certificate: Arc::new(move || {
                certificate.keys.get().map(|keys| keys.certificate.clone())
            }),
        }
    }

    fn sign(&self, version: SignatureVersion, text: &str, base_url: &str) -> Option<Signature> {
        let keys = self.keys.get()?;
        let version_text = match version {
            SignatureVersion::Sha1 => "1",
            SignatureVersion::Sha256 => "2",
        };
        let digest = digest::sha256(&[version_text.as_bytes(), text.as_bytes()].concat());
        let remembered = || {
            let held = self.remembered.lock();
            held.unwrap_or_else(PoisonError::into_inner)
        };
        let known = remembered().find(&digest);
        let bytes = match known {
            Some(known) => known,
            None => {
                // Not under the lock: others sign meanwhile, now and then the same.
                let made: Arc<[u8]> = keys.sign(version, text.as_bytes())?.into();
                remembered().put(digest, Arc::clone(&made));
                made
            }
        };
        Some(Signature {
            version: version_text,
            bytes: bytes.to_vec(),
            certificate_url: format!("{base_url}{PATH}"),
        })
    }
}

/// Chance out of a secret: HMAC with SHA-256 over a counter.
struct Chance<'a> {
    secret: &'a Secret,
    block: u64,
}

impl Chance<'_> {
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            let block = digest::hmac_sha256(
                &self.secret.0,
                &[b"sns signing key 1", &self.block.to_be_bytes()],
            );
            part.copy_from_slice(&block[..part.len()]);
            self.block += 1;
        }
    }

    /// The next odd number that is a prime, with its two highest bits set so that the product of two has all its bits.
    fn prime(&mut self) -> BoxedUint {
        let mut bytes = [0; (PRIME_BITS / 8) as usize];
        loop {
            self.fill(&mut bytes);
            bytes[0] |= 0xc0;
            bytes[bytes.len() - 1] |= 1;
            // One less than a prime must not be a multiple of the exponent.
            let rest = bytes
                .iter()
                .fold(0, |rest, byte| (rest << 8 | u64::from(*byte)) % EXPONENT);
            let candidate = BoxedUint::from_be_slice(&bytes, PRIME_BITS)
                .expect("as many bytes as the precision has");
            if rest != 1 && is_prime(Flavor::Any, &candidate) {
                return candidate;
            }
        }
    }
}

impl Keys {
    fn derive(secret: &Secret) -> Self {
        let mut chance = Chance { secret, block: 0 };
        let key = loop {
            let (p, q) = (chance.prime(), chance.prime());
            // Equal primes are as likely as none ever: then the next two.
            if let Ok(key) = PrivateKey::from_p_q(p, q, BoxedUint::from(EXPONENT)) {
                break key;
            }
        };
        let mut keys = Self {
            key,
            certificate: Bytes::new(),
        };
        keys.certificate = pem(&keys.certificate());
        keys
    }

    fn sign(&self, version: SignatureVersion, text: &[u8]) -> Option<Vec<u8>> {
        let signed = match version {
            SignatureVersion::Sha1 => {
                let scheme = Pkcs1v15Sign::new::<Sha1>();
                self.key.sign(scheme, &Sha1::digest(text))
            }
            SignatureVersion::Sha256 => {
                let scheme = Pkcs1v15Sign::new::<Sha256>();
                self.key.sign(scheme, &Sha256::digest(text))
            }
        };
        signed.ok()
    }

    /// The certificate, in DER (X.509 version 3, RFC 5280): the same whenever it is made.
    fn certificate(&self) -> Vec<u8> {
        let modulus = der::unsigned(&self.key.n_bytes());
        let exponent = der::unsigned(&self.key.e_bytes());
        let public = der::sequence(&[&modulus, &exponent]);
        let rsa = der::sequence(&[der::RSA_ENCRYPTION, der::NULL]);
        let info = der::sequence(&[&rsa, &der::bits(&public)]);
        let sha256_with_rsa = der::sequence(&[der::SHA256_WITH_RSA, der::NULL]);
        let serial = der::unsigned(&digest::sha256(&public)[..16]);
        let validity = der::sequence(&[
            &der::tagged(der::GENERALIZED_TIME, b"20200101000000Z"),
            &der::tagged(der::GENERALIZED_TIME, b"21191231235959Z"),
        ]);
        let name = der::tagged(der::UTF8_STRING, b"Bascule SNS");
        let attribute = der::sequence(&[der::COMMON_NAME, &name]);
        let name = der::sequence(&[&der::tagged(der::SET, &attribute)]);
        let version = der::tagged(der::EXPLICIT_0, &der::unsigned(&[2]));
        let to_be_signed = der::sequence(&[
            &version,
            &serial,
            &sha256_with_rsa,
            &name,
            &validity,
            &name,
            &info,
        ]);
        let signature = self
            .sign(SignatureVersion::Sha256, &to_be_signed)
            .expect("a key of 2,048 bits signs a digest");
        der::sequence(&[&to_be_signed, &sha256_with_rsa, &der::bits(&signature)])
    }
}

fn pem(der: &[u8]) -> Bytes {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in base64::encode(der).as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem.into()
}

/// The few things of DER (X.690) that a certificate is made of.
mod der {
    pub(super) const UTF8_STRING: u8 = 0x0c;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SET: u8 = 0x31;
    pub(super) const EXPLICIT_0: u8 = 0xa0;
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    pub(super) const NULL: &[u8] = &[0x05, 0x00];
    /// 1.2.840.113549.1.1.1
    pub(super) const RSA_ENCRYPTION: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    /// 1.2.840.113549.1.1.11
    pub(super) const SHA256_WITH_RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    /// 2.5.4.3
    pub(super) const COMMON_NAME: &[u8] = &[6, 3, 0x55, 4, 3];

    pub(super) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        let len = content.len().to_be_bytes();
        let significant = len.iter().position(|byte| *byte != 0).unwrap_or(7);
        let len = &len[significant..];
        if content.len() >= 0x80 {
            out.push(0x80 | len.len() as u8);
        }
        out.extend_from_slice(len);
        out.extend_from_slice(content);
        out
    }

    pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        tagged(SEQUENCE, &parts.concat())
    }

    /// A number that is not negative.
    pub(super) fn unsigned(bytes: &[u8]) -> Vec<u8> {
        let significant = bytes.iter().position(|byte| *byte != 0);
        let bytes = &bytes[significant.unwrap_or_else(|| bytes.len().saturating_sub(1))..];
        let sign: &[u8] = if bytes.first().is_some_and(|byte| *byte >= 0x80) {
            &[0]
        } else {
            &[]
        };
        tagged(INTEGER, &[sign, bytes].concat())
    }

    pub(super) fn bits(content: &[u8]) -> Vec<u8> {
        tagged(BIT_STRING, &[&[0], content].concat())
    }
}

#[cfg(test)]
mod tests {
    use rsa::PublicKey;

    use super::*;

    #[test]
    fn what_was_signed_is_not_signed_again_and_the_oldest_are_forgotten() {
        let signing = Arc::new(Signing::default());
        assert_eq!(signing.sign(SignatureVersion::Sha1, "a", ""), None);
        signing.open(&Secret([7; 32]));
        let sign = |version| {
            let signature = signing.sign(version, "a", "http://h").expect("a key");
            assert_eq!(signature.certificate_url, format!("http://h{PATH}"));
            signature.bytes
        };
        let keys = signing.keys.get().expect("open");
        for _ in 0..2 {
            for version in [SignatureVersion::Sha1, SignatureVersion::Sha256] {
                assert_eq!(Some(sign(version)), keys.sign(version, b"a"));
            }
        }
        let mut remembered = signing.remembered.lock().expect("nobody panicked");
        assert_eq!(remembered.newer.len(), 2);
        // Something that is asked for again and again stays, whatever comes; something else goes.
        let number = |number: u32| digest::sha256(&number.to_be_bytes());
        let signature: Arc<[u8]> = [1].into();
        for at in 0..3 * REMEMBERED_MAX as u32 {
            remembered.put(number(at), Arc::clone(&signature));
            assert!(remembered.find(&number(0)).is_some(), "{at}");
        }
        assert!(remembered.find(&number(1)).is_none());
        assert!(remembered.newer.len() <= REMEMBERED_MAX);
        assert!(remembered.older.len() <= REMEMBERED_MAX);
    }

    #[test]
    fn the_same_secret_is_the_same_key_and_both_versions_verify() {
        let keys = Keys::derive(&Secret([7; 32]));
        let again = Keys::derive(&Secret([7; 32]));
        assert_eq!(keys.certificate, again.certificate);
        assert_ne!(keys.certificate, Keys::derive(&Secret([8; 32])).certificate);
        let public = PublicKey::from(&keys.key);
        let text = b"Message\nx\n";
        let signature = keys.sign(SignatureVersion::Sha1, text).expect("signed");
        let scheme = Pkcs1v15Sign::new::<Sha1>();
        assert!(
            public
                .verify(scheme, &Sha1::digest(text), &signature)
                .is_ok()
        );
        let signature = keys.sign(SignatureVersion::Sha256, text).expect("signed");
        let scheme = Pkcs1v15Sign::new::<Sha256>();
        assert!(
            public
                .verify(scheme.clone(), &Sha256::digest(text), &signature)
                .is_ok()
        );
        assert!(
            public
                .verify(scheme, &Sha256::digest(b"y"), &signature)
                .is_err()
        );
        // What a release signed with, its successors sign with: the first bytes of the modulus.
        let modulus = digest::hex(&keys.key.n_bytes()[..8]);
        assert_eq!(modulus, "ec1ca0e7a0533885");
    }
}
