//! Methods: one table of all classes, from which decoding and encoding both follow (AMQP 0-9-1, 4.2.4 and the XML
//! definition, with the methods that RabbitMQ adds: exchange binding, `basic.nack`, confirm, blocked, update-secret).
//!
//! Fields are in the order of the wire and bear the specification's names. Reserved arguments are kept as `reserved_*`, so that what was
//! read is written back; their content is not looked at.

use bytes::{BufMut, Bytes, BytesMut};
use message::Properties;

use super::wire::{Field, Fields, Long, Short, Sink};
use crate::error::DecodeError;

/// Reads the payload of a method frame that is a whole `basic.ack`: the one method without a string that comes with every
/// message. `None`: it is none.
pub(super) fn decode_ack(payload: &[u8]) -> Option<basic::Ack> {
    let [0, 60, 0, 80, tag @ .., bits] = payload else {
        return None;
    };
    Some(basic::Ack {
        delivery_tag: u64::from_be_bytes(tag.try_into().ok()?),
        multiple: bits & 1 != 0,
    })
}

macro_rules! methods {
    ($(
        $(#[$class_doc:meta])*
        $class:ident = $class_id:literal {
            $( $name:ident, $variant:ident, $text:literal = $method_id:literal { $( $field:ident : $type:ty ),* $(,)? } )*
        }
    )*) => {
        $(
            $(#[$class_doc])*
            #[expect(missing_docs, reason = "methods and fields bear the names of the specification, which explains them")]
            pub mod $class {
                #[allow(unused_imports, reason = "not every class uses every type")]
                use super::{Long, Properties, Short};
                $(
                    #[derive(Clone, Debug, Default, PartialEq)]
                    pub struct $name { $( pub $field: $type ),* }
                )*
            }
        )*

        /// Any method.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the variants are the methods of the specification")]
        pub enum Method { $( $( $variant($class::$name), )* )* }

        impl Method {
            /// Reads a method frame's payload.
            pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
                let mut fields = Fields::new(payload);
                let (class, method) = (fields.u16()?, fields.u16()?);
                let truncated = |_| DecodeError::Arguments { class, method };
                let value = match (class, method) {
                    $( $( ($class_id, $method_id) => {
                        $( let $field = <$type as Field>::read(&mut fields).map_err(truncated)?; )*
                        Self::$variant($class::$name { $( $field ),* })
                    } )* )*
                    (class, method) => return Err(DecodeError::UnknownMethod { class, method }),
                };
                // Bytes behind the last argument are a syntax error, not an extension: 0-9-1 has none.
                if fields.is_empty() { Ok(value) } else { Err(DecodeError::Arguments { class, method }) }
            }

            /// Appends a method frame's payload.
            pub fn encode(&self, out: &mut BytesMut) {
                let (class, method) = self.ids();
                out.put_u16(class);
                out.put_u16(method);
                #[allow(unused_variables, unused_mut, reason = "some methods have no argument")]
                match self {
                    $( $( Self::$variant($class::$name { $( $field ),* }) => {
                        let mut sink = Sink::new(out);
                        $( $field.write(&mut sink); )*
                    } )* )*
                }
            }

            /// Class and method number.
            #[must_use]
            pub const fn ids(&self) -> (u16, u16) {
                match self { $( $( Self::$variant(_) => ($class_id, $method_id), )* )* }
            }

            /// The name, as in `queue.declare`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $( $( Self::$variant(_) => concat!(stringify!($class), ".", $text), )* )* }
            }
        }

        $( $(
            impl From<$class::$name> for Method {
                fn from(method: $class::$name) -> Self { Self::$variant(method) }
            }
        )* )*
    };
}

