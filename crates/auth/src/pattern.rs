//! What a rule names: patterns over levels, with substitutions, and three questions about them.
//!
//! | question | asked for |
//! |---|---|
//! | [`Pattern::matches`] | one name: a publish |
//! | [`Pattern::covers`] | a filter, by an allow rule: everything that the filter could ever match |
//! | [`Pattern::overlaps`] | a filter, by a deny rule: anything that both match |
//!
//! A substitution stands for exactly one level, compared byte by byte: whatever separators or wildcards a user name or a
//! client id holds, it reaches no other level. One that has nothing to stand for (no client id) matches nothing.
//!
//! Covering is containment of one pattern's words in another's. Wildcards of the filter are played with a level that no
//! pattern spells out: if even that one is taken, every level is. The play is bounded; a filter that exceeds it is not
//! covered, so that a peer pays with a refusal and not with our time.
//!
//! Deliberately absent: regular expressions, and wildcards for a part of a level.

use message::{FilterLevel, unescape_level};
use smallvec::SmallVec;

/// The longest text of a pattern, in bytes.
pub(crate) const PATTERN_LEN_MAX: usize = 1_024;
/// The most levels of a pattern: one bit each, and one for the end, in a play's set of places.
pub(crate) const PATTERN_LEVELS_MAX: usize = 64;
/// The most steps of one question about a filter.
const STEPS_MAX: usize = 20_000;

/// One level of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Exact(Box<[u8]>),
    One,
    Many,
    User,
    Client,
}

/// A level of a pattern for one connection, or of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// Exactly this.
    Exact(&'a [u8]),
    /// Any one.
    One,
    /// Any number, none too.
    Many,
    /// None at all.
    Never,
}

/// Words, mostly few.
pub(crate) type Words<'a> = SmallVec<[Word<'a>; 16]>;

/// What substitutions stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) user: &'a [u8],
    pub(crate) client: &'a [u8],
}

/// How a pattern is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As an MQTT filter: `/`, `+`, and `#` at the end.
    Topic,
    /// As an AMQP binding key: `.`, `*`, `#`.
    Words,
}

/// A pattern of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Box<[Level]>);

impl Pattern {
    /// Reads a pattern; the error completes "topic = \"...\" ...".
    pub(crate) fn parse(text: &str, form: Form) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.len() > PATTERN_LEN_MAX {
            return Err(format!("is longer than {PATTERN_LEN_MAX} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("holds a control character".to_owned());
        }
        let (separator, one, special): (char, &str, &[u8]) = match form {
            Form::Topic => ('/', "+", b"/+#{}"),
            Form::Words => ('.', "*", b".*#{}"),
        };
        let levels: Vec<&str> = text.split(separator).collect();
        if levels.len() > PATTERN_LEVELS_MAX {
            return Err(format!("has more than {PATTERN_LEVELS_MAX} levels"));
        }
        let last = levels.len() - 1;
        levels
            .into_iter()
            .enumerate()
            .map(|(at, level)| match level {
                "#" if form == Form::Topic && at != last => {
                    Err("has a \"#\" before its last level".to_owned())
                }
                "#" => Ok(Level::Many),
                "{user}" => Ok(Level::User),
                "{client_id}" => Ok(Level::Client),
                level if level == one => Ok(Level::One),
                level if level.contains(['{', '}']) => Err(format!(
                    "has the level {level:?}; {{user}} and {{client_id}} are what can be put in, each as a level of its own (a brace itself is %7B or %7D)"
                )),
                level if level.contains('#') || level.contains(one) => Err(format!(
                    "has the level {level:?}; a wildcard is a level of its own, there are none for a part of a level (the character itself is %{:02X})",
                    if level.contains('#') { b'#' } else { one.as_bytes()[0] }
                )),
                level => Ok(Level::Exact(unescape_level(level.as_bytes(), special).as_ref().into())),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether it matches everything.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(&*self.0, [Level::Many])
    }

    fn word<'a>(&'a self, at: usize, who: Who<'a>) -> Option<Word<'a>> {
        let substitute = |text: &'a [u8]| {
            if text.is_empty() {
                Word::Never
            } else {
                Word::Exact(text)
            }
        };
        Some(match self.0.get(at)? {
            Level::Exact(text) => Word::Exact(text),
            Level::One => Word::One,
            Level::Many => Word::Many,
            Level::User => substitute(who.user),
            Level::Client => substitute(who.client),
        })
    }

    /// Whether it matches the name whose level at an index `level` gives.
    pub(crate) fn matches<'n>(
        &self,
        level: impl Fn(usize) -> Option<&'n [u8]>,
        who: Who<'_>,
    ) -> bool {
        let (mut at, mut used) = (0, 0);
        // Behind the last `#`, and how many levels of the name it has taken.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let here = level(used);
            let fits = match (self.word(at, who), here) {
                (None, None) => return true,
                (Some(Word::Many), _) => {
                    // The last level takes whatever is left.
                    if at + 1 == self.0.len() {
                        return true;
                    }
                    at += 1;
                    retry = Some((at, used));
                    continue;
                }
                (Some(Word::One), Some(_)) => true,
                (Some(Word::Exact(wanted)), Some(given)) => wanted == given,
                _ => false,
            };
            if fits {
                at += 1;
                used += 1;
                continue;
            }
            match retry {
                Some((behind, taken)) if level(taken).is_some() => {
                    retry = Some((behind, taken + 1));
                    (at, used) = (behind, taken + 1);
                }
                _ => return false,
            }
        }
    }

