//! The client port, taken before the shards share it.
//!
//! Shards listen with SO_REUSEPORT, under which a second server of the same user would silently take half of the
//! connections. So the port is first bound and listened on **without** it, which fails if anybody has the port; then
//! the socket stops listening, is opened for our own shards, and keeps other servers out until it is dropped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The bound port. Drop it when every shard listens.
#[derive(Debug)]
pub struct HeldPort {
    /// The address for the shards, with the real port.
    pub address: SocketAddr,
    _socket: Socket,
}

/// Takes the port, or says in one line who or what is in the way; `setting` is what decides on the port.
pub(super) fn hold(wanted: SocketAddr, setting: &str) -> Result<HeldPort, String> {
    let everywhere = wanted.ip().is_unspecified() && wanted.is_ipv6();
    match try_hold(wanted) {
        Err(error) if everywhere && lacks_ipv6(&error) => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), wanted.port());
            try_hold(v4).map_err(|error| explain(v4, &error, setting))
        }
        held => held.map_err(|error| explain(wanted, &error, setting)),
    }
}

fn try_hold(wanted: SocketAddr) -> io::Result<HeldPort> {
    let socket = Socket::new(Domain::for_address(wanted), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if wanted.is_ipv6() {
        socket.set_only_v6(!wanted.ip().is_unspecified())?;
    }
    // Connections of the last run in TIME_WAIT must not keep us out.
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(wanted))?;
    // With SO_REUSEADDR on both sides only listening finds out that the port is taken.
    socket.listen(1)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(wanted);
    if wanted.port() == 0 {
        // The kernel takes a port of its own choice away when the listening ends; one that was asked for stays.
        drop(socket);
        return try_hold(address);
    }
    // The kernel turns a listening socket back into a bound one. From here on it conflicts with every socket that
    // does not share it as our shards do.
    socket.shutdown(Shutdown::Read)?;
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(true)?;
    Ok(HeldPort { address, _socket: socket })
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::ENOPROTOOPT))
}

/// Why a port can not be listened on, and what to do.
pub(in crate::host) fn explain(address: SocketAddr, error: &io::Error, setting: &str) -> String {
    let port = address.port();
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "port {port} on {} is held by another process (`ss -ltnp sport = :{port}` names it): stop it, or choose \
             another port: {setting}",
            address.ip()
        ),
        Some(libc::EACCES) => {
            format!("port {port} needs the right to bind ports below 1024 (CAP_NET_BIND_SERVICE): choose another one")
        }
        Some(libc::EADDRNOTAVAIL) => {
            format!("{} is not an address of this host: correct clientPortAddress or --listen", address.ip())
        }
        _ => format!("{address} can not be listened on: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const CLIENT: &str = "clientPort";
    use std::net::TcpStream;

    fn shared(address: SocketAddr, reuse_address: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(reuse_address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(16)?;
        Ok(socket)
    }

    #[test]
    fn our_shards_come_in_and_nobody_else() {
        for any in ["127.0.0.1:0", "[::]:0", "0.0.0.0:0"] {
            let held = hold(any.parse().unwrap(), CLIENT).unwrap();
            let refused = hold(held.address, CLIENT).unwrap_err();
            let want = format!("port {} on {} is held", held.address.port(), held.address.ip());
            assert!(refused.starts_with(&want), "{refused}");
            let shards = [shared(held.address, true).unwrap(), shared(held.address, false).unwrap()];
            assert!(hold(held.address, CLIENT).is_err(), "while both hold it");
            let address = held.address;
            drop(held);
            assert!(hold(address, CLIENT).is_err(), "while the shards listen");
            let client = TcpStream::connect(("127.0.0.1", address.port())).expect("a shard answers");
            drop(client);
            drop(shards);
        }
    }

    #[test]
    fn a_plain_listener_of_somebody_else_is_seen() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        for address in [format!("127.0.0.1:{port}"), format!("[::]:{port}"), format!("0.0.0.0:{port}")] {
            assert!(hold(address.parse().unwrap(), CLIENT).is_err(), "{address}");
        }
    }

    #[test]
    fn a_port_with_connections_in_time_wait_is_free() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        // The side that closes first keeps the port in TIME_WAIT.
        drop(server);
        drop(client);
        drop(listener);
        hold(address, CLIENT).unwrap();
    }

    #[test]
    fn a_strange_address_is_explained() {
        let said = hold("192.0.2.1:0".parse().unwrap(), CLIENT).unwrap_err();
        assert_eq!(said, "192.0.2.1 is not an address of this host: correct clientPortAddress or --listen");
    }
}
