//! How the types of `crates/session` and `crates/message` are stored.

use message::{DecodeError, Message, Reader, decode_head, encode_head};
use session::{
    BindTarget, Binding, ClientExpiry, DeadLetter, Death, DeathReason, ExchangeKind,
    ExchangeOptions, Fifo, Overflow, QueueAttributes, QueueOptions, Redrive, SubscriptionOptions,
    Will,
};
use std::sync::Arc;

use super::wire::{Wire, put_field, wire_fields};

macro_rules! wire_enum {
    ($name:ty, $what:literal, { $($number:literal => $variant:path),* $(,)? }) => {
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $($variant => $number,)* });
            }
            fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
                match reader.u8()? {
                    $($number => Ok($variant),)*
                    tag => Err(DecodeError::Unknown { what: $what, tag: u64::from(tag) }),
                }
            }
        }
    };
}

wire_enum!(Overflow, "overflow", { 0 => Self::DropHead, 1 => Self::RejectPublish, 2 => Self::RejectPublishDeadLetter });
wire_enum!(DeathReason, "death reason", {
    0 => Self::Rejected, 1 => Self::Expired, 2 => Self::MaxLen, 3 => Self::Deliveries, 4 => Self::TooLarge
});
wire_enum!(ExchangeKind, "exchange kind", { 0 => Self::Direct, 1 => Self::Fanout, 2 => Self::Topic, 3 => Self::Headers });
wire_enum!(session::MoveState, "move state", {
    0 => Self::Running, 1 => Self::Completed, 2 => Self::Cancelled, 3 => Self::Failed
});
wire_enum!(session::RetainReplay, "retain replay", { 0 => Self::Always, 1 => Self::IfNew, 2 => Self::Never });

wire_fields!(QueueAttributes {
    1 => visibility_timeout_ms, 2 => delay_ms, 3 => retention_ms, 4 => ttl_ms, 5 => expires_ms, 6 => message_len_max,
    7 => length_max, 8 => bytes_max, 9 => overflow, 10 => dead_letter, 11 => redrive, 12 => deliveries_max,
    13 => priority_max, 14 => single_active_consumer, 15 => fifo, 16 => deduplicate,
    17 => keep_dead_letters,
});
wire_fields!(QueueOptions {
    1 => durable, 2 => exclusive, 3 => auto_delete, 4 => attributes, 5 => declaration,
});
wire_fields!(SubscriptionOptions {
    1 => qos, 2 => no_local, 3 => retain_as_published, 4 => retain_replay, 5 => identifier,
});

