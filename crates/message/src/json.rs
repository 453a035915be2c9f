//! Values as JSON (RFC 8259), for protocols whose properties are texts: tables, lists, bytes and null.
//!
//! | value | JSON | comes back as |
//! |---|---|---|
//! | null, booleans, texts, lists, maps | the same | the same; an array as a list |
//! | integers | number | `I64`, else `U64` |
//! | floats | number, with a point or an exponent | `F64`; one that is not finite as a text |
//! | decimals of AMQP 0-9-1 | number | `F64`, or an integer |
//! | times | number: milliseconds, or seconds for AMQP 0-9-1 | an integer |
//! | symbols, characters, UUIDs | string | a text |
//! | bytes | `{"$base64":"..."}` | bytes |
//! | a described value | its value | that |
//!
//! Names in a map keep their order and may repeat. Reading is bounded: nesting by [`VALUE_DEPTH_MAX`], size by the caller.

use bytes::Bytes;

use crate::{
    base64,
    value::{VALUE_DEPTH_MAX, Value},
};

/// The one name of an object that stands for bytes.
const BYTES_NAME: &str = "$base64";

/// Appends a value.
pub(crate) fn put(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::F32(n) => put_float(f64::from(*n), &format!("{n:?}"), out),
        Value::F64(n) => put_float(*n, &format!("{n:?}"), out),
        Value::Text(text) | Value::Symbol(text) => put_text(&String::from_utf8_lossy(text), out),
        Value::Char(_) | Value::Uuid(_) => {
            put_text(&value.to_plain_text().unwrap_or_default(), out);
        }
        Value::Bytes(bytes) | Value::LongString(bytes) | Value::Decimal754(bytes) => {
            out.push('{');
            put_text(BYTES_NAME, out);
            out.push(':');
            put_text(&base64::encode(bytes), out);
            out.push('}');
        }
        Value::List(values) | Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                put(value, out);
            }
            out.push(']');
        }
        Value::Map(pairs) => {
            out.push('{');
            for (at, (name, value)) in pairs.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                put_text(&name_text(name), out);
                out.push(':');
                put(value, out);
            }
            out.push('}');
        }
        Value::Described(pair) => put(&pair.1, out),
        // Booleans and numbers are written alike in both.
        other => out.push_str(&other.to_plain_text().unwrap_or_default()),
    }
}

fn put_float(number: f64, text: &str, out: &mut String) {
    if number.is_finite() {
        out.push_str(text);
    } else {
        put_text(text, out);
    }
}

/// The name of an entry: a text where the key has one, else the key as JSON.
fn name_text(key: &Value) -> String {
    key.to_plain_text().unwrap_or_else(|| {
        let mut text = String::new();
        put(key, &mut text);
        text
    })
}

fn put_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads one value and nothing behind it. `None`: it is no JSON, or nests too deep.
pub(crate) fn read(text: &[u8]) -> Option<Value> {
    let mut reader = Reader {
        text: std::str::from_utf8(text).ok()?,
    };
    let value = reader.value(VALUE_DEPTH_MAX)?;
    reader.space();
    reader.text.is_empty().then_some(value)
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.text = self.text.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes `word` if it is next.
    fn take(&mut self, word: &str) -> Option<()> {
        self.text = self.text.strip_prefix(word)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let deeper = depth.checked_sub(1)?;
        self.space();
        match self.text.as_bytes().first()? {
            b'n' => self.take("null").map(|()| Value::Null),
            b't' => self.take("true").map(|()| Value::Bool(true)),
            b'f' => self.take("false").map(|()| Value::Bool(false)),
            b'"' => self.string().map(Value::text),
            b'[' => self.list(deeper),
            b'{' => self.object(deeper),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        let mut values = Vec::new();
        self.items("[", "]", |reader| {
            values.push(reader.value(depth)?);
            Some(())
        })?;
        Some(Value::List(values))
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        let mut pairs = Vec::new();
        self.items("{", "}", |reader| {
            reader.space();
            let name = reader.string()?;
            reader.space();
            reader.take(":")?;
            pairs.push((Value::text(name), reader.value(depth)?));
            Some(())
        })?;
        if let [(name, Value::Text(text))] = &pairs[..]
            && name.as_str() == Some(BYTES_NAME)
            && let Some(bytes) = base64::decode(text)
        {
            return Some(Value::Bytes(Bytes::from(bytes)));
        }
        Some(Value::Map(pairs))
    }

    /// What stands between `open` and `close`, separated by commas.
    fn items(
        &mut self,
        open: &str,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.take(open)?;
        self.space();
        if self.take(close).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.take(close).is_some() {
                return Some(());
            }
            self.take(",")?;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut out = String::new();
        loop {
            let end = self.text.find(['"', '\\'])?;
            let (plain, rest) = self.text.split_at(end);
            if plain.bytes().any(|byte| byte < b' ') {
                return None;
            }
            out.push_str(plain);
            self.text = rest;
            if self.take("\"").is_some() {
                return Some(out);
            }
            self.take("\\")?;
            out.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let mut chars = self.text.chars();
        let c = chars.next()?;
        self.text = chars.as_str();
        Some(match c {
            '"' | '\\' | '/' => c,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let first = self.unit()?;
                if (0xd800..0xdc00).contains(&first) {
                    self.take("\\u")?;
                    let second = self.unit()?;
                    let pair = [first, second];
                    return char::decode_utf16(pair).next()?.ok();
                }
                char::from_u32(u32::from(first))?
            }
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u16> {
        let (digits, rest) = self.text.split_at_checked(4)?;
        self.text = rest;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u16::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> Option<Value> {
        let end = self
            .text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E')))
            .unwrap_or(self.text.len());
        let (digits, rest) = self.text.split_at(end);
        self.text = rest;
        if !is_number(digits) {
            return None;
        }
        if let Ok(number) = digits.parse() {
            return Some(Value::I64(number));
        }
        if let Ok(number) = digits.parse() {
            return Some(Value::U64(number));
        }
        let number: f64 = digits.parse().ok()?;
        number.is_finite().then_some(Value::F64(number))
    }
}

/// RFC 8259, 6: no leading zeros or plus, digits on both sides of a point.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, part) = match mantissa.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && part.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}
