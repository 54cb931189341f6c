//! The sockets between servers. The sequencer's thread owns them: it reads what came in, hands on what the sequencer says,
//! and never waits for any of them. Greeting, dialling and listening are `greeter`'s, in threads beside it.
//!
//! ```text
//! frame = length:u32 crc32c:u32 message     an empty one is a sign of life
//! ```
//! A message waits unencoded until its socket has room, so what a slow server has not been sent costs no copy. Entries that
//! are not in memory are asked for when their message is the next one (`ahead`), and come out of the log when it goes.

mod acquaintance;
mod ahead;
mod complaints;
mod greeter;
mod hello;
mod slots;
mod stream;
mod transfer;
mod wire;

pub(super) use acquaintance::{Acquaintance, Formed};
pub(super) use ahead::Entries;
pub(super) use greeter::{listen, Greeter, Place};
pub(super) use stream::Protection;
pub(super) use transfer::Transfer;

use super::epoll::{self, Change, Epoll};
use super::notes::{Say, Throttle};
use crate::apply::State;
use crate::ids::{LogIndex, Millis, ServerId};
use crate::membership::PeerAddress;
use crate::peer::Addressed;
use crate::sequencer::Input;
use ahead::ReadAhead;
use crossbeam::channel::Receiver;
use hello::Purpose;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;
use tracing::info;
use wire::{Next, Wire};

const READ_BYTES: usize = 64 << 10;
/// A connection on which nothing came for so long is dead: packets are dropped without a word on it.
const SILENCE_MS: u64 = 1_500;
/// Events taken at once.
const EVENTS: usize = 16;
/// The name of the bell in the set; servers are named by their id.
const BELL: u64 = 1 << 32;

/// A connection whose both ends have said welcome.
pub(super) struct Arrival {
    pub server: ServerId,
    /// Its data directory.
    pub birth: u128,
    /// The version of apply's rules that it knows.
    pub rules: u32,
    pub purpose: Purpose,
    /// Of those that others began: the how-manieth it was.
    pub accepted: Option<u64>,
    pub stream: Stream,
}

/// Connections to the other servers.
pub(super) struct Peers {
    epoll: Epoll,
    arrivals: Receiver<Arrival>,
    greeter: Arc<Greeter>,
    transfer: Transfer,
    ahead: ReadAhead,
    wires: BTreeMap<ServerId, Wire>,
    /// The number of the next connection.
    next_wire: u64,
    looked_at: Millis,
    /// One that comes and goes all the time fills no disk with lines about it.
    throttles: BTreeMap<ServerId, Throttle>,
    /// What is read from a socket lies here until its frames are cut.
    scratch: Box<[u8]>,
}

impl Peers {
    /// `bell` wakes whoever waits on this.
    pub(super) fn new(
        bell: BorrowedFd<'_>,
        arrivals: Receiver<Arrival>,
        greeter: Arc<Greeter>,
        transfer: Transfer,
    ) -> io::Result<Peers> {
        let peers = Peers {
            epoll: Epoll::new()?,
            arrivals,
            ahead: ReadAhead::start(transfer.dir(), greeter.links.clone())?,
            greeter,
            transfer,
            wires: BTreeMap::new(),
            next_wire: 0,
            looked_at: Millis(0),
            throttles: BTreeMap::new(),
            scratch: vec![0; READ_BYTES].into(),
        };
        peers.epoll.control(Change::Add, bell.as_raw_fd(), epoll::READ, BELL)?;
        Ok(peers)
    }

    /// Readable while a server has said something, or the bell was rung.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// How many servers there is a connection with.
    pub(super) fn len(&self) -> usize {
        self.wires.len()
    }

    /// Whether a turn was too short for what has come, or for what is to be said: the set does not tell of it.
    pub(super) fn has_more(&self) -> bool {
        let may_go_on = |wire: &Wire| wire.rests().is_none_or(|rest| rest.is_zero());
        self.wires.values().any(|wire| wire.has_more || wire.has_unwritten && may_go_on(wire))
    }

