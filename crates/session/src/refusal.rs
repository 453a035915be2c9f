//! Why the core refused something. Each protocol turns the kind into its own code.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use crate::{Active, not_active_words};

/// The reason, without a protocol's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// User or password wrong, or the mechanism is not offered.
    BadCredentials,
    /// The user may not do this here (also: the virtual host is closed to them).
    AccessDenied,
    /// The same, and the operator wants the peer to be told no more than that (MQTT 0x80).
    Unexplained,
    /// The virtual host, queue, exchange, consumer or subscription does not exist.
    NotFound,
    /// It exists with other properties (AMQP `PRECONDITION_FAILED`).
    Inequivalent,
    /// Held exclusively by someone else (AMQP `RESOURCE_LOCKED`).
    Locked,
    /// Exclusive use was asked for, but it is in use (AMQP `ACCESS_REFUSED` on `basic.consume exclusive`).
    InUse,
    /// Not empty or still used, and the deletion asked for the opposite.
    NotEmpty,
    /// A configured limit on number, length or bytes is reached.
    QuotaExceeded,
    /// The message is larger than the destination accepts.
    TooLarge,
    /// More in this second than the shard takes or gives.
    RateExceeded,
    /// A queue with overflow `reject-publish` is full.
    QueueFull,
    /// No room on the disk: publishing and declaring pause, consuming and settling go on.
    StorageFull,
    /// The name is reserved or malformed for this purpose.
    InvalidName,
    /// An argument is malformed or contradicts another.
    InvalidArgument,
    /// Understood, and not built.
    NotImplemented,
    /// This node is not, or no longer, the active one.
    NotActive,
    /// The settlement names a delivery that is not out to this session.
    UnknownDelivery,
    /// The message is there, but not out to the receive that the settlement names.
    NotOut,
    /// A defect of ours: a `decide` panicked. The connection is closed.
    Internal,
}

impl RefusalKind {
    /// Whether it passes by itself: a later try may succeed though nobody changed anything.
    #[must_use]
    pub const fn is_want_of_room(self) -> bool {
        matches!(
            self,
            Self::QuotaExceeded
                | Self::RateExceeded
                | Self::QueueFull
                | Self::StorageFull
                | Self::NotActive
        )
    }
}

/// A refusal: the kind, and a sentence for people (lowercase, without a final stop).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// What a program decides by.
    pub kind: RefusalKind,
    /// What a person reads.
    pub detail: Cow<'static, str>,
    /// For `Inequivalent`, and for `Locked` where it is another's queue: the declaration that is there, as the protocol gave it (`QueueOptions::declaration`), so that it
    /// can say what differs in its own words. For `RateExceeded` of a publish: the number of the shard, in decimal. For
    /// `QuotaExceeded` of a subscription: [`Refusal::POLICIES`] if it is its filter policy that is one too many.
    pub known: Option<Bytes>,
    /// For `Inequivalent`, where no declaration is kept to compare: what differs from what is there.
    pub unlike: Option<Box<Unlike>>,
    /// For `NotActive`: where the active node is, if that is known. Each protocol names its own door of it.
    pub active: Option<Arc<Active>>,
}

impl Refusal {
    /// What [`Refusal::known`] says where there are too many filter policies.
    pub const POLICIES: &'static [u8] = b"policies";

    /// Makes one.
    pub fn new(kind: RefusalKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            known: None,
            unlike: None,
            active: None,
        }
    }

    /// That this node is not the active one.
    #[must_use]
    pub fn not_active(active: Option<Arc<Active>>) -> Self {
        Self {
            active,
            ..Self::new(RefusalKind::NotActive, not_active_words(None, ""))
        }
    }

    /// Says in its sentence where the active node has that listener, if it is about that and the place is known.
    #[must_use]
    pub fn naming(mut self, listener: &str) -> Self {
        if let Some(address) = self.active_at(listener) {
            self.detail = format!("{}; {address} is", self.detail).into();
        }
        self
    }

    /// Where the active node has that listener, if this is about that and the place is known.
    #[must_use]
    pub fn active_at(&self, listener: &str) -> Option<&Arc<str>> {
        self.active.as_ref()?.at(listener)
    }

    /// Adds the declaration that is there.
    #[must_use]
    pub fn but_known(mut self, declaration: Option<Bytes>) -> Self {
        self.known = declaration;
        self
    }

    /// Adds what differs from what is there.
    #[must_use]
    pub fn but_unlike(mut self, unlike: Option<Unlike>) -> Self {
        self.unlike = unlike.map(Box::new);
        self
    }
}

/// A property of a queue that is not as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlike {
    /// A field of `QueueOptions` or `QueueAttributes`, for each protocol to say in its own words. The sentence ends with it.
    pub property: &'static str,
    /// What is there, if it is a number.
    pub current: Option<u64>,
}
