//! Who holds what: each allocation that is metered while the ledger is open, with where it was made, until it is freed.

use std::{
    backtrace::Backtrace,
    cell::Cell,
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use super::is_on;

static OPEN: Mutex<Option<HashMap<usize, (usize, Backtrace)>>> = Mutex::new(None);

thread_local! {
    /// What the ledger allocates for itself is not in it.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// How many frames of a place are shown, from the one that asked for the memory on.
const FRAMES: usize = 2;
/// Whose are shown.
const OURS: [&str; 9] = [
    "amqp091::",
    "auth::",
    "broker::",
    "message::",
    "mqtt::",
    "net::",
    "node::",
    "session::",
    "tokio::",
];

/// One place where memory was asked for that is still held.
#[derive(Debug)]
pub(crate) struct Line {
    /// Bytes of one allocation, as asked for.
    pub(crate) len: usize,
    pub(crate) count: usize,
    /// The functions that led there, the innermost first.
    pub(crate) place: String,
}

/// Begins an empty ledger.
pub(crate) fn open() {
    write(|book| *book = Some(HashMap::new()));
}

/// Ends it: what is held, the most bytes first.
pub(crate) fn close() -> Vec<Line> {
    let mut lines = Vec::new();
    write(|book| {
        let mut places = BTreeMap::new();
        for (len, trace) in book.take().into_iter().flatten().map(|(_, it)| it) {
            *places.entry((len, place(&trace))).or_insert(0) += 1;
        }
        lines.extend(
            places
                .into_iter()
                .map(|((len, place), count)| Line { len, count, place }),
        );
    });
    lines.sort_by_key(|line| std::cmp::Reverse(rounded(line.len) * line.count));
    lines
}

/// What the allocator takes for so many bytes: of its sizes there are four between a power of two and the next.
pub(crate) fn rounded(len: usize) -> usize {
    let grain = match len {
        0..=64 => 8,
        _ => (1 << (len - 1).ilog2()) / 4,
    };
    len.next_multiple_of(grain)
}

/// Whether the ledger itself allocates.
pub(super) fn is_writing() -> bool {
    WRITING.get()
}

pub(super) fn kept(memory: *mut u8, len: usize) -> *mut u8 {
    if is_on() {
        write(|book| {
            if let Some(book) = book {
                book.insert(memory as usize, (len, Backtrace::force_capture()));
            }
        });
    }
    memory
}

pub(super) fn given_up(memory: *mut u8) {
    if is_on() {
        write(|book| {
            if let Some(book) = book {
                book.remove(&(memory as usize));
            }
        });
    }
}

fn write(work: impl FnOnce(&mut Option<HashMap<usize, (usize, Backtrace)>>)) {
    if WRITING.replace(true) {
        return;
    }
    work(&mut OPEN.lock().expect("no panic while it is written"));
    WRITING.set(false);
}

/// The functions that are of these crates or the runtime's, or of a collection of their types.
fn place(trace: &Backtrace) -> String {
    let trace = trace.to_string();
    let functions = trace.lines().filter_map(|line| {
        let (number, function) = line.trim().split_once(": ")?;
        number.parse::<u32>().ok().map(|_| function)
    });
    let named: Vec<&str> = functions
        .filter(|function| OURS.iter().any(|of| function.contains(of)))
        .take(FRAMES)
        .collect();
    named.join(" < ")
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn sizes_are_rounded_as_the_allocator_does() {
        let lens = [
            1, 10, 64, 65, 112, 113, 128, 129, 208, 256, 344, 512, 513, 1025,
        ];
        let sizes = [
            8, 16, 64, 80, 112, 128, 128, 160, 224, 256, 384, 512, 640, 1280,
        ];
        assert_eq!(lens.map(rounded), sizes);
    }
}
