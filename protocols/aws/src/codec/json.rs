//! JSON (RFC 8259), read as a shape says: without a tree in between, blobs decoded where they stand. Members that the shape does
//! not have are read over.

use std::{borrow::Cow, ops::Range};

use bytes::{Bytes, BytesMut};
use message::{Timestamp, base64};

use super::{DEPTH_MAX, ELEMENTS_MAX, Malformed, Sink, kept, put};
use crate::{Field, Member, Rows, Shape, Value};

/// Reads a whole text as `shape`, a structure.
///
/// # Errors
/// When it is no JSON, or a part of it is not what the shape says.
pub fn decode(text: &[u8], shape: &Shape) -> Result<Value, Malformed> {
    let is_short = text.len() <= WHOLE_LEN_MAX;
    let mut reader = Reader {
        text,
        // What is none is told where it stands.
        whole: is_short.then(|| std::str::from_utf8(text).ok()).flatten(),
        at: 0,
        blobs: BytesMut::new(),
        alike: 0,
        decoded: Vec::new(),
    };
    reader.space();
    // Some clients send nothing where there is nothing to say.
    if reader.at == text.len() {
        return Ok(Value::empty());
    }
    if reader.peek() != Some(b'{') {
        return Err(Malformed::new("the input is not an object"));
    }
    let value = reader.value(shape, 0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(Malformed::new("there is something behind the input"));
    }
    Ok(value)
}

/// Blobs up to this length share memory, in bytes.
const SHARED_BLOB_LEN_MAX: usize = 8 << 10;
/// How much memory they share at most, in bytes: what keeps one of them keeps no more than that.
const SHARED_LEN_MAX: usize = 64 << 10;

/// Texts up to this length, in bytes, are looked through for what is not UTF-8 as a whole: string by string costs several times as much.
/// Longer ones are mostly blobs.
const WHOLE_LEN_MAX: usize = 64 << 10;

/// Elements of a batch of SQS or SNS: a list that has any makes room for as many at first.
const BATCH_LEN: usize = 10;

struct Reader<'a> {
    text: &'a [u8],
    /// The same, if it was looked through.
    whole: Option<&'a str>,
    at: usize,
    /// Memory for the next blobs.
    blobs: BytesMut,
    /// How many members the last structure had: the next one is mostly like it.
    alike: usize,
    /// Where a blob is decoded to: what is used again and again is at hand, and memory for the next ones need not be cleared first.
    decoded: Vec<u8>,
}

fn malformed<T>(what: &str) -> Result<T, Malformed> {
    Err(Malformed::new(what))
}

