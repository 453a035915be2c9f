//! Batches and the frames in them: the bytes that carry records.
//!
//! ```text
//! batch, at a multiple of 4 KiB            frame, at a multiple of 8 bytes of the payload
//!   0  magic "BBAT"                          0  crc32c of (id, length, kind, flags, payload)
//!   4  version, flags, header length u16     4  payload length u32
//!   8  header check: XXH3-64(salt)           8  kind u8, flags u8, tag length u16 (0)
//!  16  epoch              u64               12  payload (a moved record: the old id u64 first), padded to 8
//!  24  batch sequence     u64
//!  32  first LSN          u64               flags of a batch: 1 = adopted (the payload is the old header
//!  40  payload length u32, records u32                        and the old payload, verbatim)
//!  48  durable_upto       u64               flags of a frame: 1 = moved; 2 is reserved for encryption
//!  56  chain before       u128
//!  72  payload digest     XXH3-128
//!  88  wall clock ms, 96 key id u32 (0), zeros to 128
//! ```
//! The chain hash covers sequence, first LSN and the plaintext's digest; salt, epoch, key and flags belong to the outer
//! header (RULES 19), so a batch keeps its place in the chain when a later epoch adopts it. The header check is seeded with
//! the segment's salt: what an earlier use of the file left behind never validates.

use std::cell::RefCell;

use crate::hash::{xxh3_64_with_seed, xxh3_128};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use message::StoredId;

use crate::id::{self, RECORD_ALIGN};

/// Everything on disk starts at a multiple of this.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of a batch header.
pub(crate) const HEADER_LEN: usize = 128;
/// Bytes of a frame header.
pub(crate) const FRAME_LEN: usize = 12;
/// The batch carries an older batch, header and payload, verbatim.
pub(crate) const ADOPTED: u8 = 1;
/// The frame carries a record that was first written elsewhere.
pub(crate) const MOVED: u8 = 1;
const MAGIC: [u8; 4] = *b"BBAT";
const VERSION: u8 = 1;

/// A batch header, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u8,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) first_lsn: u64,
    pub(crate) payload_len: u32,
    pub(crate) records: u32,
    pub(crate) durable_upto: u64,
    pub(crate) chain_before: u128,
    pub(crate) digest: u128,
    pub(crate) wall_ms: u64,
}

impl Header {
    /// The 128 bytes of this header in a segment with this salt.
    pub(crate) fn encode(&self, salt: u64) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = self.flags;
        out[6..8].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out[24..32].copy_from_slice(&self.seq.to_le_bytes());
        out[32..40].copy_from_slice(&self.first_lsn.to_le_bytes());
        out[40..44].copy_from_slice(&self.payload_len.to_le_bytes());
        out[44..48].copy_from_slice(&self.records.to_le_bytes());
        out[48..56].copy_from_slice(&self.durable_upto.to_le_bytes());
        out[56..72].copy_from_slice(&self.chain_before.to_le_bytes());
        out[72..88].copy_from_slice(&self.digest.to_le_bytes());
        out[88..96].copy_from_slice(&self.wall_ms.to_le_bytes());
        let check = xxh3_64_with_seed(&out, seed(salt));
        out[8..16].copy_from_slice(&check.to_le_bytes());
        out
    }

    /// The header in the first 128 bytes, if it belongs to a segment with this salt.
    pub(crate) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let raw: &[u8; HEADER_LEN] = bytes.get(..HEADER_LEN)?.try_into().ok()?;
        if raw[..4] != MAGIC {
            return None;
        }
        let mut plain = *raw;
        plain[8..16].fill(0);
        if xxh3_64_with_seed(&plain, seed(salt)) != u64_at(raw, 8) {
            return None;
        }
        Self::decode_fields(raw)
    }

    /// The header of an adopted batch: the outer digest vouches for it, its own salt is that of a file that may be gone.
    pub(crate) fn decode_inner(bytes: &[u8]) -> Option<Self> {
        let raw: &[u8; HEADER_LEN] = bytes.get(..HEADER_LEN)?.try_into().ok()?;
        if raw[..4] != MAGIC {
            return None;
        }
        Self::decode_fields(raw)
    }

    fn decode_fields(raw: &[u8; HEADER_LEN]) -> Option<Self> {
        if raw[4] != VERSION || usize::from(u16::from_le_bytes([raw[6], raw[7]])) != HEADER_LEN {
            return None;
        }
        Some(Self {
            flags: raw[5],
            epoch: u64_at(raw, 16),
            seq: u64_at(raw, 24),
            first_lsn: u64_at(raw, 32),
            payload_len: u32_at(raw, 40),
            records: u32_at(raw, 44),
            durable_upto: u64_at(raw, 48),
            chain_before: u128_at(raw, 56),
            digest: u128_at(raw, 72),
            wall_ms: u64_at(raw, 88),
        })
    }

    /// Bytes that the batch takes in its segment.
    pub(crate) fn padded_len(&self) -> usize {
        padded_len(self.payload_len as usize)
    }

    /// The chain hash behind this batch. Of an adopted one, ask the inner header.
    pub(crate) fn chain_after(&self) -> u128 {
        chain(self.chain_before, self.seq, self.first_lsn, self.digest)
    }
}

