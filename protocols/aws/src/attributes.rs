//! Message attributes of SQS and SNS: checked, digested, put into a message, and shown of any message (DOORS 23).
//!
//! A message keeps its sender's attributes as they came in its native head ([`NativeForm::AWS`]), for receivers of the same kind;
//! and as properties, for all others:
//!
//! | attribute | property | and back |
//! |---|---|---|
//! | `String`, `String.…` | text | `String` |
//! | `String.Array`, JSON | list | `String.Array`, if all its values have a plain text, else `String`, JSON |
//! | `Number`, `Number.…` | integer, else float; text if it is neither exactly | `Number` |
//! | `Binary`, `Binary.…` | bytes | `Binary` |
//! | | boolean | `String`: `true`, `false` |
//! | | map | `String`, JSON |
//! | | a name that repeats | a list of its values |
//!
//! ```text
//! native head: (1 sender) (2 uuid)? (3 name type kind:u8 value)* (4 protocol body)* (5)?
//!              each text with its length; kind 0 text, 1 bytes; 5: to be signed with SHA-256
//! ```
//!
//! Names that are no attribute names, values without a text and empty ones are not shown; how many is the attribute
//! `bascule.omitted`.

use std::collections::BTreeMap;

use bytes::Bytes;
use message::{Message, Native, NativeForm, Reader, Value as Property, codec};

use crate::{MemberName, SignatureVersion, Value, body, digest, fields};

/// The longest name and the longest type, in characters.
const NAME_LEN_MAX: usize = 256;
/// Most digits of a number.
const DIGITS_MAX: usize = 38;
/// How many of a message's attributes are not shown.
const OMITTED: &str = "bascule.omitted";

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// `StringValue`.
    Text(String),
    /// `BinaryValue`.
    Binary(Bytes),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// A message attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its type: `String`, `Number`, `Binary`, each with a suffix or without.
    pub data_type: String,
    /// Its value.
    pub content: Content,
}

/// What is wrong with attributes: the services have different codes for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeFault {
    /// Something about names, types or values; the message for the sender.
    Invalid(String),
    /// A value holds characters that are not legal.
    Characters(String),
}

/// The attributes of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub Vec<Attribute>);

/// What a message shows of itself to receivers of SQS and SNS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// Who sent it, if that was through SQS or SNS: a text.
    pub sender: Option<Bytes>,
    /// Its id, if it has a UUID.
    pub message_id: Option<[u8; 16]>,
    /// Its attributes.
    pub attributes: Attributes,
    /// Bodies for receivers of one protocol, which they get instead of the message's own (SNS `MessageStructure`), by protocol.
    pub bodies: Vec<(String, String)>,
    /// How its topic's envelopes were signed when it was published.
    pub signature: SignatureVersion,
}

/// What a publish through SNS says beyond its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// As [`Shown::bodies`].
    pub bodies: Vec<(String, String)>,
    /// As [`Shown::signature`].
    pub signature: SignatureVersion,
}

impl Attributes {
    /// Reads `MessageAttributes`. `reserved`: names that begin with `AWS.` and `Amazon.` are refused.
    pub fn read(entries: &[(MemberName, Value)], reserved: bool) -> Result<Self, AttributeFault> {
        let attributes = entries
            .iter()
            .map(|(name, value)| Attribute::read(name, value, reserved));
        Ok(Self(attributes.collect::<Result<_, _>>()?))
    }

