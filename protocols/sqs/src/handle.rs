//! Receipt handles: what names one receive of one message, sealed with the store's secret (RULES 6).
//!
//! ```text
//! version:u8 queue:u64 qseq:u64 count:u32 received:u64 epoch:u64 nonce:8     big-endian, then the seal
//! ```
//! The seal covers the virtual host and the queue's name too, so a handle is good at its own queue only, and one that opens
//! needs no look at the queue.

use aws::{
    Call,
    seal::{Sealer, TAG_LEN},
};
use message::{Timestamp, base64};
use session::{QueueId, Receipt};

const VERSION: u8 = 3;
const LEN: usize = 1 + 8 + 8 + 4 + 8 + 8 + 8;

/// What a handle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) receipt: Receipt,
    /// When the message was received.
    pub(crate) received: Timestamp,
}

/// What seals and opens the handles of a queue.
pub(crate) fn sealer(call: &Call, queue: &[u8]) -> Sealer {
    let purpose = [b"sqs receipt", call.vhost_name.as_bytes(), queue];
    Sealer::of_short(&call.secret, &purpose)
}

impl Handle {
    /// The handle's text, appended to `text`.
    pub(crate) fn seal(&self, call: &Call, sealer: &Sealer, text: &mut Vec<u8>) {
        let mut closed = [0; LEN + TAG_LEN];
        closed[0] = VERSION;
        closed[1..9].copy_from_slice(&self.receipt.queue.0.to_be_bytes());
        closed[9..17].copy_from_slice(&self.receipt.qseq.to_be_bytes());
        closed[17..21].copy_from_slice(&self.receipt.count.to_be_bytes());
        closed[21..29].copy_from_slice(&self.received.0.to_be_bytes());
        closed[29..37].copy_from_slice(&self.receipt.epoch.to_be_bytes());
        closed[37..LEN].copy_from_slice(&call.random[..8]);
        sealer.close(&mut closed);
        base64::encode_into(&closed, text);
    }

    /// Reads a handle of that queue.
    pub(crate) fn open(sealer: &Sealer, text: &str) -> Option<Self> {
        let mut place = [0; LEN + TAG_LEN];
        let content = sealer.open_in(text, &mut place)?;
        if content[0] != VERSION {
            return None;
        }
        let long = |at: usize| {
            let bytes = content[at..at + 8].try_into().expect("eight bytes");
            u64::from_be_bytes(bytes)
        };
        Some(Self {
            receipt: Receipt {
                queue: QueueId(long(1)),
                qseq: long(9),
                count: u32::from_be_bytes(content[17..21].try_into().expect("four bytes")),
                epoch: long(29),
            },
            received: Timestamp(long(21)),
        })
    }
}
