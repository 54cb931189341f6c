//! Requests and what must come back for them: the part of a connection that knows what an operation is.

use crate::plan::{is_whole, put_hex, put_value, Dice, Op, Plan, Space};
use crate::record::{add, errors, Tally};
use ringkeeper::wire::{begin_frame, end_frame, put_i32, put_multi_header, OpCode, Reader, Stat};
use std::collections::VecDeque;

/// A request that waits for its reply. Times are nanoseconds of the run's clock.
#[derive(Clone, Copy)]
struct Flight {
    xid: i32,
    op: Op,
    kind: Kind,
    intended: u64,
    sent: u64,
}

/// What its reply is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The first of two: only an error of it counts.
    First,
    /// Ends the operation.
    Last,
    /// Ends the operation and brings a value to be checked.
    Value,
    /// Ends the operation and brings the path that is to be deleted.
    Path,
}

/// The requests of one connection. It outlives the socket.
pub struct Asker {
    /// The number of this connection in the whole run: it creates below its own znode.
    number: u64,
    /// The run's own number: what an earlier run left below the same znode is not in the way.
    run: u32,
    /// Replies below it are dropped: from a run's warm-up, or of an operation that was due after the end.
    window: (u64, u64),
    xid: i32,
    flights: VecDeque<Flight>,
    made: u64,
    to_delete: VecDeque<Vec<u8>>,
    operations: usize,
}

/// A reply that ends the connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken(pub i32);

impl Asker {
    /// `window`: from and up to which intended times operations are recorded.
    #[must_use]
    pub fn new(number: u64, run: u32, window: (u64, u64)) -> Asker {
        Asker {
            number,
            run,
            window,
            xid: 0,
            flights: VecDeque::new(),
            made: 0,
            to_delete: VecDeque::new(),
            operations: 0,
        }
    }

    pub fn set_window(&mut self, window: (u64, u64)) {
        self.window = window;
    }

