//! Who the ensemble is, which of its servers reads this, and everything that it must not be.

use super::*;

const THREE: &str = "server.1=a:2888:3888;2181\nserver.2=b:2888:3888;2182\nserver.3=c:2888:3888;2183\n";

/// A zoo.cfg, and a `myid` in its data directory.
fn server(id: &str, text: &str) -> Sources {
    let id_file = (!id.is_empty()).then(|| TextFile { path: "/d/myid".into(), bytes: id.into() });
    Sources { id_file, ..file(&format!("dataDir=/d\n{text}")) }
}

fn ensemble(sources: Sources) -> (Config, Ensemble, Vec<String>) {
    let (config, warnings) = good(sources);
    let ensemble = config.ensemble.clone().expect("an ensemble");
    (config, ensemble, warnings)
}

#[test]
fn three_servers_and_a_myid() {
    let (config, ensemble, warnings) = ensemble(server(" 2\r\n", THREE));
    assert_eq!(warnings, [""; 0]);
    assert_eq!((config.server_id, config.client_address.to_string()), (ServerId(2), "[::]:2182".to_owned()));
    assert_eq!((ensemble.init_limit, ensemble.sync_limit), (Millis(30_000), Millis(15_000)), "ticks of 3000");
    assert!(!ensemble.listen_on_all && ensemble.voters() == 3);
    assert_eq!(ensemble.security, PeerSecurity::Plain);
    let want = ServerEntry {
        id: ServerId(2),
        is_observer: false,
        addresses: vec![PeerAddress { host: "b".to_owned(), quorum_port: 2888, election_port: 3888 }],
        client: Some((None, 2182)),
    };
    assert_eq!(ensemble.server(ServerId(2)), Some(&want));
    assert_eq!(ensemble.server(ServerId(4)), None);
}

#[test]
fn the_official_images_variables_make_an_ensemble() {
    let (config, ensemble, warnings) = ensemble(variables(&[
        ("ZOO_DATA_DIR", "/data"),
        ("ZOO_TICK_TIME", "2000"),
        ("ZOO_INIT_LIMIT", "5"),
        ("ZOO_SYNC_LIMIT", "2"),
        ("ZOO_STANDALONE_ENABLED", "true"),
        ("ZOO_MY_ID", "3"),
        (
            "ZOO_SERVERS",
            "server.1=zoo1:2888:3888;2181 server.2=zoo2:2888:3888;2181 server.3=zoo3:2888:3888;2181",
        ),
    ]));
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.server_id, ServerId(3));
    assert_eq!((ensemble.init_limit, ensemble.sync_limit), (Millis(10_000), Millis(4000)));
}

#[test]
fn how_the_list_of_a_variable_may_be_written() {
    for servers in [
        "server.1=a:2888:3888;2181  server.2=b:2888:3888;2181\n",
        "\"server.1=a:2888:3888;2181 server.2=b:2888:3888;2181\"",
        "'server.1=a:2888:3888;2181','server.2=b:2888:3888;2181'",
        "server.1=\"a:2888:3888;2181\" server.2=\"b:2888:3888;2181\"",
        "server.01=a:2888:3888;2181, server.2=b:2888:3888;2181",
        "a:2888:3888;2181 b:2888:3888;2181",
        "a:2888:3888;2181;b:2888:3888;2181",
        "b:2888:3888::2;2181,a:2888:3888::1;2181",
    ] {
        let (_, ensemble, _) = ensemble(variables(&[("ZOO_SERVERS", servers), ("ZOO_MY_ID", "1")]));
        let lines: Vec<_> = ensemble.servers.iter().map(ServerEntry::membership_line).collect();
        let want = ["1=a", "2=b"].map(|who| format!("server.{who}:2888:3888:participant;0.0.0.0:2181"));
        assert_eq!(lines, want, "{servers}");
    }
    let said = bad(variables(&[("ZOO_SERVERS", "server.1=a:1:2 b:1:2"), ("ZOO_MY_ID", "1")]));
    assert!(said.starts_with("environment ZOO_SERVERS: ZOO_SERVERS=b:1:2: expected server.N="), "{said}");
}

