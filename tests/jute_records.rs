//! Every request record survives the round trip, and no beginning of one passes for the whole.

use proptest::prelude::*;
use ringkeeper::ids::Xid;
use ringkeeper::wire::{
    put_multi_end, put_multi_header, Acl, AclRef, AddWatch, AuthPacket, ConnectRequest, ConnectResponse,
    Create, Delete, GetAcl, Id, IdRef, MultiItem, MultiReader, OpCode, PathAndType, PathAndWatch, Perms,
    Reader, Reconfig, RequestHeader, SetAcl, SetData, SetWatches, Stat, Text, Truncated,
};
use std::borrow::Cow;
use std::fmt::Debug;

fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(128), failure_persistence: None, ..ProptestConfig::default() }
}

fn text() -> BoxedStrategy<Text<'static>> {
    prop_oneof![1 => Just(None), 6 => "[a-z/\u{e4}\u{4e16}\0]{0,12}".prop_map(|text| Some(Cow::Owned(text)))]
        .boxed()
}

fn buffer() -> BoxedStrategy<Option<Vec<u8>>> {
    prop_oneof![1 => Just(None), 6 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Some)].boxed()
}

fn acls() -> BoxedStrategy<Option<Vec<AclRef<'static>>>> {
    let entry = (any::<i32>(), text(), text())
        .prop_map(|(perms, scheme, id)| AclRef { perms: Perms(perms), id: IdRef { scheme, id } });
    prop_oneof![1 => Just(None), 4 => prop::collection::vec(entry, 0..4).prop_map(Some)].boxed()
}

/// Decodes what was encoded, with bytes behind it, and refuses it cut anywhere.
fn check<'a, T: PartialEq + Debug>(
    record: &T,
    bytes: &'a mut Vec<u8>,
    decode: impl Fn(&'a [u8]) -> Result<T, Truncated>,
) {
    let len = bytes.len();
    bytes.extend_from_slice(&[0xa5; 3]);
    let bytes: &'a [u8] = bytes;
    assert_eq!(decode(&bytes[..len]).as_ref(), Ok(record));
    assert_eq!(decode(bytes).as_ref(), Ok(record), "bytes behind a record are ignored");
    for cut in 0..len {
        assert_eq!(decode(&bytes[..cut]), Err(Truncated), "cut at {cut} of {len}");
    }
}

