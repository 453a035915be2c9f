//! Sequence numbers: where a record lies, as a decimal of 56 digits that grows within a shard.
//!
//! ```text
//! 188 bits:  2 | opened 36 | shard 4 | index 64 | 0 8 | opened 36 | shard 32 | 2
//! ```
//! *opened* is when the shard was opened, in seconds; *shard* its number (the first time its lowest four bits); *index* the
//! record's offset in the stream and one more. The first number of a shard has the index of the offset that it begins at, so
//! that its records are behind it; the last number of a closed one has the highest index. Clients parse these as integers and
//! compare them: of one shard by offset, of shards that were opened at different times by that. The form is that of the
//! numbers that Kinesis itself gives out; nothing else in them has a meaning. With the manners of moto a number is the index
//! alone.

use aws::Manners;
use message::Timestamp;
use session::{RecordPlace, ShardInfo, ShardNo};

/// The index of the last number of a closed shard.
const INDEX_MAX: u64 = 0x7FFF_FFFF_FFFF_FFFF;
const SECONDS_MAX: u64 = (1 << 36) - 1;
/// 10^19, the largest power of ten that fits 64 bits.
const TEN_19: u64 = 10_000_000_000_000_000_000;
const TEN_8: u64 = 100_000_000;
/// Digits below 10^19.
const LIMB: usize = 19;
/// What one more of the index adds: 2^80, in limbs of 19 digits, the lowest first.
const STEP: [u64; 2] = [5_819_614_629_174_706_176, 120_892];
/// Digits of a number.
const DIGITS: usize = 56;
/// Digits of what 192 bits can say.
const DIGITS_MAX: usize = 58;

/// A sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// When the shard was opened, in seconds, and which it is. `None`: the number does not say.
    shard: Option<(u64, ShardNo)>,
    index: u64,
}

impl Sequence {
    /// Of a record.
    pub(crate) fn of(place: &RecordPlace) -> Self {
        Self::new(place.shard_opened, place.shard, place.offset + 1)
    }

    /// Of the record at an offset of a shard.
    pub(crate) fn at(shard: &ShardInfo, offset: u64) -> Self {
        Self::new(shard.opened, shard.shard, offset + 1)
    }

    /// Behind which what has an offset below `next` lies.
    pub(crate) fn before(shard: &ShardInfo, next: u64) -> Self {
        Self::new(shard.opened, shard.shard, next)
    }

    /// The first of a shard; its records have higher ones.
    pub(crate) fn first(shard: &ShardInfo) -> Self {
        Self::new(shard.opened, shard.shard, shard.first_offset)
    }

    /// The last of a closed shard; its records have lower ones.
    pub(crate) fn last(shard: &ShardInfo) -> Self {
        Self::new(shard.opened, shard.shard, INDEX_MAX)
    }

    fn new(opened: Timestamp, shard: ShardNo, index: u64) -> Self {
        Self {
            shard: Some((seconds(opened), shard)),
            index: index.min(INDEX_MAX),
        }
    }

    /// The shard's number, if it says one.
    pub(crate) fn shard(&self) -> Option<ShardNo> {
        self.shard.map(|(_, shard)| shard)
    }

    /// Whether it may be of this shard of this stream, not of one that had its name.
    pub(crate) fn is_of(&self, shard: &ShardInfo) -> bool {
        self.shard
            .is_none_or(|said| said == (seconds(shard.opened), shard.shard))
    }

    /// The offset to begin at, to read it too.
    pub(crate) const fn offset(&self) -> u64 {
        self.index.saturating_sub(1)
    }

    /// The offset to begin at, to read what is behind it.
    pub(crate) const fn offset_behind(&self) -> u64 {
        self.index
    }

    /// As clients see it.
    pub(crate) fn text(self, manners: Manners) -> String {
        self.digits(manners).text().to_owned()
    }

    fn digits(self, manners: Manners) -> Digits {
        match (manners, self.shard) {
            (Manners::Standard, Some(of)) => Written::new(of, self.index).digits,
            _ => Digits::of_index(self.index),
        }
    }

