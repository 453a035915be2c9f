//! CBOR (RFC 8949), as Kinesis takes and gives it: read as a shape says, blobs as byte strings that are shared with the request.
//!
//! A time is tagged with 1. Kinesis's own SDKs count it in milliseconds when it is an integer and in seconds when it is a
//! fraction; so does this.

use bytes::Bytes;
use message::Timestamp;

use super::{DEPTH_MAX, ELEMENTS_MAX, Malformed, Sink, kept, put};
use crate::{Field, Shape, Value};

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// The tag of a time.
const TIME_TAG: u64 = 1;
/// The end of what has no length.
const BREAK: u8 = 0xff;

/// Reads a whole body as `shape`, a structure.
///
/// # Errors
/// When it is no CBOR, or a part of it is not what the shape says.
pub fn decode(body: &Bytes, shape: &Shape) -> Result<Value, Malformed> {
    if body.is_empty() {
        return Ok(Value::empty());
    }
    let mut reader = Reader { body, at: 0 };
    let value = reader.value(shape, 0)?;
    if reader.at < body.len() {
        return malformed("there is something behind the input");
    }
    match value {
        Value::Map(_) => Ok(value),
        _ => malformed("the input is not a map"),
    }
}

struct Reader<'a> {
    body: &'a Bytes,
    at: usize,
}

/// The head of an item: its kind, and its argument. `None`: it has no length, or is a break.
struct Head {
    major: u8,
    minor: u8,
    argument: Option<u64>,
}