/// A plain list of IPv6 addresses: `::` there is not Bitnami's number.
#[test]
fn ipv6_in_every_place() {
    let servers = "[::1]:2888:3888 [fe80::2]:2888:3888::7";
    let (config, ensemble, _) = ensemble(variables(&[("ZOO_SERVERS", servers), ("ZOO_MY_ID", "7")]));
    let hosts: Vec<_> = ensemble.servers.iter().map(|s| (s.id.0, s.addresses[0].host.as_str())).collect();
    assert_eq!(hosts, [(1, "::1"), (7, "fe80::2")]);
    assert_eq!(config.server_id, ServerId(7));
}

#[test]
fn who_this_server_is_must_be_clear() {
    let with_variable = |id: &str, variable: &str| {
        let variables = vec![("ZOO_MY_ID".to_owned(), variable.to_owned())];
        Sources { variables, ..server(id, THREE) }
    };
    for (sources, want) in [
        (
            server("", THREE),
            "/d/myid: myid=(none): expected this file, ZOO_MY_ID or ringkeeper.myid to say which server this is: 1, 2, 3",
        ),
        (server("7", THREE), "/d/myid: myid=7: expected the number of a server that is listed: 1, 2, 3"),
        (server("x\ny", THREE), "/d/myid: myid=x\\ny: expected the number of a server that is listed: 1, 2, 3"),
        (server("\n", THREE), "/d/myid: myid=: expected the number of a server that is listed: 1, 2, 3"),
        (server("257", THREE), "/d/myid: myid=257: expected the number of a server that is listed: 1, 2, 3"),
        (
            with_variable("2", "3"),
            "environment ZOO_MY_ID: ringkeeper.myid=3: expected the same number everywhere: /d/myid says 2",
        ),
        (
            with_variable("", "9"),
            "environment ZOO_MY_ID: ringkeeper.myid=9: expected the number of a server that is listed: 1, 2, 3",
        ),
        (
            Sources { flags: set(&["ringkeeper.myid=1"]), ..with_variable("", "3") },
            "--set: ringkeeper.myid=1: expected the same number everywhere: environment ZOO_MY_ID says 3",
        ),
        (
            server("1", "ringkeeper.myid=two\nserver.1=a:1:2\nserver.2=b:1:2"),
            "zoo.cfg:2: ringkeeper.myid=two: expected the number of a server that is listed: 1, 2",
        ),
    ] {
        assert_eq!(bad(sources), want);
    }
    for sources in [with_variable("2", "2"), with_variable("", "2"), with_variable("2", "")] {
        assert_eq!(good(sources).0.server_id, ServerId(2));
    }
    let flag = Sources { flags: set(&["ringkeeper.myid=2"]), ..server("", THREE) };
    assert_eq!(good(flag).0.server_id, ServerId(2));
    let invalid = Sources {
        id_file: Some(TextFile { path: "/d/myid".into(), bytes: vec![0xff, 0xfe] }),
        ..server("", THREE)
    };
    assert!(bad(invalid).starts_with("/d/myid: myid="));
}