    /// What a client says. `None`: it is none, or none that was given out here.
    pub(crate) fn read(text: &str, manners: Manners) -> Option<Self> {
        if text.len() == DIGITS {
            return Self::read_long(text);
        }
        let index = text.parse().ok().filter(|index| *index <= INDEX_MAX)?;
        let short = Self { shard: None, index };
        (manners == Manners::Moto).then_some(short)
    }

    fn read_long(text: &str) -> Option<Self> {
        let bits = text.bytes().try_fold(Bits::default(), |bits, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit < 10).then(|| bits.times_ten_plus(digit))?
        })?;
        let (version, bits) = bits.pop(4);
        let (shard, bits) = bits.pop(32);
        let (_, bits) = bits.pop(36);
        let (_, bits) = bits.pop(8);
        let (index, bits) = bits.pop(64);
        let (_, bits) = bits.pop(4);
        let (opened_s, _) = bits.pop(36);
        let shard = ShardNo(shard as u32);
        // Whatever is not what would be written is not a number of ours.
        let known = version == 2
            && index <= INDEX_MAX
            && Digits::of(Zero::of(opened_s, shard).limbs(index)).text() == text;
        known.then_some(Self {
            shard: Some((opened_s, shard)),
            index,
        })
    }
}

/// Shards whose last number is kept while many are written.
const WRITTEN_MAX: usize = 16;
/// So far behind the last number of its shard one is put together from that: each step costs less than a division.
const STEPS_MAX: u64 = 16;

/// Writes many numbers, most of which are of few shards, and of each not far behind the one before.
#[derive(Default)]
pub(crate) struct Numbers {
    written: Vec<Written>,
    /// Of a number that is an index alone.
    index: Digits,
}

/// The last number of a shard.
struct Written {
    of: (u64, ShardNo),
    zero: Zero,
    index: u64,
    limbs: [u64; 3],
    digits: Digits,
}

impl Numbers {
    /// As clients see it.
    pub(crate) fn digits(&mut self, sequence: Sequence, manners: Manners) -> &Digits {
        let (Manners::Standard, Some(of)) = (manners, sequence.shard) else {
            self.index = Digits::of_index(sequence.index);
            return &self.index;
        };
        let at = match self.written.iter().position(|it| it.of == of) {
            Some(at) => {
                self.written[at].go_to(sequence.index);
                at
            }
            None => {
                if self.written.len() == WRITTEN_MAX {
                    self.written.clear();
                }
                self.written.push(Written::new(of, sequence.index));
                self.written.len() - 1
            }
        };
        &self.written[at].digits
    }
}

impl Written {
    fn new(of: (u64, ShardNo), index: u64) -> Self {
        let zero = Zero::of(of.0, of.1);
        let limbs = zero.limbs(index);
        Self {
            of,
            zero,
            index,
            limbs,
            digits: Digits::of(limbs),
        }
    }

    fn go_to(&mut self, index: u64) {
        let before = self.limbs;
        match index.checked_sub(self.index) {
            Some(steps @ 0..=STEPS_MAX) => (0..steps).for_each(|_| step(&mut self.limbs)),
            _ => self.limbs = self.zero.limbs(index),
        }
        self.index = index;
        let [low, middle, high] = self.limbs;
        if high != before[2] {
            self.digits = Digits::of(self.limbs);
            return;
        }
        self.digits.put_low(low);
        self.digits.put_middle(middle, before[1]);
    }
}

/// To the number of the next index.
const fn step(limbs: &mut [u64; 3]) {
    let [low, middle, high] = limbs;
    // Two numbers below 10^19, one of them far below it, fit 64 bits.
    *low += STEP[0];
    *middle += STEP[1];
    if *low >= TEN_19 {
        *low -= TEN_19;
        *middle += 1;
    }
    if *middle >= TEN_19 {
        *middle -= TEN_19;
        *high += 1;
    }
}

/// The number of a shard whose index is 0, in limbs of 19 digits, the lowest first.
#[derive(Clone, Copy)]
struct Zero([u64; 3]);

