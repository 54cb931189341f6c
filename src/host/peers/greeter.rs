//! Listens for the other servers and dials them, each in a thread of its own, until both ends have said welcome. Then the
//! socket goes to the sequencer's thread, which never waits for a stranger.
//!
//! Of two servers the one with the higher id dials; the other one does it too where nobody came for a while: the first one
//! may not know of it yet. When it starts it knocks: the first one may be in the midst of a pause between two dials. Names
//! are resolved anew on every dial.

use super::acquaintance::Acquaintance;
use super::complaints::Complaints;
use super::hello::{BadHello, Purpose, Verdict};
use super::slots::{Slot, Slots};
use super::stream::{Protection, Stream};
use super::Arrival;
use crate::config::{preferred, PeerAddress};
use crate::host::link::Links;
use crate::host::preflight::explain_port;
use crate::ids::ServerId;
use crossbeam::channel::Sender;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// A server that does not take a connection in this time is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// The whole greeting takes no longer: a stranger that says a byte a second holds up nobody.
const GREETING_WITHIN: Duration = Duration::from_secs(2);
/// Who dials speaks first, in plain text and under TLS, and it does so at once: a packet may be lost once. What says nothing
/// has no greeting.
const FIRST_BYTE_WITHIN: Duration = Duration::from_millis(500);
/// Between two dials: what a server that starts is waited for, and the most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A server with a higher id that has not come for so long is dialled from here.
const OTHERS_PART_AFTER: Duration = Duration::from_millis(1_500);
/// What decides on which port a server listens for the others.
const LINE: &str = "the first port of this server's server.N line";

/// What all who greet share.
pub struct Greeter {
    pub acquaintance: Arc<Acquaintance>,
    pub arrivals: Sender<Arrival>,
    pub links: Arc<Links>,
    protection: Protection,
    me: ServerId,
    book: Mutex<BTreeMap<ServerId, Entry>>,
    /// Greetings under way that others began.
    slots: Arc<Slots>,
    complaints: Mutex<Complaints>,
}

/// A server in the address book. Its thread dials while it stands there.
struct Entry {
    addresses: Vec<PeerAddress>,
    redial: Arc<Redial>,
    /// It could be started.
    has_thread: bool,
}

#[derive(Default)]
struct Redial {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    wanted: Wanted,
    /// The other side has just said that it is there.
    has_knocked: bool,
    knocked_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Wanted {
    /// There is a connection, or the other side dials.
    #[default]
    No,
    Yes,
    /// It is in the book no more.
    Never,
}

impl Redial {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, wanted: Wanted) {
        let mut state = self.lock();
        // Who is in the book again has another of these: this one's thread may be in the midst of a dial, and is to end.
        if state.wanted != Wanted::Never {
            state.wanted = wanted;
        }
        drop(state);
        self.bell.notify_all();
    }

    /// The other side is there, and has no connection: whatever this side believes, it dials, and pauses no longer.
    fn knock(&self) {
        let mut state = self.lock();
        // One that knocks all the time has a new connection now and then.
        let is_early = state.knocked_at.is_some_and(|at| at.elapsed() < PAUSE_MAX);
        if state.wanted != Wanted::Never && !is_early {
            *state = State { wanted: Wanted::Yes, has_knocked: true, knocked_at: Some(Instant::now()) };
        }
        drop(state);
        self.bell.notify_all();
    }

    /// Waits for a word, or for this long.
    fn wait(&self, timeout: Duration) -> Wanted {
        let waited = self.bell.wait_timeout_while(self.lock(), timeout, |state| state.wanted == Wanted::No);
        waited.unwrap_or_else(PoisonError::into_inner).0.wanted
    }

    /// Pauses between two dials, until the other side knocks.
    fn pause(&self, pause: Duration) {
        let waited = self.bell.wait_timeout_while(self.lock(), pause, |state| !state.has_knocked);
        waited.unwrap_or_else(PoisonError::into_inner).0.has_knocked = false;
    }
}

/// Where a server listens, by the configuration.
pub type Place = (ServerId, Vec<PeerAddress>);