#[test]
fn lists_that_are_no_ensemble() {
    for (text, want) in [
        (
            "server.1=a:1:2\nserver.2=b:1:2\nserver.1=c:1:2",
            "zoo.cfg:4: server.1=c:1:2: expected one line for a server: zoo.cfg:2 says a:1:2",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2\nzookeeper.server.01=c:1:2",
            "zoo.cfg:4: server.1=c:1:2: expected one line for a server: zoo.cfg:2 says a:1:2",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2\nserver.3=A:9:2",
            "zoo.cfg:4: server.3=A:9:2: expected an address of its own: A:2 is server.1's too (zoo.cfg:2)",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2|b:1:2",
            "zoo.cfg:3: server.2=b:1:2|b:1:2: expected an address of its own: b:1 is twice in this line",
        ),
        (
            "server.1=a:1:2\nserver.2=b:5:5",
            "zoo.cfg:3: server.2=b:5:5: expected two different ports for peers and for elections, and both are 5",
        ),
        (
            "server.0=a:1:2\nserver.1=b:1:2",
            "zoo.cfg:2: server.0=a:1:2: expected server.N with N of 1 to 254: give this server another number, in all \
             server lines and in its myid",
        ),
        (
            "server.256=a:1:2\nserver.1=b:1:2",
            "zoo.cfg:2: server.256=a:1:2: expected server.N with N of 1 to 254: give this server another number, in all \
             server lines and in its myid",
        ),
        ("server.=a:1:2\nserver.1=b:1:2", "zoo.cfg:2: server.=a:1:2: expected server.N with N of 1 to 254"),
        (
            "server.1=a:1:2\nserver2=b:1:2",
            "zoo.cfg:3: server2=b:1:2: expected server.N with N of 1 to 254",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2\nsever.3=c:1:2",
            "zoo.cfg:4: sever.3=c:1:2: expected server.N with N of 1 to 254",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2\nserver.l=c:1:2",
            "zoo.cfg:4: server.l=c:1:2: expected server.N with N of 1 to 254",
        ),
        (
            "server.1=a:1:2:observer\nserver.2=b:1:2:observer",
            "zoo.cfg:2: server.1=a:1:2:observer: expected a participant among the servers: server.2 observe too, and \
             nobody votes",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2:observer",
            "zoo.cfg:3: server.2=b:1:2:observer: expected two participants, or standaloneEnabled=false: server.1 \
             (zoo.cfg:2) is the only one, and with standaloneEnabled=true it runs alone",
        ),
        ("server.1=a:1:2:observer", "zoo.cfg:2: server.1=a:1:2:observer: expected a participant: an observer has nobody to observe"),
        ("server.1=a:1:2\nserver.2=b:1:2\npeerType=x", "zoo.cfg:4: peerType=x: expected participant or observer"),
        (
            "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\ngroup.1=1:2:3",
            "zoo.cfg:5: group.1=1:2:3: expected no groups and no weights: every participant has one vote in ringkeeper",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2\nweight.1=2",
            "zoo.cfg:4: weight.1=2: expected no groups and no weights: every participant has one vote in ringkeeper",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2\ninitLimit=0",
            "zoo.cfg:4: initLimit=0: expected a whole number of ticks, 1 to 2147483647",
        ),
        (
            "server.1=a:1:2\nserver.2=b:1:2\nsyncLimit=0",
            "zoo.cfg:4: syncLimit=0: expected a whole number of ticks, 1 to 2147483647",
        ),
        ("server.1=a:1:2\nserver.2=b:1:2\nelectionAlg=0", "zoo.cfg:4: electionAlg=0: expected the only algorithm, 3"),
        (
            "server.1=a:1:2\nserver.2=b:1:2\nquorum.auth.enableSasl=true",
            "zoo.cfg:4: quorum.auth.enableSasl=true: expected false: this release has no SASL. sslQuorum=true asks \
             peers for certificates",
        ),
        (
            "server.1=a:1:2\nserver.255=b:1:2",
            "zoo.cfg:3: server.255=b:1:2: expected server.N with N of 1 to 254: give this server another number, in all \
             server lines and in its myid",
        ),
        (
            "clientPort=5\nserver.1=a:1:2;6\nserver.2=b:1:2;7",
            "zoo.cfg:3: server.1=a:1:2;6: its client port is not clientPort, which is 5",
        ),
        ("server.1=a:1:2\nserver.2=b:1:2\nversion=x", "zoo.cfg:4: version=x: expected a hexadecimal number"),
    ] {
        assert_eq!(bad(server("1", text)), want);
    }
    let twice = [("ZOO_MY_ID", "1"), ("ZOO_SERVERS", "server.1=a:1:2 server.2=b:1:2 server.1=c:1:2")];
    let want = "environment ZOO_SERVERS: server.1=c:1:2: expected one line for a server: environment ZOO_SERVERS says \
                a:1:2";
    assert_eq!(bad(variables(&twice)), want);
}

