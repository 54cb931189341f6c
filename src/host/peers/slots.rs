//! The greetings under way that others began: how many at once, and who gives way to whom. Whoever reaches the port can hold
//! connections on which nothing is said; a server that belongs here has to get in all the same.
//!
//! What the hosts of the address book were last resolved to are known addresses. They have slots of their own, and a newcomer
//! from one always gets in. All other addresses share the rest, and each has a few. Where there is no slot, the oldest
//! greeting that has said nothing yet gives way: a server speaks first, and at once.

use socket2::SockRef;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Greetings at once of addresses that are not known, of all of them and of each; and of those that are.
const UNKNOWN_MAX: usize = 32;
const EACH_MAX: usize = 8;
const KNOWN_MAX: usize = 32;
/// Threads at once, counting those whose greeting has given way and that have not ended yet. Twice as many for known ones.
const THREADS_MAX: usize = 128;

#[derive(Default)]
pub struct Slots(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By number: the lowest is the oldest.
    greetings: BTreeMap<u64, Greeting>,
    next: u64,
    threads: usize,
    /// What each host of the address book was last resolved to.
    known: BTreeMap<String, Vec<IpAddr>>,
}

struct Greeting {
    from: IpAddr,
    is_known: bool,
    has_spoken: bool,
    /// Shut down when it gives way; `None` when the greeting is done and nobody may shut it down any more.
    socket: Option<TcpStream>,
}

/// A greeting's place. Dropped with it.
pub struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host of the address book has just been resolved.
    pub fn remember(&self, host: &str, found: impl Iterator<Item = IpAddr>) {
        let found = found.map(|address| address.to_canonical()).collect();
        self.lock().known.insert(host.to_owned(), found);
    }

    /// The address book has changed: only these hosts are in it.
    pub fn keep(&self, hosts: &[&str]) {
        self.lock().known.retain(|host, _| hosts.contains(&host.as_str()));
    }

    /// Takes a slot, if need be one of a greeting that gives way. `None`: it is to be closed. Whether all were taken, too.
    pub fn enter(self: &Arc<Slots>, socket: &TcpStream, from: IpAddr) -> (Option<Slot>, bool) {
        let from = from.to_canonical();
        let mut inner = self.lock();
        let is_known = inner.known.values().flatten().any(|known| *known == from);
        let (has_room, was_full) = inner.make_room(from, is_known);
        let Some(socket) = socket.try_clone().ok().filter(|_| has_room) else { return (None, was_full) };
        let number = inner.next;
        inner.next += 1;
        inner.threads += 1;
        let greeting = Greeting { from, is_known, has_spoken: false, socket: Some(socket) };
        inner.greetings.insert(number, greeting);
        (Some(Slot { slots: self.clone(), number }), was_full)
    }
}

impl Inner {
    /// Whether there is room, and whether there was none before.
    fn make_room(&mut self, from: IpAddr, is_known: bool) -> (bool, bool) {
        if self.threads >= if is_known { 2 * THREADS_MAX } else { THREADS_MAX } {
            return (false, true);
        }
        let count =
            |wanted: &dyn Fn(&Greeting) -> bool| self.greetings.values().filter(|g| wanted(g)).count();
        let is_crowded = !is_known && count(&|greeting| greeting.from == from) >= EACH_MAX;
        let all_max = if is_known { KNOWN_MAX } else { UNKNOWN_MAX };
        let is_full = count(&|greeting| greeting.is_known == is_known) >= all_max;
        if !is_crowded && !is_full {
            return (true, false);
        }
        let rivals = || {
            let all = self.greetings.iter().filter(|(_, greeting)| greeting.is_known == is_known);
            all.filter(|(_, greeting)| greeting.socket.is_some() && (!is_crowded || greeting.from == from))
        };
        let gives_way = rivals()
            .find(|(_, greeting)| greeting.is_silent())
            // Somebody has to, where a server that belongs here would be kept out.
            .or_else(|| rivals().next().filter(|_| is_known))
            .map(|(number, _)| *number);
        let gone = gives_way.and_then(|number| self.greetings.remove(&number));
        if let Some(socket) = gone.as_ref().and_then(|greeting| greeting.socket.as_ref()) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        (gone.is_some(), true)
    }
}