    /// Bytes that count towards a message's size: names, types and values.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        let len = |it: &Attribute| it.name.len() + it.data_type.len() + it.content.bytes().len();
        self.0.iter().map(len).sum()
    }

    /// `MD5OfMessageAttributes`, hexadecimal. `None`: there are none.
    #[must_use]
    pub fn md5(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let mut sorted: Vec<&Attribute> = self.0.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let mut bytes = Vec::with_capacity(self.bytes_len() + 16 * sorted.len());
        let put = |part: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(&(part.len() as u32).to_be_bytes());
            out.extend_from_slice(part);
        };
        for attribute in &sorted {
            put(attribute.name.as_bytes(), &mut bytes);
            put(attribute.data_type.as_bytes(), &mut bytes);
            bytes.push(match attribute.content {
                Content::Text(_) => 1,
                Content::Binary(_) => 2,
            });
            put(attribute.content.bytes(), &mut bytes);
        }
        Some(digest::hex(&digest::md5(&bytes)))
    }

    /// As an output: `MessageAttributes`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let entry = |it: &Attribute| {
            let value = match &it.content {
                Content::Text(text) => ("StringValue", Value::from(&text[..])),
                Content::Binary(bytes) => ("BinaryValue", Value::from(bytes.clone())),
            };
            let kind = ("DataType", Value::from(&it.data_type[..]));
            (it.name.clone().into(), Value::from([value, kind]))
        };
        Value::Map(self.0.iter().map(entry).collect())
    }

    /// Puts them into a message, with who sent it and, if it is not in the message's fields, its id.
    pub fn put_into(&self, message: &mut Message, sender: Sender, id: [u8; 16]) {
        self.put_with(message, sender, id, &Extras::default());
    }

    /// The same, with what SNS says beyond the attributes.
    pub fn put_with(&self, message: &mut Message, sender: Sender, id: [u8; 16], extras: &Extras) {
        // Behind who sent it: for most, which have no attributes, nothing.
        let mut native = Vec::new();
        message.fields_mut().message_id = Some(Property::Uuid(id));
        for attribute in &self.0 {
            if fields::take(attribute, message) || attribute.name == body::ENCODING {
                continue;
            }
            native.push(3);
            codec::put_bytes(&mut native, attribute.name.as_bytes());
            codec::put_bytes(&mut native, attribute.data_type.as_bytes());
            native.push(u8::from(matches!(attribute.content, Content::Binary(_))));
            codec::put_bytes(&mut native, attribute.content.bytes());
            let name = Bytes::copy_from_slice(attribute.name.as_bytes());
            message.properties.push(name, attribute.property());
        }
        if message.fields().message_id != Some(Property::Uuid(id)) {
            native.push(2);
            native.extend_from_slice(&id);
        }
        for (protocol, body) in &extras.bodies {
            native.push(4);
            codec::put_bytes(&mut native, protocol.as_bytes());
            codec::put_bytes(&mut native, body.as_bytes());
        }
        if extras.signature == SignatureVersion::Sha256 {
            native.push(5);
        }
        let head = if native.is_empty() {
            sender.0
        } else {
            [&sender.0, &native[..]].concat().into()
        };
        message.native = Some(Native {
            form: NativeForm::AWS,
            head,
        });
    }
}

/// Who sends, as a message's head says it. Made once for the messages of a batch, which share it.
#[derive(Clone, Debug)]
pub struct Sender(Bytes);

impl Sender {
    /// The user of that name.
    #[must_use]
    pub fn of(user: &str) -> Self {
        let mut head = Vec::with_capacity(2 + user.len());
        head.push(1);
        codec::put_bytes(&mut head, user.as_bytes());
        Self(head.into())
    }
}

impl Shown {
    /// The body for receivers of a protocol, if they have one of their own.
    #[must_use]
    pub fn body_for(&self, protocol: &str) -> Option<&str> {
        let own = self.bodies.iter().find(|(known, _)| known == protocol);
        own.map(|(_, body)| &body[..])
    }

