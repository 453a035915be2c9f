//! Where the peer publishes to: exchanges and routing keys whose address was made before. Nearly every publish goes where one before it
//! went, so an equal pair costs a comparison and a reference to its address.
//!
//! ```text
//! exchange, key --hash--> slot { mark, place }     a pair that finds another mark leaves its own, one that finds its own is kept
//! ```
//! So a pair that comes once costs no copy and drives out no other. What is kept is copied, or it would pin read buffers.
//!
//! Deliberately absent: whether the user may publish there, and whether it is there. That is asked for each message, and the
//! core's to say.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use message::{Address, VhostId};

use crate::{codec::Short, error::Fault, message as conversion};

/// Places that are kept at a time.
const SLOTS: usize = 8;

/// A place that is kept.
#[derive(Debug)]
struct Place {
    exchange: Bytes,
    routing_key: Bytes,
    address: Arc<Address>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Of the last pair that came here and was not known.
    mark: u32,
    place: Option<Place>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// None until something is published.
    slots: Option<Box<[Slot; SLOTS]>>,
}

impl Places {
    /// The address of a place, if it is kept.
    pub(crate) fn find(&self, exchange: &[u8], routing_key: &[u8]) -> Option<Arc<Address>> {
        let slots = self.slots.as_deref()?;
        let place = slots[at(hash(exchange, routing_key))].place.as_ref()?;
        let is_it = *place.routing_key == *routing_key && *place.exchange == *exchange;
        is_it.then(|| Arc::clone(&place.address))
    }

    /// The address of a place. One that came before is kept.
    pub(crate) fn address(
        &mut self,
        vhost: VhostId,
        exchange: &Short,
        routing_key: &Short,
    ) -> Result<Arc<Address>, Fault> {
        if let Some(known) = self.find(exchange, routing_key) {
            return Ok(known);
        }
        let hash = hash(exchange, routing_key);
        let slot = &mut self.slots.get_or_insert_default()[at(hash)];
        if slot.mark != hash {
            slot.mark = hash;
            let address = conversion::address(vhost, exchange.bytes(), routing_key.bytes())?;
            return Ok(Arc::new(address));
        }
        let mut texts = BytesMut::with_capacity(exchange.len() + routing_key.len());
        texts.put_slice(exchange);
        texts.put_slice(routing_key);
        let mut texts = texts.freeze();
        let exchange = texts.split_to(exchange.len());
        let address = Arc::new(conversion::address(vhost, &exchange, &texts)?);
        slot.place = Some(Place {
            exchange,
            routing_key: texts,
            address: Arc::clone(&address),
        });
        Ok(address)
    }
}

/// Never 0, which marks nothing.
fn hash(exchange: &[u8], routing_key: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let text = |hash: u64, text: &[u8]| {
        let (words, rest) = text.as_chunks::<8>();
        let hash = words
            .iter()
            .fold(mix(hash, text.len() as u64), |hash, word| {
                mix(hash, u64::from_le_bytes(*word))
            });
        match text.last_chunk::<8>() {
            // What is left, and some of what was.
            Some(word) => mix(hash, u64::from_le_bytes(*word)),
            None => rest
                .iter()
                .fold(hash, |hash, byte| mix(hash, u64::from(*byte))),
        }
    };
    // The upper bits are the better ones.
    (text(text(0, exchange), routing_key) >> 32) as u32 | 1
}

const fn at(hash: u32) -> usize {
    hash as usize >> 8 & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(text: &str) -> Short {
        Short::new(Bytes::copy_from_slice(text.as_bytes())).expect("short")
    }

    #[test]
    fn what_is_kept_is_what_it_was_in_whatever_order_places_come() {
        let mut pairs = vec![
            ("", "q".to_owned()),
            ("q", String::new()),
            ("", String::new()),
            ("", "$topic/a.b".into()),
            ("", "$topic/$SYS.x".into()),
            ("", "$stream/s".into()),
            ("amq.topic", "a.b%2Ec".into()),
            ("ab", "c".into()),
            ("a", "bc".into()),
        ];
        pairs.extend((0..40).map(|number| ("orders", format!("eu.{number}"))));
        pairs.extend((0..40).map(|number| ("", "x".repeat(number))));
        let mut places = Places::default();
        let (mut step, mut hits) = (1_usize, 0);
        for turn in 0..20_000_usize {
            // Runs of one place, places in turn, and none for long.
            step = step.wrapping_mul(25_173).wrapping_add(13_849) % 65_536;
            let (exchange, key) = &pairs[match turn / 1000 % 3 {
                0 => turn / 5 % pairs.len(),
                1 => turn % 6,
                _ => step % pairs.len(),
            }];
            let (exchange, key) = (short(exchange), short(key));
            let expected = conversion::address(VhostId(7), exchange.bytes(), key.bytes());
            hits += usize::from(places.find(&exchange, &key).is_some());
            let made = places.address(VhostId(7), &exchange, &key);
            let text = |fault: Fault| fault.reply_text();
            assert_eq!(
                made.map(|address| (*address).clone()).map_err(text),
                expected.map_err(text),
                "{exchange:?} {key:?} in turn {turn}"
            );
        }
        assert!(hits > 8_000, "only {hits} places were known");
    }

    #[test]
    fn a_place_is_kept_when_it_comes_again_and_pins_no_read_buffer() {
        let read = Bytes::from(b"0123exchangekey6789".to_vec());
        let part = |range| Short::new(read.slice(range)).expect("short");
        let (exchange, key) = (part(4..12), part(12..15));
        let mut places = Places::default();
        assert!(places.slots.is_none(), "nothing was published");
        let mut made = || {
            let known = places.find(&exchange, &key).is_some();
            let address = places.address(VhostId::ROOT, &exchange, &key);
            (known, address.expect("an address"))
        };
        assert!(!made().0);
        assert!(!made().0);
        let (first, second) = (made(), made());
        assert!(first.0 && Arc::ptr_eq(&first.1, &second.1));
        drop((exchange, key));
        assert!(read.is_unique(), "{places:?} holds it");
    }

    #[test]
    fn places_that_come_once_drive_out_none() {
        let mut places = Places::default();
        for _ in 0..2 {
            places
                .address(VhostId::ROOT, &short(""), &short("q"))
                .expect("a queue");
        }
        for number in 0..100 {
            let key = short(&format!("once-{number}"));
            places
                .address(VhostId::ROOT, &short("x"), &key)
                .expect("an exchange");
            assert!(places.find(b"x", &key).is_none());
        }
        assert!(places.find(b"", b"q").is_some());
    }
}