/// What the checks in a segment with this salt begin with.
pub(crate) fn seed(salt: u64) -> u64 {
    if mutated!(SkipSalt) { 0 } else { salt }
}

/// Bytes that a payload of this length takes in a segment.
pub(crate) fn padded_len(payload_len: usize) -> usize {
    (HEADER_LEN + payload_len).next_multiple_of(BLOCK)
}

/// The chain hash behind a batch.
pub(crate) fn chain(before: u128, seq: u64, first_lsn: u64, digest: u128) -> u128 {
    let mut bytes = [0; 48];
    bytes[..16].copy_from_slice(&before.to_le_bytes());
    bytes[16..24].copy_from_slice(&seq.to_le_bytes());
    bytes[24..32].copy_from_slice(&first_lsn.to_le_bytes());
    bytes[32..].copy_from_slice(&digest.to_le_bytes());
    xxh3_128(&bytes)
}

/// The digest of a payload.
pub(crate) fn digest(payload: &[u8]) -> u128 {
    xxh3_128(payload)
}

/// Bytes that a record with a payload of this length takes in a batch.
pub(crate) fn framed_len(payload_len: usize) -> usize {
    (FRAME_LEN + payload_len).next_multiple_of(RECORD_ALIGN)
}

/// A frame header, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) crc: u32,
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
}

impl Frame {
    /// The frame header at the start of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let raw = bytes.get(..FRAME_LEN)?;
        Some(Self {
            crc: u32_at(raw, 0),
            len: u32_at(raw, 4) as usize,
            kind: raw[8],
            flags: raw[9],
        })
    }

    /// Where the record in this payload was first written, if it was moved here, and where in it its own payload begins.
    pub(crate) fn origin(&self, payload: &[u8]) -> Option<(Option<StoredId>, usize)> {
        if self.flags & MOVED == 0 {
            return Some((None, 0));
        }
        let origin = payload.get(..8)?.try_into().ok()?;
        Some((Some(StoredId(u64::from_le_bytes(origin))), 8))
    }

    /// Whether this is the frame of `id` with this payload: a misdirected read does not pass.
    pub(crate) fn matches(&self, id: StoredId, header: &[u8], payload: &[u8]) -> bool {
        self.crc == frame_crc(id, rest_of(header), payload)
    }
}

/// A frame's header behind its check.
fn rest_of(header: &[u8]) -> &[u8; 8] {
    header[4..FRAME_LEN]
        .try_into()
        .expect("eight bytes were sliced")
}

fn frame_crc(id: StoredId, rest_of_header: &[u8; 8], payload: &[u8]) -> u32 {
    let mut front = [0; 16];
    front[..8].copy_from_slice(&id.0.to_le_bytes());
    front[8..].copy_from_slice(rest_of_header);
    FRAME_CRC.with_borrow_mut(|crc| {
        crc.reset();
        crc.update(&front);
        crc.update(payload);
        crc.finalize() as u32
    })
}

thread_local! {
    /// What computes one: a new one for each would copy what it knows of the polynomial, 240 bytes.
    static FRAME_CRC: RefCell<Digest> = RefCell::new(Digest::new(CrcAlgorithm::Crc32Iscsi));
}

/// Writes the header of a frame whose payload already lies behind it in `frame`.
pub(crate) fn finish_frame(
    frame: &mut [u8],
    id: StoredId,
    payload_len: usize,
    kind: u8,
    flags: u8,
) {
    let (header, payload) = frame.split_at_mut(FRAME_LEN);
    header[4..8].copy_from_slice(&(payload_len as u32).to_le_bytes());
    header[8] = kind;
    header[9] = flags;
    header[10..12].fill(0);
    let crc = frame_crc(id, rest_of(header), &payload[..payload_len]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
}

/// One record of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Where it lies. Of a moved record, see `origin`.
    pub(crate) id: StoredId,
    /// Where it was first written, if it was moved here.
    pub(crate) origin: Option<StoredId>,
    pub(crate) kind: u8,
    pub(crate) payload: Bytes,
}

/// The records of a plaintext payload whose digest was verified. `None` where the frames do not add up.
pub(crate) fn records(seq: u64, payload: &Bytes) -> impl Iterator<Item = Option<Record>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= payload.len() {
            return None;
        }
        let record = record_at(seq, payload, at);
        at = match &record {
            Some((_, next)) => *next,
            None => usize::MAX,
        };
        Some(record.map(|(record, _)| record))
    })
}

