//! What an answer of the core is the answer to, packed into its token, so that nothing needs to be looked up.

use session::Token;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Authenticate,
    Open,
    /// A publish of QoS 1 with that packet identifier.
    PubAck(u16),
    /// A publish of QoS 2 with that packet identifier.
    PubRec(u16),
    /// A filter of a SUBSCRIBE or UNSUBSCRIBE.
    Filter {
        serial: u32,
        index: u16,
    },
    /// A batch of deliveries that reached PUBREC.
    Received(u32),
}

impl Reply {
    pub(super) fn token(self) -> Token {
        let (kind, rest) = match self {
            Self::Authenticate => (0u64, 0),
            Self::Open => (1, 0),
            Self::PubAck(id) => (2, u64::from(id)),
            Self::PubRec(id) => (3, u64::from(id)),
            Self::Filter { serial, index } => (4, u64::from(serial) << 16 | u64::from(index)),
            Self::Received(serial) => (5, u64::from(serial)),
        };
        Token(kind << 56 | rest)
    }

    /// `None`: not a token of ours.
    pub(super) const fn of(token: Token) -> Option<Self> {
        let rest = token.0 & ((1 << 56) - 1);
        Some(match token.0 >> 56 {
            0 => Self::Authenticate,
            1 => Self::Open,
            2 => Self::PubAck(rest as u16),
            3 => Self::PubRec(rest as u16),
            4 => Self::Filter {
                serial: (rest >> 16) as u32,
                index: rest as u16,
            },
            5 => Self::Received(rest as u32),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_comes_back() {
        let replies = [
            Reply::Authenticate,
            Reply::Open,
            Reply::PubAck(u16::MAX),
            Reply::PubRec(1),
            Reply::Filter {
                serial: u32::MAX,
                index: u16::MAX,
            },
            Reply::Received(u32::MAX),
        ];
        for reply in replies {
            assert_eq!(Reply::of(reply.token()), Some(reply));
        }
    }
}