impl Zero {
    fn of(opened_s: u64, shard: ShardNo) -> Self {
        let bits = Bits::default()
            .push(4, 2)
            .push(36, opened_s)
            .push(4, u64::from(shard.0 & 0xF))
            .push(64, 0)
            .push(8, 0)
            .push(36, opened_s)
            .push(32, u64::from(shard.0))
            .push(4, 2);
        let (rest, low) = bits.divided();
        let (rest, middle) = rest.divided();
        let (_, high) = rest.divided();
        Self([low, middle, high])
    }

    /// The number of the shard with that index, in limbs.
    fn limbs(self, index: u64) -> [u64; 3] {
        let Self([low, middle, high]) = self;
        let (index, ten) = (u128::from(index), u128::from(TEN_19));
        let low = index * u128::from(STEP[0]) + u128::from(low);
        let middle = index * u128::from(STEP[1]) + u128::from(middle) + low / ten;
        let low = (low % ten) as u64;
        match u64::try_from(middle) {
            Ok(middle) if middle < TEN_19 => [low, middle, high],
            _ => [low, (middle % ten) as u64, high + (middle / ten) as u64],
        }
    }
}

/// The digits of each number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// A decimal, written from its end.
#[derive(Clone, Copy)]
pub(crate) struct Digits {
    all: [u8; DIGITS_MAX],
    start: usize,
}

impl Default for Digits {
    fn default() -> Self {
        Self {
            all: [b'0'; DIGITS_MAX],
            start: DIGITS_MAX,
        }
    }
}

impl Digits {
    /// Of a number that is an index alone.
    fn of_index(index: u64) -> Self {
        let mut digits = Self::default();
        digits.push(index);
        digits
    }

    /// Of limbs, the lowest first.
    fn of([low, middle, high]: [u64; 3]) -> Self {
        let mut digits = Self::default();
        digits.put_low(low);
        digits.middle().copy_from_slice(&limb(middle));
        digits.start = DIGITS_MAX - 2 * LIMB;
        digits.push(high);
        digits
    }

    /// Puts the lowest limb in the place of another.
    fn put_low(&mut self, low: u64) {
        self.all[DIGITS_MAX - LIMB..].copy_from_slice(&limb(low));
    }

    /// Puts the limb above it in the place of `before`. Of numbers near each other only the last digits of it differ.
    fn put_middle(&mut self, middle: u64, before: u64) {
        if middle / TEN_8 == before / TEN_8 {
            let eight = eight_digits(middle % TEN_8);
            self.middle()[LIMB - eight.len()..].copy_from_slice(&eight);
        } else {
            self.middle().copy_from_slice(&limb(middle));
        }
    }

    fn middle(&mut self) -> &mut [u8] {
        &mut self.all[DIGITS_MAX - 2 * LIMB..DIGITS_MAX - LIMB]
    }

    /// Puts a number before what there is.
    fn push(&mut self, mut number: u64) {
        let end = self.start;
        while number >= 100 {
            self.start -= 2;
            let pair = PAIRS[(number % 100) as usize];
            self.all[self.start..self.start + 2].copy_from_slice(&pair);
            number /= 100;
        }
        while number > 0 || self.start == end {
            self.start -= 1;
            self.all[self.start] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits are ASCII")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.all[self.start..]
    }
}

/// The 19 digits of a number.
fn limb(number: u64) -> [u8; LIMB] {
    let mut digits = [0; LIMB];
    let (above, eight) = (number / TEN_8, number % TEN_8);
    digits[11..].copy_from_slice(&eight_digits(eight));
    let (above, eight) = (above / TEN_8, above % TEN_8);
    digits[3..11].copy_from_slice(&eight_digits(eight));
    digits[1..3].copy_from_slice(&PAIRS[(above % 100) as usize]);
    digits[0] = b'0' + (above / 100) as u8;
    digits
}

/// The digits of a number below 10^8: those of its two halves at once, then of the four halves of those, then of the eight.
const fn eight_digits(number: u64) -> [u8; 8] {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000F_000F_000F_000F;
    let digits = tens | ((twos - tens * 10) << 8);
    (digits + 0x3030_3030_3030_3030).to_le_bytes()
}

fn seconds(opened: Timestamp) -> u64 {
    (opened.0 / 1000).min(SECONDS_MAX)
}

/// 192 bits, the lowest 64 first.
#[derive(Clone, Copy, Default)]
struct Bits([u64; 3]);

impl Bits {
    /// With so many more bits below.
    const fn push(self, count: u32, value: u64) -> Self {
        let [low, middle, high] = self.0;
        if count == 64 {
            return Self([value, low, middle]);
        }
        Self([
            low << count | value,
            middle << count | low >> (64 - count),
            high << count | middle >> (64 - count),
        ])
    }