/// How a value of another type than asked is refused.
fn mistyped<T>(first: u8, wanted: &str) -> Result<T, Malformed> {
    let found = match first {
        b'"' => "STRING_VALUE",
        b'{' => "START_OBJECT",
        b'[' => "START_ARRAY",
        b't' => "TRUE_VALUE",
        b'f' => "FALSE_VALUE",
        b'-' | b'0'..=b'9' => "NUMBER_VALUE",
        _ => return malformed("Unexpected character"),
    };
    Err(Malformed::new(format!(
        "{found} can not be converted to {wanted}"
    )))
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The byte at hand behind white space, not yet taken.
    fn first(&mut self) -> Result<u8, Malformed> {
        self.space();
        self.peek()
            .ok_or_else(|| Malformed::new("Unexpected end-of-input"))
    }

    fn literal(&mut self, word: &str) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return malformed("Unrecognized token");
        }
        self.at += word.len();
        Ok(())
    }

    /// Begins an array or object: `false` when it is empty.
    fn begin(&mut self, end: u8, depth: usize) -> Result<bool, Malformed> {
        if depth >= DEPTH_MAX {
            return malformed("The input is nested too deeply");
        }
        self.at += 1;
        if self.first()? == end {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Behind an element: `false` at the end.
    fn more(&mut self, end: u8) -> Result<bool, Malformed> {
        let byte = self.first()?;
        self.at += 1;
        match byte {
            b',' => {
                self.first()?;
                Ok(true)
            }
            byte if byte == end => Ok(false),
            _ => malformed("Unexpected character: was expecting a comma to separate entries"),
        }
    }

    fn name(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.begin_name()?;
        let name = self.string()?;
        self.end_name()?;
        Ok(name)
    }

    fn begin_name(&mut self) -> Result<(), Malformed> {
        if self.first()? == b'"' {
            return Ok(());
        }
        malformed("Unexpected character: was expecting double-quote to start field name")
    }

    fn end_name(&mut self) -> Result<(), Malformed> {
        if self.first()? == b':' {
            self.at += 1;
            return Ok(());
        }
        malformed("Unexpected character: was expecting a colon to separate field name and value")
    }

    /// The member of that name. `None`: there is none.
    fn member(&mut self, members: &'static [Member]) -> Result<Option<&'static Member>, Malformed> {
        self.begin_name()?;
        let (raw, escaped) = self.raw()?;
        let bytes = &self.text[raw.clone()];
        let found = members
            .iter()
            .find(|member| !escaped && member.name.as_bytes() == bytes);
        let found = match found {
            Some(found) => Some(found),
            None => {
                let name = text_of(self.utf8(raw)?, escaped)?;
                members.iter().find(|member| member.name == name)
            }
        };
        self.end_name()?;
        Ok(found)
    }

    fn value(&mut self, shape: &Shape, depth: usize) -> Result<Value, Malformed> {
        let first = self.first()?;
        if first == b'n' {
            self.literal("null")?;
            return Ok(Value::Null);
        }
        match shape {
            Shape::Text { .. } | Shape::Choice(_) => {
                if first != b'"' {
                    return mistyped(first, "a String");
                }
                Ok(Value::Text(self.string()?.into_owned()))
            }
            Shape::Blob { .. } => {
                if first != b'"' {
                    return mistyped(first, "a Blob");
                }
                self.blob().map(Value::Blob)
            }
            Shape::Int { .. } => match first {
                b'-' | b'0'..=b'9' => self.int().map(Value::Int),
                _ => mistyped(first, "an Integer"),
            },
            Shape::Float => match first {
                b'-' | b'0'..=b'9' => self.number().map(Value::Float),
                _ => mistyped(first, "a Double"),
            },
            Shape::Bool => match first {
                b't' => self.literal("true").map(|()| Value::Bool(true)),
                b'f' => self.literal("false").map(|()| Value::Bool(false)),
                _ => mistyped(first, "a Boolean"),
            },
            Shape::Time => match first {
                b'-' | b'0'..=b'9' => {
                    let seconds = self.number()?;
                    time(seconds).map(Value::Time)
                }
                _ => mistyped(first, "a Timestamp"),
            },
            Shape::List { of, max, .. } => {
                if first != b'[' {
                    return mistyped(first, "a List");
                }
                self.list(of, *max, depth)
            }
            Shape::Map { of, max, .. } => {
                if first != b'{' {
                    return mistyped(first, "a Map");
                }
                self.map(of, *max, depth)
            }
            Shape::Structure(members) => {
                if first != b'{' {
                    return mistyped(first, "a Structure");
                }
                let mut known = Vec::with_capacity(self.alike.min(members.len()));
                let mut more = self.begin(b'}', depth)?;
                while more {
                    match self.member(members)? {
                        Some(member) => {
                            let value = self.value(member.shape, depth + 1)?;
                            put(&mut known, member.name, value);
                        }
                        None => self.skip(depth + 1)?,
                    }
                    more = self.more(b'}')?;
                }
                self.alike = known.len();
                Ok(Value::Map(known))
            }
        }
    }

    fn list(&mut self, of: &Shape, max: u32, depth: usize) -> Result<Value, Malformed> {
        let mut more = self.begin(b']', depth)?;
        let room = if more { kept(max).min(BATCH_LEN) } else { 0 };
        let mut list = Vec::with_capacity(room);
        while more {
            if list.len() < kept(max) {
                list.push(self.value(of, depth + 1)?);
            } else if list.len() >= ELEMENTS_MAX {
                return malformed("A list has too many elements");
            } else {
                self.skip(depth + 1)?;
            }
            more = self.more(b']')?;
        }
        Ok(Value::List(list))
    }

    fn map(&mut self, of: &Shape, max: u32, depth: usize) -> Result<Value, Malformed> {
        let mut entries = Vec::new();
        let mut more = self.begin(b'}', depth)?;
        while more {
            let name = self.name()?;
            if entries.len() < kept(max) {
                let value = self.value(of, depth + 1)?;
                put(&mut entries, name.into_owned(), value);
            } else if entries.len() >= ELEMENTS_MAX {
                return malformed("A map has too many entries");
            } else {
                self.skip(depth + 1)?;
            }
            more = self.more(b'}')?;
        }
        Ok(Value::Map(entries))
    }

    /// Reads over a value that nobody asked for.
    fn skip(&mut self, depth: usize) -> Result<(), Malformed> {
        match self.first()? {
            b'"' => self.string().map(|_| ()),
            b'n' => self.literal("null"),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b'[' => {
                let mut more = self.begin(b']', depth)?;
                while more {
                    self.skip(depth + 1)?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            b'{' => {
                let mut more = self.begin(b'}', depth)?;
                while more {
                    self.name()?;
                    self.skip(depth + 1)?;
                    more = self.more(b'}')?;
                }
                Ok(())
            }
            _ => malformed("Unexpected character"),
        }
    }

    /// Where the inside of a string stands, and whether anything in it is escaped.
    fn raw(&mut self) -> Result<(Range<usize>, bool), Malformed> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at += self.text.get(at..).map_or(0, plain_len);
            match self.text.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(_) => return malformed("Illegal unquoted control character"),
                None => return malformed("Unexpected end-of-input in a string"),
            }
        }
        self.at = at + 1;
        Ok((start..at, escaped))
    }

    /// What stands between two quotes, as a text.
    fn utf8(&self, raw: Range<usize>) -> Result<&'a str, Malformed> {
        if let Some(whole) = self.whole {
            return Ok(&whole[raw]);
        }
        std::str::from_utf8(&self.text[raw]).map_err(|_| Malformed::new("Invalid UTF-8"))
    }

    /// A string: as it stands, unless something in it is escaped.
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let (raw, escaped) = self.raw()?;
        text_of(self.utf8(raw)?, escaped)
    }

    fn blob(&mut self) -> Result<Bytes, Malformed> {
        // What may not stand in a string as it is, is no base64 either: only the end is looked for.
        let before = self.at;
        let rest = self.text.get(before + 1..).unwrap_or_default();
        if let Some(len) = memchr::memchr(b'"', rest) {
            self.at += len + 2;
            if let Some(blob) = self.decoded(&rest[..len]) {
                return Ok(blob);
            }
            self.at = before;
        }
        let (raw, escaped) = self.raw()?;
        let decoded = if escaped {
            let raw = self.utf8(raw)?;
            let mut text = String::with_capacity(raw.len());
            unescape(raw, &mut text)?;
            self.decoded(text.as_bytes())
        } else {
            self.decoded(&self.text[raw])
        };
        decoded.ok_or_else(|| Malformed::new("A blob is not valid base64"))
    }

    fn decoded(&mut self, text: &[u8]) -> Option<Bytes> {
        let len = base64::decoded_len(text)?;
        if len > SHARED_BLOB_LEN_MAX {
            return base64::decode(text).map(Bytes::from);
        }
        if self.decoded.len() < len {
            self.decoded.resize(len, 0);
        }
        let decoded = &mut self.decoded[..len];
        if !base64::decode_to(text, decoded) {
            return None;
        }
        if len > self.blobs.capacity() {
            // No more than what is to come can need, this one included.
            let behind = (self.text.len() - self.at) / 4 * 3;
            let more = len.saturating_add(behind).min(SHARED_LEN_MAX);
            self.blobs = BytesMut::with_capacity(more);
        }
        self.blobs.extend_from_slice(decoded);
        Some(self.blobs.split().freeze())
    }

    /// The text of a number (RFC 8259, 6), and whether it is a plain integer.
    fn digits(&mut self) -> Result<(&'a str, bool), Malformed> {
        let start = self.at;
        let mut plain = true;
        let digits = |reader: &mut Self| {
            let start = reader.at;
            while let Some(b'0'..=b'9') = reader.peek() {
                reader.at += 1;
            }
            reader.at - start
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        let count = digits(self);
        if count == 0 || zero && count > 1 {
            return malformed("Invalid numeric value");
        }
        if self.peek() == Some(b'.') {
            plain = false;
            self.at += 1;
            if digits(self) == 0 {
                return malformed("Invalid numeric value");
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            plain = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if digits(self) == 0 {
                return malformed("Invalid numeric value");
            }
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).expect("only ASCII was taken");
        Ok((text, plain))
    }

    fn number(&mut self) -> Result<f64, Malformed> {
        let (text, _) = self.digits()?;
        text.parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| Malformed::new("A number is out of range"))
    }

    fn int(&mut self) -> Result<i64, Malformed> {
        let (text, plain) = self.digits()?;
        if plain {
            return text
                .parse()
                .map_err(|_| Malformed::new("A number is out of range"));
        }
        // 1.0 and 1e3 are integers too; a fraction is cut off.
        let number: f64 = text
            .parse()
            .map_err(|_| Malformed::new("Invalid numeric value"))?;
        if number.abs() < 9.0e15 {
            return Ok(number.trunc() as i64);
        }
        malformed("A number is out of range")
    }
}

