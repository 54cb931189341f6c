//! ZooKeeper's fixupACL: what a client may write as an access control list, and what is stored for it.

use super::txn::{Identities, Options};
use crate::auth;
use crate::error::Code;
use crate::tree::acl::parse_prefix;
use crate::wire::{Acl, AclRef, Id};
use std::collections::BTreeSet;

/// Checks and completes a list (chapter 7.2, TR25).
pub(super) fn fix_up(
    list: Option<&[AclRef<'_>]>,
    identities: &Identities<'_>,
    options: Options,
) -> Result<Vec<Acl>, Code> {
    let list = list.unwrap_or_default();
    if list.is_empty() {
        return Err(Code::InvalidAcl);
    }
    let mut fixed: Vec<Acl> = Vec::with_capacity(list.len());
    let mut seen = BTreeSet::new();
    for (at, entry) in list.iter().enumerate() {
        let is_known =
            if list.len() > COMPARED_MAX { !seen.insert(entry) } else { list[..at].contains(entry) };
        if is_known {
            continue;
        }
        let Some(scheme) = entry.id.scheme.as_deref() else { return Err(Code::InvalidAcl) };
        if scheme == "auth" {
            let before = fixed.len();
            fixed.extend(
                identities
                    .list()
                    .iter()
                    .filter(|id| auth::is_authenticated(&id.scheme))
                    .map(|id| Acl { perms: entry.perms, id: id.clone() }),
            );
            if fixed.len() == before {
                return Err(Code::InvalidAcl);
            }
            continue;
        }
        let known = match scheme {
            "world" | "ip" => true,
            "digest" => !options.digest_disabled,
            _ => false,
        };
        if !known {
            return Err(Code::InvalidAcl);
        }
        let Some(id) = entry.id.id.as_deref() else { return Err(Code::MarshallingError) };
        let valid = match scheme {
            "world" => id == "anyone",
            "ip" => parse_prefix(id).is_some(),
            _ => auth::is_digest_id(id),
        };
        if !valid {
            return Err(Code::InvalidAcl);
        }
        fixed.push(Acl { perms: entry.perms, id: Id::new(scheme, id) });
    }
    Ok(fixed)
}

/// In a list of so many each entry is compared with all before it. A longer one, and 20,000 entries are legal, would cost
/// its square.
const COMPARED_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{IdRef, Perms};
    use std::borrow::Cow;

    fn entry<'a>(scheme: Option<&'a str>, id: Option<&'a str>) -> AclRef<'a> {
        AclRef {
            perms: Perms::ALL,
            id: IdRef { scheme: scheme.map(Cow::Borrowed), id: id.map(Cow::Borrowed) },
        }
    }

    #[test]
    fn an_entry_is_kept_once_however_long_the_list_is_tr25() {
        for n in [2, 31, 32, 33, 300] {
            let texts: Vec<String> = (0..n).map(|k| format!("10.0.{}.{}", k / 256, k % 256)).collect();
            let list: Vec<_> = texts.iter().map(|text| entry(Some("ip"), Some(text))).collect();
            let twice = [list.clone(), list].concat();
            let got = fix_up(Some(&twice), &Identities::new(b""), Options::default()).unwrap();
            let got: Vec<&str> = got.iter().map(|acl| &*acl.id.id).collect();
            assert_eq!(got, texts, "the first of each, in order, of {n}");
        }
    }

    #[test]
    fn lists_are_fixed_up_as_zookeeper_does_tr25() {
        let bob = Id::new("digest", "bob:x");
        let ip = Id::new("ip", "127.0.0.1");
        for (name, list, identities, want) in [
            ("empty", vec![], vec![], Err(Code::InvalidAcl)),
            ("null scheme", vec![entry(None, Some("x"))], vec![], Err(Code::InvalidAcl)),
            ("null id", vec![entry(Some("world"), None)], vec![], Err(Code::MarshallingError)),
            ("other world", vec![entry(Some("world"), Some("x"))], vec![], Err(Code::InvalidAcl)),
            ("unknown scheme", vec![entry(Some("x"), Some("x"))], vec![], Err(Code::InvalidAcl)),
            ("bad digest", vec![entry(Some("digest"), Some("x"))], vec![], Err(Code::InvalidAcl)),
            ("bad ip", vec![entry(Some("ip"), Some("x"))], vec![], Err(Code::InvalidAcl)),
            ("auth of nobody", vec![entry(Some("auth"), None)], vec![ip.clone()], Err(Code::InvalidAcl)),
            ("auth of bob", vec![entry(Some("auth"), Some(""))], vec![ip, bob.clone()], Ok(vec![bob])),
            (
                "twice the same",
                vec![entry(Some("world"), Some("anyone")), entry(Some("world"), Some("anyone"))],
                vec![],
                Ok(vec![Id::new("world", "anyone")]),
            ),
        ] {
            let mut bytes = Vec::new();
            for id in &identities {
                crate::wire::put_string(&mut bytes, &id.scheme);
                crate::wire::put_string(&mut bytes, &id.id);
            }
            let got = fix_up(Some(&list), &Identities::new(&bytes), Options::default());
            assert_eq!(
                got.map(|list| list.into_iter().map(|acl| acl.id).collect::<Vec<_>>()),
                want,
                "{name}"
            );
        }
    }
}
