//! A search through every state that a model can reach, breadth first, so that a violation comes with a shortest story.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What can happen, and what must not.
pub(crate) trait Model {
    type State: Clone + Eq + Hash;
    type Action: Copy + Debug;

    fn start(&self) -> Self::State;

    /// Every step that anybody can take.
    fn next(&self, state: &Self::State, steps: &mut Vec<(Self::Action, Self::State)>);

    /// What is wrong in this state, if anything.
    fn violation(&self, state: &Self::State) -> Option<&'static str>;
}

/// What a search came to.
pub(crate) enum Found {
    /// Every state was looked at: this many.
    Nothing(usize),
    /// What is wrong, and the steps that lead there.
    Violation(&'static str, String),
}

/// Searches all states.
///
/// # Panics
/// If there are more than `states_max`: then the bounds of the model are too large to say anything.
pub(crate) fn search<M: Model>(model: &M, states_max: usize) -> Found {
    let start = model.start();
    let mut known: HashMap<M::State, u32, BuildHasherDefault<Mix>> = HashMap::default();
    let mut from: Vec<(u32, Option<M::Action>)> = vec![(0, None)];
    known.insert(start.clone(), 0);
    let mut level = vec![(start, 0)];
    let mut steps = Vec::new();
    while !level.is_empty() {
        let mut deeper = Vec::new();
        for (state, index) in level {
            if let Some(what) = model.violation(&state) {
                return Found::Violation(what, story(&from, index));
            }
            model.next(&state, &mut steps);
            for (action, next) in steps.drain(..) {
                let fresh = from.len() as u32;
                if *known.entry(next.clone()).or_insert(fresh) == fresh {
                    from.push((index, Some(action)));
                    deeper.push((next, fresh));
                }
            }
            assert!(from.len() <= states_max, "more than {states_max} states");
        }
        level = deeper;
    }
    Found::Nothing(from.len())
}

fn story<A: Copy + Debug>(from: &[(u32, Option<A>)], mut index: u32) -> String {
    let mut actions = Vec::new();
    while let (before, Some(action)) = from[index as usize] {
        actions.push(action);
        index = before;
    }
    let mut story = String::new();
    for action in actions.iter().rev() {
        writeln!(story, "    {action:?}").expect("a string takes everything");
    }
    story
}

/// The protocol as it is must hold in every state.
pub(crate) fn holds<M: Model>(name: &str, model: &M, states_max: usize) -> usize {
    match search(model, states_max) {
        Found::Nothing(states) => {
            println!("{name}: no violation in all of {states} states");
            states
        }
        Found::Violation(what, story) => panic!("{name}: {what}\n{story}"),
    }
}

/// A protocol that was spoilt must fail, or the model does not see what the spoilt part is for.
pub(crate) fn fails<M: Model>(name: &str, model: &M, states_max: usize) {
    match search(model, states_max) {
        Found::Nothing(states) => panic!("{name}: nothing is wrong in all of {states} states"),
        Found::Violation(what, story) => println!("{name}: {what}\n{story}"),
    }
}

/// A hasher for small states; the same in every run.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