/// It ended the start.
#[test]
fn a_peer_type_that_is_not_the_lines_is_warned_about_as_in_zookeeper() {
    let two = "server.1=a:1:2\nserver.2=b:1:2\n";
    let (_, _, warnings) = ensemble(server("1", &format!("{THREE}peerType=participant")));
    assert_eq!(warnings, [""; 0]);
    let (_, shown, warnings) = ensemble(server("1", &format!("{two}peerType=observer")));
    assert_eq!(shown.voters(), 2);
    let want =
        "zoo.cfg:4: peerType=observer has no effect: server.1 says participant (zoo.cfg:2), and that holds";
    assert_eq!(warnings[0], want);
    let observer = format!("{two}server.3=c:1:2:observer\npeerType=participant");
    let (_, shown, warnings) = ensemble(server("3", &observer));
    assert!(shown.server(ServerId(3)).is_some_and(|entry| entry.is_observer));
    let want =
        "zoo.cfg:5: peerType=participant has no effect: server.3 says observer (zoo.cfg:4), and that holds";
    assert_eq!(warnings[0], want);
    let want = "peerType=observer has no effect: there is nobody to observe, and this server runs alone";
    for (text, line) in [("", 2), ("server.1=a:1:2\n", 3)] {
        let (config, warnings) = good(server("", &format!("{text}peerType=observer")));
        assert_eq!((config.ensemble, warnings), (None, vec![format!("zoo.cfg:{line}: {want}")]));
    }
}

#[test]
fn a_flag_still_wins_over_the_list() {
    let flags = flags::KeyFlags { client_port: Some("2999".to_owned()), ..set(&["server.3=d:1:2"]) };
    let (config, ensemble, _) = ensemble(Sources { flags, ..server("1", THREE) });
    assert_eq!(config.client_address.port(), 2999);
    assert_eq!(ensemble.servers[0].client, Some((None, 2999)), "the list tells clients where it is");
    assert_eq!(ensemble.servers[2].addresses[0].host, "d");
}

#[test]
fn what_an_ensemble_tolerates_is_said() {
    for (voters, want) in [
        (2, Some("2 voting servers: no failure is tolerated, an ensemble needs at least 3")),
        (3, None),
        (4, Some("4 voting servers: 1 failure is tolerated, as with 3: an odd number is better")),
        (5, None),
        (6, Some("6 voting servers: 2 failures are tolerated, as with 5: an odd number is better")),
    ] {
        let lines: String =
            (1..=voters).fold(String::new(), |all, i| all + &format!("server.{i}=h{i}:1:2\n"));
        let (_, ensemble, warnings) = ensemble(server("1", &lines));
        assert_eq!((ensemble.voters(), warnings), (voters, want.map(str::to_owned).into_iter().collect()));
        // An observer counts for nothing.
        let (_, _, warnings) = self::ensemble(server("1", &format!("{lines}server.99=o:1:2:observer")));
        assert_eq!(warnings.first().map(String::as_str), want);
    }
    let text = "server.1=a:1:2\nserver.2=b:1:2:observer\nstandaloneEnabled=false\npeerType=observer";
    let (_, ensemble, warnings) = ensemble(server("2", text));
    assert_eq!(ensemble.voters(), 1);
    assert_eq!(warnings, ["1 voting server: no failure is tolerated, an ensemble needs at least 3"]);
}