    /// Whether it matches every name that `filter` matches.
    pub(crate) fn covers(&self, filter: &[Word<'_>], who: Who<'_>) -> bool {
        if self.is_everything() {
            return true;
        }
        let words: Words<'_> = (0..self.0.len())
            .filter_map(|at| self.word(at, who))
            .collect();
        // Where the pattern may be after what was played so far, one bit a place; the last bit is the end.
        let places = |set: u128| set | skips(&words, set);
        let step = |set: u128, level: Option<&[u8]>| {
            let mut next = 0;
            for (at, word) in words.iter().enumerate() {
                if set >> at & 1 == 0 {
                    continue;
                }
                match word {
                    Word::Many => next |= 1 << at,
                    Word::One => next |= 1 << (at + 1),
                    Word::Exact(wanted) if level == Some(*wanted) => next |= 1 << (at + 1),
                    Word::Exact(_) | Word::Never => {}
                }
            }
            places(next)
        };
        // All sets that some word of the filter's first levels leads to: each must get to the end.
        let mut sets: SmallVec<[u128; 8]> = SmallVec::from_iter([places(1)]);
        let mut steps = 0;
        for word in filter {
            let mut next: SmallVec<[u128; 8]> = SmallVec::new();
            let add = |set: u128, next: &mut SmallVec<[u128; 8]>| {
                let fresh = !next.contains(&set);
                if fresh {
                    next.push(set);
                }
                fresh
            };
            for set in sets {
                match word {
                    Word::Exact(level) => {
                        add(step(set, Some(level)), &mut next);
                    }
                    Word::One => {
                        add(step(set, None), &mut next);
                    }
                    Word::Many => {
                        let mut set = set;
                        while add(set, &mut next) && set != 0 {
                            set = step(set, None);
                            steps += next.len();
                            if steps > STEPS_MAX {
                                return false;
                            }
                        }
                    }
                    // It matches nothing, so all of it is matched.
                    Word::Never => return true,
                }
                steps += next.len();
                if steps > STEPS_MAX || next.contains(&0) {
                    return false;
                }
            }
            sets = next;
        }
        sets.iter().all(|set| set >> words.len() & 1 == 1)
    }

    /// Whether there is a name that both it and `filter` match. `rooted`: a leading wildcard of the filter takes no first
    /// level that starts with `$`, as in the root topic space.
    pub(crate) fn overlaps(&self, filter: &[Word<'_>], rooted: bool, who: Who<'_>) -> bool {
        let words: Words<'_> = (0..self.0.len())
            .filter_map(|at| self.word(at, who))
            .collect();
        // A row for each place of the filter, with the places of the pattern that go with it.
        let mut row: u128 = skips(&words, 1) | 1;
        let mut first = true;
        for word in filter {
            let mut next: u128 = 0;
            match word {
                Word::Never => return false,
                Word::Many => {
                    // None of the name's levels, or any number of them: from the first place on, past every word that one
                    // level can stand for.
                    next = row;
                    for (at, own) in words.iter().enumerate() {
                        let reached = next >> at & 1 == 1;
                        let hidden =
                            rooted && first && at == 0 && matches!(own, Word::Exact([b'$', ..]));
                        if reached && *own != Word::Never && !hidden {
                            next |= 1 << (at + 1);
                        }
                    }
                }
                Word::One | Word::Exact(_) => {
                    for (at, own) in words.iter().enumerate() {
                        if row >> at & 1 == 0 {
                            continue;
                        }
                        match (own, word) {
                            (Word::Many, _) => next |= 1 << at,
                            (Word::Exact([b'$', ..]), Word::One) if rooted && first => {}
                            (Word::Exact(own), Word::Exact(given)) if own != given => {}
                            (Word::Never, _) => {}
                            _ => next |= 1 << (at + 1),
                        }
                    }
                }
            }
            row = next | skips(&words, next);
            if row == 0 {
                return false;
            }
            first = false;
        }
        row >> words.len() & 1 == 1
    }
}

/// The places that are reached from `set` without using a level: past each `#`.
fn skips(words: &[Word<'_>], set: u128) -> u128 {
    let mut set = set;
    for (at, word) in words.iter().enumerate() {
        if set >> at & 1 == 1 && *word == Word::Many {
            set |= 1 << (at + 1);
        }
    }
    set
}

/// The words of a filter.
pub(crate) fn words_of(filter: &message::Filter) -> Words<'_> {
    match filter {
        // Which properties a message has is not known beforehand.
        message::Filter::All | message::Filter::Headers { .. } => Words::from_iter([Word::Many]),
        message::Filter::Exact(levels) => levels.iter().map(Word::Exact).collect(),
        // A selector only takes away, and what it says of a message is not known beforehand either.
        message::Filter::Pattern(pattern) | message::Filter::Selected { pattern, .. } => pattern
            .0
            .iter()
            .map(|level| match level {
                FilterLevel::Exact(text) => Word::Exact(text),
                FilterLevel::One => Word::One,
                FilterLevel::Many => Word::Many,
            })
            .collect(),
    }
}
