//! Golden frames, dialogues and properties of the MQTT crate.
//!
//! | file | what |
//! |---|---|
//! | `frames/*.txt` | bytes and the packet that they are, or the reason why they are none (`frames.rs`) |
//! | `scripts/*.txt` | dialogues with a session, each run with whole reads and byte by byte (`dialogue.rs`) |
//! | `hostile.rs` | logins without an end, thousands of properties, floods |
//! | `notation.rs`, `contract.rs` | packets, commands and events as lines of text |
//! | `random.rs` | a session between a random client and a naive core; copies that are not made |
//! | `clauses.rs` | statements that a line of bytes cannot show well |
//! | `properties.rs` | round trips, any split, names there and back |

mod clauses;
mod contract;
mod dialogue;
mod frames;
mod hostile;
mod notation;
mod properties;
mod random;

/// The files of a directory beside this one, with their names, in order.
fn files(directory: &str) -> Vec<(std::path::PathBuf, String)> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(directory);
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("the directory is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("readable");
            (path, text)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are files");
    files
}