#[test]
fn the_largest_ensemble_sorts_by_number() {
    let lines: String = (1..=254).fold(String::new(), |all, i| all + &format!("server.{i}=h{i}:1:2\n"));
    let (config, ensemble, _) = ensemble(server("254", &lines));
    assert_eq!(config.server_id, ServerId(254));
    let ids: Vec<u8> = ensemble.servers.iter().map(|server| server.id.0).collect();
    assert_eq!(ids, (1..=254).collect::<Vec<u8>>());
}

#[test]
fn keys_that_are_idle_in_an_ensemble_say_why() {
    let keys =
        "connectToLearnerMasterLimit=5\nleaderServes=no\nsyncEnabled=false\nsslQuorumReloadCertFiles=true\n\
                multiAddress.enabled=true\ncnxTimeout=5\nportUnification=true\n";
    let (_, ensemble, warnings) = ensemble(server("1", &format!("{THREE}quorumListenOnAllIPs=true\n{keys}")));
    assert!(ensemble.listen_on_all);
    assert_eq!(warnings.len(), 7, "{warnings:?}");
    for key in keys.lines().map(|line| line.split('=').next().unwrap()) {
        assert!(
            warnings.iter().any(|line| line.contains(key) && line.contains("no effect")),
            "{key}: {warnings:?}"
        );
    }
    assert!(!warnings.iter().any(|line| line.contains("alone")), "{warnings:?}");
}

#[test]
fn another_ones_property_that_reads_like_a_server_line_is_one_warning() {
    let (_, ensemble, warnings) = ensemble(server("2", &format!("{THREE}storage.hosts=a:1:2\n")));
    assert_eq!((ensemble.voters(), warnings.len()), (3, 1), "{warnings:?}");
}

#[test]
fn a_dynamic_file_holds_the_list() {
    let dynamic = |text: &str, bytes: &str| Sources {
        dynamic: Some(TextFile { path: "/d/zoo.cfg.dynamic.100000000".into(), bytes: bytes.into() }),
        ..server("2", &format!("dynamicConfigFile=/d/zoo.cfg.dynamic.100000000\n{text}"))
    };
    let (config, ensemble, warnings) = ensemble(dynamic("", &format!("{THREE}version=100000000")));
    assert_eq!((config.server_id, ensemble.voters(), warnings), (ServerId(2), 3, Vec::new()));
    for (text, bytes, want) in [
        (
            "server.1=a:1:2",
            THREE,
            "zoo.cfg:3: server.1=a:1:2: expected in the file that dynamicConfigFile names, and only there: \
             /d/zoo.cfg.dynamic.100000000 (zoo.cfg:2)",
        ),
        (
            "",
            "server.1=a:1:2\nserver.2=b:1:2\ntickTime=5",
            "/d/zoo.cfg.dynamic.100000000:3: tickTime=5: expected server.N lines and a version alone: other keys \
             belong into zoo.cfg",
        ),
        (
            "clientPort=5",
            THREE,
            "/d/zoo.cfg.dynamic.100000000:2: server.2=b:2888:3888;2182: its client port is not clientPort, which is 5",
        ),
    ] {
        assert_eq!(bad(dynamic(text, bytes)), want);
    }
}

#[test]
fn load_finds_the_list_and_myid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.cfg");
    let dynamic = dir.path().join("zoo.cfg.dynamic.a");
    let text = format!("dataDir={}\ndynamicConfigFile={}", dir.path().display(), dynamic.display());
    std::fs::write(&path, text).unwrap();
    let load = || load(&ServeArgs { file: Some(path.clone()), ..ServeArgs::default() });

    let said = load().unwrap_err().to_string();
    let start =
        format!("{}:2: dynamicConfigFile={}: expected a readable file: ", path.display(), dynamic.display());
    assert!(said.starts_with(&start), "{said}");
    std::fs::write(&dynamic, THREE).unwrap();
    let said = load().unwrap_err().to_string();
    assert!(said.starts_with(&format!("{}: myid=(none): ", dir.path().join("myid").display())), "{said}");
    std::fs::write(dir.path().join("myid"), "3\n").unwrap();
    assert_eq!(load().unwrap().0.server_id, ServerId(3));
    std::fs::remove_file(dir.path().join("myid")).unwrap();
    std::fs::create_dir(dir.path().join("myid")).unwrap();
    let said = load().unwrap_err().to_string();
    assert!(said.contains("myid: myid=") && said.contains("expected a readable file"), "{said}");
    // A server that is alone does not look at it.
    std::fs::write(&dynamic, "server.5=a:2888:3888;2181").unwrap();
    let config = load().unwrap().0;
    assert_eq!((config.server_id, config.ensemble), (ServerId(5), None));
}

