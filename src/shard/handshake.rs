//! The first frame: a connect request, or a four-letter word.

use super::connection::{Connection, Phase};
use super::{Shard, Why, Word};
use crate::handoff::Wish;
use crate::ids::{Millis, SessionId, Xid};
use crate::tree::warm::AHEAD;
use crate::tree::{Answer, Granted};
use crate::wire::{first_string, next_frame, ConnectRequest, ConnectResponse, Frame, OpCode, PASSWORD_BYTES};
use smallvec::SmallVec;

/// The words that ZooKeeper knows. Anything else is taken as a length.
const WORDS: [&[u8; 4]; 18] = [
    b"ruok", b"srvr", b"stat", b"mntr", b"conf", b"cons", b"crst", b"srst", b"dump", b"envi", b"wchs",
    b"wchc", b"wchp", b"dirs", b"gtmk", b"stmk", b"isro", b"hash",
];

impl Shard {
    /// Handles frames from the front of `bytes`; says how many bytes were used.
    pub(super) fn take_frames(&mut self, now: Millis, c: &mut Connection, bytes: &[u8]) -> usize {
        let mut used = 0;
        let mut warm = 0;
        while !self.is_paused(c) {
            let rest = &bytes[used..];
            match c.phase {
                Phase::Done | Phase::Closing | Phase::Word => return bytes.len(),
                Phase::Fresh | Phase::Live | Phase::Handshaking { .. } => {}
            }
            if c.phase == Phase::Fresh {
                if self.take_word(now, c, rest) {
                    return bytes.len();
                }
                if rest.starts_with(b"stmk") {
                    break;
                }
            }
            match next_frame(rest, self.options.frame_bytes_max) {
                Frame::Whole(frame) => {
                    used += 4 + frame.len();
                    // Where one alone came there is nothing to look ahead to.
                    if warm == 0 && used < bytes.len() && c.phase == Phase::Live {
                        self.warm(c, rest);
                        warm = AHEAD;
                    }
                    warm = warm.saturating_sub(1);
                    if c.phase == Phase::Fresh {
                        self.handle_handshake(now, c, frame);
                    } else {
                        self.handle_frame(now, c, frame);
                    }
                }
                Frame::Partial { .. } => break,
                Frame::BadLength(_) => {
                    self.cut(c, Why::BadLength);
                    return bytes.len();
                }
            }
        }
        used
    }

    /// Asks for the znodes that the next few requests look up, as far as they are answered at once.
    fn warm(&self, c: &Connection, bytes: &[u8]) {
        if !c.pending.is_empty() {
            return;
        }
        let mut rest = bytes;
        let frames = std::iter::from_fn(|| {
            let Frame::Whole(frame) = next_frame(rest, self.options.frame_bytes_max) else { return None };
            rest = &rest[4 + frame.len()..];
            Some(frame)
        });
        self.warm_lookups(frames);
    }