fn jute_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i32).to_be_bytes());
    out.extend(text.as_bytes());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn paths_and_their_companions(path in text(), watch: bool, kind: i32, xid: i32, op: i32) {
        let mut out = Vec::new();
        let record = PathAndWatch { path: path.clone(), watch };
        record.encode(&mut out);
        check(&record, &mut out, PathAndWatch::decode);

        let mut out = Vec::new();
        let record = GetAcl { path: path.clone() };
        record.encode(&mut out);
        check(&record, &mut out, GetAcl::decode);

        let mut out = Vec::new();
        let record = PathAndType { path: path.clone(), kind };
        record.encode(&mut out);
        let watch = AddWatch { path, mode: kind };
        assert_eq!(AddWatch::decode(&out), Ok(watch));
        check(&record, &mut out, PathAndType::decode);

        let mut out = Vec::new();
        let header = RequestHeader { xid: Xid(xid), op };
        header.encode(&mut out);
        check(&header, &mut out, |bytes| RequestHeader::decode(bytes).map(|(header, _)| header));
    }

    #[test]
    fn what_changes_the_tree(
        path in text(), data in buffer(), acl in acls(), flags: i32, version: i32, ttl: i64,
    ) {
        let data = data.as_deref();
        for op in [OpCode::Create, OpCode::Create2, OpCode::CreateContainer, OpCode::CreateTtl] {
            let ttl_ms = if op == OpCode::CreateTtl { ttl } else { -1 };
            let record = Create { path: path.clone(), data, acl: acl.clone(), flags, ttl_ms };
            let mut out = Vec::new();
            record.encode(op, &mut out);
            check(&record, &mut out, |bytes| Create::decode(op, bytes));
        }

        let mut out = Vec::new();
        let record = Delete { path: path.clone(), version };
        record.encode(&mut out);
        check(&record, &mut out, Delete::decode);

        let mut out = Vec::new();
        let record = SetData { path: path.clone(), data, version };
        record.encode(&mut out);
        check(&record, &mut out, SetData::decode);

        let mut out = Vec::new();
        let record = SetAcl { path, acl, version };
        record.encode(&mut out);
        check(&record, &mut out, SetAcl::decode);
    }

    #[test]
    fn what_concerns_the_connection(
        texts in [text(), text(), text()], auth in buffer(), kind: i32, id: i64, timeout: i32,
        password: [u8; 16], read_only: Option<bool>,
    ) {
        let [joining, leaving, members] = texts;
        let mut out = Vec::new();
        let record = Reconfig { joining, leaving, members: members.clone(), config_id: id };
        record.encode(&mut out);
        check(&record, &mut out, Reconfig::decode);

        let mut out = Vec::new();
        let record = AuthPacket { kind, scheme: members, auth: auth.as_deref() };
        record.encode(&mut out);
        check(&record, &mut out, AuthPacket::decode);

        let mut out = Vec::new();
        let record = ConnectRequest {
            protocol_version: kind,
            last_zxid_seen: id,
            timeout_ms: timeout,
            session_id: !id,
            password: auth.as_deref(),
            read_only,
        };
        record.encode(&mut out);
        prop_assert_eq!(out[..4].to_vec(), (out.len() as u32 - 4).to_be_bytes().to_vec());
        prop_assert_eq!(ConnectRequest::decode(&out[4..]), Ok(record.clone()));
        let must = out.len() - usize::from(read_only.is_some());
        for cut in 4..must {
            prop_assert_eq!(ConnectRequest::decode(&out[4..cut]), Err(Truncated));
        }

        let mut out = Vec::new();
        let record = ConnectResponse { timeout_ms: timeout, session_id: id, password, read_only };
        record.encode(&mut out);
        prop_assert_eq!(ConnectResponse::decode(&out[4..]), Ok(record));
    }

    #[test]
    fn watch_lists(zxid: i64, lists in prop::collection::vec(prop::collection::vec("[a-z/]{0,9}", 0..5), 5)) {
        for (op, wanted) in [(OpCode::SetWatches, 3), (OpCode::SetWatches2, 5)] {
            let mut bytes = zxid.to_be_bytes().to_vec();
            for list in &lists[..wanted] {
                bytes.extend((list.len() as i32).to_be_bytes());
                list.iter().for_each(|path| jute_string(&mut bytes, path));
            }
            let record = SetWatches::decode(op, &bytes).unwrap();
            prop_assert_eq!(record.relative_zxid, zxid);
            for (got, want) in record.lists.iter().zip(&lists[..wanted]) {
                prop_assert_eq!(got.iter().collect::<Vec<_>>(), want.iter().map(Cow::from).collect::<Vec<_>>());
            }
            let mut out = Vec::new();
            record.encode(op, &mut out);
            prop_assert_eq!(&out, &bytes);
            for cut in 0..bytes.len() {
                prop_assert!(SetWatches::decode(op, &bytes[..cut]).is_err(), "cut at {}", cut);
            }
        }
    }

    #[test]
    fn multis(
        items in prop::collection::vec((0..4u8, "[a-z/]{0,9}", buffer(), acls(), any::<i32>()), 0..5),
    ) {
        let mut bytes = Vec::new();
        let mut want = Vec::new();
        for (kind, path, data, acl, number) in &items {
            let (path, data): (Text<'_>, _) = (Some(Cow::Borrowed(path)), data.as_deref());
            let item = match kind {
                0 => {
                    let create = Create { path, data, acl: acl.clone(), flags: *number, ttl_ms: -1 };
                    MultiItem::Create(OpCode::Create2, create)
                }
                1 => MultiItem::Delete(Delete { path, version: *number }),
                2 => MultiItem::SetData(SetData { path, data, version: *number }),
                _ => MultiItem::Check(Delete { path, version: *number }),
            };
            let op = match &item {
                MultiItem::Create(op, _) => *op,
                MultiItem::Delete(_) => OpCode::Delete,
                MultiItem::SetData(_) => OpCode::SetData,
                _ => OpCode::Check,
            };
            put_multi_header(&mut bytes, op.as_i32(), false, -1);
            match &item {
                MultiItem::Create(op, create) => create.encode(*op, &mut bytes),
                MultiItem::Delete(record) | MultiItem::Check(record) => record.encode(&mut bytes),
                MultiItem::SetData(record) => record.encode(&mut bytes),
                MultiItem::GetData(_) | MultiItem::GetChildren(_) => unreachable!("not in this list"),
            }
            want.push(item);
        }
        put_multi_end(&mut bytes);
        let walk = |bytes| {
            let mut reader = MultiReader::new(OpCode::Multi, bytes);
            let mut all = Vec::new();
            while let Some(item) = reader.next_item()? {
                all.push(item);
            }
            Ok::<_, Truncated>(all)
        };
        let whole = walk(&bytes);
        prop_assert_eq!(whole.as_ref(), Ok(&want));
        for cut in 0..bytes.len() {
            prop_assert!(walk(&bytes[..cut]).is_err(), "cut at {}", cut);
        }
    }

    #[test]
    fn stats_and_lists(longs: [i64; 6], ints: [i32; 5], entries in prop::collection::vec((any::<i32>(), "[a-z]{0,5}", "[a-z:]{0,9}"), 0..4)) {
        let stat = Stat {
            czxid: longs[0],
            mzxid: longs[1],
            ctime: longs[2],
            mtime: longs[3],
            version: ints[0],
            cversion: ints[1],
            aversion: ints[2],
            ephemeral_owner: longs[4],
            data_length: ints[3],
            num_children: ints[4],
            pzxid: longs[5],
        };
        let mut out = Vec::new();
        stat.encode(&mut out);
        check(&stat, &mut out, |bytes| Stat::decode(&mut Reader::new(bytes)));

        // As getACL answers it, a client would send it back.
        let list: Vec<Acl> =
            entries.iter().map(|(perms, scheme, id)| Acl { perms: Perms(*perms), id: Id::new(scheme, id) }).collect();
        let mut body = Vec::new();
        jute_string(&mut body, "/a");
        Acl::encode_list(&list, &mut body);
        body.extend((-1i32).to_be_bytes());
        let back = SetAcl::decode(&body).unwrap().acl.unwrap();
        prop_assert_eq!(back.len(), list.len());
        for (back, acl) in back.iter().zip(&list) {
            prop_assert_eq!(back.perms, acl.perms);
            prop_assert_eq!(back.id.scheme.as_deref(), Some(&*acl.id.scheme));
            prop_assert_eq!(back.id.id.as_deref(), Some(&*acl.id.id));
        }
    }

    /// Whatever bytes come, no decoder panics, and what one accepts encodes and decodes to the same again.
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), small in prop::collection::vec(0..3u8, 0..80)) {
        for bytes in [&bytes, &small] {
            for op in [OpCode::Create, OpCode::CreateTtl] {
                if let Ok(record) = Create::decode(op, bytes) {
                    let mut out = Vec::new();
                    record.encode(op, &mut out);
                    prop_assert_eq!(Create::decode(op, &out), Ok(record.clone()));
                }
            }
            if let Ok(record) = SetAcl::decode(bytes) {
                let mut out = Vec::new();
                record.encode(&mut out);
                prop_assert_eq!(SetAcl::decode(&out), Ok(record.clone()));
            }
            let _ = (SetData::decode(bytes), Delete::decode(bytes), PathAndWatch::decode(bytes));
            let _ = (Reconfig::decode(bytes), AuthPacket::decode(bytes), ConnectRequest::decode(bytes));
            let _ = (SetWatches::decode(OpCode::SetWatches, bytes), SetWatches::decode(OpCode::SetWatches2, bytes));
            for op in [OpCode::Multi, OpCode::MultiRead] {
                let mut reader = MultiReader::new(op, bytes);
                while let Ok(Some(_)) = reader.next_item() {}
            }
        }
    }
}