#[test]
fn tls_between_servers_takes_pem() {
    let stores = "ssl.quorum.keyStore.location=/k.pem\nssl.quorum.trustStore.location=/t.PEM\n\
                  ssl.quorum.trustStore.password=changeit\nssl.quorum.keyStore.password=\n";
    let with = |more: &str| server("1", &format!("{THREE}sslQuorum=true\n{more}"));
    let (_, ensemble, warnings) = ensemble(with(stores));
    assert_eq!(warnings, [""; 0]);
    let store = |path: &str| StoreFile { path: path.into(), source: Source::Default };
    let (key_store, trust_store) = (store("/k.pem"), store("/t.PEM"));
    assert_eq!(ensemble.security, PeerSecurity::Tls { key_store, trust_store, verify_hostname: true });
    let typed = "ssl.quorum.keyStore.location=/k\nssl.quorum.keyStore.type=pem\nssl.quorum.trustStore.location=/t.jks\n\
                 ssl.quorum.trustStore.type=PEM\nssl.quorum.hostnameVerification=false\nssl.quorum.clientAuth=none\n\
                 ssl.quorum.protocol=TLSv1.3";
    let (_, ensemble, warnings) = self::ensemble(with(typed));
    let (key_store, trust_store) = (store("/k"), store("/t.jks"));
    assert_eq!(ensemble.security, PeerSecurity::Tls { key_store, trust_store, verify_hostname: false });
    assert!(
        warnings[0].contains("never let in") && warnings[1].contains("ssl.quorum.protocol"),
        "{warnings:?}"
    );

    let (_, ensemble, _) = self::ensemble(server("1", &format!("{THREE}sslQuorum=false\n{stores}")));
    assert_eq!(ensemble.security, PeerSecurity::Plain);
}

