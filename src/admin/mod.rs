//! What operators see: the four-letter words, in ZooKeeper 3.9.5's texts to the letter where tools parse them.
//!
//! Pure: `host` gathers a [`View`], plain copies of what the machines know, and [`answer`] writes the text. It says
//! beforehand what a word [`Needs`], so that nothing is gathered in vain. No word changes anything here: `crst`,
//! `srst` and `stmk` are carried out by `host`, their answers are written here.

mod lists;
mod mntr;
mod summary;
mod text;
mod view;

#[cfg(test)]
mod tests;

pub use view::{Build, Files, Leading, Members, Process, Role, Sessions, Summary, Totals, View};

use crate::config::FourLetterWords;

/// What is said instead of an answer while the server does not serve.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";
/// The trace mask of a server that nobody set one on.
pub const TRACE_MASK: i64 = 306;

/// What a word's answer is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// `View::serving`.
    pub serving: bool,
    /// `View::totals`.
    pub totals: bool,
    /// Connections, paths and registrations of watches.
    pub watch_summary: bool,
    /// `View::connections`.
    pub connections: bool,
    /// `View::watches`.
    pub watches: bool,
    /// `View::sessions`.
    pub sessions: bool,
    /// `View::digests`.
    pub digests: bool,
    /// `View::files`.
    pub files: bool,
    /// `View::process`.
    pub process: bool,
}

impl Needs {
    /// What the word needs; `None` for what is no word.
    #[must_use]
    pub fn of(word: &[u8; 4]) -> Option<Needs> {
        let nothing = Needs::default();
        let served = Needs { serving: true, ..nothing };
        Some(match word {
            b"ruok" | b"gtmk" | b"stmk" => nothing,
            b"envi" => Needs { process: true, ..nothing },
            b"isro" | b"crst" | b"srst" => served,
            b"srvr" => Needs { totals: true, ..served },
            b"mntr" => Needs { totals: true, process: true, ..served },
            b"stat" => Needs { totals: true, connections: true, ..served },
            b"cons" => Needs { connections: true, ..served },
            b"dump" => Needs { sessions: true, connections: true, ..served },
            b"wchs" => Needs { watch_summary: true, ..served },
            b"wchc" | b"wchp" => Needs { watches: true, ..served },
            b"conf" | b"dirs" => Needs { files: true, ..served },
            b"hash" => Needs { digests: true, ..served },
            _ => return None,
        })
    }

    /// Whether it makes shards or the sequencer copy lists, or somebody format them.
    #[must_use]
    pub fn is_costly(self) -> bool {
        self.connections || self.watches || self.watch_summary || self.sessions
    }

    /// Whether anything has to be asked of another thread or of the file system.
    #[must_use]
    pub fn asks(self) -> bool {
        self.serving
    }
}

/// The text that says that a word is not allowed. `None`: it is allowed.
#[must_use]
pub fn refusal(word: &[u8; 4], allowed: &FourLetterWords) -> Option<Vec<u8>> {
    let word = std::str::from_utf8(word).unwrap_or_default();
    if allowed.allows(word) {
        return None;
    }
    Some(format!("{word} is not executed because it is not in the whitelist.\n").into_bytes())
}

/// The answer to an allowed word. `None` closes the connection without a byte: no such word, or a `stmk` that came
/// without its mask (for which `host` puts none into the view).
#[must_use]
pub fn answer(word: &[u8; 4], view: &View) -> Option<Vec<u8>> {
    let needs = Needs::of(word)?;
    if needs.serving && !view.serving {
        return Some(match word {
            b"isro" => b"null".to_vec(),
            b"hash" => NOT_SERVING.into(),
            _ => format!("{NOT_SERVING}\n").into_bytes(),
        });
    }
    let text = match word {
        b"ruok" => "imok".to_owned(),
        b"isro" if view.role == Role::ReadOnly => "ro".to_owned(),
        b"isro" => "rw".to_owned(),
        b"gtmk" | b"stmk" => view.trace_mask?.to_string(),
        b"crst" => "Connection stats reset.\n".to_owned(),
        b"srst" => "Server stats reset.\n".to_owned(),
        b"srvr" => summary::srvr(view),
        b"stat" => summary::stat(view),
        b"conf" => summary::conf(view),
        b"envi" => summary::envi(view),
        b"dirs" => summary::dirs(view),
        b"wchs" => summary::wchs(view),
        b"mntr" => mntr::mntr(view),
        b"cons" => lists::cons(view),
        b"dump" => lists::dump(view),
        b"wchc" => lists::wchc(view),
        b"wchp" => lists::wchp(view),
        b"hash" => lists::hash(view),
        _ => return None,
    };
    Some(text.into_bytes())
}