impl Greeting {
    /// Also what its thread has not come to read counts as said.
    fn is_silent(&self) -> bool {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.has_spoken) else { return false };
        let peek = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        !matches!(SockRef::from(socket).recv_with_flags(&mut [MaybeUninit::uninit()], peek), Ok(1))
    }
}

impl Slot {
    /// The how-manieth of all it is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// It has said something.
    pub fn has_spoken(&self) {
        if let Some(greeting) = self.slots.lock().greetings.get_mut(&self.number) {
            greeting.has_spoken = true;
        }
    }

    /// The greeting is over, however it went: the socket is its owner's alone. Whoever closes it takes it out of each set that
    /// it is in, which needs its last descriptor to go.
    pub fn is_greeted(&self) {
        if let Some(greeting) = self.slots.lock().greetings.get_mut(&self.number) {
            greeting.socket = None;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut inner = self.slots.lock();
        inner.threads -= 1;
        inner.greetings.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    fn address(last: usize) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, u8::try_from(last).unwrap()).into()
    }

    /// Both ends of a connection: the stranger's, and the one that was accepted.
    fn connect(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let stranger = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stranger.set_read_timeout(Some(LONG)).unwrap();
        (stranger, listener.accept().unwrap().0)
    }

    /// Nothing more comes on it.
    fn is_shut(stranger: &mut TcpStream) -> bool {
        matches!(stranger.read(&mut [0]), Ok(0))
    }

    #[test]
    fn one_address_has_a_few_slots_and_its_oldest_silent_greeting_gives_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(Slots::default());
        let mut held = Vec::new();
        for _ in 0..EACH_MAX {
            let (stranger, accepted) = connect(&listener);
            let (slot, was_full) = slots.enter(&accepted, address(1));
            assert!(!was_full);
            held.push((stranger, accepted, slot.unwrap()));
        }
        // Another address is not concerned.
        let (_other, accepted) = connect(&listener);
        assert!(matches!(slots.enter(&accepted, address(2)), (Some(_), false)));
        // The oldest has spoken, though nobody has read it; the second gives way.
        held[0].0.write_all(b"R").unwrap();
        held[0].1.peek(&mut [0]).unwrap();
        let (_newcomer, accepted) = connect(&listener);
        let (newcomer, was_full) = slots.enter(&accepted, address(1));
        assert!(newcomer.is_some() && was_full);
        assert!(is_shut(&mut held[1].0));
        // Where all have spoken nobody does.
        held.iter().for_each(|(_, _, slot)| slot.has_spoken());
        newcomer.as_ref().unwrap().has_spoken();
        assert!(matches!(slots.enter(&accepted, address(1)), (None, true)));
        // What has ended leaves its place, and only once.
        drop(held.remove(1));
        assert!(matches!(slots.enter(&accepted, address(1)), (None, true)));
        drop(held.remove(0));
        assert!(matches!(slots.enter(&accepted, address(1)), (Some(_), false)));
    }

    #[test]
    fn a_known_address_gets_in_whatever_all_others_hold() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(Slots::default());
        let (_stranger, accepted) = connect(&listener);
        let enter = |from| slots.enter(&accepted, from).0;
        let speaks = |slot: Slot| {
            slot.has_spoken();
            slot
        };
        let all: Vec<_> =
            (0..UNKNOWN_MAX).map(|n| speaks(enter(address(1 + n / EACH_MAX)).unwrap())).collect();
        assert!(enter(address(200)).is_none(), "all slots are taken by who has spoken");
        let mapped: IpAddr = Ipv4Addr::new(10, 0, 0, 200).to_ipv6_mapped().into();
        slots.remember("member", [mapped].into_iter());
        // By all that is known, its own address too may be full of greetings that go on.
        let known: Vec<_> = (0..KNOWN_MAX).map(|_| speaks(enter(address(200)).unwrap())).collect();
        let last = enter(address(200)).expect("the oldest gives way");
        assert!(slots.lock().greetings.len() == UNKNOWN_MAX + KNOWN_MAX);
        // One that is done gives way to nobody: its socket is the sequencer's.
        known.iter().chain([&last]).for_each(Slot::is_greeted);
        assert!(enter(address(200)).is_none());
        drop((known, last));
        slots.keep(&["another"]);
        assert!(enter(address(200)).is_none(), "it is in the book no more");
        drop(all);
        assert!(slots.lock().threads == 0 && slots.lock().greetings.is_empty());
    }
}