impl Greeter {
    /// Begins to greet: listens at `listen`, and dials those of `places` that are this server's to dial.
    pub fn start(
        me: ServerId,
        acquaintance: Arc<Acquaintance>,
        arrivals: Sender<Arrival>,
        links: Arc<Links>,
        protection: Protection,
        listen: Vec<TcpListener>,
        places: Vec<Place>,
    ) -> io::Result<Arc<Greeter>> {
        let greeter = Arc::new(Greeter {
            acquaintance,
            arrivals,
            links,
            protection,
            me,
            book: Mutex::default(),
            slots: Arc::default(),
            complaints: Mutex::default(),
        });
        for listener in listen {
            let greeter = greeter.clone();
            spawn("peer-listen", move || greeter.accept_all(&listener))?;
        }
        greeter.set_places(places)?;
        Ok(greeter)
    }

    /// Where the servers listen from now on. Who is not named is dialled no more. After an error the next call starts the
    /// threads that are missing.
    pub fn set_places(self: &Arc<Greeter>, places: Vec<Place>) -> io::Result<()> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.retain(|server, entry| {
            let stays = places.iter().any(|(named, _)| named == server);
            if !stays {
                entry.redial.set(Wanted::Never);
            }
            stays
        });
        for (server, addresses) in places.into_iter().filter(|(server, _)| *server != self.me) {
            match book.get_mut(&server) {
                Some(entry) => entry.addresses = addresses,
                None => {
                    let redial = Arc::default();
                    book.insert(server, Entry { addresses, redial, has_thread: false });
                }
            }
        }
        let mut new = Vec::new();
        for (server, entry) in book.iter_mut().filter(|(_, entry)| !entry.has_thread) {
            entry.has_thread = true;
            new.push((*server, entry.redial.clone()));
        }
        let hosts = book.values().flat_map(|entry| &entry.addresses).map(|address| address.host.as_str());
        self.slots.keep(&hosts.collect::<Vec<_>>());
        drop(book);
        let mut started = Ok(());
        for (server, redial) in new {
            // Who has joined may have been here before it stood in a line.
            if server < self.me && !self.acquaintance.is_connected(server) {
                redial.set(Wanted::Yes);
            }
            let greeter = self.clone();
            if let Err(error) = spawn("peer-dial", move || greeter.dial_for_ever(server, &redial)) {
                let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
                book.entry(server).and_modify(|entry| entry.has_thread = false);
                started = Err(error);
            }
        }
        started
    }

    /// Where a server listens, if it is in the book.
    pub fn place(&self, server: ServerId) -> Option<Place> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&server).map(|entry| (server, entry.addresses.clone()))
    }

    /// There is a connection to a server, whoever dialled.
    pub fn found(&self, server: ServerId) {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = book.get(&server) {
            entry.redial.set(Wanted::No);
        }
    }

    /// The connection to a server is gone: it is dialled again, if that is this server's part.
    pub fn lost(&self, server: ServerId) {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = book.get(&server).filter(|_| server < self.me) {
            entry.redial.set(Wanted::Yes);
        }
    }

    /// A server has started: it is dialled at once, if that is this server's part.
    fn knocked(&self, server: ServerId) {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = book.get(&server).filter(|_| server < self.me) {
            entry.redial.knock();
        }
    }

    fn dial_for_ever(&self, server: ServerId, redial: &Redial) {
        if server > self.me && !self.acquaintance.is_connected(server) {
            if let Some(place) = self.place(server) {
                // Where it is not there, or will not have this server, it says so itself when it dials.
                let _ = self.dial(&place, Purpose::Knock);
            }
        }
        let mut pause = PAUSE_MIN;
        let mut alone_since = Instant::now();
        loop {
            match redial.wait(OTHERS_PART_AFTER) {
                Wanted::Never => return,
                Wanted::Yes => {}
                Wanted::No if self.acquaintance.is_connected(server) => {
                    alone_since = Instant::now();
                    continue;
                }
                Wanted::No if server < self.me || alone_since.elapsed() < OTHERS_PART_AFTER => continue,
                Wanted::No => {}
            }
            let Some(place) = self.place(server) else { return };
            match self.dial(&place, Purpose::Messages) {
                Ok(Some(arrival)) => {
                    pause = PAUSE_MIN;
                    alone_since = Instant::now();
                    self.quiet(&format!("server {}", server.0));
                    // Before it is handed over: it may be lost again at once.
                    redial.set(Wanted::No);
                    self.hand_over(arrival);
                    // A server that goes down greets, and closes: once in a moment is enough.
                    std::thread::sleep(PAUSE_MIN);
                    continue;
                }
                // A cluster is being formed: what is missing may be there in a moment.
                Ok(None) => pause = PAUSE_MIN,
                Err(why) => {
                    self.complain(&format!("server {}", server.0), &why);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            redial.pause(pause);
        }
    }

    /// Dials a server and greets it. `None`: to be tried again in a moment.
    pub fn dial(&self, place: &Place, purpose: Purpose) -> Result<Option<Arrival>, String> {
        let (server, addresses) = place;
        let mut why: Vec<String> = Vec::new();
        for address in addresses {
            let at = (address.host.as_str(), address.quorum_port);
            let resolved: Vec<SocketAddr> = match at.to_socket_addrs() {
                Ok(resolved) => resolved.collect(),
                Err(error) => {
                    why.push(format!("the name {} can not be resolved: {error}", address.host));
                    continue;
                }
            };
            self.slots.remember(&address.host, resolved.iter().map(SocketAddr::ip));
            for to in resolved {
                let stream =
                    TcpStream::connect_timeout(&to, CONNECT_WITHIN).map_err(|error| error.to_string());
                let greeted = stream
                    .and_then(|stream| self.protection.dialled(stream, &address.host))
                    .and_then(|stream| self.introduce(*server, purpose, stream));
                match greeted {
                    Ok(arrival) => return Ok(arrival),
                    // Somebody else may have this address by now: the server may be at the next one.
                    Err(error) => why.push(format!("{to}: {error}")),
                }
            }
        }
        Err(if why.is_empty() { "it has no address".to_owned() } else { why.join("; ") })
    }

    /// The dialler's part of the greeting.
    fn introduce(
        &self,
        server: ServerId,
        purpose: Purpose,
        stream: Stream,
    ) -> Result<Option<Arrival>, String> {
        let io = |error: io::Error| error.to_string();
        let mut stream = Timed::new(stream).map_err(io)?;
        let bad = |error: BadHello| error.to_string();
        self.acquaintance.hello(server, purpose).write(&mut stream).map_err(io)?;
        let hello = super::hello::Hello::read(&mut stream).map_err(bad)?;
        let theirs = Verdict::read(&mut stream).map_err(bad)?;
        let ours = match self.acquaintance.judge(&hello) {
            Verdict::Welcome | Verdict::NotYet if hello.from != server => Verdict::Refused(format!(
                "server {} answers at the address of server {}: check the addresses of the server lines and myid",
                hello.from.0, server.0
            )),
            ours => ours,
        };
        ours.write(&mut stream).map_err(io)?;
        match (ours, theirs) {
            (Verdict::Welcome, Verdict::Welcome) => Ok(Some(Arrival {
                server,
                birth: hello.birth,
                rules: hello.rules,
                purpose,
                accepted: None,
                stream: stream.finish().map_err(io)?,
            })),
            (Verdict::Refused(why), _) | (_, Verdict::Refused(why)) => Err(why),
            _ => Ok(None),
        }
    }

    fn accept_all(self: &Arc<Greeter>, listener: &TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept() else {
                // Out of descriptors, for one: it may pass.
                std::thread::sleep(PAUSE_MAX);
                continue;
            };
            let (slot, was_full) = self.slots.enter(&stream, from.ip());
            if was_full {
                self.complain("strangers", &format!("too many at once, the last from {}", from.ip()));
            }
            let Some(slot) = slot else { continue };
            let greeter = self.clone();
            // Where no thread can be had the connection is closed, and the slot is free.
            let _ = spawn("peer-greet", move || greeter.greet_stranger(stream, from, &slot));
        }
    }

    fn greet_stranger(&self, stream: TcpStream, from: SocketAddr, slot: &Slot) {
        let greeted = self.greet(stream, slot);
        slot.is_greeted();
        match greeted {
            Ok(Some(arrival)) => {
                self.quiet(&from.ip().to_string());
                self.hand_over(arrival);
            }
            Ok(None) => {}
            Err(why) => self.complain(&from.ip().to_string(), &why),
        }
    }

    /// The other part of the greeting.
    fn greet(&self, stream: TcpStream, slot: &Slot) -> Result<Option<Arrival>, String> {
        let io = |error: io::Error| error.to_string();
        let bad = |error: BadHello| error.to_string();
        wait_for_a_byte(&stream).map_err(|error| bad(BadHello::Io(error)))?;
        slot.has_spoken();
        let mut stream = Timed::new(self.protection.accepted(stream)?).map_err(io)?;
        let hello = super::hello::Hello::read(&mut stream).map_err(bad)?;
        // A server that is to join stands in no line yet: there is no name that its certificate could be held against.
        let place = self.place(hello.from);
        let addresses = place.as_ref().map_or(&[][..], |(_, addresses)| addresses);
        let hosts: Vec<&str> = addresses.iter().map(|address| address.host.as_str()).collect();
        if place.is_some() {
            self.protection.check_name(&stream.stream, &hosts).map_err(|advice| {
                let hosts = hosts.join(", ");
                format!("its certificate names no host of server {} ({hosts}): {advice}", hello.from.0)
            })?;
        }
        // Said before it is judged: judging may make a member of us, and the other one shall hear it the next time.
        self.acquaintance.hello(hello.from, hello.purpose).write(&mut stream).map_err(io)?;
        let ours = self.acquaintance.judge(&hello);
        ours.write(&mut stream).map_err(io)?;
        let theirs = Verdict::read(&mut stream).map_err(bad)?;
        match (ours, theirs) {
            (Verdict::Welcome, Verdict::Welcome) => {
                let stream = stream.finish().map_err(io)?;
                let (server, birth, rules) = (hello.from, hello.birth, hello.rules);
                let (purpose, accepted) = (hello.purpose, Some(slot.number()));
                Ok(Some(Arrival { server, birth, rules, purpose, accepted, stream }))
            }
            (Verdict::Refused(why), _) | (_, Verdict::Refused(why)) => Err(why),
            _ => Ok(None),
        }
    }

    fn hand_over(&self, arrival: Arrival) {
        if arrival.purpose == Purpose::Knock {
            self.knocked(arrival.server);
            return;
        }
        // Bounded: a sequencer that takes none lets them wait in their threads.
        if self.arrivals.send(arrival).is_ok() {
            self.links.sequencer.ring_anyway();
        }
    }

    fn complain(&self, who: &str, why: &str) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        match complaints.ask(who, why, Instant::now()) {
            None => {}
            Some(0) => warn!("no connection with {who}: {why}"),
            Some(dropped) => warn!(not_shown = dropped, "no connection with {who}: {why}"),
        }
    }

    fn quiet(&self, who: &str) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.forget(who);
    }
}

