//! Applying changes.
