//! The digest scheme: `user:BASE64(HASH("user:password"))`, as ZooKeeper's DigestAuthenticationProvider makes it.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use sha1::{Digest, Sha1};

/// `DigestAuthenticationProvider.digestAlg`. SHA1 unless the operator says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DigestAlgorithm {
    #[default]
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl DigestAlgorithm {
    /// Reads Java's name of the algorithm.
    #[must_use]
    pub fn parse(name: &str) -> Option<DigestAlgorithm> {
        Some(match name.to_ascii_uppercase().as_str() {
            "SHA" | "SHA1" | "SHA-1" => DigestAlgorithm::Sha1,
            "SHA224" | "SHA-224" => DigestAlgorithm::Sha224,
            "SHA256" | "SHA-256" => DigestAlgorithm::Sha256,
            "SHA384" | "SHA-384" => DigestAlgorithm::Sha384,
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
        DigestAlgorithm::Sha224 => sha2::Sha224::digest(bytes).to_vec(),
        DigestAlgorithm::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
        DigestAlgorithm::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
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

    /// As `printf bob:pw | openssl dgst -sha224 -binary | base64` says.
    #[test]
    fn whatever_the_jdk_calls_sha_is_known() {
        const SHA1: &str = "ikIaKsbtGweaHnb/jKn7OHqbunM=";
        const SHA224: &str = "V2mvd2ffOcs02HpVY83ycSg9kqz4jTlMn1ET9Q==";
        const SHA256: &str = "lXdkgIa9O1CDDWAryQ0pe9wUYi2LkG6M7Uocn/Vyn2g=";
        const SHA384: &str = "Pd/l06QeLk9MqD36VccOX0Fw1tgKhSdAl0mKINCHnwpI9R17BoWbdxukNC3K47Q1";
        const SHA512: &str =
            "jQFpfQMlS0Fkelz3cdxBlcfmOOApGvKAjybCSpc/oHQD7ouOUKaAFXPlHr/2XpjmwJ0yssqB0Mh7gRRVqmyALQ==";
        for (name, want) in [
            ("SHA", SHA1),
            ("sha1", SHA1),
            ("SHA-1", SHA1),
            ("SHA-224", SHA224),
            ("SHA224", SHA224),
            ("SHA-256", SHA256),
            ("SHA256", SHA256),
            ("SHA-384", SHA384),
            ("sha384", SHA384),
            ("SHA-512", SHA512),
            ("SHA512", SHA512),
        ] {
            let algorithm = DigestAlgorithm::parse(name).unwrap_or_else(|| panic!("'{name}' is known"));
            assert_eq!(digest_id("bob:pw", algorithm), format!("bob:{want}"), "by {name}");
        }
        for name in ["", "MD5", "SHA-", "SHA-2", "SHA-512/256", "SHA3-256"] {
            assert_eq!(DigestAlgorithm::parse(name), None, "'{name}'");
        }
    }
}