/// A socket on which what is under way has to be done by a moment.
pub struct Timed {
    stream: Stream,
    until: Instant,
}

impl Timed {
    fn new(stream: Stream) -> io::Result<Timed> {
        Timed::with(stream, GREETING_WITHIN)
    }

    pub fn with(stream: Stream, within: Duration) -> io::Result<Timed> {
        stream.socket().set_nodelay(true)?;
        Ok(Timed { stream, until: Instant::now() + within })
    }

    /// The next part of it has its own time.
    pub fn again(&mut self, within: Duration) {
        self.until = Instant::now() + within;
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        Ok(Some(left))
    }

    fn finish(self) -> io::Result<Stream> {
        self.stream.socket().set_nonblocking(true)?;
        Ok(self.stream)
    }
}

/// Waits until the other end has said something, or is gone.
fn wait_for_a_byte(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(FIRST_BYTE_WITHIN))?;
    match stream.peek(&mut [0]) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late()),
        Err(error) => Err(error),
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nothing came in time")
}

impl Read for Timed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            // For each look at the socket: TLS may take many, and a stranger that says a byte a second would have them all.
            let left = self.left()?;
            self.stream.socket().set_read_timeout(left)?;
            self.stream.socket().set_write_timeout(left)?;
            match self.stream.read_once(out) {
                Ok(Some(n)) => return Ok(n),
                Ok(None) => {}
                // What the kernel calls a read whose time is over.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.socket().set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let free = move || {
        // The sequencer's thread starts some.
        crate::host::pin::set_free();
        work();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(free).map(drop)
}

