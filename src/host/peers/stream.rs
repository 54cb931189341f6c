//! A connection's bytes, in plain text or under TLS: both ends show a certificate that the other's trust store has signed.
//!
//! TLS runs where the socket is read and written, blocking during the greeting and without waiting afterwards.

use crate::config::{BadValue, PeerSecurity, StoreFile};
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
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
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
        let roots = read_trust(&trust_store.path).map_err(|why| bad_store(TRUST_STORE, trust_store, &why));
        let own = read_key(&key_store.path).map_err(|why| bad_store(KEY_STORE, key_store, &why));
        let (roots, (chain, key)) = match (roots, own) {
            (Ok(roots), Ok(own)) => (Arc::new(roots), own),
            (Err(one), Err(other)) => return Err(format!("{one}; {other}")),
            (Err(why), _) | (_, Err(why)) => return Err(why),
        };
        let provider = Arc::new(default_provider());
        let bad_trust = |error: &dyn Display| {
            let why = format!("{error}: expected certificates of authorities, in PEM");
            bad_store(TRUST_STORE, trust_store, &why)
        };
        let bad_key = |error: rustls::Error| {
            let why = format!("{error}: expected a private key and its own certificate chain, in PEM");
            bad_store(KEY_STORE, key_store, &why)
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
    /// it does. A certificate that names nobody does not. Where it does not: what to do about it.
    pub fn check_name(&self, stream: &Stream, hosts: &[&str]) -> Result<(), String> {
        let (Protection::Tls { verify_hostname: true, .. }, Stream::Tls(tls)) = (self, stream) else {
            return Ok(());
        };
        let mut advice = "give it one that does, or set ssl.quorum.hostnameVerification=false".to_owned();
        let shown = tls.connection.peer_certificates().and_then(<[_]>::first);
        let Some(Ok(shown)) = shown.map(ParsedCertificate::try_from) else { return Err(advice) };
        for name in hosts.iter().filter_map(|host| ServerName::try_from(*host).ok()) {
            match verify_server_name(&shown, &name) {
                Ok(()) => return Ok(()),
                Err(error) if has_no_names(&error) => advice = format!("it {}", name_advice(hosts)),
                Err(_) => {}
            }
        }
        Err(advice)
    }

    /// The end that was dialled.
    pub fn accepted(&self, socket: TcpStream) -> Result<Stream, String> {
        let Protection::Tls { greeting, .. } = self else { return Ok(Stream::Plain(socket)) };
        let connection = ServerConnection::new(greeting.clone()).map_err(|error| format!("TLS: {error}"))?;
        Ok(Stream::tls(socket, connection.into()))
    }
}

const KEY_STORE: &str = "ssl.quorum.keyStore.location";
const TRUST_STORE: &str = "ssl.quorum.trustStore.location";

/// What is wrong with a store, beside the line that names it.
fn bad_store(key: &str, store: &StoreFile, why: &str) -> String {
    let (source, value) = (store.source.clone(), store.path.display().to_string());
    BadValue { source, key: key.to_owned(), value, expected: why.to_owned() }.to_string()
}

fn read_trust(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("no certificate in it, expected at least one in PEM".to_owned());
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: rustls::pki_types::pem::Error| error.to_string();
    CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_key(path: &Path) -> Result<ChainAndKey, String> {
    let chain = read_certificates(path)?;
    if chain.is_empty() {
        return Err("no certificate in it, expected this server's chain in PEM".to_owned());
    }
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| {
        format!(
            "{error}: expected a private key in PEM that is not encrypted (openssl pkey -in KEY -out PLAIN)"
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
fn advice(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, Error};
    let known = match error {
        Error::InvalidMessage(_) => " (sslQuorum must be the same on all servers)",
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, .. })
            if has_no_names(error) =>
        {
            return format!(": the other server's certificate {}", name_advice(&[&expected.to_str()]));
        }
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
            // webpki's word; rustls has none of its own for it, and webpki is none of our packages.
            CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
                ": the other server shows the certificate of an authority (CA:TRUE, as openssl req -x509 makes it) for its own: \
                 issue one for it with basicConstraints CA:FALSE"
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
    };
    known.to_owned()
}

/// Whether the certificate is of no name at all: that in its common name, which ZooKeeper takes, is not looked at.
fn has_no_names(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })
            if presented.is_empty()
    )
}

