//! Real servers whose configurations or directories do not belong together.

use super::client::Steady;
use super::played::{plain, Follower, Member, Played, Role};
use super::server::{data, free_port, line, three, Server, PATIENCE};
use ringkeeper::peer::Message;
use socket2::SockRef;
use std::fs;
use std::net::TcpListener;
use tempfile::tempdir;

fn two(ports: [u16; 2]) -> String {
    line(1, "127.0.0.1", ports[0]) + &line(2, "127.0.0.1", ports[1])
}

pub fn two_servers_with_one_id_are_both_told() {
    let (dir, other_dir) = (tempdir().unwrap(), tempdir().unwrap());
    let ports = [free_port(), free_port(), free_port()];
    let one = Server::start(dir.path(), 3, &three(ports));
    // On the host of server 2, with the wrong myid and the addresses turned round.
    let other = Server::start(other_dir.path(), 3, &three([ports[0], ports[2], ports[1]]));
    for server in [&one, &other] {
        server.wait_line(&["no connection with", "both call themselves server 3"]);
    }
    let told = [&one, &other].map(|server| server.lines_with(&["both call themselves"]).len());
    assert!(told.iter().all(|lines| *lines <= 2), "once as who dials and once as who listens: {told:?}");
}

/// Starts an ensemble of two and waits until both serve.
fn pair(dirs: [&std::path::Path; 2], ports: [u16; 2]) -> ([Server; 2], String) {
    let servers = [1, 2].map(|id: u8| Server::start(dirs[usize::from(id) - 1], id, &two(ports)));
    for server in &servers {
        server.wait_line(&["ringkeeper serves on"]);
    }
    let told = servers[0].wait_line(&["member of ensemble "]);
    let cluster = told.rsplit(' ').next().unwrap().to_owned();
    assert_eq!(cluster.len(), 32, "{told}");
    (servers, cluster)
}

pub fn a_directory_of_another_ensemble_is_refused_and_a_server_alone_begins_one() {
    let dirs: Vec<_> = (0..4).map(|_| tempdir().unwrap()).collect();
    let ports = [free_port(), free_port()];
    let ([one, former], ours) = pair([dirs[0].path(), dirs[1].path()], ports);
    let (others, theirs) = pair([dirs[2].path(), dirs[3].path()], [free_port(), free_port()]);
    drop((former, others));
    assert_ne!(ours, theirs);
    let mut stranger = Server::start(dirs[3].path(), 2, &two(ports));
    for server in [&one, &stranger] {
        server.wait_line(&["no connection with", &ours, &theirs, "another ensemble"]);
    }
    stranger.assert_lives();
    drop(stranger);
    // Its own one is still welcome.
    let back = Server::start(dirs[1].path(), 2, &two(ports));
    back.wait_line(&["ringkeeper serves on"]);
    drop((one, back));

    let mut alone = Server::start(dirs[0].path(), 0, "");
    assert_eq!(alone.exit_code(), Some(78));
    alone.wait_line(&["it belongs to an ensemble, which servers 1, 2 began"]);
    let dir = tempdir().unwrap();
    let alone = Server::start(dir.path(), 0, "");
    alone.wait_line(&["ringkeeper serves on"]);
    drop(alone);
    let (first, new) = (Server::start(dir.path(), 1, &two(ports)), tempdir().unwrap());
    first.wait_line(&["with it this server begins an ensemble"]);
    let second = Server::start(new.path(), 2, &two(ports));
    second.wait_line(&["data directory has seat 2.1 in the ensemble"]);
    second.wait_line(&["ringkeeper serves on"]);
}

/// Says nothing but that it is there.
struct Silent;

impl Role for Silent {
    fn hear(&mut self, _message: Message) -> Vec<Message> {
        Vec::new()
    }

    fn tick(&mut self) -> Vec<Message> {
        Vec::new()
    }
}

pub fn a_wiped_server_comes_back_in_a_seat_of_its_own() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let ports = [free_port(), free_port(), free_port()];
    let start = |id: u8| Server::start(dirs[usize::from(id) - 1].path(), id, &three(ports));
    let (mut one, two) = (start(1), start(2));
    // The third one is played. It has one vote, and so gives it on one connection only.
    let member = |to: u8| Member::new(3, to, plain(3, ports[usize::from(to) - 1]));
    let (mut at_one, mut at_two) = (member(1), member(2));
    at_two.introduce();
    at_one.introduce();
    let _silent = Played::start(at_two.enlist(), Silent);
    let _voter = Played::start(at_one.enlist(), Follower { after: 0 });
    two.wait_line(&["member of ensemble"]);
    drop(two);
    let client = Steady::start(one.client_port);
    client.goes_on("two are left");
    fs::remove_dir_all(data(dirs[1].path())).unwrap();
    let mut wiped = start(2);
    wiped.wait_line(&["data directory has seat 2.1 in the ensemble"]);
    client.goes_on("one was wiped");
    wiped.wait_line(&["this server follows"]);
    wiped.assert_lives();
    one.assert_lives();
}

pub fn server_lists_that_differ_are_told_on_both_sides() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let ports = [free_port(), free_port(), free_port()];
    let one = Server::start(dirs[0].path(), 1, &three(ports));
    let two = Server::start(dirs[1].path(), 2, &two([ports[0], ports[1]]));
    let why =
        "server 2 lists servers 1, 2, server 1 lists servers 1, 2, 3: give all servers the same server lines";
    one.wait_line(&["no connection with 127.0.0.1", why]);
    // The dialler's own judgement comes first, and says the same from its side.
    two.wait_line(&["no connection with server 1", "give all servers the same server lines"]);
}

pub fn an_unreachable_name_is_told_once_and_tried_on() {
    let dir = tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
    // No label is so long: no name server is asked.
    let name = format!("{}.example", "a".repeat(64));
    let port = listener.local_addr().unwrap().port();
    let lines =
        line(1, &name, free_port()) + &line(2, "127.0.0.1", port) + &line(3, "127.0.0.1", free_port());
    let mut server = Server::start(dir.path(), 3, &lines);
    server.wait_line(&["no connection with server 1", "can not be resolved"]);
    // It dials the other one, which hangs up, again and again; each time it has tried the name, too.
    for _ in 0..6 {
        drop(listener.accept().expect("it dials again"));
    }
    server.assert_lives();
    let lines = |other: u8| server.lines_with(&["WARN", &format!("no connection with server {other}:")]);
    assert_eq!(lines(1).len(), 1, "{:?}", lines(1));
    // Hanging up looks now like this, now like that.
    assert!(lines(2).len() <= 5, "{:?}", lines(2));
}