/// The text that the inside of a string stands for.
fn text_of(text: &str, escaped: bool) -> Result<Cow<'_, str>, Malformed> {
    if !escaped {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    unescape(text, &mut out)?;
    Ok(Cow::Owned(out))
}

/// How many bytes there are before the first that does not stand for itself within a string: a quote, a backslash, a control
/// character.
fn plain_len(bytes: &[u8]) -> usize {
    let special = |byte: &u8| (*byte < b' ') | (*byte == b'"') | (*byte == b'\\');
    // Without a branch within, a few instructions look at sixteen bytes.
    let (chunks, _) = bytes.as_chunks::<16>();
    let is_plain = |chunk: &&[u8; 16]| !chunk.iter().fold(false, |any, byte| any | special(byte));
    let mut at = 16 * chunks.iter().take_while(is_plain).count();
    // What is left is mostly a name or the end of a text, and where in it the quote is nobody can foretell.
    for eight in bytes[at..].as_chunks::<8>().0 {
        let found = specials(u64::from_le_bytes(*eight));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let more = bytes[at..].iter().position(special);
    more.map_or(bytes.len(), |more| at + more)
}

/// Of eight bytes, the high bit of each that does not stand for itself. Above the first one there may be more than there should.
const fn specials(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let quote = eight ^ (b'"' as u64 * ONES);
    let backslash = eight ^ (b'\\' as u64 * ONES);
    let control = eight.wrapping_sub(b' ' as u64 * ONES) & !eight;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & HIGH
}

/// A time in seconds.
fn time(seconds: f64) -> Result<Timestamp, Malformed> {
    if (0.0..1.0e13).contains(&seconds) {
        return Ok(Timestamp((seconds * 1000.0).round() as u64));
    }
    malformed("A timestamp is out of range")
}

/// Undoes escapes (RFC 8259, 7).
fn unescape(text: &str, out: &mut String) -> Result<(), Malformed> {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let bytes = rest.as_bytes();
        let mut taken = 2;
        out.push(match bytes.get(at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = |at: usize| {
                    let digits = bytes.get(at..at + 4)?;
                    digits.iter().try_fold(0, |unit, digit| {
                        Some(unit << 4 | char::from(*digit).to_digit(16)?)
                    })
                };
                taken = 6;
                let first = unit(at + 2);
                let char = match first {
                    Some(high @ 0xD800..=0xDBFF) => {
                        taken = 12;
                        let low = (bytes.get(at + 6..at + 8) == Some(b"\\u"))
                            .then(|| unit(at + 8))
                            .flatten()
                            .filter(|low| (0xDC00..=0xDFFF).contains(low));
                        low.and_then(|low| {
                            char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                        })
                    }
                    Some(unit) => char::from_u32(unit),
                    None => None,
                };
                char.ok_or_else(|| Malformed::new("Invalid Unicode escape"))?
            }
            _ => return malformed("Unrecognized character escape"),
        });
        rest = &rest[at + taken..];
    }
    out.push_str(rest);
    Ok(())
}

