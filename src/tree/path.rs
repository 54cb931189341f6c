//! Paths: a thin shared string, and ZooKeeper's rules for what is one.

use super::warm;
use crate::error::Code;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use triomphe::ThinArc;

/// A znode's path, shared by the znode, the tables and the watches: one pointer of 8 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(ThinArc<(), u8>);

impl Path {
    /// A shared copy of `path`.
    #[must_use]
    pub fn new(path: &str) -> Path {
        Path(ThinArc::from_header_and_slice((), path.as_bytes()))
    }

    /// Its UTF-8.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// Whether it is the same path: most often the very same allocation, and then neither is looked at.
    #[inline]
    #[must_use]
    pub fn is(&self, other: &Path) -> bool {
        self.0.as_ptr() == other.0.as_ptr() || self.as_bytes() == other.as_bytes()
    }

    /// Asks for its memory.
    #[inline]
    pub(super) fn warm(&self) {
        warm::ask(self.0.as_ptr());
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("a path is made from a str")
    }

    /// The last component, as bytes: what getChildren lists.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let bytes = self.as_bytes();
        let slash = bytes.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        &bytes[slash..]
    }
}

impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Path {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tree's root.
pub const ROOT: &str = "/";
/// What the server keeps for itself.
pub const ZOOKEEPER: &str = "/zookeeper";
/// Above every quota.
pub const QUOTA: &str = "/zookeeper/quota";
/// The committed membership.
pub const CONFIG: &str = "/zookeeper/config";

/// Whether the path can not be deleted by anyone.
#[must_use]
pub fn is_protected(path: &str) -> bool {
    matches!(path, ROOT | ZOOKEEPER | QUOTA | CONFIG)
}

/// The first component: ZooKeeper's "top namespace". Empty for the root.
#[must_use]
pub fn top(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// The text before the last slash; the root's children have the root. `None` without any slash.
#[inline]
#[must_use]
pub fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 => Some(ROOT),
        at => Some(&path[..at]),
    }
}

/// The first check of create and delete: a slash and no NUL; the parent it names. A malformed rest shows later, or
/// as NoNode (TR19 and chapter 3.2 of the wire notes).
pub fn coarse_parent(path: &str) -> Result<&str, Code> {
    if path.contains('\0') {
        return Err(Code::BadArguments);
    }
    parent(path).ok_or(Code::BadArguments)
}

/// ZooKeeper's PathUtils.validatePath. ZooKeeper looks at UTF-16 units, so every character beyond the basic plane is
/// refused as a surrogate; the private use area is refused with it.
pub fn validate(path: &str) -> Result<(), Code> {
    let bad = Err(Code::BadArguments);
    if !path.starts_with('/') {
        return bad;
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.ends_with('/') {
        return bad;
    }
    for component in path.as_bytes()[1..].split(|byte| *byte == b'/') {
        if matches!(component, b"" | b"." | b"..") {
            return bad;
        }
    }
    let is_plain = path.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !is_plain && path.chars().any(is_forbidden) {
        return bad;
    }
    Ok(())
}

fn is_forbidden(c: char) -> bool {
    matches!(c as u32, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff | 0x1_0000..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_rules_are_zookeepers() {
        for (path, ok) in [
            ("/", true),
            ("/a", true),
            ("/a/b", true),
            ("/...", true),
            ("/.a", true),
            ("/a.", true),
            ("/a/..b", true),
            ("/\u{a0}", true),
            ("/\u{f900}", true),
            ("", false),
            ("a", false),
            ("/a/", false),
            ("//", false),
            ("//a", false),
            ("/a//b", false),
            ("/.", false),
            ("/a/..", false),
            ("/../a", false),
            ("/a\0", false),
            ("/a\u{1f}", false),
            ("/a\u{7f}", false),
            ("/a\u{9f}", false),
            ("/\u{e000}", false),
            ("/\u{f8ff}", false),
            ("/\u{fff0}", false),
            ("/\u{1f600}", false),
        ] {
            assert_eq!(validate(path).is_ok(), ok, "{path:?}");
        }
    }

    #[test]
    fn the_same_path_is_the_same_in_another_allocation() {
        let path = Path::new("/a/b");
        for (other, want) in [
            (path.clone(), true),
            (Path::new("/a/b"), true),
            (Path::new("/a/c"), false),
            (Path::new("/a"), false),
        ] {
            assert_eq!(path.is(&other), want, "{}", other.as_str());
        }
    }

    #[test]
    fn a_parent_is_the_text_before_the_last_slash() {
        for (path, want) in
            [("/a", Some("/")), ("/a/b", Some("/a")), ("//a", Some("/")), ("/t//b", Some("/t/")), ("a", None)]
        {
            assert_eq!(parent(path), want, "{path}");
        }
        assert_eq!(Path::new("/a/bc").name(), b"bc");
        assert_eq!([top("/"), top("/a"), top("/a/b")], ["", "a", "a"]);
        assert_eq!(std::mem::size_of::<Path>(), 8);
    }
}