fn malformed<T>(what: &str) -> Result<T, Malformed> {
    Err(Malformed::new(what))
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<&[u8], Malformed> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.body.len());
        let Some(end) = end else {
            return malformed("Unexpected end of CBOR input");
        };
        let bytes = &self.body[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn head(&mut self) -> Result<Head, Malformed> {
        let first = self.take(1)?[0];
        let (major, minor) = (first >> 5, first & 31);
        let argument = match minor {
            0..=23 => Some(u64::from(minor)),
            24..=27 => {
                let len = 1 << (minor - 24);
                let bytes = self.take(len)?;
                Some(
                    bytes
                        .iter()
                        .fold(0, |all, byte| all << 8 | u64::from(*byte)),
                )
            }
            31 if matches!(major, BYTES | TEXT | ARRAY | MAP | SIMPLE) => None,
            _ => return malformed("Malformed CBOR item"),
        };
        Ok(Head {
            major,
            minor,
            argument,
        })
    }

    /// Whether what has no length ends here.
    fn ends(&mut self) -> bool {
        let ends = self.body.get(self.at) == Some(&BREAK);
        self.at += usize::from(ends);
        ends
    }

    /// Runs `work` for each of so many items, or until the break.
    fn each(
        &mut self,
        count: Option<u64>,
        mut work: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        match count {
            Some(count) => {
                // Each item takes a byte at least.
                if count > (self.body.len() - self.at) as u64 {
                    return malformed("Unexpected end of CBOR input");
                }
                (0..count).try_for_each(|_| work(self))
            }
            None => {
                while !self.ends() {
                    work(self)?;
                }
                Ok(())
            }
        }
    }

    /// The content of a byte or text string.
    fn string(&mut self, head: &Head) -> Result<Bytes, Malformed> {
        if let Some(len) = head.argument {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let start = self.at;
            self.take(len)?;
            return Ok(self.body.slice(start..start + len));
        }
        let mut all = Vec::new();
        while !self.ends() {
            let part = self.head()?;
            if part.major != head.major || part.argument.is_none() {
                return malformed("Malformed CBOR string");
            }
            let len = usize::try_from(part.argument.unwrap_or_default()).unwrap_or(usize::MAX);
            all.extend_from_slice(self.take(len)?);
        }
        Ok(all.into())
    }

    fn text(&mut self, head: &Head) -> Result<String, Malformed> {
        String::from_utf8(self.string(head)?.into())
            .map_err(|_| Malformed::new("A text is not UTF-8"))
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let head = self.head()?;
        if head.major != TEXT {
            return malformed("A name in a map is not a text");
        }
        self.text(&head)
    }

    fn value(&mut self, shape: &Shape, depth: usize) -> Result<Value, Malformed> {
        if depth > DEPTH_MAX {
            return malformed("The input is nested too deeply");
        }
        let mut head = self.head()?;
        let mut depth = depth;
        while head.major == TAG {
            depth += 1;
            if depth > DEPTH_MAX {
                return malformed("The input is nested too deeply");
            }
            head = self.head()?;
        }
        if head.major == SIMPLE && matches!(head.minor, 22 | 23) {
            return Ok(Value::Null);
        }
        let wrong = |wanted: &str| {
            let found = match head.major {
                UINT | NEGATIVE => "an integer",
                BYTES => "a byte string",
                TEXT => "a text",
                ARRAY => "an array",
                MAP => "a map",
                _ => "a simple value",
            };
            Err(Malformed::new(format!(
                "{found} can not be converted to {wanted}"
            )))
        };
        match (shape, head.major) {
            (Shape::Text { .. } | Shape::Choice(_), TEXT) => self.text(&head).map(Value::Text),
            (Shape::Text { .. } | Shape::Choice(_), _) => wrong("a String"),
            (Shape::Blob { .. }, BYTES) => self.string(&head).map(Value::Blob),
            (Shape::Blob { .. }, _) => wrong("a Blob"),
            (Shape::Int { .. }, UINT | NEGATIVE) => int(&head).map(Value::Int),
            (Shape::Int { .. }, SIMPLE) => match float(&head) {
                Some(float) if float.abs() < 9.0e15 => Ok(Value::Int(float.trunc() as i64)),
                _ => wrong("an Integer"),
            },
            (Shape::Int { .. }, _) => wrong("an Integer"),
            (Shape::Float, UINT | NEGATIVE) => int(&head).map(|int| Value::Float(int as f64)),
            (Shape::Float, SIMPLE) => match float(&head) {
                Some(float) => Ok(Value::Float(float)),
                None => wrong("a Double"),
            },
            (Shape::Float, _) => wrong("a Double"),
            (Shape::Bool, SIMPLE) if matches!(head.minor, 20 | 21) => {
                Ok(Value::Bool(head.minor == 21))
            }
            (Shape::Bool, _) => wrong("a Boolean"),
            (Shape::Time, UINT) => Ok(Value::Time(Timestamp(head.argument.unwrap_or_default()))),
            (Shape::Time, SIMPLE) => match float(&head) {
                Some(seconds) if (0.0..1.0e13).contains(&seconds) => {
                    Ok(Value::Time(Timestamp((seconds * 1000.0).round() as u64)))
                }
                _ => wrong("a Timestamp"),
            },
            (Shape::Time, _) => wrong("a Timestamp"),
            (Shape::List { of, max, .. }, ARRAY) => {
                let mut list = Vec::new();
                self.each(head.argument, |this| {
                    if list.len() < kept(*max) {
                        list.push(this.value(of, depth + 1)?);
                        return Ok(());
                    }
                    if list.len() >= ELEMENTS_MAX {
                        return malformed("A list has too many elements");
                    }
                    this.skip(depth + 1)
                })?;
                Ok(Value::List(list))
            }
            (Shape::List { .. }, _) => wrong("a List"),
            (Shape::Map { of, max, .. }, MAP) => {
                let mut entries = Vec::new();
                self.each(head.argument, |this| {
                    let name = this.name()?;
                    if entries.len() < kept(*max) {
                        let value = this.value(of, depth + 1)?;
                        put(&mut entries, name, value);
                        return Ok(());
                    }
                    if entries.len() >= ELEMENTS_MAX {
                        return malformed("A map has too many entries");
                    }
                    this.skip(depth + 1)
                })?;
                Ok(Value::Map(entries))
            }
            (Shape::Map { .. }, _) => wrong("a Map"),
            (Shape::Structure(members), MAP) => {
                let mut known = Vec::new();
                self.each(head.argument, |this| {
                    let name = this.name()?;
                    match members.iter().find(|member| member.name == name) {
                        Some(member) => {
                            let value = this.value(member.shape, depth + 1)?;
                            put(&mut known, member.name, value);
                            Ok(())
                        }
                        None => this.skip(depth + 1),
                    }
                })?;
                Ok(Value::Map(known))
            }
            (Shape::Structure(_), _) => wrong("a Structure"),
        }
    }

    /// Reads over a value that nobody asked for.
    fn skip(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return malformed("The input is nested too deeply");
        }
        let head = self.head()?;
        match head.major {
            UINT | NEGATIVE => Ok(()),
            BYTES => self.string(&head).map(|_| ()),
            TEXT => self.text(&head).map(|_| ()),
            ARRAY => self.each(head.argument, |this| this.skip(depth + 1)),
            MAP => self.each(head.argument, |this| {
                this.skip(depth + 1)?;
                this.skip(depth + 1)
            }),
            TAG => self.skip(depth + 1),
            _ if head.argument.is_none() => malformed("Malformed CBOR item"),
            _ => Ok(()),
        }
    }
}

