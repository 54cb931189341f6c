//! A connection's bytes, in plain text or under TLS: both ends show a certificate that the other's trust store has signed.
//!
//! TLS runs where the socket is read and written, blocking during the greeting and without waiting afterwards.

use crate::config::PeerSecurity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_name, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme,
};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

/// Bytes that TLS keeps for a socket that takes no more; we encode no more than this ahead, either.
const BUFFER_BYTES: usize = 256 << 10;

/// How connections with other servers are protected.
pub enum Protection {
    Plain,
    Tls {
        dialling: Arc<ClientConfig>,
        greeting: Arc<ServerConfig>,
        /// Whether who dials in must bear a name of the server that it says it is.
        verify_hostname: bool,
    },
}

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

pub struct Tls {
    socket: TcpStream,
    connection: Connection,
}

impl Protection {
    /// Reads the stores that the configuration names; what is wrong with one, in a line.
    pub fn load(security: &PeerSecurity) -> Result<Protection, String> {
        let PeerSecurity::Tls { key_store, trust_store, verify_hostname } = security else {
            return Ok(Protection::Plain);
        };
        let roots = read_trust(trust_store).map_err(|why| format!("ssl.quorum.trustStore.location={why}"));
        let own = read_key(key_store).map_err(|why| format!("ssl.quorum.keyStore.location={why}"));
        let (roots, (chain, key)) = match (roots, own) {
            (Ok(roots), Ok(own)) => (Arc::new(roots), own),
            (Err(one), Err(other)) => return Err(format!("{one}; {other}")),
            (Err(why), _) | (_, Err(why)) => return Err(why),
        };
        let provider = Arc::new(default_provider());
        let bad_trust = |error: &dyn std::fmt::Display| {
            format!("{}: {error}: expected certificates of authorities, in PEM", trust_store.display())
        };
        let bad_key = |error: rustls::Error| {
            format!(
                "{}: {error}: expected a private key and its own certificate chain, in PEM",
                key_store.display()
            )
        };
        let by_name = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| bad_trust(&error))?;
        let client_verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| bad_trust(&error))?;
        let verifier: Arc<dyn ServerCertVerifier> =
            if *verify_hostname { by_name } else { Arc::new(AnyName(by_name)) };
        let dialling = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(bad_key)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(bad_key)?;
        let mut greeting = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(bad_key)?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(chain, key)
            .map_err(bad_key)?;
        // Connections live long and are few: nobody resumes one.
        greeting.send_tls13_tickets = 0;
        Ok(Protection::Tls {
            dialling: Arc::new(dialling),
            greeting: Arc::new(greeting),
            verify_hostname: *verify_hostname,
        })
    }

    /// The end that dialled `host`.
    pub fn dialled(&self, socket: TcpStream, host: &str) -> Result<Stream, String> {
        let Protection::Tls { dialling, .. } = self else { return Ok(Stream::Plain(socket)) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} is no name that a certificate can bear"))?;
        let connection =
            ClientConnection::new(dialling.clone(), name).map_err(|error| format!("TLS: {error}"))?;
        Ok(Stream::tls(socket, connection.into()))
    }

    /// Whether the certificate of who dialled in names one of these hosts; without TLS, or where names are not looked at,
    /// it does. A certificate that names nobody does not.
    pub fn is_named(&self, stream: &Stream, hosts: &[&str]) -> bool {
        let (Protection::Tls { verify_hostname: true, .. }, Stream::Tls(tls)) = (self, stream) else {
            return true;
        };
        let Some(shown) = tls.connection.peer_certificates().and_then(<[_]>::first) else { return false };
        let Ok(shown) = ParsedCertificate::try_from(shown) else { return false };
        let mut names = hosts.iter().filter_map(|host| ServerName::try_from(*host).ok());
        names.any(|name| verify_server_name(&shown, &name).is_ok())
    }

    /// The end that was dialled.
    pub fn accepted(&self, socket: TcpStream) -> Result<Stream, String> {
        let Protection::Tls { greeting, .. } = self else { return Ok(Stream::Plain(socket)) };
        let connection = ServerConnection::new(greeting.clone()).map_err(|error| format!("TLS: {error}"))?;
        Ok(Stream::tls(socket, connection.into()))
    }
}

