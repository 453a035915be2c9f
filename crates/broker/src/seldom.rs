//! What most have nothing of: a word, until there is something.

use std::ops::Deref;

/// What a [`Seldom`] holds.
pub(crate) trait Empty: Default + PartialEq + 'static {
    /// Nothing, to look at.
    const EMPTY: &'static Self;
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seldom<T>(Option<Box<T>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Empty> Seldom<T> {
    /// Changes what is there. If that is nothing then, it takes no memory.
    pub(crate) fn change<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> R {
        let there = self.0.get_or_insert_default();
        let done = work(there);
        if **there == *T::EMPTY {
            self.0 = None;
        }
        done
    }
}

impl<T: Empty> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Set(BTreeSet<u16>);

    impl Empty for Set {
        const EMPTY: &'static Self = &Self(BTreeSet::new());
    }

    #[test]
    fn what_is_empty_again_takes_no_memory() {
        let mut seldom = Seldom::<Set>::default();
        assert!(seldom.deref().0.is_empty());
        assert!(!seldom.change(|set| set.0.remove(&1)));
        assert_eq!(seldom, Seldom::default());
        assert!(seldom.change(|set| set.0.insert(1)));
        assert!(seldom.0.is_some() && seldom.deref().0.contains(&1));
        assert!(seldom.change(|set| set.0.remove(&1)));
        assert_eq!(seldom, Seldom::default());
        assert_eq!(size_of::<Seldom<Set>>(), 8);
    }
}
