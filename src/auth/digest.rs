//! The digest scheme: `user:BASE64(HASH("user:password"))`, as ZooKeeper's DigestAuthenticationProvider makes it.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use sha1::{Digest, Sha1};

/// `DigestAuthenticationProvider.digestAlg`. SHA1 unless the operator says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DigestAlgorithm {
    #[default]
    Sha1,
    Sha256,
    Sha512,
}

impl DigestAlgorithm {
    /// Reads Java's name of the algorithm.
    #[must_use]
    pub fn parse(name: &str) -> Option<DigestAlgorithm> {
        Some(match name.to_ascii_uppercase().as_str() {
            "SHA1" | "SHA-1" => DigestAlgorithm::Sha1,
            "SHA256" | "SHA-256" => DigestAlgorithm::Sha256,
            "SHA512" | "SHA-512" => DigestAlgorithm::Sha512,
            _ => return None,
        })
    }
}

/// The id of `user:password`. The password may hold colons; a text without any is accepted as it is.
#[must_use]
pub fn digest_id(user_and_password: &str, algorithm: DigestAlgorithm) -> String {
    let user = user_and_password.split(':').next().unwrap_or_default();
    let bytes = user_and_password.as_bytes();
    let hash = match algorithm {
        DigestAlgorithm::Sha1 => Sha1::digest(bytes).to_vec(),
        DigestAlgorithm::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
        DigestAlgorithm::Sha512 => sha2::Sha512::digest(bytes).to_vec(),
    };
    format!("{user}:{}", STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_ones_that_zookeeper_makes() {
        assert_eq!(digest_id("bob:pw", DigestAlgorithm::Sha1), "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=");
        assert_eq!(digest_id("super:test", DigestAlgorithm::Sha1), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert!(digest_id("nocolon", DigestAlgorithm::Sha1).starts_with("nocolon:"));
    }
}
