//! What inputs and outputs are made of, and the constraints that inputs must satisfy: one table per service.
//!
//! The names are those of the services' API references. Lists and maps are flattened in the query protocol where their
//! models say so; the names of their elements there are in the shape.

/// A check beyond length and range: how AWS words the pattern, and what decides.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// The regular expression that error messages show.
    pub pattern: &'static str,
    /// Whether a text satisfies it.
    pub holds: fn(&str) -> bool,
}

/// The shape of a value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Text, its length in characters.
    Text {
        /// At least so many.
        min: u32,
        /// At most so many.
        max: u32,
        /// What else must hold.
        check: Option<Checked>,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Bytes.
    Blob {
        /// At least so many.
        min: u32,
        /// At most so many.
        max: u32,
    },
    /// An integer.
    Int {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A number with a fraction.
    Float,
    /// True or false.
    Bool,
    /// A time.
    Time,
    /// A list.
    List {
        /// Of what.
        of: &'static Self,
        /// At least so many elements.
        min: u32,
        /// At most so many elements.
        max: u32,
        /// The name of an element in the query protocol: `member` as a rule. In a flattened list it replaces the list's own name.
        element: &'static str,
        /// Flattened in the query protocol: elements stand where the list would.
        flat: bool,
    },
    /// A map from text.
    Map {
        /// Of what.
        of: &'static Self,
        /// At least so many entries.
        min: u32,
        /// At most so many entries.
        max: u32,
        /// The name of a key in the query protocol: `key` as a rule.
        key: &'static str,
        /// The name of a value in the query protocol: `value` as a rule.
        value: &'static str,
        /// The name of an entry in the query protocol when flattened; then it replaces the map's own name. `None`: `entry`, not flattened.
        flat: Option<&'static str>,
    },
    /// A structure.
    Structure(&'static [Member]),
}

/// A member of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: &'static Shape,
    /// An input without it is refused.
    pub required: bool,
}

impl Member {
    /// One that may be absent.
    #[must_use]
    pub const fn new(name: &'static str, shape: &'static Shape) -> Self {
        Self {
            name,
            shape,
            required: false,
        }
    }

    /// One that must be there.
    #[must_use]
    pub const fn required(name: &'static str, shape: &'static Shape) -> Self {
        Self {
            name,
            shape,
            required: true,
        }
    }
}

impl Shape {
    /// Any text.
    pub const TEXT: Self = Self::Text {
        min: 0,
        max: u32::MAX,
        check: None,
    };
    /// Any integer.
    pub const INT: Self = Self::Int {
        min: i64::MIN,
        max: i64::MAX,
    };
    /// Any bytes.
    pub const BLOB: Self = Self::Blob {
        min: 0,
        max: u32::MAX,
    };
    /// No members.
    pub const EMPTY: Self = Self::Structure(&[]);

    /// Text of a length.
    #[must_use]
    pub const fn text(min: u32, max: u32) -> Self {
        Self::Text {
            min,
            max,
            check: None,
        }
    }

    /// A list that is not flattened, of any length.
    #[must_use]
    pub const fn list(of: &'static Self) -> Self {
        Self::List {
            of,
            min: 0,
            max: u32::MAX,
            element: "member",
            flat: false,
        }
    }

    /// A map that is not flattened, of any size.
    #[must_use]
    pub const fn map(of: &'static Self) -> Self {
        Self::Map {
            of,
            min: 0,
            max: u32::MAX,
            key: "key",
            value: "value",
            flat: None,
        }
    }
}