    /// How long it is at the most until more is to be said to one that has fallen behind. Zero where that is now: what has
    /// come to its end since `has_more` was asked is not slept through.
    pub(super) fn rests(&self) -> Option<Duration> {
        self.wires.values().filter_map(Wire::rests).min()
    }

    /// Takes what has come: new connections, lost ones, messages. `is_ready`: the set was readable. Whether there was
    /// anything.
    pub(super) fn receive(
        &mut self,
        now: Millis,
        is_ready: bool,
        give: &mut dyn FnMut(Input),
    ) -> io::Result<bool> {
        let mut any = self.take_arrivals(now, give)?;
        if is_ready || self.has_more() {
            any |= self.read_sockets(now, give)?;
        }
        self.look_at_silence(now, give);
        while let Some(done) = self.ahead.next_done() {
            // Another connection's word by now, maybe.
            if let Some(wire) = self.wires.get_mut(&done.reader.0).filter(|wire| wire.reader == done.reader) {
                wire.next = Next::Read(done);
            }
        }
        while let Some((index, state)) = self.transfer.next_fetched() {
            any = true;
            give(Input::Fetched { index, state });
        }
        Ok(any)
    }

    /// Gives the fetched snapshot its name on the disk.
    pub(super) fn publish_fetched(&mut self, index: LogIndex) -> io::Result<()> {
        self.transfer.publish(index)
    }

    /// A fetched state is not needed. Gives its file, which goes when it is dropped.
    pub(super) fn discard_fetched(&mut self, state: &State) -> Option<transfer::PartFile> {
        self.transfer.discard(state)
    }

    fn read_sockets(&mut self, now: Millis, give: &mut dyn FnMut(Input)) -> io::Result<bool> {
        let mut any = false;
        let mut events = [epoll::NONE; EVENTS];
        let count = self.epoll.wait(&mut events, 0)?;
        let has_more = self.wires.iter().filter(|(_, wire)| wire.has_more).map(|(server, _)| *server);
        let mut readable: BTreeSet<ServerId> = has_more.collect();
        for event in &events[..count] {
            let name = event.u64;
            let Ok(server) = u8::try_from(name).map(ServerId) else { continue };
            let Some(wire) = self.wires.get_mut(&server) else { continue };
            if event.events & epoll::WRITE != 0 {
                wire.is_blocked = false;
                self.watch(server, epoll::READ)?;
            }
            readable.insert(server);
        }
        for server in readable {
            any = true;
            let Some(wire) = self.wires.get_mut(&server) else { continue };
            if let Err(why) = wire.read(now, server, &mut self.scratch, give) {
                self.drop_wire(now, server, &why, give);
            }
        }
        Ok(any)
    }

    /// Who is a member has changed: where they listen, and with which directories they sit. After an error it is to be said
    /// again.
    pub(super) fn set_members(&self, places: Vec<Place>, seated: BTreeMap<ServerId, u128>) -> io::Result<()> {
        self.greeter.acquaintance.set_seated(seated);
        self.greeter.set_places(places)
    }

    /// Fetches a server's snapshot.
    pub(super) fn fetch(&mut self, from: ServerId, index: LogIndex, said: Vec<PeerAddress>) {
        self.transfer.fetch(&self.greeter, from, index, said);
    }

