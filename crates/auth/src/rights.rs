//! Who may do what, to which address (DOORS: permissions). The question is asked on every publish, subscribe and declare.
//!
//! Deliberately absent: rules. Every verified user may do everything in the virtual host that let them in.

use message::{Address, Filter};

/// What someone wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Send to an address: wills and reply-tos too.
    Publish,
    /// Read: consume from a queue, or bind a filter.
    Subscribe,
    /// Make, change, purge or delete.
    Declare,
}

/// What they want to do it to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What<'a> {
    /// An address.
    Address(&'a Address),
    /// A filter in the root topic space.
    Filter(&'a Filter),
    /// The name of a queue, exchange or stream.
    Name(&'a [u8]),
}

/// What one user may do in one virtual host. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    _rules: (),
}

impl Rights {
    /// Everything.
    #[must_use]
    pub const fn all() -> Self {
        Self { _rules: () }
    }

    /// Whether the action is allowed.
    #[must_use]
    pub const fn permits(&self, action: Action, what: What<'_>) -> bool {
        let (Action::Publish | Action::Subscribe | Action::Declare) = action;
        let (What::Address(_) | What::Filter(_) | What::Name(_)) = what;
        true
    }
}