    /// Operations under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.operations
    }

    /// Appends the frames of one operation.
    pub fn ask(&mut self, out: &mut Vec<u8>, plan: &Plan, dice: &mut Dice, intended: u64, now: u64) {
        let (op, at) = dice.request();
        let space = &plan.spaces[at];
        self.operations += 1;
        match op {
            Op::Get => {
                self.read(out, OpCode::GetData, space, dice.key(at));
                self.fly(op, Kind::Value, intended, now);
            }
            Op::Exists => {
                self.read(out, OpCode::Exists, space, dice.key(at));
                self.fly(op, Kind::Last, intended, now);
            }
            Op::Children => {
                let start = self.begin(out, OpCode::GetChildren);
                put_path(out, |out| space.put_parent(out, dice.key(at)));
                out.push(0);
                end_frame(out, start);
                self.fly(op, Kind::Last, intended, now);
            }
            Op::Set => {
                let (key, size) = (dice.key(at), dice.size(at));
                self.set(out, space, key, size);
                self.fly(op, Kind::Last, intended, now);
            }
            Op::Multi => {
                let start = self.begin(out, OpCode::Multi);
                for _ in 0..plan.multi_size {
                    put_multi_header(out, OpCode::SetData as i32, false, -1);
                    put_path(out, |out| space.put_key(out, dice.key(at)));
                    put_sized_value(out, dice.size(at));
                    put_i32(out, -1);
                }
                put_multi_header(out, -1, true, -1);
                end_frame(out, start);
                self.fly(op, Kind::Last, intended, now);
            }
            Op::SyncGet => {
                let key = dice.key(at);
                let start = self.begin(out, OpCode::Sync);
                put_path(out, |out| space.put_key(out, key));
                end_frame(out, start);
                self.fly(op, Kind::First, intended, now);
                self.read(out, OpCode::GetData, space, key);
                self.fly(op, Kind::Value, intended, now);
            }
            Op::ReadModifyWrite => {
                let (key, size) = (dice.key(at), dice.size(at));
                self.read(out, OpCode::GetData, space, key);
                self.fly(op, Kind::First, intended, now);
                self.set(out, space, key, size);
                self.fly(op, Kind::Last, intended, now);
            }
            Op::Create => {
                self.create(out, plan, dice.size(at), 0);
                self.fly(op, Kind::Last, intended, now);
            }
            Op::CreateDelete | Op::Ephemeral | Op::Sequential => {
                if let Some(path) = self.to_delete.pop_front() {
                    let start = self.begin(out, OpCode::Delete);
                    put_path(out, |out| out.extend_from_slice(&path));
                    put_i32(out, -1);
                    end_frame(out, start);
                    self.fly(Op::Delete, Kind::Last, intended, now);
                } else {
                    let flags = match op {
                        Op::Ephemeral => 1,
                        Op::Sequential => 2,
                        _ => 0,
                    };
                    self.create(out, plan, dice.size(at), flags);
                    self.fly(op, Kind::Path, intended, now);
                }
            }
            Op::Delete => unreachable!("a mix does not name the second half of another operation"),
        }
    }

    /// Appends a ping.
    pub fn ping(out: &mut Vec<u8>) {
        let start = begin_frame(out);
        put_i32(out, -2);
        put_i32(out, OpCode::Ping as i32);
        end_frame(out, start);
    }

    fn begin(&mut self, out: &mut Vec<u8>, code: OpCode) -> usize {
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        let start = begin_frame(out);
        put_i32(out, self.xid);
        put_i32(out, code as i32);
        start
    }

    fn fly(&mut self, op: Op, kind: Kind, intended: u64, sent: u64) {
        self.flights.push_back(Flight { xid: self.xid, op, kind, intended, sent });
    }

    fn read(&mut self, out: &mut Vec<u8>, code: OpCode, space: &Space, key: u64) {
        let start = self.begin(out, code);
        put_path(out, |out| space.put_key(out, key));
        out.push(0);
        end_frame(out, start);
    }

    fn set(&mut self, out: &mut Vec<u8>, space: &Space, key: u64, size: usize) {
        let start = self.begin(out, OpCode::SetData);
        put_path(out, |out| space.put_key(out, key));
        put_sized_value(out, size);
        put_i32(out, -1);
        end_frame(out, start);
    }

    fn create(&mut self, out: &mut Vec<u8>, plan: &Plan, size: usize, flags: i32) {
        let start = self.begin(out, OpCode::Create);
        let (number, run, made) = (self.number, self.run, self.made);
        put_path(out, |out| {
            put_own(out, plan, number);
            out.extend_from_slice(b"/n");
            put_hex(out, run.into());
            put_hex(out, made);
        });
        put_sized_value(out, size);
        put_open_acl(out);
        put_i32(out, flags);
        end_frame(out, start);
        self.made += 1;
    }

    /// Takes one reply frame. Watch events and pings belong to no request.
    pub fn reply(
        &mut self,
        frame: &[u8],
        now: u64,
        last_zxid: &mut i64,
        tally: &mut Tally,
    ) -> Result<(), Broken> {
        let mut reader = Reader::new(frame);
        let (Ok(xid), Ok(zxid), Ok(code)) = (reader.i32(), reader.i64(), reader.i32()) else {
            return Err(Broken(errors::MALFORMED));
        };
        match xid {
            -1 => {
                tally.events += 1;
                return Ok(());
            }
            -2 => return Ok(()),
            _ => {}
        }
        *last_zxid = zxid.max(*last_zxid);
        let Some(flight) = self.flights.pop_front() else { return Err(Broken(errors::WRONG_XID)) };
        let is_recorded = (self.window.0..self.window.1).contains(&flight.intended);
        let wrong = match () {
            () if flight.xid != xid => errors::WRONG_XID,
            () if code != 0 => code,
            () => self.judge(&flight, reader.rest()),
        };
        if flight.kind != Kind::First {
            self.operations -= 1;
        }
        if wrong != 0 {
            if is_recorded {
                *tally.op(flight.op).errors.entry(wrong).or_default() += 1;
            }
            return if wrong == errors::WRONG_XID { Err(Broken(wrong)) } else { Ok(()) };
        }
        if is_recorded && flight.kind != Kind::First {
            let measure = tally.op(flight.op);
            measure.answered += 1;
            add(&mut measure.intended, now.saturating_sub(flight.intended));
            add(&mut measure.service, now.saturating_sub(flight.sent));
        }
        Ok(())
    }

    /// 0, or what is wrong with a reply's body.
    fn judge(&mut self, flight: &Flight, body: &[u8]) -> i32 {
        let mut reader = Reader::new(body);
        match flight.kind {
            Kind::First | Kind::Last => 0,
            Kind::Value => match (reader.buffer(), Stat::decode(&mut reader)) {
                (Ok(value), Ok(stat)) => {
                    let value = value.unwrap_or_default();
                    let is_right = is_whole(value) && usize::try_from(stat.data_length) == Ok(value.len());
                    if is_right {
                        0
                    } else {
                        errors::WRONG_VALUE
                    }
                }
                _ => errors::MALFORMED,
            },
            Kind::Path => match reader.buffer() {
                Ok(Some(path)) => {
                    self.to_delete.push_back(path.to_vec());
                    0
                }
                _ => errors::MALFORMED,
            },
        }
    }

    /// The connection is gone: what was under way is counted and forgotten. `is_session_gone`: its ephemerals are too.
    pub fn lose(&mut self, code: i32, is_session_gone: bool, tally: &mut Tally) {
        for flight in self.flights.drain(..) {
            if flight.kind != Kind::First && (self.window.0..self.window.1).contains(&flight.intended) {
                *tally.op(flight.op).errors.entry(code).or_default() += 1;
            }
        }
        self.operations = 0;
        if is_session_gone {
            self.to_delete.clear();
        }
    }

    /// The run is over: what has no answer is counted, and its wait so far is in the histogram.
    pub fn give_up(&mut self, now: u64, tally: &mut Tally) {
        for flight in self.flights.drain(..) {
            if flight.kind != Kind::First && (self.window.0..self.window.1).contains(&flight.intended) {
                let measure = tally.op(flight.op);
                *measure.errors.entry(errors::UNANSWERED).or_default() += 1;
                add(&mut measure.intended, now.saturating_sub(flight.intended));
            }
        }
        self.operations = 0;
    }
}

