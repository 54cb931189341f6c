//! Access control lists: interned, and judged.
//!
//! Many znodes share few lists: a znode holds a number, and each owner's table the list behind it.

use crate::ids::plain_ip;
use crate::wire::{Acl, Id, Perms};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A list's number in the state. One list at a time has it: behind the last number come those again that are free.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct AclId(pub u32);

impl AclId {
    /// world:anyone may do all: what most znodes have.
    pub const OPEN: AclId = AclId(0);
    /// world:anyone may read: /zookeeper/config.
    pub const READ_ONLY: AclId = AclId(1);
    /// The first number that is given to a client's list.
    pub const FIRST_FREE: AclId = AclId(2);
}

/// An access control list.
pub type AclList = Arc<[Acl]>;

/// A list as one table knows it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub list: AclList,
    /// How many came into the table before it. Other than its number, no other list of the table ever has it.
    arrival: u64,
}

/// The lists of one owner's table.
#[derive(Clone, Debug)]
pub struct AclTable {
    lists: BTreeMap<AclId, Listed>,
    /// How many lists ever came.
    arrivals: u64,
}

impl Default for AclTable {
    fn default() -> Self {
        let world = |perms| -> AclList { Arc::new([Acl { perms, id: Id::new("world", "anyone") }]) };
        let mut table = AclTable { lists: BTreeMap::new(), arrivals: 0 };
        table.insert(AclId::OPEN, world(Perms::ALL));
        table.insert(AclId::READ_ONLY, world(Perms::READ));
        table
    }
}

impl AclTable {
    /// The list of a number. A znode's number is always there: that is apply's invariant.
    #[must_use]
    pub fn list(&self, id: AclId) -> &AclList {
        &self.listed(id).list
    }

    /// The same with what tells it from those that had its number before, for who keeps it or judges it.
    #[must_use]
    pub fn listed(&self, id: AclId) -> &Listed {
        self.lists.get(&id).expect("a znode's ACL is in the table before the znode is")
    }

    /// Adds a list.
    pub fn insert(&mut self, id: AclId, list: AclList) {
        self.lists.insert(id, Listed { list, arrival: self.arrivals });
        self.arrivals += 1;
    }

    /// Forgets a list that no znode has any more.
    pub fn remove(&mut self, id: AclId) {
        self.lists.remove(&id);
    }

    /// All lists by number.
    pub fn iter(&self) -> impl Iterator<Item = (AclId, &AclList)> {
        self.lists.iter().map(|(id, listed)| (*id, &listed.list))
    }

    /// Whether somebody with these identities may do any of `wanted` to a znode with this list. `judged` is what was found
    /// of these identities before.
    #[must_use]
    #[inline]
    pub fn allows(&self, id: AclId, wanted: Perms, identities: &[Id], judged: &Judged) -> bool {
        id == AclId::OPEN || judged.allows(self.listed(id), wanted, identities)
    }
}

/// What was found of one set of identities, where it was dear to find: a list of 1,000 entries and 64 identities take 0.3 ms,
/// and a client may ask for it 60,000 times in one frame. It stands by the list's arrival, for a number may come again with
/// another list; nothing here keeps a dropped list in memory. With other identities, and with another table, it must be a
/// new one.
#[derive(Debug, Default)]
pub struct Judged(RefCell<BTreeMap<(u64, i32), bool>>);

impl Judged {
    /// Comparisons that are done again rather than remembered.
    const CHEAP: usize = 64;
    /// So many lists of a size worth remembering are a gigabyte of lists.
    const REMEMBERED_MAX: usize = 16_384;

    /// Whether nothing of it would be remembered.
    #[must_use]
    pub fn is_cheap(list: &[Acl], identities: &[Id]) -> bool {
        list.len() * identities.len() <= Self::CHEAP
    }

    /// `list_allows` of this list.
    #[must_use]
    pub fn allows(&self, listed: &Listed, wanted: Perms, identities: &[Id]) -> bool {
        let Listed { list, arrival } = listed;
        if Judged::is_cheap(list, identities) {
            return list_allows(list, wanted, identities);
        }
        let mut known = self.0.borrow_mut();
        if let Some(allows) = known.get(&(*arrival, wanted.0)) {
            return *allows;
        }
        let allows = list_allows(list, wanted, identities);
        if known.len() >= Self::REMEMBERED_MAX {
            known.clear();
        }
        known.insert((*arrival, wanted.0), allows);
        allows
    }
}