    /// What a message shows, whoever published it.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let mut shown = Self::default();
        let (mut omitted, mut unshown) = (0, 0);
        let native = match &message.native {
            Some(native) if native.form == NativeForm::AWS => shown.read_head(&native.head),
            _ => None,
        };
        if native.is_none() {
            shown.attributes.0.clear();
            omitted += shown.convert(message);
        }
        if let (None, Some(Property::Uuid(id))) = (shown.message_id, &message.fields().message_id) {
            shown.message_id = Some(*id);
        }
        omitted += fields::show(message, shown.message_id, |name, number, text| {
            let text = String::from_utf8_lossy(text).into_owned();
            let data_type = if number { "Number" } else { "String" };
            shown.put(
                name.as_bytes(),
                data_type,
                Content::Text(text),
                &mut unshown,
            );
        });
        omitted += unshown;
        if omitted > 0 {
            let count = Content::Text(omitted.to_string());
            shown.put(OMITTED.as_bytes(), "Number", count, &mut 0);
        }
        shown
    }

    /// The same as [`Self::read_native`], without a reader where it says who sent it and no more, as most do.
    fn read_head(&mut self, head: &Bytes) -> Option<()> {
        if let [1, len @ 0..=0x7f, sender @ ..] = &head[..]
            && sender.len() == usize::from(*len)
        {
            std::str::from_utf8(sender).ok()?;
            self.sender = Some(head.slice(2..));
            return Some(());
        }
        self.read_native(Reader::new(head.clone()))
    }

    /// Reads a native head; `None` when it is none.
    fn read_native(&mut self, mut reader: Reader) -> Option<()> {
        let text = |bytes: Bytes| String::from_utf8(bytes.into()).ok();
        while !reader.is_empty() {
            match reader.u8().ok()? {
                1 => {
                    let sender = reader.bytes().ok()?;
                    std::str::from_utf8(&sender).ok()?;
                    self.sender = Some(sender);
                }
                2 => self.message_id = Some(reader.take(16).ok()?[..].try_into().ok()?),
                3 => {
                    let name = text(reader.bytes().ok()?)?;
                    let data_type = text(reader.bytes().ok()?)?;
                    let binary = reader.u8().ok()? == 1;
                    let value = reader.bytes().ok()?;
                    let content = if binary {
                        Content::Binary(value)
                    } else {
                        Content::Text(text(value)?)
                    };
                    self.attributes.0.push(Attribute {
                        name,
                        data_type,
                        content,
                    });
                }
                4 => {
                    let protocol = text(reader.bytes().ok()?)?;
                    let body = text(reader.bytes().ok()?)?;
                    self.bodies.push((protocol, body));
                }
                5 => self.signature = SignatureVersion::Sha256,
                _ => return None,
            }
        }
        Some(())
    }

    /// The properties of another protocol's message. Returns how many cannot be shown.
    fn convert(&mut self, message: &Message) -> u32 {
        let mut values: BTreeMap<&Bytes, Vec<&Property>> = BTreeMap::new();
        for (name, value) in &message.properties.0 {
            values.entry(name).or_default().push(value);
        }
        let mut omitted = 0;
        // In the order of the first of each name.
        for (name, _) in &message.properties.0 {
            let Some(values) = values.remove(name) else {
                continue;
            };
            let converted = match &values[..] {
                [value] => content_of(value),
                _ => content_of(&Property::List(values.into_iter().cloned().collect())),
            };
            match converted {
                Some((data_type, content)) => self.put(name, data_type, content, &mut omitted),
                None => omitted += 1,
            }
        }
        omitted
    }

    fn put(&mut self, name: &[u8], data_type: &str, content: Content, omitted: &mut u32) {
        let legal = match &content {
            Content::Text(text) => !text.is_empty() && body::is_legal_text(text),
            Content::Binary(bytes) => !bytes.is_empty(),
        };
        match std::str::from_utf8(name) {
            Ok(name) if legal && is_name(name) => self.attributes.0.push(Attribute {
                name: name.to_owned(),
                data_type: data_type.to_owned(),
                content,
            }),
            _ => *omitted += 1,
        }
    }
}

/// Type and value of a property. `None`: it has no text.
fn content_of(value: &Property) -> Option<(&'static str, Content)> {
    let number = |value: &Property| value.to_plain_text().map(Content::Text);
    Some(match value {
        Property::U8(_)
        | Property::U16(_)
        | Property::U32(_)
        | Property::U64(_)
        | Property::I8(_)
        | Property::I16(_)
        | Property::I32(_)
        | Property::I64(_)
        | Property::Decimal { .. }
        | Property::Time(_)
        | Property::TimeSeconds(_) => ("Number", number(value)?),
        Property::F32(n) if n.is_finite() => ("Number", number(value)?),
        Property::F64(n) if n.is_finite() => ("Number", number(value)?),
        Property::Bytes(bytes) | Property::LongString(bytes) | Property::Decimal754(bytes) => {
            ("Binary", Content::Binary(bytes.clone()))
        }
        Property::List(values) | Property::Array(values) => {
            let plain = values.iter().all(|value| value.to_plain_text().is_some());
            let kind = if plain { "String.Array" } else { "String" };
            (kind, Content::Text(value.to_json()))
        }
        Property::Map(_) => ("String", Content::Text(value.to_json())),
        Property::Described(pair) => return content_of(&pair.1),
        Property::Null => return None,
        other => ("String", Content::Text(other.to_plain_text()?)),
    })
}

fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() <= NAME_LEN_MAX && name.bytes().all(legal)
}

/// The base of a type: what stands before the first full stop.
fn base(data_type: &str) -> &str {
    data_type.split('.').next().unwrap_or_default()
}

