//! A real server 1 of three, an honest server 3, a client that goes on, and what must hold after each attack.

use super::client::Steady;
use super::played::{plain, Connect, Follower, Leader, Member, Played};
use super::server::{free_port, three, Server};
use super::wire::{boxed, Hello, Wire};
use ringkeeper::peer::RaftMessage;
use std::net::TcpListener;

/// Elections up to this term are refused, so that there are earlier ones to speak of.
pub const BEFORE: u64 = 5;
/// What an attack may leave behind, at the most.
const GROWTH_KIB: u64 = 64 << 10;
/// Lines about one attack, at the most: some are a few messages.
const LINES_MAX: usize = 12;

pub struct Stage {
    pub client: Steady,
    pub honest: Played,
    /// Server 2, whom the attacks are played as.
    pub second: Member,
    pub port: u16,
    pub term: u64,
    /// Where server 3 listens, and what it says of itself.
    pub third: TcpListener,
    pub third_hello: Hello,
    pub server: Server,
    memory_kib: u64,
    lines: usize,
    pub dir: tempfile::TempDir,
}

impl Stage {
    /// Server 1 leads.
    pub fn leading() -> Stage {
        Stage::start(None, "", plain)
    }

    /// Server 1 leads, and the servers speak as these lines say.
    pub fn leading_with(lines: &str, connect: impl Fn(u8, u16) -> Connect) -> Stage {
        Stage::start(None, lines, connect)
    }

    /// Server 1 follows server 3.
    pub fn following() -> Stage {
        Stage::start(Some(BEFORE + 1), "", plain)
    }

    fn start(leader: Option<u64>, lines: &str, connect: impl Fn(u8, u16) -> Connect) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let third = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free_port();
        let listed = three([port, free_port(), third.local_addr().unwrap().port()]);
        let server = Server::start(dir.path(), 1, &[listed.as_str(), lines].concat());
        let mut second = Member::new(2, 1, connect(2, port));
        let mut honest = Member::new(3, 1, connect(3, port));
        second.introduce();
        let wire = honest.enlist();
        let third_hello = honest.hello.clone();
        (second.hello.cluster, second.hello.births) = (third_hello.cluster, third_hello.births.clone());
        let honest = match leader {
            None => Played::start(wire, Follower { after: BEFORE }),
            Some(term) => Played::start(wire, Leader::new(term)),
        };
        let client = Steady::start(server.client_port);
        client.goes_on("the start");
        let terms = honest.terms();
        let term = *terms.last().unwrap();
        let memory_kib = server.memory_kib();
        let lines = server.all_lines();
        let mut stage =
            Stage { client, honest, second, port, term, third, third_hello, server, memory_kib, lines, dir };
        // Server 1 has spoken in this term alone since.
        stage.honest.seen.0.lock().unwrap().terms.clear();
        stage.holds("the start");
        stage
    }

    /// A connection as server 2.
    pub fn rogue(&mut self) -> Wire {
        self.second.enlist()
    }

    /// A connection as a server that stands in no line.
    pub fn stranger(&mut self) -> Wire {
        let mut stranger = Member::new(77, 1, plain(77, self.port));
        let known = &self.third_hello;
        (stranger.hello.cluster, stranger.hello.births) = (known.cluster, known.births.clone());
        stranger.enlist()
    }

    /// What must hold after each attack.
    pub fn holds(&mut self, what: &str) {
        self.server.assert_lives();
        self.client.goes_on(what);
        assert!(self.honest.lives(), "{what}: the honest server was cut");
        let terms: Vec<u64> = self.honest.terms().into_iter().collect();
        assert_eq!(terms, [self.term], "{what}: the term moved");
        assert_eq!(self.client.zxid() >> 32, self.term as i64, "{what}: a zxid is of another term");
        let grown = self.server.memory_kib().saturating_sub(self.memory_kib);
        assert!(grown < GROWTH_KIB, "{what}: the server has grown by {grown} KiB");
        let lines = self.server.all_lines();
        assert!(lines - self.lines <= LINES_MAX, "{what}: {} lines", lines - self.lines);
        self.lines = lines;
    }

    /// Says these on a connection as server 2, which are dropped with a line that has these words.
    pub fn drops(&mut self, what: &str, why: &str, messages: impl IntoIterator<Item = RaftMessage>) {
        let mut wire = self.rogue();
        for message in messages {
            wire.say(&boxed(message)).unwrap();
        }
        self.server.wait_line(&["server=2", why]);
        self.holds(what);
    }
}