/// Appends a value. Absent members are left out.
pub fn encode(value: &Value, out: &mut impl Sink) {
    match value {
        Value::Null => out.put(b"null"),
        Value::Bool(true) => out.put(b"true"),
        Value::Bool(false) => out.put(b"false"),
        Value::Int(int) => out.put(int.to_string().as_bytes()),
        Value::Float(float) if float.is_finite() => out.put(float.to_string().as_bytes()),
        Value::Float(_) => out.put(b"null"),
        Value::Text(text) => encode_text(text, out),
        Value::Blob(blob) => encode_blob(blob, out),
        Value::Time(time) => encode_time(*time, out),
        Value::List(list) => {
            out.put(b"[");
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.put(b",");
                }
                encode(value, out);
            }
            out.put(b"]");
        }
        Value::Map(members) => {
            out.put(b"{");
            let mut first = true;
            for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                if !std::mem::take(&mut first) {
                    out.put(b",");
                }
                encode_text(name, out);
                out.put(b":");
                encode(value, out);
            }
            out.put(b"}");
        }
        Value::Rows(rows) => encode_rows(&**rows, out),
    }
}

/// What stands in front of a value in a row, as it was put together for the row before: most rows have the same members.
struct Mark {
    name: &'static str,
    /// Whether the value in front of it, if there is one, and the one behind it stand in quotes.
    quoted: (Option<bool>, bool),
    text: Vec<u8>,
}

