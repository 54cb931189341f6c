//! Who a connection is: pure steps, bytes in, identities or a refusal out.
//!
//! `ip` is given to every connection at accept; `digest` is asked for. `sasl` and `x509` are not here yet.

mod digest;

pub use digest::{digest_id, DigestAlgorithm};

use crate::wire::Id;
use std::net::IpAddr;

/// The auth packet was not accepted: AuthFailed to the client, then the connection closes (TR17).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// What the operator said about schemes.
#[derive(Clone, Debug, Default)]
pub struct Schemes {
    /// `DigestAuthenticationProvider.superDigest`: whoever proves this digest id is super.
    pub super_digest: Option<Box<str>>,
    /// `DigestAuthenticationProvider.enabled=false` takes the scheme away.
    pub digest_disabled: bool,
    /// `DigestAuthenticationProvider.digestAlg`.
    pub digest_algorithm: DigestAlgorithm,
}

/// The identity that every connection has from the start: the address as Java's getHostAddress writes it, which shortens
/// no IPv6 address. whoAmI shows it.
#[must_use]
pub fn ip_identity(address: IpAddr) -> Id {
    let text = match crate::ids::plain_ip(address) {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:x}")).join(":"),
    };
    Id::new("ip", &text)
}

impl Schemes {
    /// Checks an auth packet. What it proves is added to the connection's identities: nothing is ever taken away.
    pub fn authenticate(&self, scheme: &str, auth: &[u8]) -> Result<Vec<Id>, Refused> {
        match scheme {
            // As in ZooKeeper: accepted, and nothing new is learnt.
            "ip" => Ok(Vec::new()),
            "digest" if !self.digest_disabled => {
                let id = digest_id(&String::from_utf8_lossy(auth), self.digest_algorithm);
                let is_super =
                    self.super_digest.as_deref().is_some_and(|wanted| equal_in_constant_time(wanted, &id));
                let digest = Id::new("digest", &id);
                // TR26: super comes beside the digest identity, it does not replace it.
                Ok(if is_super { vec![Id::new("super", ""), digest] } else { vec![digest] })
            }
            _ => Err(Refused),
        }
    }

    /// Whether an ACL entry of this scheme may hold this id.
    #[must_use]
    pub fn accepts_digest(&self, id: &str) -> bool {
        !self.digest_disabled && is_digest_id(id)
    }
}

/// Whether identities of this scheme stand for somebody who proved it: what the pseudo scheme `auth` expands to.
#[must_use]
pub fn is_authenticated(scheme: &str) -> bool {
    matches!(scheme, "digest" | "sasl" | "x509")
}

/// Java's `split(":").length == 2`, which drops empty parts at the end.
#[must_use]
pub fn is_digest_id(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

fn equal_in_constant_time(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_super_user_gets_a_second_identity_tr26() {
        let schemes =
            Schemes { super_digest: Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".into()), ..Schemes::default() };
        let ids = schemes.authenticate("digest", b"super:test").unwrap();
        assert_eq!(ids, [Id::new("super", ""), Id::new("digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")]);
        assert_eq!(schemes.authenticate("digest", b"super:nope").unwrap().len(), 1);
    }

    #[test]
    fn an_address_is_written_as_java_writes_it() {
        for (address, want) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("2001:DB8::00a0:B", "2001:db8:0:0:0:0:a0:b"),
        ] {
            assert_eq!(ip_identity(address.parse().unwrap()), Id::new("ip", want));
        }
    }

    #[test]
    fn unknown_schemes_are_refused() {
        let schemes = Schemes::default();
        assert_eq!(schemes.authenticate("world", b"anyone"), Err(Refused));
        assert_eq!(schemes.authenticate("ip", b""), Ok(vec![]));
        let off = Schemes { digest_disabled: true, ..Schemes::default() };
        assert_eq!(off.authenticate("digest", b"a:b"), Err(Refused));
    }

    #[test]
    fn digest_ids_have_two_parts_as_java_counts_them() {
        for (id, ok) in
            [("a:b", true), (":b", true), ("a:b:", true), ("a:", false), ("a", false), ("a:b:c", false)]
        {
            assert_eq!(is_digest_id(id), ok, "{id}");
        }
    }
}