fn read_trust(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if roots.is_empty() {
        return Err(format!("{}: no certificate in it, expected at least one in PEM", path.display()));
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: rustls::pki_types::pem::Error| format!("{}: {error}", path.display());
    CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_key(path: &Path) -> Result<ChainAndKey, String> {
    let chain = read_certificates(path)?;
    if chain.is_empty() {
        return Err(format!("{}: no certificate in it, expected this server's chain in PEM", path.display()));
    }
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| {
        format!(
            "{}: {error}: expected a private key in PEM that is not encrypted (openssl pkey -in KEY -out PLAIN)",
            path.display()
        )
    })?;
    Ok((chain, key))
}

/// `ssl.quorum.hostnameVerification=false`: any certificate of the trust store's authorities will do.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last, when all else holds.
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl Stream {
    fn tls(socket: TcpStream, mut connection: Connection) -> Stream {
        connection.set_buffer_limit(Some(BUFFER_BYTES));
        Stream::Tls(Box::new(Tls { socket, connection }))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &tls.socket,
        }
    }

    /// Reads after one look at the socket at the most. `None`: there was something, but TLS has no words out of it yet.
    pub fn read_once(&mut self, out: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Stream::Plain(socket) => socket.read(out).map(Some),
            Stream::Tls(tls) => tls.read_once(out),
        }
    }

    /// Whether words that were read from the socket are still here, of which the socket does not tell.
    pub fn has_unread(&mut self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => {
                let state = tls.connection.process_new_packets();
                state.is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
            }
        }
    }

    /// Whether bytes that were written still wait for the socket: `flush` tries again.
    pub fn has_unsent(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.connection.wants_write(),
        }
    }
}

impl Tls {
    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    fn read_once(&mut self, out: &mut [u8]) -> io::Result<Option<usize>> {
        match self.connection.reader().read(out) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map(Some),
        }
        // The handshake answers; what the socket does not take now goes out with the next words.
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        if self.connection.read_tls(&mut self.socket)? == 0 {
            return Ok(Some(0));
        }
        if let Err(error) = self.connection.process_new_packets() {
            // The other end hears why.
            let _ = self.send();
            let advice = advice(&error);
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}{advice}")));
        }
        Ok(None)
    }
}