    /// The lowest bits, and what is above them.
    const fn pop(self, count: u32) -> (u64, Self) {
        let [low, middle, high] = self.0;
        if count == 64 {
            return (low, Self([middle, high, 0]));
        }
        (
            low & ((1 << count) - 1),
            Self([
                low >> count | middle << (64 - count),
                middle >> count | high << (64 - count),
                high >> count,
            ]),
        )
    }

    /// Divided by 10^19, and what remains.
    fn divided(self) -> (Self, u64) {
        let mut out = [0; 3];
        let mut rest = 0;
        for at in (0..3).rev() {
            let dividend = u128::from(rest) << 64 | u128::from(self.0[at]);
            out[at] = (dividend / u128::from(TEN_19)) as u64;
            rest = (dividend % u128::from(TEN_19)) as u64;
        }
        (Self(out), rest)
    }

    fn times_ten_plus(self, digit: u8) -> Option<Self> {
        let mut out = [0; 3];
        let mut carry = u128::from(digit);
        for (limb, old) in out.iter_mut().zip(self.0) {
            carry += u128::from(old) * 10;
            *limb = carry as u64;
            carry >>= 64;
        }
        (carry == 0).then_some(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Manners = Manners::Standard;

    fn place(opened: u64, shard: u32, offset: u64) -> RecordPlace {
        RecordPlace {
            stream: session::StreamId(1),
            shard: ShardNo(shard),
            shard_opened: Timestamp(opened),
            offset,
        }
    }

    #[test]
    fn a_number_has_56_digits_and_comes_back() {
        for opened in [0, 999, 1_000, 1_764_339_600_123, u64::MAX] {
            for shard in [0, 1, 15, 16, 65_535, u32::MAX] {
                for offset in [0, 1, 9_999, u64::from(u32::MAX), INDEX_MAX - 1] {
                    let sequence = Sequence::of(&place(opened, shard, offset));
                    let text = sequence.text(LONG);
                    assert_eq!(text.len(), DIGITS, "{text}");
                    assert_eq!(Sequence::read(&text, LONG), Some(sequence));
                    assert_eq!(sequence.offset(), offset);
                    assert_eq!(sequence.offset_behind(), offset + 1);
                    assert_eq!(sequence.shard(), Some(ShardNo(shard)));
                }
            }
        }
    }

    #[test]
    fn numbers_grow_with_the_offset_and_with_the_time_of_opening() {
        // Decimals of one length compare as texts as they do as integers.
        let number = |opened, shard, offset| Sequence::of(&place(opened, shard, offset)).text(LONG);
        assert!(number(1_000_000, 3, 0) < number(1_000_000, 3, 1));
        assert!(number(1_000_000, 3, 9) < number(1_000_000, 3, 10));
        assert!(number(1_000_000, 3, 1 << 40) < number(1_001_000, 3, 0));
        assert!(number(1_000_000, 9, 1 << 40) < number(1_001_000, 3, 0));
    }

    #[test]
    fn it_is_the_number_that_the_bits_say() {
        // 2^185 and the version alone, worked out by hand.
        let zero = Sequence::new(Timestamp(0), ShardNo(0), 0);
        assert_eq!(
            zero.text(LONG),
            "49039857307708443467467104868809893875799651909875269634"
        );
    }

    #[test]
    fn eight_digits_are_those_of_the_number() {
        let all = (0..10_000).flat_map(|low| {
            [0, 1, 9_999, 1_234, 5_600, 78].map(|high| [high * 10_000 + low, low * 10_000 + high])
        });
        for number in all.flatten() {
            let digits = eight_digits(number);
            assert_eq!(str::from_utf8(&digits), Ok(&*format!("{number:08}")));
        }
    }

    #[test]
    fn numbers_of_a_shard_are_those_of_its_bits() {
        let mut numbers = Numbers::default();
        let mut index = 1_u64;
        for at in 0..3000_u64 {
            index = index
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(at)
                >> (at % 63);
            let (opened_s, shard) = (1_764_339_600 + at / 1000, ShardNo((at / 100) as u32));
            let index = index.min(INDEX_MAX);
            let mut bits = Bits::default()
                .push(4, 2)
                .push(36, opened_s)
                .push(4, u64::from(shard.0 & 0xF))
                .push(64, index)
                .push(8, 0)
                .push(36, opened_s)
                .push(32, u64::from(shard.0))
                .push(4, 2);
            let mut limbs = [0; 3];
            for limb in &mut limbs {
                (bits, *limb) = bits.divided();
            }
            let text = format!("{}{:019}{:019}", limbs[2], limbs[1], limbs[0]);
            let sequence = Sequence {
                shard: Some((opened_s, shard)),
                index,
            };
            assert_eq!(numbers.digits(sequence, LONG).text(), text);
        }
    }

    #[test]
    fn numbers_near_the_last_one_of_their_shard_are_those_by_themselves() {
        let opened_s = 1_764_339_600;
        let of = |shard, index| Sequence {
            shard: Some((opened_s, ShardNo(shard))),
            index,
        };
        let zero = Zero::of(opened_s, ShardNo(0));
        // The first index behind which the highest limb is another one.
        let (mut below, mut above) = (0, INDEX_MAX / 2);
        while above - below > 1 {
            let index = below + (above - below) / 2;
            if zero.limbs(index)[2] == zero.limbs(0)[2] {
                below = index;
            } else {
                above = index;
            }
        }
        for start in [0, below - 500] {
            let mut numbers = Numbers::default();
            let mut index = start;
            for at in 0..5000 {
                // Ahead by one, by as much as is stepped and by more, and back at times; of more shards than are kept, at times.
                index = match at % 40 {
                    39 => index - 30,
                    jump @ 30.. => index + 2 * jump - 45,
                    _ => index + 1,
                };
                let shards = if at % 1000 < 900 { 4 } else { 20 };
                let sequence = of(at as u32 % shards, index);
                let alone = sequence.text(LONG);
                assert_eq!(numbers.digits(sequence, LONG).text(), alone, "{sequence:?}");
            }
        }
    }

    #[test]
    fn what_is_not_one_is_refused() {
        let text = Sequence::of(&place(1_000_000, 3, 7)).text(LONG);
        let mut other = text.clone().into_bytes();
        other[55] = if other[55] == b'9' {
            b'8'
        } else {
            other[55] + 1
        };
        for bad in [
            "",
            "0",
            "1",
            "12a",
            &"9".repeat(56),
            &"0".repeat(56),
            &format!("{text}0"),
            &String::from_utf8(other).unwrap(),
        ] {
            assert_eq!(Sequence::read(bad, LONG), None, "{bad}");
        }
    }

    #[test]
    fn with_the_manners_of_moto_it_is_the_offset_and_one() {
        let sequence = Sequence::of(&place(1_000_000, 3, 7));
        assert_eq!(sequence.text(Manners::Moto), "8");
        let read = Sequence::read("8", Manners::Moto).unwrap();
        assert_eq!((read.offset(), read.shard()), (7, None));
        assert_eq!(
            Sequence::read(&sequence.text(LONG), Manners::Moto),
            Some(sequence)
        );
        assert_eq!(Sequence::read("-1", Manners::Moto), None);
        assert_eq!(Sequence::read(&u64::MAX.to_string(), Manners::Moto), None);
    }
}
