//! Typed properties: the types of AMQP 1.0, and what AMQP 0-9-1 needs to come back unchanged.

use bytes::Bytes;

/// How many values deep a property may be: a number is 1, a list of numbers 2. Doors refuse what is deeper.
pub const VALUE_DEPTH_MAX: usize = 64;

/// The value of a property. Texts are shared slices of the read buffer where they can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// Unsigned, 8 bits.
    U8(u8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 8 bits.
    I8(i8),
    /// Signed, 16 bits.
    I16(i16),
    /// Signed, 32 bits.
    I32(i32),
    /// Signed, 64 bits.
    I64(i64),
    /// IEEE 754 binary32. Compared as a float, so a NaN differs from itself.
    F32(f32),
    /// IEEE 754 binary64.
    F64(f64),
    /// AMQP 0-9-1 decimal: `value` / 10^`scale`.
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// The digits as an integer; the protocol says unsigned, clients send it signed.
        value: i32,
    },
    /// AMQP 1.0 decimal32, decimal64 or decimal128, as its 4, 8 or 16 bytes.
    Decimal754(Bytes),
    /// One Unicode character.
    Char(char),
    /// Milliseconds since the Unix epoch, signed.
    Time(i64),
    /// AMQP 0-9-1 timestamp, in seconds: kept apart so that it comes back unchanged.
    TimeSeconds(u64),
    /// A UUID.
    Uuid([u8; 16]),
    /// Bytes.
    Bytes(Bytes),
    /// AMQP 0-9-1 long string (`S`) that is not UTF-8: bytes to everyone, and written back as `S`.
    LongString(Bytes),
    /// Text. The bytes are valid UTF-8: made by [`Value::text`] or by a decoder that has checked.
    Text(Bytes),
    /// AMQP 1.0 symbol (ASCII).
    Symbol(Bytes),
    /// Values in order, of any types.
    List(Vec<Self>),
    /// Values in order, all of one type (AMQP 1.0 array; AMQP 0-9-1 has only `A`, a list).
    Array(Vec<Self>),
    /// Names and values in order. AMQP 1.0 allows any key type: such a key is kept as its value.
    Map(Vec<(Self, Self)>),
    /// AMQP 1.0 described value: descriptor and value.
    Described(Box<(Self, Self)>),
}

impl Value {
    /// A text value.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Bytes::from(text.into()))
    }

    /// The text, if this is a text or a symbol.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Symbol(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The number, if this is an integer that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::U8(n) => Some(i64::from(*n)),
            Self::U16(n) => Some(i64::from(*n)),
            Self::U32(n) => Some(i64::from(*n)),
            Self::U64(n) => i64::try_from(*n).ok(),
            Self::I8(n) => Some(i64::from(*n)),
            Self::I16(n) => Some(i64::from(*n)),
            Self::I32(n) => Some(i64::from(*n)),
            Self::I64(n) => Some(*n),
            _ => None,
        }
    }

    /// The value as text for protocols whose properties are text only: numbers in decimal, booleans `true` and `false`,
    /// times in ISO 8601 never (milliseconds as a number). `None` for what has no plain text: null, bytes, lists, maps.
    #[must_use]
    pub fn to_plain_text(&self) -> Option<String> {
        Some(match self {
            Self::Bool(b) => b.to_string(),
            Self::U8(n) => n.to_string(),
            Self::U16(n) => n.to_string(),
            Self::U32(n) => n.to_string(),
            Self::U64(n) | Self::TimeSeconds(n) => n.to_string(),
            Self::I8(n) => n.to_string(),
            Self::I16(n) => n.to_string(),
            Self::I32(n) => n.to_string(),
            Self::I64(n) | Self::Time(n) => n.to_string(),
            Self::F32(n) => n.to_string(),
            Self::F64(n) => n.to_string(),
            Self::Char(c) => c.to_string(),
            Self::Decimal { scale, value } => decimal_text(*scale, *value),
            Self::Uuid(bytes) => {
                let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                format!(
                    "{}-{}-{}-{}-{}",
                    &hex[..8],
                    &hex[8..12],
                    &hex[12..16],
                    &hex[16..20],
                    &hex[20..]
                )
            }
            Self::Text(text) | Self::Symbol(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Null
            | Self::Bytes(_)
            | Self::LongString(_)
            | Self::Decimal754(_)
            | Self::List(_)
            | Self::Array(_)
            | Self::Map(_)
            | Self::Described(_) => return None,
        })
    }
}

fn decimal_text(scale: u8, value: i32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let scale = scale as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{part}")
}

/// Named typed values in their order. A name may repeat (MQTT user properties).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties(pub Vec<(Bytes, Value)>);

impl Properties {
    /// The first value of that name.
    #[must_use]
    pub fn first(&self, name: &[u8]) -> Option<&Value> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one at the end.
    pub fn push(&mut self, name: impl Into<Bytes>, value: Value) {
        self.0.push((name.into(), value));
    }

    /// Takes the first of that name out.
    pub fn take(&mut self, name: &[u8]) -> Option<Value> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }
}