/// Listens where this server's own line says, or on every address of the host. Gives also the hosts of the line that are no
/// address of this one, for which it listens on all; an error says what is in the way.
pub fn listen(own: &[PeerAddress], on_all: bool) -> Result<(Vec<TcpListener>, Vec<&str>), String> {
    // By address: two names may be one, and a line may have several.
    let mut named_ones: BTreeMap<SocketAddr, TcpListener> = BTreeMap::new();
    let (mut on_any, mut unknown) = (BTreeSet::new(), Vec::new());
    for address in own {
        let port = address.quorum_port;
        let found = (address.host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let named = found.ok().and_then(|found| preferred(&found));
        match named.filter(|_| !on_all) {
            Some(named) if named_ones.contains_key(&named) => continue,
            Some(named) => match bind(named) {
                Ok(listener) => {
                    named_ones.insert(named, listener);
                    continue;
                }
                Err(error) if error.kind() != io::ErrorKind::AddrNotAvailable => {
                    return Err(explain_port(named, &error, LINE));
                }
                Err(_) => {}
            },
            None => {}
        }
        // A name or an address that the host does not know of: its public one, or one that is still to come.
        if !on_all {
            unknown.push(address.host.as_str());
        }
        on_any.insert(port);
    }
    // Who listens everywhere needs no address besides.
    named_ones.retain(|named, _| !on_any.contains(&named.port()));
    let mut listeners: Vec<TcpListener> = named_ones.into_values().collect();
    for port in on_any {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let listener = bind(any)
            .or_else(|_| bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)))
            .map_err(|error| explain_port(any, &error, LINE))?;
        listeners.push(listener);
    }
    Ok((listeners, unknown))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(128)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::peers::acquaintance::Formed;
    use crossbeam::channel::{bounded, Receiver};

    const LONG: Duration = Duration::from_secs(60);

    fn address(port: u16) -> PeerAddress {
        PeerAddress { host: "127.0.0.1".to_owned(), quorum_port: port, election_port: port }
    }

    /// Server `me` of a cluster of two; the other one listens at `port`.
    fn server(
        me: u8,
        listen: TcpListener,
        port: u16,
        is_connected: bool,
    ) -> (Arc<Greeter>, Receiver<Arrival>) {
        let formed = Formed { cluster: 7, births: vec![(ServerId(1), 11), (ServerId(2), 22)] };
        let (other, birth) = (ServerId(3 - me), u128::from(me) * 11);
        let listed = vec![(ServerId(1), false), (ServerId(2), false)];
        let acquaintance = Arc::new(Acquaintance::new(ServerId(me), birth, 1, listed, Some(formed)));
        acquaintance.set_connected(other, is_connected.then_some(33 - birth));
        let (arrivals, arrived) = bounded(4);
        let links = Arc::new(Links::new(1).unwrap());
        let places = vec![(other, vec![address(port)])];
        let me = ServerId(me);
        let greeter =
            Greeter::start(me, acquaintance, arrivals, links, Protection::Plain, vec![listen], places);
        (greeter.unwrap(), arrived)
    }

    #[test]
    fn a_server_that_starts_is_dialled_by_one_that_believes_to_have_a_connection() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (listen(), listen());
        let (port_one, port_two) = (one.local_addr().unwrap().port(), two.local_addr().unwrap().port());
        // Nothing but a knock makes the second one dial.
        let (_two, arrived_two) = server(2, two, port_one, true);
        let (_one, arrived_one) = server(1, one, port_two, false);
        let dialled = arrived_two.recv_timeout(LONG).expect("the second server dials");
        let greeted = arrived_one.recv_timeout(LONG).expect("the first is dialled");
        assert_eq!([dialled.purpose, greeted.purpose], [Purpose::Messages; 2]);
        // Not the other way round, which happens when nobody has come for a while.
        assert_eq!(dialled.stream.socket().peer_addr().unwrap().port(), port_one);
    }

    #[test]
    fn who_is_in_the_book_without_a_thread_gets_one_the_next_time() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (listen(), listen());
        let (port_one, port_two) = (one.local_addr().unwrap().port(), two.local_addr().unwrap().port());
        let (two, arrived_two) = server(2, two, port_one, true);
        two.set_places(Vec::new()).unwrap();
        two.acquaintance.set_connected(ServerId(1), None);
        let (_one, _arrived_one) = server(1, one, port_two, true);
        // As where the system had none for it.
        let addresses = vec![address(port_one)];
        let entry = Entry { addresses: addresses.clone(), redial: Arc::default(), has_thread: false };
        two.book.lock().unwrap().insert(ServerId(1), entry);
        two.set_places(vec![(ServerId(1), addresses)]).unwrap();
        assert_eq!(arrived_two.recv_timeout(LONG).expect("it is dialled").server, ServerId(1));
    }

    #[test]
    fn strangers_that_say_nothing_keep_no_member_out() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (listen(), listen());
        let (port_one, port_two) = (one.local_addr().unwrap().port(), two.local_addr().unwrap().port());
        let (_one, arrived_one) = server(1, one, port_two, false);
        let (two, arrived_two) = server(2, two, port_one, false);
        let met = [&arrived_one, &arrived_two].map(|arrived| arrived.recv_timeout(LONG).unwrap().server);
        assert_eq!(met, [ServerId(2), ServerId(1)]);
        // More than there are slots, and from the very address of the member, which comes after them, once.
        let crowd: Vec<TcpStream> =
            (0..100).map(|_| TcpStream::connect(("127.0.0.1", port_one)).unwrap()).collect();
        let place = two.place(ServerId(1)).unwrap();
        let arrival = two.dial(&place, Purpose::Messages).expect("the member is greeted");
        assert_eq!(arrival.expect("it is welcome").server, ServerId(1));
        // Nobody greets a silent one.
        for mut silent in crowd {
            silent.set_read_timeout(Some(LONG)).unwrap();
            assert!(!matches!(silent.read(&mut [0]), Ok(1)));
        }
    }

    /// Each of a line's addresses was bound by itself: the second one met the first, and another process was blamed.
    #[test]
    fn several_addresses_of_a_line_do_not_meet_each_other() {
        let at = |host: &str| PeerAddress { host: host.to_owned(), ..address(0) };
        for (hosts, on_all, listeners, unknown) in [
            (["127.0.0.1", "127.0.0.2"], false, 2, 0),
            (["127.0.0.1", "127.0.0.1"], false, 1, 0),
            (["127.0.0.1", "127.0.0.2"], true, 1, 0),
            (["127.0.0.1", "a.invalid"], false, 1, 1),
            (["a.invalid", "b.invalid"], false, 1, 2),
        ] {
            let own = hosts.map(at);
            let (found, strange) = listen(&own, on_all).expect("nothing is in the way");
            assert_eq!((found.len(), strange.len()), (listeners, unknown), "{hosts:?} {on_all}");
        }
    }

    #[test]
    fn a_knock_ends_a_pause() {
        let redial = Arc::new(Redial::default());
        let (done, is_done) = bounded(1);
        let pausing = redial.clone();
        std::thread::spawn(move || {
            pausing.pause(LONG * 60);
            done.send(pausing.wait(Duration::ZERO) == Wanted::Yes)
        });
        redial.knock();
        assert_eq!(is_done.recv_timeout(LONG), Ok(true));
        redial.set(Wanted::Never);
        redial.knock();
        assert!(redial.wait(Duration::ZERO) == Wanted::Never, "it is in the book no more");
        for late in [Wanted::No, Wanted::Yes] {
            redial.set(late);
            assert!(redial.wait(Duration::ZERO) == Wanted::Never, "a dial that was under way has succeeded");
        }
    }
}
