//! zoo.cfg as text: Java's properties syntax, read as `java.util.Properties` reads it.
//!
//! Comments (`#`, `!`), the three separators (`=`, `:`, white space), continuation lines, `\t` and `\uXXXX`
//! escapes. Only two things differ from Java: bytes are UTF-8 where they are valid UTF-8 (Java takes them for
//! Latin-1, which spoils paths with other letters), and every property remembers its line for error messages.
//! ZooKeeper trims keys and values after the parser has seen them; so do we.

/// One `key=value` of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    /// The line on which it starts, from 1.
    pub line: u32,
    /// The key, unescaped and trimmed.
    pub key: String,
    /// The value, unescaped and trimmed; may be empty.
    pub value: String,
}

/// A `\u` that four hex digits do not follow; Java refuses the whole file for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEscape {
    /// The line on which the property starts, from 1.
    pub line: u32,
}

/// All properties in the file's order; a key that is written twice comes twice.
pub fn parse_properties(bytes: &[u8]) -> Result<Vec<Property>, BadEscape> {
    let text = decode(bytes);
    let mut properties = Vec::new();
    let mut lines = natural_lines(&text);
    while let Some((number, first)) = lines.next() {
        let first = first.trim_start_matches(WHITE_SPACE);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = String::new();
        let mut piece = first;
        // A continuation line is never a comment, and an empty one ends the property: both as in Java.
        while ends_with_open_backslash(piece) {
            logical.push_str(&piece[..piece.len() - 1]);
            piece = lines.next().map_or("", |(_, next)| next.trim_start_matches(WHITE_SPACE));
        }
        logical.push_str(piece);
        properties.push(parse_property(number, &logical)?);
    }
    Ok(properties)
}

/// One logical line, as `ZOO_CFG_EXTRA` holds them too.
pub fn parse_property(line: u32, logical: &str) -> Result<Property, BadEscape> {
    let (key, value) = split_key(logical);
    let unescape = |text| unescape(text).ok_or(BadEscape { line });
    Ok(Property { line, key: unescape(key)?.trim().to_owned(), value: unescape(value)?.trim().to_owned() })
}

const WHITE_SPACE: [char; 3] = [' ', '\t', '\x0c'];

fn decode(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes)
        .map_or_else(|_| bytes.iter().map(|&byte| char::from(byte)).collect(), ToOwned::to_owned);
    // Windows editors leave this mark; to Java it would be part of the first key.
    text.strip_prefix('\u{feff}').map_or(text.clone(), ToOwned::to_owned)
}

/// Lines ended by `\n`, `\r` or `\r\n`, numbered from 1.
fn natural_lines(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut rest = Some(text);
    let mut number = 0;
    std::iter::from_fn(move || {
        let text = rest?;
        number += 1;
        match text.find(['\n', '\r']) {
            None => {
                rest = None;
                Some((number, text))
            }
            Some(end) => {
                let length = if text[end..].starts_with("\r\n") { 2 } else { 1 };
                rest = Some(&text[end + length..]);
                Some((number, &text[..end]))
            }
        }
    })
}

fn ends_with_open_backslash(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

/// The key ends at the first separator that no backslash protects; white space around one `=` or `:` belongs to it.
fn split_key(logical: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = logical
        .char_indices()
        .find(|&(_, c)| {
            let separates = !escaped && (c == '=' || c == ':' || WHITE_SPACE.contains(&c));
            escaped = c == '\\' && !escaped;
            separates
        })
        .map_or(logical.len(), |(at, _)| at);
    let (key, rest) = logical.split_at(end);
    let rest = rest.trim_start_matches(WHITE_SPACE);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(WHITE_SPACE))
}

fn unescape(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return Some(text.to_owned());
    }
    // UTF-16 units, because two `\u` escapes may be the halves of one letter.
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = if c != '\\' {
            c
        } else {
            match chars.next()? {
                'u' => {
                    let digits = chars.as_str().get(..4)?;
                    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                        return None;
                    }
                    units.push(u16::from_str_radix(digits, 16).ok()?);
                    chars = chars.as_str()[4..].chars();
                    continue;
                }
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                'f' => '\x0c',
                other => other,
            }
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(bytes: &[u8]) -> Vec<(u32, String, String)> {
        parse_properties(bytes).unwrap().into_iter().map(|p| (p.line, p.key, p.value)).collect()
    }

    #[test]
    fn the_syntax_is_javas() {
        for (text, key, value) in [
            ("a=1", "a", "1"),
            ("a:1", "a", "1"),
            ("a 1", "a", "1"),
            ("a\t\x0c 1", "a", "1"),
            ("  a  =  1  ", "a", "1"),
            ("a = = 1", "a", "= 1"),
            ("a", "a", ""),
            ("a=", "a", ""),
            ("=v", "", "v"),
            ("a=b=c:d", "a", "b=c:d"),
            (r"a\=b=c", "a=b", "c"),
            (r"a\:b c", "a:b", "c"),
            (r"a\ b=c", "a b", "c"),
            (r"path=C\:\\data", "path", r"C:\data"),
            (r"a=x\ty", "a", "x\ty"),
            (r"a=\u0041\u00e9", "a", "A\u{e9}"),
            (r"a=\ud83d\ude00", "a", "\u{1f600}"),
            (r"a=\z", "a", "z"),
            ("a=1 # no comment here", "a", "1 # no comment here"),
            ("a=x,\\\n   y", "a", "x,y"),
            ("a=x\\\r\n\ty", "a", "x y".replace(' ', "").as_str()),
            ("a=x\\\n# y", "a", "x# y"),
            ("a=x\\\\", "a", r"x\"),
            ("a=x\\", "a", "x"),
            ("a\\\n=1", "a", "1"),
            ("a=ö", "a", "ö"),
        ] {
            assert_eq!(pairs(text.as_bytes()), [(1, key.to_owned(), value.to_owned())], "{text:?}");
        }
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_are_counted() {
        let text = "# one\n\n  ! two \\\n\ta=1\r\nb=2\\\n\n c=3\r\r d=4\nd=5";
        let want = [(4, "a", "1"), (5, "b", "2"), (7, "c", "3"), (9, "d", "4"), (10, "d", "5")];
        assert_eq!(pairs(text.as_bytes()), want.map(|(n, k, v)| (n, k.to_owned(), v.to_owned())));
        assert_eq!(pairs(b""), []);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_latin1_and_a_mark_is_dropped() {
        assert_eq!(pairs(b"a=\xe9"), [(1, "a".to_owned(), "\u{e9}".to_owned())]);
        assert_eq!(pairs(b"\xef\xbb\xbfa=1"), [(1, "a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn a_broken_unicode_escape_is_refused_with_its_line() {
        for text in [r"a=\u12", r"a=\u12g4", r"a=\u+123", r"a=\u", "a=\\uöö"] {
            assert_eq!(
                parse_properties(format!("\n{text}").as_bytes()),
                Err(BadEscape { line: 2 }),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse_properties(&bytes);
        }
    }
}