fn int(head: &Head) -> Result<i64, Malformed> {
    let argument = head.argument.unwrap_or_default();
    let Ok(int) = i64::try_from(argument) else {
        return malformed("A number is out of range");
    };
    Ok(if head.major == NEGATIVE {
        -1 - int
    } else {
        int
    })
}

/// The number of a simple value. `None`: it is none.
fn float(head: &Head) -> Option<f64> {
    let bits = head.argument?;
    match head.minor {
        25 => Some(half(bits as u16)),
        26 => Some(f64::from(f32::from_bits(bits as u32))),
        27 => Some(f64::from_bits(bits)),
        _ => None,
    }
}

/// A half-precision number (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let value = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -value } else { value }
}

/// Appends a value. Absent members are left out.
pub fn encode(value: &Value, out: &mut impl Sink) {
    match value {
        Value::Null => out.put(&[0xf6]),
        Value::Bool(flag) => out.put(&[if *flag { 0xf5 } else { 0xf4 }]),
        Value::Int(int) => match u64::try_from(*int) {
            Ok(int) => head(UINT, int, out),
            Err(_) => head(NEGATIVE, (-1 - *int) as u64, out),
        },
        Value::Float(float) => {
            out.put(&[0xfb]);
            out.put(&float.to_be_bytes());
        }
        Value::Text(text) => encode_text(text, out),
        Value::Blob(blob) => encode_blob(blob, out),
        Value::Time(time) => encode_time(*time, out),
        Value::List(list) => {
            head(ARRAY, list.len() as u64, out);
            list.iter().for_each(|value| encode(value, out));
        }
        Value::Map(members) => {
            let present = || members.iter().filter(|(_, value)| *value != Value::Null);
            head(MAP, present().count() as u64, out);
            for (name, value) in present() {
                encode_text(name, out);
                encode(value, out);
            }
        }
        Value::Rows(rows) => {
            head(ARRAY, rows.count() as u64, out);
            rows.each(&mut |row| {
                let present = || row.iter().filter(|(_, field)| !field.is_absent());
                head(MAP, present().count() as u64, out);
                for (name, field) in present() {
                    encode_text(name, out);
                    match field {
                        Field::Text(text) => encode_text(text, out),
                        Field::Plain(text) => {
                            head(TEXT, text.len() as u64, out);
                            out.put(text);
                        }
                        Field::Blob(blob) => encode_blob(blob, out),
                        Field::Time(time) => encode_time(*time, out),
                        Field::Other(value) => encode(value, out),
                    }
                }
            });
        }
    }
}