impl Mark {
    fn new(name: &'static str, quoted: (Option<bool>, bool)) -> Self {
        let before = match quoted.0 {
            None => "\"",
            Some(false) => ",\"",
            Some(true) => "\",\"",
        };
        let behind = if quoted.1 { "\":\"" } else { "\":" };
        // Names are words of the program's own.
        let text = [before, name, behind].concat().into_bytes();
        Self { name, quoted, text }
    }

    fn is(&self, name: &'static str, quoted: (Option<bool>, bool)) -> bool {
        std::ptr::eq(self.name, name) && self.quoted == quoted
    }
}

fn encode_rows(rows: &dyn Rows, out: &mut impl Sink) {
    let mut marks: Vec<Mark> = Vec::new();
    // The last time: what came together has one.
    let mut shown: Option<(Timestamp, TimeText)> = None;
    // Whether the last value stands in quotes. `None`: there is none.
    let mut last = None;
    let mut is_first = true;
    rows.each(&mut |row| {
        out.put(match (std::mem::take(&mut is_first), last.take()) {
            (true, _) => b"[{",
            (false, Some(true)) => b"\"},{",
            (false, _) => b"},{",
        });
        let fields = row.iter().filter(|(_, field)| !field.is_absent());
        for (at, (name, field)) in fields.enumerate() {
            let is_quoted = !matches!(field, Field::Time(_) | Field::Other(_));
            let quoted = (last.replace(is_quoted), is_quoted);
            match marks.get_mut(at) {
                Some(mark) if mark.is(name, quoted) => {}
                Some(mark) => *mark = Mark::new(name, quoted),
                None => marks.push(Mark::new(name, quoted)),
            }
            out.put(&marks[at].text);
            match field {
                Field::Text(text) => encode_inside(text, out),
                Field::Plain(text) => {
                    debug_assert_eq!(plain_len(text), text.len(), "it stands for itself");
                    out.put(text);
                }
                Field::Blob(blob) => out.put_base64(blob),
                Field::Time(time) => {
                    if !matches!(&shown, Some((known, _)) if known == time) {
                        shown = Some((*time, TimeText::new(*time)));
                    }
                    if let Some((_, text)) = &shown {
                        out.put(text.as_bytes());
                    }
                }
                Field::Other(value) => encode(value, out),
            }
        }
    });
    out.put(match (is_first, last) {
        (true, _) => b"[]",
        (false, Some(true)) => b"\"}]",
        (false, _) => b"}]",
    });
}

fn encode_blob(blob: &[u8], out: &mut impl Sink) {
    out.put(b"\"");
    out.put_base64(blob);
    out.put(b"\"");
}

fn encode_time(time: Timestamp, out: &mut impl Sink) {
    out.put(TimeText::new(time).as_bytes());
}

/// A time in seconds, with three digits behind the point.
struct TimeText {
    /// As many digits as there can be, from the end.
    text: [u8; 21],
    at: usize,
}

