//! The encoded head: whatever goes in comes out, and whatever else comes in is refused in time.

use bytes::Bytes;
use message::{
    DecodeError, LastAddress, Levels, Message, Properties, Reader, VALUE_DEPTH_MAX, Value, codec,
    decode_head, decode_head_like, encode_head, put_filter, put_properties, read_address,
    read_filter, read_levels, read_properties,
};
use proptest::prelude::*;

use crate::samples::{filter, levels, message, value};

fn encoded(message: &Message) -> Bytes {
    let mut out = Vec::new();
    encode_head(message, &mut out);
    Bytes::from(out)
}

fn nested(depth: usize) -> Properties {
    let mut value = Value::Null;
    for _ in 1..depth {
        value = Value::List(vec![value]);
    }
    let mut properties = Properties::default();
    properties.push("deep", value);
    properties
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_head_comes_back(message in message()) {
        let head = encoded(&message);
        prop_assert!(head.len() <= message::head_len_bound(&message), "the bound is one");
        let back = decode_head(head.clone(), message.body.clone()).expect("just encoded");
        prop_assert_eq!(encoded(&back), head, "bit for bit, NaN too");
        // Compared as text, for a NaN differs from itself.
        prop_assert_eq!(format!("{back:?}"), format!("{message:?}"));
    }

    #[test]
    fn heads_that_are_read_one_behind_the_other_are_those_that_each_is_alone(
        messages in prop::collection::vec((message(), 1..4usize), 0..6),
    ) {
        let mut last = LastAddress::default();
        for (message, times) in messages {
            let (head, body) = (encoded(&message), message.body);
            let alone = decode_head(head.clone(), body.clone()).expect("just encoded");
            let mut address = None;
            for _ in 0..times {
                let back = decode_head_like(head.clone(), body.clone(), &mut last);
                let back = back.expect("just encoded");
                prop_assert_eq!(format!("{back:?}"), format!("{alone:?}"));
                let same = address.get_or_insert_with(|| back.address.clone());
                prop_assert!(std::sync::Arc::ptr_eq(same, &back.address), "shared");
            }
        }
    }

    #[test]
    fn every_value_comes_back(value in value()) {
        let mut properties = Properties::default();
        properties.push("name", value);
        let mut out = Vec::new();
        put_properties(&mut out, &properties);
        let mut reader = Reader::new(Bytes::from(out.clone()));
        let back = read_properties(&mut reader).expect("just encoded");
        prop_assert!(reader.is_empty());
        prop_assert_eq!(format!("{back:?}"), format!("{properties:?}"));
        let mut again = Vec::new();
        put_properties(&mut again, &back);
        prop_assert_eq!(again, out);
    }

    #[test]
    fn every_filter_comes_back(filter in filter()) {
        let mut out = Vec::new();
        put_filter(&mut out, &filter);
        let mut reader = Reader::new(Bytes::from(out.clone()));
        let back = read_filter(&mut reader).expect("just encoded");
        prop_assert!(reader.is_empty());
        let mut again = Vec::new();
        put_filter(&mut again, &back);
        prop_assert_eq!(again, out);
        prop_assert_eq!(format!("{back:?}"), format!("{filter:?}"));
    }

    #[test]
    fn all_levels_come_back(levels in levels()) {
        let mut out = Vec::new();
        message::put_levels(&mut out, &levels);
        let mut reader = Reader::new(Bytes::from(out));
        prop_assert_eq!(read_levels(&mut reader), Ok(levels));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn a_damaged_head_is_refused_or_read_but_never_panics(
        message in message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut head = encoded(&message).to_vec();
        for (at, byte) in damage {
            let at = at.index(head.len());
            head[at] = byte;
        }
        if let Ok(back) = decode_head(Bytes::from(head), Bytes::new()) {
            // What was read can be written and read again.
            decode_head(encoded(&back), Bytes::new()).expect("just encoded");
        }
    }

    #[test]
    fn garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let versioned = Bytes::from([&[message::HEAD_VERSION], &garbage[..]].concat());
        let _ = decode_head(versioned, Bytes::new());
        let garbage = Bytes::from(garbage);
        let _ = decode_head(garbage.clone(), Bytes::new());
        let _ = read_filter(&mut Reader::new(garbage.clone()));
        let _ = read_levels(&mut Reader::new(garbage.clone()));
        let _ = read_address(&mut Reader::new(garbage.clone()));
        let _ = read_properties(&mut Reader::new(garbage));
    }

    #[test]
    fn integers_come_back(unsigned in any::<u64>(), signed in any::<i64>(), shift in 0u32..64) {
        let (unsigned, signed) = (unsigned >> shift, signed >> shift);
        let mut out = Vec::new();
        codec::put_u64(&mut out, unsigned);
        codec::put_i64(&mut out, signed);
        let mut reader = Reader::new(Bytes::from(out));
        prop_assert_eq!(reader.u64(), Ok(unsigned));
        prop_assert_eq!(reader.i64(), Ok(signed));
        prop_assert_eq!(reader.u8(), Err(DecodeError::Truncated));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_part_of_a_head_is_a_head(message in message()) {
        let head = encoded(&message);
        for len in 0..head.len() {
            prop_assert!(decode_head(head.slice(..len), Bytes::new()).is_err(), "{} bytes", len);
        }
        let longer = Bytes::from([&head[..], &[0]].concat());
        prop_assert!(decode_head(longer, Bytes::new()).is_err());
    }
}

#[test]
fn a_count_without_its_elements_is_refused_before_it_costs_memory() {
    let mut huge = Vec::new();
    codec::put_u64(&mut huge, u64::MAX);
    let with =
        |before: &[u8], after: &[u8]| Reader::new(Bytes::from([before, &huge[..], after].concat()));
    let truncated = Err(DecodeError::Truncated);
    // A list, an array, a map; texts and bytes of that length; properties and a pattern of that many elements.
    for tag in [22, 23, 24] {
        let read = read_properties(&mut with(&[1, 0, tag], &[0; 10]));
        assert_eq!(read.map(drop), truncated, "tag {tag}");
    }
    for tag in [13, 18, 19, 20, 21] {
        let read = read_properties(&mut with(&[1, 0, tag], b"abc"));
        assert_eq!(read.map(drop), truncated, "tag {tag}");
    }
    assert_eq!(
        read_properties(&mut with(&[], &[0; 10])).map(drop),
        truncated
    );
    assert_eq!(read_filter(&mut with(&[2], &[1; 10])).map(drop), truncated);
    // Levels have a limit that is known beforehand.
    assert_eq!(
        read_levels(&mut with(&[], &[0; 1000])),
        Err(DecodeError::Bounds("a list of levels"))
    );
}

#[test]
fn integers_have_64_bits_and_no_more() {
    let read = |bytes: &[u8]| Reader::new(Bytes::copy_from_slice(bytes)).u64();
    let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(read(&largest), Ok(u64::MAX));
    let mut larger = largest;
    larger[9] = 2;
    assert_eq!(read(&larger), Err(DecodeError::Overlong));
    assert_eq!(read(&[0x80; 11]), Err(DecodeError::Overlong));
    assert_eq!(read(&[0x80; 9]), Err(DecodeError::Truncated));
    assert_eq!(read(&[]), Err(DecodeError::Truncated));
    let mut wide = Vec::new();
    codec::put_u64(&mut wide, u64::from(u32::MAX) + 1);
    assert!(Reader::new(Bytes::from(wide)).u32().is_err());
}

#[test]
fn the_deepest_property_is_read_back_and_a_deeper_one_refused() {
    let mut out = Vec::new();
    put_properties(&mut out, &nested(VALUE_DEPTH_MAX));
    let back = read_properties(&mut Reader::new(Bytes::from(out)));
    assert_eq!(back, Ok(nested(VALUE_DEPTH_MAX)));
    for (open, depth) in [(&[22, 1][..], VALUE_DEPTH_MAX), (&[25], 100_000)] {
        let bomb = Bytes::from([&[1, 0], &open.repeat(depth)[..], &[0]].concat());
        assert_eq!(
            read_properties(&mut Reader::new(bomb)),
            Err(DecodeError::Bounds("nesting of a property"))
        );
    }
}

#[test]
#[should_panic(expected = "nested too deeply")]
fn what_could_not_be_read_back_is_not_written() {
    put_properties(&mut Vec::new(), &nested(VALUE_DEPTH_MAX + 1));
}

#[test]
fn values_out_of_the_bounds_of_their_type_are_refused() {
    let mut wide = Vec::new();
    codec::put_u64(&mut wide, 0x1_0000_0000);
    for tag in [3, 4, 6, 7, 8, 14] {
        let input = [&[1, 0, tag], &wide[..]].concat();
        let read = read_properties(&mut Reader::new(Bytes::from(input)));
        assert!(
            matches!(read, Err(DecodeError::Bounds(_))),
            "tag {tag}: {read:?}"
        );
    }
    // A surrogate is not a character.
    let surrogate = Bytes::from_static(&[1, 0, 14, 0x80, 0xb0, 0x03]);
    assert!(read_properties(&mut Reader::new(surrogate)).is_err());
    // The first number that is no value.
    let unknown = Bytes::from_static(&[1, 0, 26]);
    assert_eq!(
        read_properties(&mut Reader::new(unknown)),
        Err(DecodeError::Unknown {
            what: "value",
            tag: 26
        })
    );
}

#[test]
fn what_a_later_version_may_add_is_refused_and_not_skipped() {
    let plain = [1, 0, 0, 0, 0, 1, b'q', 0, 0];
    let read = |head: &[u8]| decode_head(Bytes::copy_from_slice(head), Bytes::new());
    assert!(read(&plain).is_ok());
    for (at, byte, what) in [
        (0, 0, "head version"),
        (0, 2, "head version"),
        (1, 0x80, "head flag"),
        (2, 5, "body kind"),
        (4, 4, "address kind"),
        (8, 5, "head field"),
    ] {
        let mut head = plain;
        head[at] = byte;
        let Err(DecodeError::Unknown { what: found, .. }) = read(&head) else {
            panic!("byte {at} as {byte} is {:?}", read(&head));
        };
        assert_eq!(found, what);
    }
    let behind = [&plain[..], &[0]].concat();
    assert_eq!(
        read(&behind),
        Err(DecodeError::Bounds("the length of a head"))
    );
    let mut field = plain.to_vec();
    field[1] = 0x10;
    field.push(25);
    assert!(matches!(
        read(&field),
        Err(DecodeError::Unknown {
            what: "typed field",
            tag: 25
        })
    ));
}

#[test]
fn an_address_that_is_shared_keeps_no_head_and_is_not_taken_for_a_longer_one() {
    let head = |name: &'static str| {
        let address = message::Address::queue(message::VhostId::ROOT, name);
        encoded(&Message::new(address, Bytes::new()))
    };
    let mut last = LastAddress::default();
    let mut read = |head: &Bytes| {
        let back = decode_head_like(head.clone(), Bytes::new(), &mut last);
        back.expect("just encoded").address
    };
    for name in ["a", "ab", "a", "", "b"] {
        let head = head(name);
        let address = read(&head);
        assert_eq!(&address.name[..], name.as_bytes());
        assert!(!head.as_ptr_range().contains(&address.name.as_ptr()));
    }
}

#[test]
fn a_group_alone_needs_no_fields() {
    let address = message::Address::queue(message::VhostId::ROOT, "q");
    let mut message = Message::new(address, Bytes::new());
    message.group = Some("g".into());
    let alone = encoded(&message);
    let back = decode_head(alone.clone(), Bytes::new()).expect("just encoded");
    assert!(back.fields.is_none());
    assert_eq!(back, message);
    // Fields of which there are none are the same.
    message.fields_mut();
    assert_eq!(encoded(&message), alone);
}

#[test]
fn a_decoded_head_shares_its_input() {
    let mut message = Message::new(
        message::Address::topic(message::VhostId::ROOT, Levels::none()),
        Bytes::new(),
    );
    message
        .properties
        .push("a long name of a property", Value::Bool(true));
    let head = encoded(&message);
    let back = decode_head(head.clone(), Bytes::new()).expect("just encoded");
    let name = &back.properties.0[0].0;
    assert!(head.as_ptr_range().contains(&name.as_ptr()));
}