methods! {
    /// Class 10: the connection itself.
    connection = 10 {
        Start, ConnectionStart, "start" = 10 { version_major: u8, version_minor: u8, server_properties: Properties, mechanisms: Long, locales: Long }
        StartOk, ConnectionStartOk, "start-ok" = 11 { client_properties: Properties, mechanism: Short, response: Long, locale: Short }
        Secure, ConnectionSecure, "secure" = 20 { challenge: Long }
        SecureOk, ConnectionSecureOk, "secure-ok" = 21 { response: Long }
        Tune, ConnectionTune, "tune" = 30 { channel_max: u16, frame_max: u32, heartbeat: u16 }
        TuneOk, ConnectionTuneOk, "tune-ok" = 31 { channel_max: u16, frame_max: u32, heartbeat: u16 }
        Open, ConnectionOpen, "open" = 40 { virtual_host: Short, reserved_1: Short, reserved_2: bool }
        OpenOk, ConnectionOpenOk, "open-ok" = 41 { reserved_1: Short }
        Close, ConnectionClose, "close" = 50 { reply_code: u16, reply_text: Short, class_id: u16, method_id: u16 }
        CloseOk, ConnectionCloseOk, "close-ok" = 51 {}
        Blocked, ConnectionBlocked, "blocked" = 60 { reason: Short }
        Unblocked, ConnectionUnblocked, "unblocked" = 61 {}
        UpdateSecret, ConnectionUpdateSecret, "update-secret" = 70 { new_secret: Long, reason: Short }
        UpdateSecretOk, ConnectionUpdateSecretOk, "update-secret-ok" = 71 {}
    }
    /// Class 20: channels.
    channel = 20 {
        Open, ChannelOpen, "open" = 10 { reserved_1: Short }
        OpenOk, ChannelOpenOk, "open-ok" = 11 { reserved_1: Long }
        Flow, ChannelFlow, "flow" = 20 { active: bool }
        FlowOk, ChannelFlowOk, "flow-ok" = 21 { active: bool }
        Close, ChannelClose, "close" = 40 { reply_code: u16, reply_text: Short, class_id: u16, method_id: u16 }
        CloseOk, ChannelCloseOk, "close-ok" = 41 {}
    }
    /// Class 30: realms of 0-8, which old clients still ask for.
    access = 30 {
        Request, AccessRequest, "request" = 10 { realm: Short, exclusive: bool, passive: bool, active: bool, write: bool, read: bool }
        RequestOk, AccessRequestOk, "request-ok" = 11 { reserved_1: u16 }
    }
    /// Class 40: exchanges.
    exchange = 40 {
        Declare, ExchangeDeclare, "declare" = 10 {
            reserved_1: u16, exchange: Short, kind: Short, passive: bool, durable: bool, auto_delete: bool, internal: bool, no_wait: bool, arguments: Properties,
        }
        DeclareOk, ExchangeDeclareOk, "declare-ok" = 11 {}
        Delete, ExchangeDelete, "delete" = 20 { reserved_1: u16, exchange: Short, if_unused: bool, no_wait: bool }
        DeleteOk, ExchangeDeleteOk, "delete-ok" = 21 {}
        Bind, ExchangeBind, "bind" = 30 { reserved_1: u16, destination: Short, source: Short, routing_key: Short, no_wait: bool, arguments: Properties }
        BindOk, ExchangeBindOk, "bind-ok" = 31 {}
        Unbind, ExchangeUnbind, "unbind" = 40 { reserved_1: u16, destination: Short, source: Short, routing_key: Short, no_wait: bool, arguments: Properties }
        UnbindOk, ExchangeUnbindOk, "unbind-ok" = 51 {}
    }
    /// Class 50: queues.
    queue = 50 {
        Declare, QueueDeclare, "declare" = 10 {
            reserved_1: u16, queue: Short, passive: bool, durable: bool, exclusive: bool, auto_delete: bool, no_wait: bool, arguments: Properties,
        }
        DeclareOk, QueueDeclareOk, "declare-ok" = 11 { queue: Short, message_count: u32, consumer_count: u32 }
        Bind, QueueBind, "bind" = 20 { reserved_1: u16, queue: Short, exchange: Short, routing_key: Short, no_wait: bool, arguments: Properties }
        BindOk, QueueBindOk, "bind-ok" = 21 {}
        Purge, QueuePurge, "purge" = 30 { reserved_1: u16, queue: Short, no_wait: bool }
        PurgeOk, QueuePurgeOk, "purge-ok" = 31 { message_count: u32 }
        Delete, QueueDelete, "delete" = 40 { reserved_1: u16, queue: Short, if_unused: bool, if_empty: bool, no_wait: bool }
        DeleteOk, QueueDeleteOk, "delete-ok" = 41 { message_count: u32 }
        Unbind, QueueUnbind, "unbind" = 50 { reserved_1: u16, queue: Short, exchange: Short, routing_key: Short, arguments: Properties }
        UnbindOk, QueueUnbindOk, "unbind-ok" = 51 {}
    }
    /// Class 60: publishing, consuming, settling.
    basic = 60 {
        Qos, BasicQos, "qos" = 10 { prefetch_size: u32, prefetch_count: u16, global: bool }
        QosOk, BasicQosOk, "qos-ok" = 11 {}
        Consume, BasicConsume, "consume" = 20 {
            reserved_1: u16, queue: Short, consumer_tag: Short, no_local: bool, no_ack: bool, exclusive: bool, no_wait: bool, arguments: Properties,
        }
        ConsumeOk, BasicConsumeOk, "consume-ok" = 21 { consumer_tag: Short }
        Cancel, BasicCancel, "cancel" = 30 { consumer_tag: Short, no_wait: bool }
        CancelOk, BasicCancelOk, "cancel-ok" = 31 { consumer_tag: Short }
        Publish, BasicPublish, "publish" = 40 { reserved_1: u16, exchange: Short, routing_key: Short, mandatory: bool, immediate: bool }
        Return, BasicReturn, "return" = 50 { reply_code: u16, reply_text: Short, exchange: Short, routing_key: Short }
        Deliver, BasicDeliver, "deliver" = 60 { consumer_tag: Short, delivery_tag: u64, redelivered: bool, exchange: Short, routing_key: Short }
        Get, BasicGet, "get" = 70 { reserved_1: u16, queue: Short, no_ack: bool }
        GetOk, BasicGetOk, "get-ok" = 71 { delivery_tag: u64, redelivered: bool, exchange: Short, routing_key: Short, message_count: u32 }
        GetEmpty, BasicGetEmpty, "get-empty" = 72 { reserved_1: Short }
        Ack, BasicAck, "ack" = 80 { delivery_tag: u64, multiple: bool }
        Reject, BasicReject, "reject" = 90 { delivery_tag: u64, requeue: bool }
        RecoverAsync, BasicRecoverAsync, "recover-async" = 100 { requeue: bool }
        Recover, BasicRecover, "recover" = 110 { requeue: bool }
        RecoverOk, BasicRecoverOk, "recover-ok" = 111 {}
        Nack, BasicNack, "nack" = 120 { delivery_tag: u64, multiple: bool, requeue: bool }
    }
    /// Class 85: publisher confirms.
    confirm = 85 {
        Select, ConfirmSelect, "select" = 10 { no_wait: bool }
        SelectOk, ConfirmSelectOk, "select-ok" = 11 {}
    }
    /// Class 90: transactions.
    tx = 90 {
        Select, TxSelect, "select" = 10 {}
        SelectOk, TxSelectOk, "select-ok" = 11 {}
        Commit, TxCommit, "commit" = 20 {}
        CommitOk, TxCommitOk, "commit-ok" = 21 {}
        Rollback, TxRollback, "rollback" = 30 {}
        RollbackOk, TxRollbackOk, "rollback-ok" = 31 {}
    }
}
