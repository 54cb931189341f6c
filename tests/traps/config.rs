//! The file that operators have.

use ringkeeper::config::{Config, Sources, TextFile};

fn configure(text: &str) -> Result<(Config, Vec<String>), String> {
    let file = TextFile { path: "zoo.cfg".into(), bytes: text.as_bytes().to_vec() };
    let sources = Sources { file: Some(file), ..Sources::default() };
    let (config, warnings) = sources.check().map_err(|invalid| invalid.to_string())?;
    Ok((config, warnings.iter().map(ToString::to_string).collect()))
}

#[test]
fn tr40_an_unknown_key_is_a_system_property_and_no_start_error() {
    let (config, warnings) =
        configure("fooBar=1\nextendedTypesEnabled=true\nzookeeper.enforceQuota=true").unwrap();
    assert!(config.rules.extended_types, "a property under its short name");
    assert!(warnings[0].contains("taken for the system property zookeeper.fooBar"), "{warnings:?}");
}

#[test]
fn tr41_defaults_of_a_file_that_says_nothing_are_zookeepers() {
    let (config, _) = configure("dataDir=/d\nautopurge.snapRetainCount=1").unwrap();
    assert_eq!(config.sessions.tick.0, 3_000);
    assert_eq!((config.sessions.timeout_min.0, config.sessions.timeout_max.0), (6_000, 60_000));
    assert_eq!(config.log.snapshots_kept, 3, "fewer than three are silently three");
    configure("dataDir=/d").expect("initLimit and syncLimit are needed by an ensemble alone");
}