/// Appends the path below which a connection creates.
pub fn put_own(out: &mut Vec<u8>, plan: &Plan, number: u64) {
    out.extend_from_slice(plan.root().as_bytes());
    out.extend_from_slice(b"/c");
    put_hex(out, number);
}

/// Appends a string whose bytes `put` appends.
pub fn put_path(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = begin_frame(out);
    put(out);
    end_frame(out, start);
}

fn put_sized_value(out: &mut Vec<u8>, size: usize) {
    put_i32(out, size as i32);
    put_value(out, size);
}

/// world:anyone, all rights.
pub fn put_open_acl(out: &mut Vec<u8>) {
    put_i32(out, 1);
    put_i32(out, 31);
    ringkeeper::wire::put_string(out, "world");
    ringkeeper::wire::put_string(out, "anyone");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Choice, Size};
    use std::collections::BTreeSet;

    #[test]
    fn two_runs_on_one_root_create_znodes_of_different_names() {
        let space = Space {
            root: "/r".to_owned(),
            keys: 10,
            keys_per_parent: 10,
            choice: Choice::Uniform,
            value: Size::Fixed(5),
        };
        let mix = "create=1".parse().expect("a mix");
        let plan = Plan::simple(space, &mix, 2, 1).expect("a plan");
        let mut paths = BTreeSet::new();
        for run in [7, 8] {
            for number in 0..3 {
                let mut asker = Asker::new(number, run, (0, 1));
                for _ in 0..5 {
                    let mut out = Vec::new();
                    asker.ask(&mut out, &plan, &mut Dice::new(&plan, number), 0, 0);
                    let path = Reader::new(&out[12..]).buffer().expect("a path").expect("a path").to_vec();
                    assert!(path.starts_with(format!("/r/c{number:08x}/n{run:08x}").as_bytes()), "{path:?}");
                    assert!(paths.insert(path));
                }
            }
        }
        assert_eq!(paths.len(), 2 * 3 * 5);
    }
}