    /// Asks for the znodes that these requests look up, up to the first that is no lookup. One alone gains nothing.
    pub(super) fn warm_lookups<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) {
        let paths: SmallVec<[&[u8]; AHEAD]> = frames.map_while(looked_up).take(AHEAD).collect();
        if paths.len() > 1 {
            self.table.warm(paths.into_iter());
        }
    }

    /// Asks for the znodes that the first requests of several connections look up. What begins in the middle of a frame
    /// asks for something else, which costs little.
    pub fn warm_first<'a>(&self, inputs: impl Iterator<Item = &'a [u8]>) {
        let path = |bytes: &'a [u8]| match next_frame(bytes, self.options.frame_bytes_max) {
            Frame::Whole(frame) => looked_up(frame),
            _ => None,
        };
        let paths: SmallVec<[&[u8]; AHEAD]> = inputs.filter_map(path).take(AHEAD).collect();
        if paths.len() > 1 {
            self.table.warm(paths.into_iter());
        }
    }

    pub(super) fn take_kept_frames(&mut self, now: Millis, c: &mut Connection) {
        let kept = std::mem::take(&mut c.input);
        let used = self.take_frames(now, c, &kept);
        if used < kept.len() && !c.is_done() {
            c.input = if used == 0 { kept } else { kept[used..].to_vec() };
        }
        if c.input_ended && self.is_through(c) {
            c.phase = Phase::Done;
        }
    }

    /// TR33: a word counts as the first four bytes of a connection only.
    fn take_word(&mut self, now: Millis, c: &mut Connection, bytes: &[u8]) -> bool {
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return false };
        if !WORDS.contains(&head) {
            return false;
        }
        let mut argument = None;
        if head == b"stmk" {
            match rest.first_chunk::<8>() {
                Some(mask) => argument = Some(i64::from_be_bytes(*mask)),
                // Its eight bytes are still to come.
                None if !c.input_ended => return false,
                None => {}
            }
        }
        c.phase = Phase::Word;
        c.asked_word_at = now;
        self.handshakes.push_back((now, c.id));
        self.words.push_back(Word { conn: c.id, word: *head, argument });
        true
    }

    fn handle_handshake(&mut self, now: Millis, c: &mut Connection, frame: &[u8]) {
        // An empty frame and a short record end the same way: closed, without a byte.
        let Ok(request) = ConnectRequest::decode(frame) else { return self.cut(c, Why::BadHandshake) };
        if !self.serving {
            return self.cut(c, Why::NotServing);
        }
        // Reads of the strict listener would wait for a leader.
        if self.read_only && (request.read_only != Some(true) || c.strict.is_some()) {
            return self.cut(c, Why::ServesReadOnly);
        }
        if request.last_zxid_seen > self.last_zxid.0 {
            // TR15: the driver has drained all publications, so the server itself has not seen it.
            return self.cut(c, Why::ZxidAhead);
        }
        let timeout_ms = request
            .timeout_ms
            .min(self.options.session_timeout_max_ms)
            .max(self.options.session_timeout_min_ms);
        let wish = if request.session_id == SessionId::NONE.0 {
            if self.sessions_total >= self.options.sessions_max {
                return self.cut(c, Why::TooManySessions);
            }
            Wish::CreateSession { timeout_ms }
        } else {
            let password = request.password.unwrap_or_default();
            // No session has such a password, and nothing of it goes into the log: it may be a megabyte of a stranger's.
            if password.len() != PASSWORD_BYTES {
                c.phase = Phase::Handshaking { read_only: request.read_only };
                c.received += 1;
                self.stats.packets_received += 1;
                return self.on_handshake_answer(now, c, &Answer::SessionRefused);
            }
            c.session = SessionId(request.session_id);
            let password = self.carry(password);
            Wish::Attach { timeout_ms, password }
        };
        c.phase = Phase::Handshaking { read_only: request.read_only };
        c.received += 1;
        self.stats.packets_received += 1;
        self.propose(c, Xid(0), wish);
        // Until the sequencer agrees, the connection speaks for nobody.
        c.session = SessionId::NONE;
    }

    /// The sequencer's answer to a handshake.
    pub(super) fn on_handshake_answer(&mut self, now: Millis, c: &mut Connection, answer: &Answer) {
        let Phase::Handshaking { read_only } = c.phase else {
            if let Answer::Session(granted) = answer {
                // A local session that entered the state before it made an ephemeral znode.
                c.is_local &= granted.is_local || granted.id != c.session;
            }
            return;
        };
        let response = match answer {
            Answer::Session(granted) => {
                let Granted { id, timeout_ms, password, is_local } = **granted;
                c.session = id;
                c.timeout_ms = timeout_ms;
                c.is_local = is_local;
                c.phase = Phase::Live;
                c.last_heard = now;
                self.sessions.insert(id, c.id);
                ConnectResponse {
                    timeout_ms,
                    session_id: id.0,
                    password,
                    read_only: read_only.map(|_| self.read_only),
                }
            }
            // A session of the ensemble is a leader's to keep: its client looks for a server that has one (observed).
            Answer::Moved => return self.cut(c, Why::ServesReadOnly),
            _ => ConnectResponse::expired(read_only.map(|_| self.read_only)),
        };
        self.open_out(c);
        response.encode(&mut c.out);
        self.stats.packets_sent += 1;
        c.replied += 1;
        c.last_response = now;
        if c.phase != Phase::Live {
            c.finish();
        }
    }
}

/// The path of a request that is a lookup.
fn looked_up(frame: &[u8]) -> Option<&[u8]> {
    let (head, record) = frame.split_first_chunk::<8>()?;
    let op = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    OpCode::from_i32(op).filter(|op| op.is_lookup()).and_then(|_| first_string(record))
}