/// ZooKeeper's checkACL: an empty list allows, super may do all, and the schemes match each in its own way.
#[must_use]
pub fn list_allows(list: &[Acl], wanted: Perms, identities: &[Id]) -> bool {
    if list.is_empty() || identities.iter().any(|id| &*id.scheme == "super") {
        return true;
    }
    list.iter().any(|acl| {
        acl.perms.any_of(wanted)
            && (is_anyone(&acl.id)
                || identities.iter().any(|id| id.scheme == acl.id.scheme && id_matches(&acl.id, &id.id)))
    })
}

fn is_anyone(id: &Id) -> bool {
    &*id.scheme == "world" && &*id.id == "anyone"
}

fn id_matches(acl: &Id, identity: &str) -> bool {
    match &*acl.scheme {
        "ip" => match (parse_prefix(&acl.id), identity.parse::<IpAddr>()) {
            (Some((network, bits)), Ok(address)) => prefix_matches(network, bits, plain_ip(address)),
            _ => false,
        },
        "digest" | "sasl" | "x509" | "auth" => &*acl.id == identity,
        _ => false,
    }
}

/// Reads `address` or `address/bits` as ZooKeeper's IPAuthenticationProvider does; `None` is not one (fix-up then says
/// InvalidACL). Its numbers are those of Java's parseInt, and so are Rust's: decimal in spite of leading zeros, with a sign.
#[must_use]
pub fn parse_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        None => (text, None),
        Some((address, bits)) => (address, Some(bits.parse::<i32>().ok()?)),
    };
    let (address, width) = match address.contains(':') {
        true => (IpAddr::V6(parse_v6(address)?), 128),
        false => (IpAddr::V4(parse_v4(address)?), 32),
    };
    let bits = u8::try_from(bits.unwrap_or(width)).ok()?;
    (i32::from(bits) <= width).then_some((address, bits))
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        *byte = u8::try_from(parts.next()?.parse::<i32>().ok()?).ok()?;
    }
    parts.next().is_none().then(|| bytes.into())
}

/// `::` stands for one segment at least, and no dotted address ends it.
fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    let mut segments = [0; 8];
    let Some((head, tail)) = text.split_once("::") else {
        return (parse_segments(text, &mut segments)? == 8).then(|| segments.into());
    };
    let mut last = [0; 8];
    let (before, behind) = (parse_segments(head, &mut segments)?, parse_segments(tail, &mut last)?);
    if before + behind >= 8 {
        return None;
    }
    segments[8 - behind..].copy_from_slice(&last[..behind]);
    Some(segments.into())
}

