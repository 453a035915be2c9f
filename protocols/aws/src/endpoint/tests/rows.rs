//! Answers with many rows: written like the list that they are, in pieces when they are long, in each form.

use super::*;
use crate::{
    Field, Rows, ShowRow,
    codec::{cbor, json, xml},
};

#[derive(Debug)]
struct Toys(Vec<(String, Bytes, Option<&'static str>, Value)>);

impl Rows for Toys {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn len_hint(&self) -> usize {
        self.0.iter().map(|toy| toy.1.len()).sum()
    }

    fn each(&self, show: &mut ShowRow<'_>) {
        for (at, (name, data, note, other)) in self.0.iter().enumerate() {
            show(&[
                ("Note", (*note).into()),
                ("Name", Field::Text(name)),
                ("Digits", Field::Plain(b"0123-cafe+/=")),
                ("Data", Field::Blob(data)),
                (
                    "At",
                    Field::Time(Timestamp(10_u64.pow(at as u32 / 2 % 20) - 1)),
                ),
                ("Other", other.into()),
            ]);
        }
    }
}

fn toys(count: usize) -> Arc<dyn Rows> {
    let toy = |at: usize| {
        let note = [None, Some("\"noted\"")][at % 2];
        let other = [Value::Null, Value::from([("In", Value::Int(at as i64))])][at / 2 % 2].clone();
        (
            format!("größe {at}\n"),
            vec![at as u8; at % 3000].into(),
            note,
            other,
        )
    };
    Arc::new(Toys((0..count).map(toy).collect()))
}

#[test]
fn rows_are_written_like_the_list_that_they_are() {
    static TOY: Shape = Shape::Structure(&[
        Member::new("Note", &Shape::TEXT),
        Member::new("Name", &Shape::TEXT),
        Member::new("Digits", &Shape::TEXT),
        Member::new("Data", &Shape::BLOB),
        Member::new("At", &Shape::Time),
        Member::new("Other", &Shape::map(&Shape::INT)),
    ]);
    static TOYS: &[Member] = &[Member::new("Toys", &Shape::list(&TOY))];
    for count in [0, 1, 2, 3, 25] {
        let rows = toys(count);
        let listed = Value::from([("Toys", rows.list())]);
        assert_eq!(listed.list("Toys").len(), count);
        let rows = Value::from([("Toys", Value::Rows(rows))]);
        let written = |value: &Value| {
            let (mut one, mut two, mut three) = (Vec::new(), Vec::new(), String::new());
            json::encode(value, &mut one);
            cbor::encode(value, &mut two);
            xml::encode_members(value, TOYS, &mut three);
            (String::from_utf8(one).expect("text"), two, three)
        };
        assert_eq!(written(&rows), written(&listed));
    }
}

#[test]
fn a_row_that_shows_nothing_is_an_empty_structure() {
    #[derive(Debug)]
    struct Nothing;
    impl Rows for Nothing {
        fn count(&self) -> usize {
            2
        }
        fn len_hint(&self) -> usize {
            0
        }
        fn each(&self, show: &mut ShowRow<'_>) {
            show(&[("Absent", None.into())]);
            show(&[]);
        }
    }
    let mut out = Vec::new();
    json::encode(&Value::Rows(Arc::new(Nothing)), &mut out);
    assert_eq!(out, b"[{},{}]");
}

#[test]
fn a_long_answer_is_in_pieces_under_one_checksum() {
    let rows = Value::from([("Toys", Value::Rows(toys(400)))]);
    let mut whole = Vec::new();
    json::encode(&rows, &mut whole);
    let mut writer = answer::Writer::new(Form::Json, &SERVICE, &SERVICE.operations[0], "id".into());
    let Reply::Pieces(response) = writer.last(Answer::Output(rows)) else {
        panic!("it is long");
    };
    let crc = crc_fast::crc32_iso_hdlc(&whole).to_string();
    assert_eq!(response.headers()["x-amz-crc32"], crc);
    assert!(response.body().concat() == whole);
    assert!(response.body().iter().all(|it| it.len() <= 128 << 10));
}
