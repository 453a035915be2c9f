//! How many connections the system's limit on open files leaves room for.
//!
//! Each connection is a descriptor; so is each file of the journal, and a journal that cannot open its next file has failed.
//! So some descriptors are kept for it, and connections end where those begin. The soft limit is raised to the hard one: it
//! is low for programs that use `select`, and none of ours does.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything else; at most half of all.
const RESERVE: u64 = 1_024;

/// The connections that are taken when `configured` are wished for.
pub(crate) fn connections_max(configured: u64) -> u64 {
    configured.min(possible(raise()))
}

/// The most that leaves enough for the rest.
const fn possible(open_files_max: u64) -> u64 {
    let half = open_files_max.div_ceil(2);
    let rest = open_files_max.saturating_sub(RESERVE);
    if rest > half { rest } else { half }
}

/// Raises the soft limit as far as it goes: what it is then.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() {
        maximum
    } else {
        current
    };
    limit.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_for_files() {
        for (open_files_max, connections) in [
            (1, 1),
            (256, 128),
            (1_024, 512),
            (2_048, 1_024),
            (4_096, 3_072),
            (1_048_576, 1_047_552),
            (u64::MAX, u64::MAX - 1_024),
        ] {
            assert_eq!(possible(open_files_max), connections, "{open_files_max}");
        }
    }

    #[test]
    fn what_is_wished_for_is_the_most() {
        assert_eq!(connections_max(1), 1);
        assert!(connections_max(u64::MAX) < u64::MAX);
    }
}