    fn take_arrivals(&mut self, now: Millis, give: &mut dyn FnMut(Input)) -> io::Result<bool> {
        let mut any = false;
        while let Ok(arrival) = self.arrivals.try_recv() {
            any = true;
            if arrival.purpose == Purpose::Snapshot {
                self.transfer.serve(arrival.stream, &self.greeter.links.meters.snapshots_sent);
                continue;
            }
            let server = arrival.server;
            // Each is greeted in a thread of its own, and the older one may come out later.
            let known = self.wires.get(&server).and_then(|wire| wire.accepted);
            if arrival.accepted.zip(known).is_some_and(|(this, known)| this < known) {
                continue;
            }
            // It would not have come again if it still had the old one. It is here: nobody dials.
            self.close_wire(now, server, "it came with a new connection", give);
            self.greeter.found(server);
            self.epoll.control(
                Change::Add,
                arrival.stream.socket().as_raw_fd(),
                epoll::READ,
                server.0.into(),
            )?;
            self.next_wire += 1;
            let reader = (server, self.next_wire);
            self.wires.insert(server, Wire::new(reader, arrival.stream, arrival.accepted, now));
            if let Say::Print { dropped } = self.throttle(server).ask("connected", now) {
                info!(server = server.0, not_shown = dropped, "connected");
            }
            self.greeter.acquaintance.set_connected(server, Some(arrival.birth));
            give(Input::PeerUp { peer: server, birth: arrival.birth, rules: arrival.rules });
        }
        Ok(any)
    }

    fn watch(&self, server: ServerId, events: u32) -> io::Result<()> {
        let Some(wire) = self.wires.get(&server) else { return Ok(()) };
        self.epoll.control(Change::Modify, wire.stream.socket().as_raw_fd(), events, server.0.into())
    }

    fn throttle(&mut self, server: ServerId) -> &mut Throttle {
        self.throttles.entry(server).or_default()
    }

    fn drop_wire(&mut self, now: Millis, server: ServerId, why: &str, give: &mut dyn FnMut(Input)) {
        if self.close_wire(now, server, why, give) {
            self.greeter.lost(server);
        }
    }

    /// Whether there was one.
    fn close_wire(&mut self, now: Millis, server: ServerId, why: &str, give: &mut dyn FnMut(Input)) -> bool {
        // Closed here, and out of the set with it.
        let was_there = self.wires.remove(&server).is_some();
        if was_there {
            if let Say::Print { dropped } = self.throttle(server).ask("lost", now) {
                info!(server = server.0, not_shown = dropped, "connection lost: {why}");
            }
            give(Input::PeerDown(server));
            self.greeter.acquaintance.set_connected(server, None);
        }
        was_there
    }

    fn look_at_silence(&mut self, now: Millis, give: &mut dyn FnMut(Input)) {
        if now.since(self.looked_at).0 > SILENCE_MS / 2 {
            // This server itself stood still: what came meanwhile is still to be read.
            self.wires.values_mut().for_each(|wire| wire.heard_at = now);
        }
        self.looked_at = now;
        let silent =
            |(server, wire): (&ServerId, &Wire)| (now.since(wire.heard_at).0 > SILENCE_MS).then_some(*server);
        let silent: Vec<ServerId> = self.wires.iter().filter_map(silent).collect();
        for server in silent {
            self.drop_wire(now, server, "nothing was heard on it", give);
        }
    }

    /// Takes a message on its way; without a connection it is dropped, as Raft allows.
    pub(super) fn say(&mut self, addressed: Addressed) {
        if let Some(wire) = self.wires.get_mut(&addressed.to) {
            wire.say(addressed.message);
        }
    }

    /// Writes as much as the sockets take, and a turn allows.
    pub(super) fn flush(
        &mut self,
        now: Millis,
        entries: &mut dyn Entries,
        give: &mut dyn FnMut(Input),
    ) -> io::Result<()> {
        let servers: Vec<ServerId> = self.wires.keys().copied().collect();
        for server in servers {
            let Some(wire) = self.wires.get_mut(&server) else { continue };
            wire.show_life(now);
            let was_blocked = wire.is_blocked;
            let written = wire.write(now, entries, &self.ahead);
            let is_blocked = wire.is_blocked;
            match written {
                Ok(()) if is_blocked && !was_blocked => {
                    self.watch(server, epoll::READ | epoll::WRITE)?;
                }
                Ok(()) => {}
                Err(why) => self.drop_wire(now, server, &why, give),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
