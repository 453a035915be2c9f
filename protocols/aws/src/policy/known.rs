//! Policies that were read before: what lies unchanged with a queue is not read anew for each message.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{Policy, PolicyFault};

/// Policies that are kept as they were read, of all services together. Of a place that two have, each use reads the text anew.
const POLICIES_READ_MAX: usize = 256;

/// Is told of a policy that cannot be read: its text, and why.
pub type Unreadable = fn(text: &str, fault: &PolicyFault);

/// A text, and what it says. `None`: it cannot be read.
type Read = Option<(Bytes, Option<Arc<Policy>>)>;

/// See the module. A policy is known by where its text lies, which nothing else can while the text is kept here.
pub struct Known {
    read: Box<[Mutex<Read>]>,
    unreadable: Unreadable,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Known {
    /// None is known yet. `unreadable` is told of each text once while it is kept.
    #[must_use]
    pub fn new(unreadable: Unreadable) -> Self {
        Self {
            read: (0..POLICIES_READ_MAX).map(|_| Mutex::new(None)).collect(),
            unreadable,
        }
    }

    /// The policy. `None`: it cannot be read, as it was kept by a program that knew more or asked less.
    pub fn policy(&self, text: &Bytes, service: &str) -> Option<Arc<Policy>> {
        // What is allocated is aligned, so the lowest bits say nothing.
        let place = (text.as_ptr() as usize >> 4) % POLICIES_READ_MAX;
        let mut read = self.read[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((known, policy)) = &*read
            && known.as_ptr() == text.as_ptr()
            && known.len() == text.len()
        {
            return policy.clone();
        }
        let shown = String::from_utf8_lossy(text);
        let policy = match Policy::read(&shown, service) {
            Ok(policy) => Some(Arc::new(policy)),
            Err(fault) => {
                (self.unreadable)(&shown, &fault);
                None
            }
        };
        *read = Some((text.clone(), policy.clone()));
        policy
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_text_is_read_once_and_another_in_its_place_anew() {
        static TOLD: AtomicU32 = AtomicU32::new(0);
        let known = Known::new(|_, _| {
            TOLD.fetch_add(1, Ordering::Relaxed);
        });
        let text = Bytes::from(r#"{"Statement":[]}"#.to_owned());
        let first = known.policy(&text, "sqs").expect("a policy");
        let again = known.policy(&text, "sqs").expect("a policy");
        assert!(Arc::ptr_eq(&first, &again));
        // Equal, and not the same.
        let other = Bytes::copy_from_slice(&text);
        let other = known.policy(&other, "sqs").expect("a policy");
        assert!(!Arc::ptr_eq(&first, &other));
        let bad = Bytes::from("{}".to_owned());
        assert!(known.policy(&bad, "sqs").is_none());
        assert!(known.policy(&bad, "sqs").is_none());
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
    }
}
