//! Topic objects and their subscriptions.