fn encode_blob(blob: &[u8], out: &mut impl Sink) {
    head(BYTES, blob.len() as u64, out);
    out.put(blob);
}

fn encode_time(time: Timestamp, out: &mut impl Sink) {
    head(TAG, TIME_TAG, out);
    head(UINT, time.0, out);
}

fn encode_text(text: &str, out: &mut impl Sink) {
    head(TEXT, text.len() as u64, out);
    out.put(text.as_bytes());
}

fn head(major: u8, argument: u64, out: &mut impl Sink) {
    let major = major << 5;
    match argument {
        0..=23 => out.put(&[major | argument as u8]),
        24..=0xff => out.put(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.put(&[major | 25]);
            out.put(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.put(&[major | 26]);
            out.put(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.put(&[major | 27]);
            out.put(&argument.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;

    static ITEM: Shape = Shape::Structure(&[Member::new("Data", &Shape::BLOB)]);
    static INPUT: Shape = Shape::Structure(&[
        Member::new("Text", &Shape::TEXT),
        Member::new("Int", &Shape::INT),
        Member::new("Float", &Shape::Float),
        Member::new("Bool", &Shape::Bool),
        Member::new("Time", &Shape::Time),
        Member::new("Items", &Shape::list(&ITEM)),
        Member::new("Map", &Shape::map(&Shape::TEXT)),
    ]);

    fn read(bytes: &[u8]) -> Result<Value, String> {
        decode(&Bytes::copy_from_slice(bytes), &INPUT).map_err(|malformed| malformed.0)
    }

    #[test]
    fn what_is_written_is_read_alike() {
        for int in [
            0,
            23,
            24,
            255,
            256,
            65_535,
            65_536,
            1 << 40,
            -1,
            -500,
            i64::MIN,
            i64::MAX,
        ] {
            let value = Value::from([
                ("Text", "ü".into()),
                ("Int", int.into()),
                ("Float", Value::Float(1.25)),
                ("Bool", true.into()),
                ("Time", Timestamp(1_577_934_245_006).into()),
                (
                    "Items",
                    vec![Value::from([(
                        "Data",
                        Bytes::from_static(&[0, 255]).into(),
                    )])]
                    .into(),
                ),
                ("Map", Value::from([("k", "v".into())])),
            ]);
            let mut out = Vec::new();
            encode(&value, &mut out);
            assert_eq!(read(&out), Ok(value), "{int}");
        }
        assert_eq!(read(b""), Ok(Value::empty()));
    }

    #[test]
    fn lengths_may_be_left_open_and_unknown_members_are_read_over() {
        // {_ "x": [_ {"a": null}, 1.5], "Text": (_ "a", "b"), "Time": 1(1.5), "Int": 1.0 (half)}
        let bytes = b"\xbf\x61x\x9f\xa1\x61a\xf6\xf9\x3e\x00\xff\x64Text\x7f\x61a\x61b\xff\x64Time\xc1\xf9\x3e\x00\x63Int\xf9\x3c\x00\xff";
        let value = read(bytes).expect("right");
        assert_eq!(value.text("Text"), Some("ab"));
        assert_eq!(value.time("Time"), Some(Timestamp(1500)));
        assert_eq!(value.int("Int"), Some(1));
    }

    #[test]
    fn what_is_no_cbor_or_of_another_type_is_refused() {
        for bytes in [
            &b"\x01"[..],
            b"\xa1",
            b"\xa1\x64Text",
            b"\xa1\x64Text\x05",
            b"\xa1\x64Text\x62\xff\xfe",
            b"\xa1\x63Int\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xa1\x65Items\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xa1\x01\x01",
            b"\xa0\xa0",
            b"\xbf\x61x\xff\xff",
            b"\xa1\x61x\x1c",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&[b"\xa1\x61x", &[0x81; 1000][..]].concat()).is_err());
        assert!(read(&[b"\xa1\x63Int", &[0xc1; 1000][..]].concat()).is_err());
    }
}