impl Attribute {
    fn read(name: &str, value: &Value, reserved: bool) -> Result<Self, AttributeFault> {
        let invalid = |text: String| Err(AttributeFault::Invalid(text));
        if name.is_empty() {
            return invalid("The message attribute name must not be empty.".to_owned());
        }
        if !is_name(name) {
            return invalid(if name.len() > NAME_LEN_MAX {
                format!("Length of message attribute name must be less than {NAME_LEN_MAX} bytes.")
            } else {
                format!(
                    "The message attribute name '{name}' is invalid. Attribute name can contain A-Z, a-z, 0-9, underscore (_), \
                     hyphen (-), and period (.) characters."
                )
            });
        }
        let lower = name.to_ascii_lowercase();
        if reserved && (lower.starts_with("aws.") || lower.starts_with("amazon.")) {
            return invalid(
                "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings are reserved for \
                 internal use."
                    .to_owned(),
            );
        }
        if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
            return invalid(format!(
                "Invalid message attribute name '{name}': periods can neither begin nor end it, nor follow each other."
            ));
        }
        let data_type = value.text("DataType").unwrap_or_default();
        if data_type.is_empty() {
            return invalid(format!(
                "The message attribute '{name}' must contain non-empty message attribute type."
            ));
        }
        let base = base(data_type);
        if !matches!(base, "String" | "Number" | "Binary") {
            return invalid(format!(
                "The message attribute '{name}' has an invalid message attribute type, the set of supported type prefixes is \
                 Binary, Number, and String."
            ));
        }
        if data_type.len() > NAME_LEN_MAX {
            return invalid(format!(
                "Length of message attribute type must be less than {NAME_LEN_MAX} bytes."
            ));
        }
        if !value.list("StringListValues").is_empty() || !value.list("BinaryListValues").is_empty()
        {
            return invalid(format!(
                "Message attribute list values in '{name}' are not supported."
            ));
        }
        let content = match (base, value.text("StringValue"), value.blob("BinaryValue")) {
            ("Binary", None, Some(bytes)) if !bytes.is_empty() => Content::Binary(bytes.clone()),
            ("String" | "Number", Some(text), None) if !text.is_empty() => {
                Content::Text(text.to_owned())
            }
            (_, Some(_), Some(_)) => {
                return invalid(format!("Message attribute '{name}' has multiple values."));
            }
            _ => {
                return invalid(format!(
                    "The message attribute '{name}' must contain non-empty message attribute value for message attribute type \
                     '{base}'."
                ));
            }
        };
        if let Content::Text(text) = &content {
            if base == "Number" && !is_number(text) {
                return invalid(format!(
                    "Could not cast message attribute '{name}' value to number."
                ));
            }
            if !body::is_legal_text(text) {
                return Err(AttributeFault::Characters(format!(
                    "Invalid characters found in the value of message attribute '{name}'. Valid unicode characters are \
                     #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF."
                )));
            }
        }
        let read = Self {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            content,
        };
        match fields::wanted(&read) {
            Some(wanted) => invalid(format!("The message attribute '{name}' must be {wanted}.")),
            None => Ok(read),
        }
    }

    fn property(&self) -> Property {
        let text = match &self.content {
            Content::Binary(bytes) => return Property::Bytes(bytes.clone()),
            Content::Text(text) => text,
        };
        if base(&self.data_type) == "Number" {
            // Only what comes back as the same text.
            if let Ok(number) = text.parse::<i64>()
                && number.to_string() == *text
            {
                return Property::I64(number);
            }
            if let Ok(number) = text.parse::<u64>()
                && number.to_string() == *text
            {
                return Property::U64(number);
            }
            if let Ok(number) = text.parse::<f64>()
                && number.is_finite()
                && number.to_string() == *text
            {
                return Property::F64(number);
            }
        }
        // A number alone is the list of it: filter policies see it as that.
        if self.data_type == "String.Array"
            && let Some(
                list @ (Property::List(_) | Property::I64(_) | Property::U64(_) | Property::F64(_)),
            ) = Property::from_json(text.as_bytes())
        {
            return list;
        }
        Property::text(text.clone())
    }
}

/// Whether it is a number of AWS: at most 38 digits, zeros at either end aside, and 0 or from 10^-128 to 10^126.
fn is_number(text: &str) -> bool {
    let (mantissa, _) = text.split_once(['e', 'E']).unwrap_or((text, ""));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_matches('0').len();
    let legal = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    text.bytes().all(legal)
        && text.parse::<f64>().is_ok_and(|number| {
            let fits = digits <= DIGITS_MAX && (1e-128..=1e126).contains(&number.abs());
            fits || digits == 0
        })
}