/// Reads what stands on one side of `::`, which may be nothing, and counts it.
fn parse_segments(text: &str, into: &mut [u16; 8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let mut count = 0;
    for segment in text.split(':') {
        if segment.len() > 4 {
            return None;
        }
        // A sign is taken here too: -1 is ffff.
        *into.get_mut(count)? = i32::from_str_radix(segment, 16).ok()? as u16;
        count += 1;
    }
    Some(count)
}

fn prefix_matches(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(n) & mask == u32::from(a) & mask
        }
        (IpAddr::V6(n), IpAddr::V6(a)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(n) & mask == u128::from(a) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(perms: Perms, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Id::new(scheme, id) }
    }

    #[test]
    fn acls_allow_what_zookeeper_allows() {
        let bob = Id::new("digest", "bob:x");
        let here = Id::new("ip", "10.1.2.3");
        let root = Id::new("super", "");
        for (name, list, identities, want) in [
            ("an empty list allows", vec![], vec![], true),
            ("anyone", vec![acl(Perms::READ, "world", "anyone")], vec![], true),
            ("anyone, other bit", vec![acl(Perms::WRITE, "world", "anyone")], vec![], false),
            ("digest equal", vec![acl(Perms::ALL, "digest", "bob:x")], vec![bob.clone()], true),
            ("digest other", vec![acl(Perms::ALL, "digest", "eve:x")], vec![bob.clone()], false),
            ("super", vec![acl(Perms(0), "digest", "eve:x")], vec![root], true),
            ("ip prefix", vec![acl(Perms::ALL, "ip", "10.1.0.0/16")], vec![here.clone()], true),
            ("ip other", vec![acl(Perms::ALL, "ip", "10.2.0.0/16")], vec![here.clone()], false),
            ("ip /0", vec![acl(Perms::ALL, "ip", "0.0.0.0/0")], vec![here.clone()], true),
            ("ip with zeros", vec![acl(Perms::ALL, "ip", "010.001.002.003")], vec![here.clone()], true),
            ("ip family", vec![acl(Perms::ALL, "ip", "::/0")], vec![here], false),
            (
                "ipv6",
                vec![acl(Perms::ALL, "ip", "FE80::/10")],
                vec![Id::new("ip", "fe80:0:0:0:0:0:0:1")],
                true,
            ),
            ("unknown scheme", vec![acl(Perms::ALL, "nobody", "bob:x")], vec![bob], false),
        ] {
            assert_eq!(list_allows(&list, Perms::READ, &identities), want, "{name}");
        }
    }

    #[test]
    fn what_was_found_once_is_found_again_and_only_where_it_was_dear() {
        let list = |n: u8| -> Vec<Acl> {
            (0..100).map(|k| acl(Perms(1 << (k % 2)), "digest", &format!("{n}:{k}"))).collect()
        };
        let identities = [Id::new("digest", "1:99"), Id::new("digest", "2:0")];
        let judged = Judged::default();
        for _ in 0..2 {
            for (n, wanted, want) in [
                (1, Perms::READ, false),
                (1, Perms::WRITE, true),
                (2, Perms::READ, true),
                (3, Perms::READ, false),
            ] {
                let listed = Listed { list: list(n).into(), arrival: n.into() };
                let found = judged.allows(&listed, wanted, &identities);
                assert_eq!(found, want, "{n} {wanted:?}");
            }
            assert_eq!(judged.0.borrow().len(), 4);
        }
        let short = Listed { list: list(2)[..10].into(), arrival: 9 };
        assert!(judged.allows(&short, Perms::READ, &identities));
        assert_eq!(judged.0.borrow().len(), 4, "a short one is judged anew");
    }

    #[test]
    fn a_number_that_comes_again_is_judged_anew() {
        let long = |who: &str| -> AclList { vec![acl(Perms::READ, "digest", who); 100].into() };
        let (bob, judged) = ([Id::new("digest", "bob:x")], Judged::default());
        let mut table = AclTable::default();
        let kept = AclId(8);
        table.insert(kept, long("bob:x"));
        for (who, want) in [("bob:x", true), ("eve:x", false), ("bob:x", true)] {
            table.insert(AclId(7), long(who));
            // An event waits with the list of its time.
            let waiting = table.listed(AclId(7)).clone();
            assert_eq!(table.allows(AclId(7), Perms::READ, &bob, &judged), want, "{who}");
            table.remove(AclId(7));
            table.insert(AclId(7), long(if want { "eve:x" } else { "bob:x" }));
            assert_eq!(table.allows(AclId(7), Perms::READ, &bob, &judged), !want, "the one after {who}");
            assert_eq!(judged.allows(&waiting, Perms::READ, &bob), want, "what waits since {who}");
            table.remove(AclId(7));
            assert!(table.allows(kept, Perms::READ, &bob, &judged));
        }
        // Each list was judged once, the one that stays too.
        assert_eq!(judged.0.borrow().len(), 7);
    }

    #[test]
    fn prefixes_are_checked() {
        for (text, want) in [
            ("1.2.3.4", Some(("1.2.3.4", 32))),
            ("1.2.3.4/32", Some(("1.2.3.4", 32))),
            ("010.001.002.003/08", Some(("10.1.2.3", 8))),
            ("+1.-0.2.0000000000003/+0", Some(("1.0.2.3", 0))),
            ("1.2.3.4/33", None),
            ("1.2.3.4/-1", None),
            ("1.2.3.4/", None),
            ("1.2.3.4/8/8", None),
            ("1.2.3.256", None),
            ("1.2.3.-1", None),
            ("1.2.3.4.5", None),
            ("1.2..4", None),
            ("1.2/8", None),
            ("x", None),
            ("", None),
            ("/0", None),
            ("::", Some(("::", 128))),
            ("::1/128", Some(("::1", 128))),
            ("::1/129", None),
            ("1::/256", None),
            ("0:0:0:0:0:0:0:1", Some(("::1", 128))),
            ("2001:DB8::00a:b/032", Some(("2001:db8::a:b", 32))),
            ("1:2:3:4:5:6:7::", Some(("1:2:3:4:5:6:7:0", 128))),
            ("::2:3:4:5:6:7:8", Some(("0:2:3:4:5:6:7:8", 128))),
            ("-1::", Some(("ffff::", 128))),
            ("1:2:3:4:5:6:7::8", None),
            ("1:2:3:4:5:6:7", None),
            ("1:2:3:4:5:6:7:8:9", None),
            ("1::2::3", None),
            (":::", None),
            (":1", None),
            ("1:", None),
            ("::00001", None),
            ("::g", None),
            ("::ffff:10.1.2.3", None),
            ("fe80::1%eth0", None),
        ] {
            let want = want.map(|(address, bits): (&str, u8)| (address.parse::<IpAddr>().unwrap(), bits));
            assert_eq!(parse_prefix(text), want, "{text}");
        }
    }
}
