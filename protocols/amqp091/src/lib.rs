//! See protocols/README.md.