impl TimeText {
    fn new(time: Timestamp) -> Self {
        let mut text = [b'0'; 21];
        let mut at = text.len();
        let mut left = time.0;
        while left > 0 || at > text.len() - 5 {
            at -= 1;
            if at == text.len() - 4 {
                text[at] = b'.';
                continue;
            }
            text[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        Self { text, at }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[self.at..]
    }
}

/// Appends a string.
pub(crate) fn encode_text(text: &str, out: &mut impl Sink) {
    out.put(b"\"");
    encode_inside(text, out);
    out.put(b"\"");
}

/// The same without its quotes.
fn encode_inside(text: &str, out: &mut impl Sink) {
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.put(plain);
        let Some((byte, behind)) = special.split_first() else {
            break;
        };
        rest = behind;
        let number;
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            other => {
                number = format!("\\u{other:04x}");
                number.as_bytes()
            }
        };
        out.put(escape);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_itself_is_told_byte_by_byte() {
        let is_special = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
        // Neighbours that a borrow could run into.
        let bytes = [
            0, 1, 0x1f, b' ', b'!', b'"', b'#', b'[', b'\\', b']', 0x7f, 0x80, 0x9f, 0xa0, 0xff,
        ];
        for len in 0..40 {
            for at in 0..len {
                for byte in bytes {
                    for behind in bytes {
                        let mut text = vec![b'x'; len];
                        text[at] = byte;
                        text[at + 1..].fill(behind);
                        let plain = text.iter().position(is_special).unwrap_or(len);
                        assert_eq!(plain_len(&text), plain, "{text:x?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_member_is_found_by_its_name_however_that_is_written() {
        for text in [
            r#"{"Text":"a"}"#,
            r#"{"T\u0065xt":"a"}"#,
            r#"{ "Text" : "a" , "größe":1}"#,
        ] {
            assert_eq!(
                decode(text.as_bytes(), &INPUT).expect(text).text("Text"),
                Some("a"),
                "{text}"
            );
        }
        assert!(decode(b"{\"Te\xffxt\":\"a\"}", &INPUT).is_err());
        assert!(decode(br#"{"Text" "a"}"#, &INPUT).is_err());
    }

    static ITEM: Shape = Shape::Structure(&[
        Member::new("Data", &Shape::BLOB),
        Member::new("Key", &Shape::TEXT),
    ]);
    static INPUT: Shape = Shape::Structure(&[
        Member::new("Text", &Shape::TEXT),
        Member::new("Int", &Shape::INT),
        Member::new("Float", &Shape::Float),
        Member::new("Bool", &Shape::Bool),
        Member::new("Time", &Shape::Time),
        Member::new("Items", &Shape::list(&ITEM)),
        Member::new("Map", &Shape::map(&Shape::TEXT)),
    ]);

    fn read(text: &str) -> Result<Value, String> {
        decode(text.as_bytes(), &INPUT).map_err(|malformed| malformed.0)
    }

    #[test]
    fn what_is_read_is_written_alike() {
        let text = r#"{"Text":"a\"\\\n\u0001ü😀","Int":-5,"Float":0.5,"Bool":true,"Time":12.345,"Items":[{"Data":"AAEC/w==","Key":"k"},{}],"Map":{"a":"b","c":""}}"#;
        let value = read(text).expect("right");
        let mut out = Vec::new();
        encode(&value, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), text);
    }

    #[test]
    fn escapes_spaces_unknown_members_and_nulls() {
        let value = read(
            " {\n\"x\" : [1, {\"y\":[]}, null, \"\\\"\"],\"T\\u0065xt\":\"\\ud83d\\ude00\\/\", \"Int\":1e3,\"Bool\":null, \"Items\":[{\"Data\":\"AA\\u003d\\u003d\"}]} ",
        )
        .expect("right");
        assert_eq!(value.text("Text"), Some("😀/"));
        assert_eq!(value.int("Int"), Some(1000));
        assert_eq!(value.member("Bool"), None);
        assert_eq!(
            value.list("Items")[0].blob("Data").map(|b| &b[..]),
            Some(&b"\0"[..])
        );
        assert_eq!(read("").expect("nothing"), Value::empty());
        let last = read(r#"{"Int":1,"Int":2}"#).expect("right");
        assert_eq!(last.int("Int"), Some(2));
    }

    #[test]
    fn what_is_no_json_or_of_another_type_is_refused() {
        for text in [
            "[]",
            "nul",
            "{",
            "{}x",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{a:1}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":"\x"}"#,
            r#"{"Text":"\ud800"}"#,
            r#"{"Text":"\ud800\u0041"}"#,
            r#"{"Text":"\u12"}"#,
            "{\"Text\":\"\u{1}\"}",
            r#"{"Text":"#,
            r#"{"Text":"\"#,
            r#"{"Items":[{"Data":"A"}]}"#,
            r#"{"Items":[{"Data":"AB=="}]}"#,
            r#"{"Int":99999999999999999999}"#,
            r#"{"Time":-1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(decode(b"{\"Text\":\"\xff\"}", &INPUT).is_err());
        for (text, said) in [
            (
                r#"{"Text":5}"#,
                "NUMBER_VALUE can not be converted to a String",
            ),
            (
                r#"{"Int":"5"}"#,
                "STRING_VALUE can not be converted to an Integer",
            ),
            (
                r#"{"Items":{}}"#,
                "START_OBJECT can not be converted to a List",
            ),
            (r#"{"Float":1e999}"#, "A number is out of range"),
            (r#"{"Map":[]}"#, "START_ARRAY can not be converted to a Map"),
            (
                r#"{"Bool":1}"#,
                "NUMBER_VALUE can not be converted to a Boolean",
            ),
        ] {
            assert_eq!(read(text), Err(said.to_owned()));
        }
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert!(read(&deep).is_err());
    }

    #[test]
    fn a_blob_ends_where_its_string_does_and_may_be_escaped() {
        let malformed = |said: &str| Err(said.to_owned());
        for (data, is) in [
            (r#""""#, Ok(vec![])),
            (r#""//8=""#, Ok(vec![0xff; 2])),
            (r#""\/\/8=""#, Ok(vec![0xff; 2])),
            (r#""AA\"==""#, malformed("A blob is not valid base64")),
            (
                "\"AA\n==\"",
                malformed("Illegal unquoted control character"),
            ),
            ("\"AA==", malformed("Unexpected end-of-input in a string")),
        ] {
            let end = if data.ends_with('=') {
                ""
            } else {
                r#","Key":"k"}]}"#
            };
            let item = read(&format!(r#"{{"Items":[{{"Data":{data}{end}"#)).map(|value| {
                let item = &value.list("Items")[0];
                assert_eq!(item.text("Key"), Some("k"), "{data}");
                item.blob("Data").expect("it is there").to_vec()
            });
            assert_eq!(item, is, "{data}");
        }
        // Of those that share memory, one is not read at first.
        let long = "AAAA".repeat(2000);
        let text =
            format!(r#"{{"Items":[{{"Data":"{long}"}},{{"Data":"\/\/8="}},{{"Data":"AQID"}}]}}"#);
        let value = read(&text).expect("right");
        let blobs = value.list("Items").iter().map(|item| item.blob("Data"));
        let blobs: Vec<&[u8]> = blobs.flatten().map(|blob| &blob[..]).collect();
        assert_eq!(blobs, [&[0; 6000][..], &[0xff; 2], &[1, 2, 3]]);
    }

    #[test]
    fn a_long_text_is_read_as_a_short_one() {
        let space = " ".repeat(WHOLE_LEN_MAX);
        let mut texts = vec![
            r#"{"Text":"gr\u00f6ße \n","Map":{"a":"b","\u00fc":"\ud83d\ude00"},"x\u00fc":"ü\\"}"#
                .into(),
            "{\"Text\":\"größe \\n\",\"xü\":\"\\\"ü\",\"Map\":{\"ü\":\"😀\"}}".into(),
            "{\"Text\":\"\\ü\"}".into(),
        ];
        for at in [
            "{\"Text\":\"#\"}",
            "{\"#\":1}",
            "{\"x\":\"#\"}",
            "{\"Map\":{\"#\":\"\"}}",
        ] {
            for bytes in [&b"\xff"[..], b"\xc3", b"\\\xc3", b"\xed\xa0\x80"] {
                let (before, behind) = at.split_once('#').expect("a place");
                texts.push([before.as_bytes(), bytes, behind.as_bytes()].concat());
            }
        }
        for text in texts {
            let long = [&text[..], space.as_bytes()].concat();
            let shown = String::from_utf8_lossy(&text);
            assert_eq!(decode(&text, &INPUT), decode(&long, &INPUT), "{shown}");
        }
    }

    #[test]
    fn no_more_of_a_list_is_kept_than_shows_that_it_is_too_long() {
        static SHORT: Shape = Shape::List {
            of: &Shape::INT,
            min: 0,
            max: 2,
            element: "member",
            flat: false,
        };
        static HOLDER: Shape = Shape::Structure(&[Member::new("L", &SHORT)]);
        let value = decode(br#"{"L":[1,2,3,4,"x"]}"#, &HOLDER).expect("right");
        assert_eq!(value.list("L").len(), 3);
    }
}
