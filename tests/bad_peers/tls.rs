//! P01 to P04 and P21: who does not get past TLS.

use super::played::{Connect, Member};
use super::stage::Stage;
use super::wire::{boxed, dial, frame_of, greet, kind, raft, wait_closed, Bytestream, Stream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Bytestream for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { params, key, pem }
    }

    /// A key and a certificate for these names.
    fn store(&self, names: &[&str]) -> String {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let signed = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        key.serialize_pem() + &signed.pem()
    }

    /// Dials with a certificate out of `store`, or without one, and trusts this authority.
    fn connect(&self, store: Option<&str>) -> impl Fn(u8, u16) -> Connect {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = Arc::new(match store {
            None => config.with_no_client_auth(),
            Some(store) => {
                let chain = vec![CertificateDer::from_pem_slice(store.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(store.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        });
        move |host, port| {
            let config = config.clone();
            Arc::new(move || {
                let name = ServerName::try_from("127.0.0.1").unwrap();
                let tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                Ok(Box::new(StreamOwned::new(tls, dial(host, port)?)) as Stream)
            })
        }
    }
}

fn stage(authority: &Authority, files: &std::path::Path) -> Stage {
    let own = authority.store(&["127.0.0.1"]);
    let (key_store, trust_store) = (files.join("server.pem"), files.join("ca.pem"));
    std::fs::write(&key_store, &own).unwrap();
    std::fs::write(&trust_store, &authority.pem).unwrap();
    let lines = format!(
        "sslQuorum=true\nssl.quorum.keyStore.location={}\nssl.quorum.trustStore.location={}\n",
        key_store.display(),
        trust_store.display()
    );
    Stage::leading_with(&lines, authority.connect(Some(&own)))
}

/// What these bytes get.
fn closes(stage: &mut Stage, host: u8, bytes: &[u8], why: &str) {
    let mut stream = dial(host, stage.port).unwrap();
    // The server may close while it is still being written to.
    let _ = stream.write_all(bytes);
    wait_closed(&mut stream);
    is_told(stage, host, why);
}

fn is_told(stage: &mut Stage, host: u8, why: &str) {
    let who = format!("127.0.0.{host}:");
    stage.server.wait_line(&[&who, why]);
    stage.holds(why);
    assert_eq!(stage.server.lines_with(&[&who]).len(), 1, "{why}: one line");
}

pub fn p01_to_p04_and_p21_do_not_get_past_tls() {
    let files = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let mut stage = stage(&authority, files.path());
    let hello = stage.second.hello.clone();
    // P01
    closes(&mut stage, 70, &hello.bytes(), "sslQuorum must be the same on all servers");
    // P02 to P04, and nothing at all
    let names_none = "its certificate names no host of server 2 (127.0.0.1)";
    let strangers = [
        (71, Some(other.store(&["127.0.0.1"])), "TLS: invalid peer certificate"),
        (72, None, "TLS: peer sent no certificates"),
        (73, Some(authority.store(&["10.0.0.1", "elsewhere.example"])), names_none),
        (74, Some(authority.store(&[])), names_none),
    ];
    for (host, store, why) in strangers {
        let mut member = Member::new(2, 1, authority.connect(store.as_deref())(host, stage.port));
        member.hello = hello.clone();
        // A few times, as a server does.
        for _ in 0..3 {
            let greeted = (member.connect)().and_then(|mut stream| greet(&mut *stream, &member.hello));
            assert!(greeted.is_err(), "{why}: {greeted:?}");
        }
        is_told(&mut stage, host, why);
    }
    // P21
    let mut oversized = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    oversized.extend([0; 0x4000 - 4]);
    for _ in 0..20 {
        oversized.extend([22, 3, 1, 0x40, 0]);
        oversized.extend([0; 0x4000]);
    }
    closes(&mut stage, 80, &oversized, "TLS: ");
    let early = [&[23, 3, 3, 0, 100][..], &[7; 100]].concat();
    closes(&mut stage, 81, &early, "TLS: ");
    trickles(&mut stage, 82);
    floods(&mut stage);
}

/// A byte now and then does not hold up who greets.
fn trickles(stage: &mut Stage, host: u8) {
    let mut stream = dial(host, stage.port).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let started = Instant::now();
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0; 500]].concat();
    for byte in hello {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        match stream.read(&mut [0; 100]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(n) if n > 0 => {}
            _ => break,
        }
        assert!(started.elapsed() < Duration::from_secs(8), "a byte at a time is waited for");
    }
    is_told(stage, host, "nothing came in time");
}

/// P15: what TLS has in hand does not keep the sequencer from all else.
fn floods(stage: &mut Stage) {
    let mut wire = stage.rogue();
    let thousand = frame_of(&boxed(raft(kind::HEARTBEAT_RESPONSE, stage.term))).repeat(1_000);
    for _ in 0..30 {
        if wire.write(&thousand).is_err() {
            break;
        }
    }
    stage.holds("P15, under TLS");
}
