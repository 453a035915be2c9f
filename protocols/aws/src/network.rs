//! Addresses as configurations and policies name them: one, or all of a network.

use std::net::IpAddr;

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

/// An address as a number of 128 bits, in which its own come first, and how many these are.
fn number_of(address: IpAddr) -> (u128, u32) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl Network {
    /// Reads an address, or one with the number of bits that count: `10.1.0.0/16`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (_, most) = number_of(address);
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether an address is one of them.
    #[must_use]
    pub fn has(self, other: IpAddr) -> bool {
        let ((ours, len), (other, other_len)) = (number_of(self.address), number_of(other));
        let differing = ours ^ other;
        len == other_len && differing.leading_zeros() >= self.bits
    }
}
