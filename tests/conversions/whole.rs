//! A message with everything set that can be set at once, for every ordered pair of protocols, against a golden text.

use std::fmt::Write as _;

use crate::{
    head::SPEECHES,
    page::{compare, cross},
    samples,
};

#[test]
fn mapping_5_1_a_message_with_every_property_set_from_each_protocol_to_each_other() {
    let mut text = String::new();
    for from in SPEECHES {
        for to in SPEECHES {
            let _ = writeln!(text, "== {} to {}", from.name(), to.name());
            for line in cross(&samples::whole(from), to).head.lines() {
                let _ = writeln!(text, "{line}");
            }
            text.push('\n');
        }
    }
    compare("whole.txt", &text);
}
