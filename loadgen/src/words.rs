//! The four-letter words of a server, asked from outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The answer; `None`: there is none within a second, or none that is text.
#[must_use]
pub fn ask(server: SocketAddr, word: &str) -> Option<String> {
    let wait = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&server, wait).ok()?;
    stream.set_read_timeout(Some(wait)).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    let mut text = String::new();
    stream.take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text).filter(|text| !text.is_empty())
}