impl Wire for DeadLetter {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.exchange.put(out));
        put_field(out, 2, |out| self.key.put(out));
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut value = Self {
            exchange: message::Name::new(),
            key: None,
        };
        fields(reader, |number, part| {
            match number {
                1 => value.exchange = Wire::read(part)?,
                2 => value.key = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl Wire for Redrive {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.target.put(out));
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut target = message::Name::new();
        fields(reader, |number, part| {
            if number == 1 {
                target = Wire::read(part)?;
            }
            Ok(())
        })?;
        Ok(Self { target })
    }
}

impl Wire for Fifo {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.dedup_by_content.put(out));
        put_field(out, 2, |out| self.dedup_per_group.put(out));
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut value = Self {
            dedup_by_content: false,
            dedup_per_group: false,
        };
        fields(reader, |number, part| {
            match number {
                1 => value.dedup_by_content = Wire::read(part)?,
                2 => value.dedup_per_group = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl Wire for ExchangeOptions {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.kind.put(out));
        put_field(out, 2, |out| self.durable.put(out));
        put_field(out, 3, |out| self.auto_delete.put(out));
        put_field(out, 4, |out| self.internal.put(out));
        put_field(out, 5, |out| self.alternate.put(out));
        put_field(out, 6, |out| self.declaration.put(out));
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut value = Self {
            kind: ExchangeKind::Direct,
            durable: false,
            auto_delete: false,
            internal: false,
            alternate: None,
            declaration: None,
        };
        fields(reader, |number, part| {
            match number {
                1 => value.kind = Wire::read(part)?,
                2 => value.durable = Wire::read(part)?,
                3 => value.auto_delete = Wire::read(part)?,
                4 => value.internal = Wire::read(part)?,
                5 => value.alternate = Wire::read(part)?,
                6 => value.declaration = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl Wire for BindTarget {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Queue(name) => {
                out.push(0);
                name.put(out);
            }
            Self::Exchange(name) => {
                out.push(1);
                name.put(out);
            }
            Self::Stream(name) => {
                out.push(2);
                name.put(out);
            }
        }
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Wire::read(reader).map(Self::Queue),
            1 => Wire::read(reader).map(Self::Exchange),
            2 => Wire::read(reader).map(Self::Stream),
            tag => Err(DecodeError::Unknown {
                what: "binding target",
                tag: u64::from(tag),
            }),
        }
    }
}

impl Wire for Binding {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.exchange.put(out));
        put_field(out, 2, |out| self.target.put(out));
        put_field(out, 3, |out| self.filter.put(out));
        put_field(out, 4, |out| self.key.put(out));
        put_field(out, 5, |out| self.arguments.put(out));
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut value = Self {
            exchange: message::Name::new(),
            target: BindTarget::Queue(message::Name::new()),
            filter: message::Filter::All,
            key: message::Levels::none(),
            arguments: bytes::Bytes::new(),
        };
        fields(reader, |number, part| {
            match number {
                1 => value.exchange = Wire::read(part)?,
                2 => value.target = Wire::read(part)?,
                3 => value.filter = Wire::read(part)?,
                4 => value.key = Wire::read(part)?,
                5 => value.arguments = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl Wire for Death {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.queue.put(out));
        put_field(out, 2, |out| self.reason.put(out));
        put_field(out, 3, |out| self.count.put(out));
        put_field(out, 4, |out| self.time.put(out));
        put_field(out, 5, |out| self.exchange.put(out));
        put_field(out, 6, |out| self.key.put(out));
        put_field(out, 7, |out| self.original_ttl_ms.put(out));
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut value = Self {
            queue: message::Name::new(),
            reason: DeathReason::Rejected,
            count: 0,
            time: message::Timestamp(0),
            exchange: message::Name::new(),
            key: message::Levels::none(),
            original_ttl_ms: None,
        };
        fields(reader, |number, part| {
            match number {
                1 => value.queue = Wire::read(part)?,
                2 => value.reason = Wire::read(part)?,
                3 => value.count = Wire::read(part)?,
                4 => value.time = Wire::read(part)?,
                5 => value.exchange = Wire::read(part)?,
                6 => value.key = Wire::read(part)?,
                7 => value.original_ttl_ms = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl Wire for ClientExpiry {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::WithConnection => out.push(0),
            Self::AfterMs(ms) => {
                out.push(1);
                ms.put(out);
            }
            Self::Never => out.push(2),
        }
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(Self::WithConnection),
            1 => Wire::read(reader).map(Self::AfterMs),
            2 => Ok(Self::Never),
            tag => Err(DecodeError::Unknown {
                what: "client expiry",
                tag: u64::from(tag),
            }),
        }
    }
}

/// A will lies in its client's record whole: its body is at most 64 KiB and nobody else refers to it.
impl Wire for Will {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| encode_head(&self.message, out));
        put_field(out, 2, |out| out.extend_from_slice(&self.message.body));
        put_field(out, 3, |out| self.delay_ms.put(out));
        put_field(out, 4, |out| self.ttl_ms.put(out));
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (mut head, mut body) = (bytes::Bytes::new(), bytes::Bytes::new());
        let (mut delay_ms, mut ttl_ms) = (0, None);
        fields(reader, |number, part| {
            match number {
                1 => head = bytes::Bytes::copy_from_slice(part.unread()),
                2 => body = bytes::Bytes::copy_from_slice(part.unread()),
                3 => delay_ms = Wire::read(part)?,
                4 => ttl_ms = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self {
            message: Arc::<Message>::new(decode_head(head, body)?),
            delay_ms,
            ttl_ms,
        })
    }
}

/// Reads a structure field by field.
pub(crate) fn fields(
    reader: &mut Reader,
    mut each: impl FnMut(u64, &mut Reader) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    loop {
        let number = reader.u64()?;
        if number == 0 {
            return Ok(());
        }
        reader.part(|part| each(number, part))?;
    }
}