fn record_at(seq: u64, payload: &Bytes, at: usize) -> Option<(Record, usize)> {
    let frame = Frame::decode(payload.get(at..)?)?;
    let start = at + FRAME_LEN;
    let end = start.checked_add(frame.len)?;
    if end > payload.len() || frame.flags & !MOVED != 0 {
        return None;
    }
    let id = id::pack(seq, at);
    let record = unpack(id, frame, payload.slice(start..end))?;
    Some((record, end.next_multiple_of(RECORD_ALIGN)))
}

/// The record in a frame's payload.
fn unpack(id: StoredId, frame: Frame, payload: Bytes) -> Option<Record> {
    let (origin, skip) = frame.origin(&payload)?;
    Some(Record {
        id,
        origin,
        kind: frame.kind,
        payload: payload.slice(skip..),
    })
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(
        bytes[at..at + 4]
            .try_into()
            .expect("four bytes were sliced"),
    )
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(
        bytes[at..at + 8]
            .try_into()
            .expect("eight bytes were sliced"),
    )
}

pub(crate) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(
        bytes[at..at + 16]
            .try_into()
            .expect("sixteen bytes were sliced"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(payload_len: u32) -> Header {
        Header {
            flags: 0,
            epoch: 3,
            seq: 4,
            first_lsn: 5,
            payload_len,
            records: 6,
            durable_upto: 3,
            chain_before: 7,
            digest: 8,
            wall_ms: 9,
        }
    }

    #[test]
    fn a_header_comes_back_under_its_own_salt_only() {
        let bytes = header(100).encode(42);
        assert_eq!(Header::decode(&bytes, 42), Some(header(100)));
        assert_eq!(Header::decode(&bytes, 43), None);
        for at in 0..HEADER_LEN {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert_eq!(Header::decode(&bad, 42), None, "byte {at} is covered");
        }
    }

    #[test]
    fn the_header_is_as_drawn() {
        let bytes = header(0x0102).encode(0);
        assert_eq!(&bytes[..8], b"BBAT\x01\x00\x80\x00");
        assert_eq!(bytes[16..24], 3_u64.to_le_bytes());
        assert_eq!(bytes[24..32], 4_u64.to_le_bytes());
        assert_eq!(bytes[40..48], [2, 1, 0, 0, 6, 0, 0, 0]);
        assert_eq!(bytes[96..], [0; 32], "reserved for encryption");
    }

    #[test]
    fn the_chain_depends_on_everything_it_names() {
        let all = [
            chain(1, 2, 3, 4),
            chain(9, 2, 3, 4),
            chain(1, 9, 3, 4),
            chain(1, 2, 9, 4),
            chain(1, 2, 3, 9),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
    }

    #[test]
    fn a_frame_is_checked_by_crc32c_whatever_its_length_and_place() {
        // Bit by bit, as the polynomial has it.
        fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
            let step = |crc: u32, _| crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
            !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(byte), step))
        }
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
        let all: Vec<u8> = (0..70_000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let rest = [5, 0, 0, 0, 7, 1, 0, 0];
        let lens = (0..1200).chain([4095, 4096, 65_535, 65_536, 69_000]);
        for len in lens {
            let payload = &all[len % 64..][..len];
            let id = StoredId(0x0102_0304_0506_0708 + len as u64);
            let front = id.0.to_le_bytes().into_iter().chain(rest);
            let expected = crc32c(front.chain(payload.iter().copied()));
            assert_eq!(frame_crc(id, &rest, payload), expected, "{len}");
        }
    }

    proptest! {
        #[test]
        fn records_come_back(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut bytes = Vec::new();
            for (kind, payload) in payloads.iter().enumerate() {
                let at = bytes.len();
                bytes.resize(at + framed_len(payload.len()), 0);
                bytes[at + FRAME_LEN..at + FRAME_LEN + payload.len()].copy_from_slice(payload);
                finish_frame(&mut bytes[at..], id::pack(7, at), payload.len(), kind as u8, 0);
            }
            let bytes = Bytes::from(bytes);
            let back: Vec<_> = records(7, &bytes).map(|r| r.expect("whole")).collect();
            prop_assert_eq!(back.len(), payloads.len());
            for (kind, (record, payload)) in back.iter().zip(&payloads).enumerate() {
                prop_assert_eq!(&record.payload[..], &payload[..]);
                prop_assert_eq!(usize::from(record.kind), kind);
                let at = id::offset(record.id);
                let frame = Frame::decode(&bytes[at..]).expect("there");
                prop_assert!(frame.matches(record.id, &bytes[at..], payload));
                prop_assert!(!frame.matches(StoredId(record.id.0 + 1), &bytes[at..], payload));
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let bytes = Bytes::from(bytes);
            let total: usize = records(1, &bytes).flatten().map(|r| r.payload.len()).sum();
            prop_assert!(total <= bytes.len());
            let _ = Header::decode(&bytes, 0);
            let _ = Header::decode_inner(&bytes);
        }
    }
}
