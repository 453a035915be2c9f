//! The real server, real sockets: crossings, crashes, limits.