/// What to do about it, where there is something to do.
fn advice(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, Error};
    match error {
        Error::InvalidMessage(_) => " (sslQuorum must be the same on all servers)",
        Error::InvalidCertificate(why) => match why {
            // Another authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                ": the other server's certificate is signed by none of the authorities in this one's ssl.quorum.trustStore.location"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                ": renew the other server's certificate, or set this server's clock right"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ": set the clocks of both servers right"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ": the other server's certificate names another host than its server line; \
                 ssl.quorum.hostnameVerification=false accepts that"
            }
            _ => "",
        },
        Error::NoCertificatesPresented => ": the other server has no ssl.quorum.keyStore.location, or is none of ours",
        Error::AlertReceived(Alert::UnknownCA | Alert::DecryptError) => {
            ": the other server does not trust the authority that signed this one's certificate (its \
             ssl.quorum.trustStore.location)"
        }
        Error::AlertReceived(Alert::BadCertificate | Alert::CertificateUnknown) => {
            ": the other server refuses this one's certificate, its log says why"
        }
        Error::AlertReceived(Alert::CertificateExpired) => {
            ": the other server finds this one's certificate expired: renew it, or set the clocks right"
        }
        _ => "",
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(n) = self.read_once(out)? {
                return Ok(n);
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let tls = match self {
            Stream::Plain(socket) => return socket.write(bytes),
            Stream::Tls(tls) => tls,
        };
        let taken = tls.connection.writer().write(bytes)?;
        match tls.send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => Ok(taken),
            Err(error) => Err(error),
            Ok(()) => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(tls) => tls.send(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use std::fs;
    use std::net::TcpListener;
    use std::path::PathBuf;

    /// An authority and a server's store that it has signed for `host`, as files in `dir`.
    fn stores(dir: &Path, name: &str, host: &str) -> (PathBuf, PathBuf) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let trusted = authority.self_signed(&authority_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&authority, &authority_key);
        let signed = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let (key_store, trust_store) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-ca.pem")));
        fs::write(&key_store, format!("{}{}", key.serialize_pem(), signed.pem())).unwrap();
        fs::write(&trust_store, trusted.pem()).unwrap();
        (key_store, trust_store)
    }

    fn tls(stores: &(PathBuf, PathBuf), verify_hostname: bool) -> Protection {
        let (key_store, trust_store) = stores.clone();
        Protection::load(&PeerSecurity::Tls { key_store, trust_store, verify_hostname }).unwrap()
    }

    /// The two ends of a connection under TLS, who dialled first; each has heard from the other.
    pub fn pair(dir: &Path) -> [Stream; 2] {
        let stores = stores(dir, "pair", "localhost");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let greeter = tls(&stores, true).accepted(listener.accept().unwrap().0).unwrap();
        let greeted = std::thread::spawn(move || {
            let mut stream = greeter;
            stream.read_exact(&mut [0]).and_then(|()| stream.write_all(&[1])).unwrap();
            stream
        });
        let mut stream = tls(&stores, true).dialled(socket, "localhost").unwrap();
        stream.write_all(&[1]).and_then(|()| stream.read_exact(&mut [0])).unwrap();
        [stream, greeted.join().unwrap()]
    }

    /// Dials, and each end says 100 KB to the other. What went wrong at the two ends.
    fn talk(dialler: &Protection, greeter: Protection) -> [Result<(), String>; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let exchange = |mut stream: Stream| -> Result<(), String> {
            stream.socket().set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            let mut heard = vec![0; 100_000];
            stream.write_all(&vec![7; 100_000]).and_then(|()| stream.flush()).map_err(|e| e.to_string())?;
            stream.read_exact(&mut heard).map_err(|e| e.to_string())?;
            assert!(heard.iter().all(|byte| *byte == 7));
            stream.flush().map_err(|e| e.to_string())
        };
        let greeting = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let mut stream = greeter.accepted(socket)?;
            let mut first = [0; 1];
            stream.read_exact(&mut first).map_err(|e| e.to_string())?;
            if !greeter.is_named(&stream, &["127.0.0.1", "localhost"]) {
                return Err("another name".to_owned());
            }
            exchange(stream)
        });
        let socket = TcpStream::connect(address).unwrap();
        let first = |mut stream: Stream| stream.write_all(&[1]).map(|()| stream).map_err(|e| e.to_string());
        let dialled = dialler.dialled(socket, "localhost").and_then(first).and_then(exchange);
        [dialled, greeting.join().unwrap()]
    }

    #[test]
    fn servers_of_one_authority_speak_and_strangers_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let good = stores(dir.path(), "good", "localhost");
        let other_name = stores(dir.path(), "name", "elsewhere");
        let stranger = stores(dir.path(), "stranger", "localhost");
        // One's certificate, and trust in the other's.
        let with = |own: &(PathBuf, PathBuf), trusts: &(PathBuf, PathBuf)| (own.0.clone(), trusts.1.clone());
        assert_eq!(
            talk(&tls(&with(&good, &stranger), true), tls(&with(&stranger, &good), true)),
            [Ok(()), Ok(())]
        );
        assert_eq!(talk(&tls(&good, true), tls(&good, true)), [Ok(()), Ok(())]);
        assert_eq!(talk(&tls(&other_name, false), tls(&other_name, false)), [Ok(()), Ok(())]);
        for (dialler, greeter) in [
            (tls(&other_name, true), tls(&other_name, true)),
            // The other way round: who dials in bears a name of no server.
            (tls(&with(&other_name, &good), true), tls(&with(&good, &other_name), true)),
            (tls(&good, true), tls(&stranger, true)),
            (tls(&stranger, false), tls(&good, false)),
            // The stranger trusts us; we do not trust it.
            (tls(&with(&stranger, &good), true), tls(&good, true)),
            (Protection::Plain, tls(&good, true)),
            (tls(&good, true), Protection::Plain),
        ] {
            let [dialled, greeted] = talk(&dialler, greeter);
            assert!(dialled.is_err() || greeted.is_err(), "{dialled:?} {greeted:?}");
        }
        // The message of who refuses says what to look at, and that of who is refused, too.
        for (dialler, greeter, at_dialler, at_greeter) in [
            (
                tls(&good, true),
                tls(&stranger, true),
                "this one's ssl.quorum.trustStore",
                "(its ssl.quorum.trustStore",
            ),
            (tls(&other_name, true), tls(&other_name, true), "hostnameVerification", "its log says why"),
            (Protection::Plain, tls(&good, true), "", "sslQuorum"),
        ] {
            let [dialled, greeted] = talk(&dialler, greeter).map(|end| end.err().unwrap_or_default());
            assert!(dialled.contains(at_dialler), "{dialled}");
            assert!(greeted.contains(at_greeter), "{greeted}");
        }
    }

    #[test]
    fn a_store_that_is_none_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let good = stores(dir.path(), "good", "localhost");
        let empty = dir.path().join("empty.pem");
        fs::write(&empty, "nothing").unwrap();
        let missing = dir.path().join("missing.pem");
        for (key_store, trust_store, named) in [
            (&missing, &good.1, &missing),
            (&empty, &good.1, &empty),
            // Certificates without a key.
            (&good.1, &good.1, &good.1),
            (&good.0, &empty, &empty),
            (&good.0, &missing, &missing),
        ] {
            let security = PeerSecurity::Tls {
                key_store: key_store.clone(),
                trust_store: trust_store.clone(),
                verify_hostname: true,
            };
            let why = Protection::load(&security).err().expect("a store is wrong");
            assert!(why.contains(&named.display().to_string()), "{why}");
        }
    }
}