#[test]
fn stores_that_java_made_are_refused_with_the_way_out() {
    let key = "ssl.quorum.keyStore.location=/k.pem\n";
    let trust = "ssl.quorum.trustStore.location=/t.pem\n";
    for (text, starts, contains) in [
        (
            trust.to_owned(),
            "default: ssl.quorum.keyStore.location=(default): expected a PEM file with",
            "sslQuorum",
        ),
        (
            key.to_owned(),
            "default: ssl.quorum.trustStore.location=(default): expected a PEM file with",
            "sslQuorum",
        ),
        (
            format!("{trust}ssl.quorum.keyStore.location=/k.jks"),
            "zoo.cfg:7: ssl.quorum.keyStore.location=/k.jks: expected PEM",
            "keytool -importkeystore",
        ),
        (
            format!("{trust}ssl.quorum.keyStore.location=/k.p12"),
            "zoo.cfg:7: ssl.quorum.keyStore.location=/k.p12: expected PEM",
            ": openssl pkcs12 -in FILE -nodes -out FILE.pem",
        ),
        (
            format!("{trust}ssl.quorum.keyStore.location=/k"),
            "zoo.cfg:7: ssl.quorum.keyStore.location=/k: expected ssl.quorum.keyStore.type=PEM",
            "ends in .pem",
        ),
        (
            format!("{key}{trust}ssl.quorum.keyStore.type=x"),
            "zoo.cfg:8: ssl.quorum.keyStore.type=x: expected PEM",
            "private key",
        ),
        (
            format!("{key}{trust}ssl.quorum.trustStore.type=JKS"),
            "zoo.cfg:8: ssl.quorum.trustStore.type=JKS: expected PEM",
            "keytool -list -rfc",
        ),
        (
            format!("{key}{trust}ssl.quorum.keyStore.password=secret"),
            "zoo.cfg:8: ssl.quorum.keyStore.password=***: expected none",
            "openssl pkey",
        ),
        (
            format!("{key}{trust}ssl.quorum.crl=true"),
            "zoo.cfg:8: ssl.quorum.crl=true: expected false",
            "revoked",
        ),
        (
            format!("{key}{trust}ssl.quorum.clientAuth=x"),
            "zoo.cfg:8: ssl.quorum.clientAuth=x: expected need",
            "none",
        ),
    ] {
        let said = bad(server("1", &format!("{THREE}sslQuorum=true\n{text}")));
        assert!(said.starts_with(starts) && said.contains(contains) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn what_check_prints_is_the_same_ensemble() {
    let tls = "sslQuorum=true\nssl.quorum.keyStore.location=/k.pem\nssl.quorum.trustStore.location=/t\n\
               ssl.quorum.trustStore.type=PEM\nquorumListenOnAllIPs=true\ninitLimit=7\nsyncLimit=3\ntickTime=500\n";
    for (id, text) in [
        ("2", THREE.to_owned()),
        ("3", format!("{THREE}{tls}")),
        ("2", "server.1=[::1]:1:2|x:3:4\nserver.2=b:1:2:observer;[::]:9\nstandaloneEnabled=false".to_owned()),
    ] {
        let (config, shown, _) = ensemble(server(id, &text));
        let (again, _) = good(file(&config.to_string()));
        assert_eq!(again, config, "{config}");
        for server in &shown.servers {
            assert!(config.to_string().contains(&format!("\nserver.{}={server}\n", server.id.0)), "{config}");
        }
    }
    let (config, _, _) = ensemble(server("2", THREE));
    let want = "ringkeeper.myid=2\nserver.1=a:2888:3888:participant;2181\nserver.2=b:2888:3888:participant;2182\n\
                server.3=c:2888:3888:participant;2183\npeerType=participant\n# electionPort=3888, quorumPort=2888\n\
                standaloneEnabled=true\ninitLimit=10\nsyncLimit=5\nquorumListenOnAllIPs=false\nsslQuorum=false\n";
    assert!(config.to_string().starts_with(want), "{config}");
}

#[test]
fn one_participant_is_alone_whatever_it_is_called() {
    let (config, warnings) = good(server("", "server.4=a:1:2;5\nstandaloneEnabled=false"));
    assert_eq!((config.server_id, config.ensemble), (ServerId(4), None));
    let want = "zoo.cfg:3: standaloneEnabled=false: there are no other servers, and this one runs alone all the same";
    assert_eq!(warnings, [want]);
}

#[test]
fn no_line_makes_it_panic() {
    let whole = "server.1=[::1]:2888:3888|b:1:2:participant;[::]:2181\nserver.2=c:3:4:observer\ngroup.1=1\n\
                 standaloneEnabled=false\ninitLimit=5\nversion=1f\nsslQuorum=true\n\
                 ssl.quorum.keyStore.location=/k.pem\nssl.quorum.trustStore.location=/t.pem\n";
    for at in 0..whole.len() {
        for other in ["", ":", ";", "|", "[", "]", ".", "=", "\0", "9", "-", "ä", "\n"] {
            let text = format!("{}{other}{}", &whole[..at], &whole[at + 1..]);
            for id in ["1", &text[..at]] {
                let _ = server(id, &text).check();
                let _ = variables(&[("ZOO_SERVERS", &text), ("ZOO_MY_ID", id)]).check();
            }
        }
    }
}
