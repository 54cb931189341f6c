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

/// What its reply must hold, and what it is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Empty,
    /// A Stat; of a set, with the length of what was written.
    Stat(Option<usize>),
    /// A value of at least so many bytes that tells its own length, and its Stat.
    Value(usize),
    /// The path that was made; `true`: it is to be deleted.
    Path(bool),
    /// The path that was synced: the first of two.
    Synced,
    /// A value, as the first of two.
    FirstValue(usize),
    /// A list.
    Children,
    /// So many results, each a Stat.
    Multi(usize),
}

impl Kind {
    /// The first of two requests does not end the operation: only an error of it counts, and then the second does not.
    fn is_first(self) -> bool {
        matches!(self, Kind::Synced | Kind::FirstValue(_))
    }
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
    /// The first of two requests failed, and that was counted: the second is waited for and not counted.
    has_failed: bool,
    succeeded: u64,
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
            has_failed: false,
            succeeded: 0,
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

    /// Operations that were answered without an error, whenever they were due.
    #[must_use]
    pub fn succeeded(&self) -> u64 {
        self.succeeded
    }

    /// Appends the frames of one operation.
    pub fn ask(&mut self, out: &mut Vec<u8>, plan: &Plan, dice: &mut Dice, intended: u64, now: u64) {
        let (op, at) = dice.request();
        let space = &plan.spaces[at];
        self.operations += 1;
        match op {
            Op::Get => {
                self.read(out, OpCode::GetData, space, dice.key(at));
                self.fly(op, Kind::Value(space.value.min()), intended, now);
            }
            Op::Exists => {
                self.read(out, OpCode::Exists, space, dice.key(at));
                self.fly(op, Kind::Stat(None), intended, now);
            }
            Op::Children => {
                let start = self.begin(out, OpCode::GetChildren);
                put_path(out, |out| space.put_parent(out, dice.key(at)));
                out.push(0);
                end_frame(out, start);
                self.fly(op, Kind::Children, intended, now);
            }
            Op::Set => {
                let (key, size) = (dice.key(at), dice.size(at));
                self.set(out, space, key, size);
                self.fly(op, Kind::Stat(Some(size)), intended, now);
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
                self.fly(op, Kind::Multi(plan.multi_size), intended, now);
            }
            Op::SyncGet => {
                let key = dice.key(at);
                let start = self.begin(out, OpCode::Sync);
                put_path(out, |out| space.put_key(out, key));
                end_frame(out, start);
                self.fly(op, Kind::Synced, intended, now);
                self.read(out, OpCode::GetData, space, key);
                self.fly(op, Kind::Value(space.value.min()), intended, now);
            }
            Op::ReadModifyWrite => {
                let (key, size) = (dice.key(at), dice.size(at));
                self.read(out, OpCode::GetData, space, key);
                self.fly(op, Kind::FirstValue(space.value.min()), intended, now);
                self.set(out, space, key, size);
                self.fly(op, Kind::Stat(Some(size)), intended, now);
            }
            Op::Create => {
                self.create(out, plan, dice.size(at), 0);
                self.fly(op, Kind::Path(false), intended, now);
            }
            Op::CreateDelete | Op::Ephemeral | Op::Sequential => {
                if let Some(path) = self.to_delete.pop_front() {
                    let start = self.begin(out, OpCode::Delete);
                    put_path(out, |out| out.extend_from_slice(&path));
                    put_i32(out, -1);
                    end_frame(out, start);
                    self.fly(Op::Delete, Kind::Empty, intended, now);
                } else {
                    let flags = match op {
                        Op::Ephemeral => 1,
                        Op::Sequential => 2,
                        _ => 0,
                    };
                    self.create(out, plan, dice.size(at), flags);
                    self.fly(op, Kind::Path(true), intended, now);
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
        let is_first = flight.kind.is_first();
        let was_counted = !is_first && std::mem::take(&mut self.has_failed);
        let wrong = match () {
            () if flight.xid != xid => errors::WRONG_XID,
            () if code != 0 => code,
            () => self.judge(&flight, reader.rest()),
        };
        if !is_first {
            self.operations -= 1;
        }
        if wrong != 0 {
            self.has_failed = is_first;
            if is_recorded && !was_counted {
                *tally.op(flight.op).errors.entry(wrong).or_default() += 1;
            }
            return if wrong == errors::WRONG_XID { Err(Broken(wrong)) } else { Ok(()) };
        }
        if is_first || was_counted {
            return Ok(());
        }
        self.succeeded += 1;
        if (self.window.0..self.window.1).contains(&now) {
            tally.op(flight.op).completed += 1;
        }
        if is_recorded {
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
        let is_right = match flight.kind {
            Kind::Empty => Some(true),
            Kind::Stat(size) => Stat::decode(&mut reader)
                .ok()
                .map(|stat| size.is_none_or(|size| usize::try_from(stat.data_length) == Ok(size))),
            Kind::Value(least) | Kind::FirstValue(least) => {
                value(&mut reader).map(|(value, stat)| is_right(value, &stat, least))
            }
            Kind::Path(is_to_delete) => reader.buffer().ok().flatten().map(|path| {
                if is_to_delete {
                    self.to_delete.push_back(path.to_vec());
                }
                true
            }),
            Kind::Synced => reader.buffer().ok().flatten().map(|_| true),
            Kind::Children => reader.count(4).ok().flatten().map(|_| true),
            Kind::Multi(count) => return multi(&mut reader, count),
        };
        match is_right {
            Some(true) => 0,
            Some(false) => errors::WRONG_VALUE,
            None => errors::MALFORMED,
        }
    }

    /// The connection is gone: what was under way is counted and forgotten. `is_session_gone`: its ephemerals are too.
    pub fn lose(&mut self, code: i32, is_session_gone: bool, tally: &mut Tally) {
        for flight in self.flights.drain(..) {
            if flight.kind.is_first() || std::mem::take(&mut self.has_failed) {
                continue;
            }
            if (self.window.0..self.window.1).contains(&flight.intended) {
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
            if flight.kind.is_first() || std::mem::take(&mut self.has_failed) {
                continue;
            }
            if (self.window.0..self.window.1).contains(&flight.intended) {
                let measure = tally.op(flight.op);
                *measure.errors.entry(errors::UNANSWERED).or_default() += 1;
                add(&mut measure.intended, now.saturating_sub(flight.intended));
            }
        }
        self.operations = 0;
    }
}

fn value<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], Stat)> {
    let value = reader.buffer().ok()?.unwrap_or_default();
    Some((value, Stat::decode(reader).ok()?))
}

/// A value is as long as it says itself and as its Stat says, and no shorter than any that is written: below four bytes it
/// can not tell its length.
fn is_right(value: &[u8], stat: &Stat, least: usize) -> bool {
    is_whole(value) && usize::try_from(stat.data_length) == Ok(value.len()) && value.len() >= least.min(4)
}

/// 0, or what is wrong with a multi's results. A multi that failed is answered without an error in the header: each result
/// is one, 0 before the operation that failed and its code there.
fn multi(reader: &mut Reader<'_>, count: usize) -> i32 {
    let mut results = 0;
    loop {
        let (Ok(kind), Ok(is_end), Ok(_)) = (reader.i32(), reader.bool(), reader.i32()) else {
            return errors::MALFORMED;
        };
        match (kind, is_end) {
            (_, true) if results == count => return 0,
            (_, true) => return errors::MALFORMED,
            (-1, false) => match reader.i32() {
                Ok(0) => {}
                Ok(code) => return code,
                Err(_) => return errors::MALFORMED,
            },
            (_, false) if kind == OpCode::SetData as i32 && Stat::decode(reader).is_ok() => results += 1,
            (_, false) => return errors::MALFORMED,
        }
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

    fn plan(mix: &str) -> Plan {
        let space = Space {
            root: "/r".to_owned(),
            keys: 10,
            keys_per_parent: 10,
            choice: Choice::Uniform,
            value: Size::Fixed(100),
        };
        Plan::simple(space, &mix.parse().expect("a mix"), 3, 1).expect("a plan")
    }

    fn stat(out: &mut Vec<u8>, length: i32) {
        out.extend_from_slice(&[0; 52]);
        put_i32(out, length);
        out.extend_from_slice(&[0; 12]);
    }

    fn data(bytes: usize, sent: usize, length: i32) -> Vec<u8> {
        let (mut value, mut out) = (Vec::new(), Vec::new());
        put_value(&mut value, bytes);
        ringkeeper::wire::put_buffer(&mut out, Some(&value[..sent]));
        stat(&mut out, length);
        out
    }

    fn stats(results: usize, errors: &[i32]) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..results {
            put_multi_header(&mut out, OpCode::SetData as i32, false, 0);
            stat(&mut out, 100);
        }
        for error in errors {
            put_multi_header(&mut out, -1, false, *error);
            put_i32(&mut out, *error);
        }
        put_multi_header(&mut out, -1, true, -1);
        out
    }

    /// One operation of a mix, with its replies: (code, body) each. What is counted: the answered and the errors.
    fn asked(mix: &str, replies: &[(i32, Vec<u8>)]) -> (u64, Vec<(i32, u64)>) {
        let plan = plan(mix);
        let mut asker = Asker::new(0, 1, (0, 10));
        asker.ask(&mut Vec::new(), &plan, &mut Dice::new(&plan, 0), 5, 5);
        let mut tally = Tally::default();
        for (at, (code, body)) in replies.iter().enumerate() {
            let mut frame = Vec::new();
            put_i32(&mut frame, at as i32 + 1);
            frame.extend_from_slice(&[0; 8]);
            put_i32(&mut frame, *code);
            frame.extend_from_slice(body);
            let _ = asker.reply(&frame, 9, &mut 0, &mut tally);
        }
        assert_eq!(asker.under_way(), 0, "{mix}");
        let mut errors = Vec::new();
        tally.ops.iter().flatten().for_each(|measure| errors.extend(measure.errors.clone()));
        (tally.answered(), errors)
    }

    #[test]
    fn what_comes_back_is_looked_at() {
        let set = |length| {
            let mut out = Vec::new();
            stat(&mut out, length);
            out
        };
        let path = |text: &str| {
            let mut out = Vec::new();
            ringkeeper::wire::put_string(&mut out, text);
            out
        };
        let children = vec![0, 0, 0, 1, 0, 0, 0, 1, b'a'];
        let (wrong, short) = (vec![(errors::WRONG_VALUE, 1)], vec![(errors::MALFORMED, 1)]);
        for (mix, body, want) in [
            ("get", data(100, 100, 100), vec![]),
            ("get", data(100, 60, 60), wrong.clone()),
            ("get", data(100, 100, 99), wrong.clone()),
            ("get", data(0, 0, 0), wrong.clone()),
            ("get", data(3, 3, 3), wrong.clone()),
            ("get", vec![0, 0, 0, 9, 1], short.clone()),
            ("set", set(100), vec![]),
            ("set", set(99), wrong),
            ("set", vec![0; 67], short.clone()),
            ("exists", set(7), vec![]),
            ("exists", vec![], short.clone()),
            ("children", children, vec![]),
            ("children", vec![0, 0, 0, 9, 0], short.clone()),
            ("create", path("/r/x"), vec![]),
            ("ephemeral", vec![], short.clone()),
            ("multi", stats(3, &[]), vec![]),
            ("multi", stats(2, &[]), short.clone()),
            ("multi", stats(0, &[0, -101, -2]), vec![(-101, 1)]),
            ("multi", stats(3, &[])[..200].to_vec(), short),
        ] {
            let answered = u64::from(want.is_empty());
            assert_eq!(asked(mix, &[(0, body.clone())]), (answered, want), "{mix} {body:?}");
        }
    }

    #[test]
    fn an_operation_of_two_requests_is_counted_once() {
        let (mut set, mut path) = (Vec::new(), Vec::new());
        stat(&mut set, 100);
        ringkeeper::wire::put_string(&mut path, "/r/x");
        let good = data(100, 100, 100);
        for (mix, replies, want) in [
            ("read-modify-write", [(0, good.clone()), (0, set.clone())], (1, vec![])),
            ("read-modify-write", [(-101, vec![]), (-101, vec![])], (0, vec![(-101, 1)])),
            ("read-modify-write", [(0, data(100, 50, 50)), (0, set)], (0, vec![(errors::WRONG_VALUE, 1)])),
            ("sync-get", [(0, path.clone()), (0, good.clone())], (1, vec![])),
            ("sync-get", [(-4, vec![]), (0, good)], (0, vec![(-4, 1)])),
            ("sync-get", [(0, path), (-101, vec![])], (0, vec![(-101, 1)])),
        ] {
            assert_eq!(asked(mix, &replies), want, "{mix} {replies:?}");
        }
    }

    #[test]
    fn two_runs_on_one_root_create_znodes_of_different_names() {
        let plan = plan("create=1");
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