/// What to do about a certificate without names: how keytool, in ZooKeeper's guide, and openssl put them in.
fn name_advice(hosts: &[&str]) -> String {
    let names = |dns: &str, ip: &str| {
        let name = |host: &&str| {
            let kind = if host.parse::<IpAddr>().is_ok() { ip } else { dns };
            format!("{kind}:{host}")
        };
        hosts.iter().map(name).collect::<Vec<_>>().join(",")
    };
    format!(
        "has no subjectAltName, and a common name (CN) does not count: issue it anew with keytool ... -ext san={} or openssl \
         ... -addext subjectAltName={}, or set ssl.quorum.hostnameVerification=false",
        names("dns", "ip"),
        names("DNS", "IP")
    )
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
    use crate::config::Source;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use std::fs;
    use std::net::TcpListener;
    use std::path::PathBuf;

    /// An authority and a server's store that it has signed for `host`, as files in `dir`.
    fn stores(dir: &Path, name: &str, host: &str) -> (PathBuf, PathBuf) {
        signed(dir, name, &CertificateParams::new(vec![host.to_owned()]).unwrap())
    }

    fn signed(dir: &Path, name: &str, server: &CertificateParams) -> (PathBuf, PathBuf) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let trusted = authority.self_signed(&authority_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&authority, &authority_key);
        let signed = server.signed_by(&key, &issuer).unwrap();
        let (key_store, trust_store) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-ca.pem")));
        fs::write(&key_store, format!("{}{}", key.serialize_pem(), signed.pem())).unwrap();
        fs::write(&trust_store, trusted.pem()).unwrap();
        (key_store, trust_store)
    }

    /// The store in the so-manieth line.
    fn line(line: u32, path: &Path) -> StoreFile {
        StoreFile { path: path.to_owned(), source: Source::File { path: "zoo.cfg".into(), line } }
    }

    fn tls(stores: &(PathBuf, PathBuf), verify_hostname: bool) -> Protection {
        let (key_store, trust_store) = (line(6, &stores.0), line(7, &stores.1));
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
            greeter.check_name(&stream, &["127.0.0.1", "localhost"])?;
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

    /// As ZooKeeper's guide makes it with keytool: it was said to name another host.
    #[test]
    fn a_certificate_with_a_common_name_alone_is_told_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let good = stores(dir.path(), "good", "localhost");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let nameless = signed(dir.path(), "nameless", &params);
        let (shows_nameless, trusts_it) =
            ((nameless.0.clone(), good.1.clone()), (good.0, nameless.1.clone()));
        let [dialled, _] = talk(&tls(&trusts_it, true), tls(&shows_nameless, true));
        let why = dialled.unwrap_err();
        let want = ": the other server's certificate has no subjectAltName, and a common name (CN) does not count: issue it \
                    anew with keytool ... -ext san=dns:localhost or openssl ... -addext subjectAltName=DNS:localhost, or set \
                    ssl.quorum.hostnameVerification=false";
        assert!(why.ends_with(want), "{why}");
        let [_, greeted] = talk(&tls(&shows_nameless, true), tls(&trusts_it, true));
        let why = greeted.unwrap_err();
        let want = "it has no subjectAltName, and a common name (CN) does not count: issue it anew with keytool ... -ext \
                    san=ip:127.0.0.1,dns:localhost or openssl ... -addext subjectAltName=IP:127.0.0.1,DNS:localhost, or set \
                    ssl.quorum.hostnameVerification=false";
        assert_eq!(why, want);
        assert_eq!(talk(&tls(&nameless, false), tls(&nameless, false)), [Ok(()), Ok(())]);
    }

    /// As `openssl req -x509` makes it: the refusal had no advice.
    #[test]
    fn an_authoritys_certificate_is_no_servers() {
        let dir = tempfile::tempdir().unwrap();
        let good = stores(dir.path(), "good", "localhost");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap().pem();
        let path = dir.path().join("x509.pem");
        fs::write(&path, format!("{}{made}", key.serialize_pem())).unwrap();
        let (shows_it, trusts_it) = ((path.clone(), good.1), (good.0, path));
        let want = "issue one for it with basicConstraints CA:FALSE";
        for verify_hostname in [true, false] {
            let with = |stores| tls(stores, verify_hostname);
            let [dialled, greeted] = talk(&with(&trusts_it), with(&shows_it)).map(Result::unwrap_err);
            assert!(dialled.ends_with(want) && greeted.contains("its log says why"), "{dialled}; {greeted}");
            let [_, greeted] =
                talk(&with(&shows_it), with(&trusts_it)).map(|end| end.err().unwrap_or_default());
            assert!(greeted.ends_with(want), "{greeted}");
        }
    }

    #[test]
    fn a_store_that_is_none_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let good = stores(dir.path(), "good", "localhost");
        let empty = dir.path().join("empty.pem");
        fs::write(&empty, "nothing").unwrap();
        let missing = dir.path().join("missing.pem");
        // A key that is not the certificate's.
        let foreign = dir.path().join("foreign.pem");
        let key = KeyPair::generate().unwrap().serialize_pem();
        fs::write(&foreign, format!("{key}{}", fs::read_to_string(&good.1).unwrap())).unwrap();
        let (key, trust) =
            ("zoo.cfg:6: ssl.quorum.keyStore.location=", "zoo.cfg:7: ssl.quorum.trustStore.location=");
        for (key_store, trust_store, place, named) in [
            (&missing, &good.1, key, &missing),
            (&empty, &good.1, key, &empty),
            // Certificates without a key.
            (&good.1, &good.1, key, &good.1),
            (&good.0, &empty, trust, &empty),
            (&good.0, &missing, trust, &missing),
            (&foreign, &good.1, key, &foreign),
        ] {
            let (key_store, trust_store) = (line(6, key_store), line(7, trust_store));
            let security = PeerSecurity::Tls { key_store, trust_store, verify_hostname: true };
            let why = Protection::load(&security).err().expect("a store is wrong");
            assert!(why.starts_with(&format!("{place}{}: ", named.display())), "{why}");
        }
    }
}
