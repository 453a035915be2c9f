//! The journal on a file system in memory, stepped by hand: recovery, crashes, moving, space.

mod accept;
mod crash;
mod fences;
mod full;
mod history;
mod interleaved;
mod probe;
mod reading;
mod recovery;
mod scrub;
mod space;
mod spares;
mod standby;
mod stream_files;
