//! The allocator of the binary, and when what was freed goes back to the system. A crate of its own for its one call that no safe
//! code can make; who uses it allocates with it.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a page that is free stays ours, in ms. What is served in bursts (the bodies of a PutRecords, a cache that turns over)
/// needs it again within a moment, and a page from the system is cleared first: at the allocator's own 10 ms that was a fifth
/// of the CPU time of large requests.
const KEPT_MS: std::ffi::c_long = 1000;

/// `mi_option_purge_delay` of the allocator's second version, for which the crate has no name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has freed pages kept for a second, unless the environment says otherwise (`MIMALLOC_PURGE_DELAY`). To be called before
/// there is a second thread.
pub fn keep_freed_memory() {
    // SAFETY: writes one number in a table of the allocator; not while another thread might read it, as there is none yet.
    #[expect(unsafe_code, reason = "the allocator has no safe way to be told")]
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // The allocator's own value, which no other option near it has.
        assert_eq!(option(PURGE_DELAY), 10);
        keep_freed_memory();
        assert_eq!(option(PURGE_DELAY), KEPT_MS);
    }

    fn option(option: libmimalloc_sys::mi_option_t) -> std::ffi::c_long {
        // SAFETY: reads one number.
        #[expect(unsafe_code, reason = "the allocator has no safe way to be asked")]
        unsafe {
            libmimalloc_sys::mi_option_get(option)
        }
    }
}
