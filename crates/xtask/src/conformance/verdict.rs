//! The cases of a run against `conformance/expected.toml`.
//!
//! Every failure and every skip that is expected stands there with its reason, and so does the number of cases: a suite
//! that silently ran less, a case that fails, and a case that passes though it is written down as failing are all news.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::Bench;
use crate::root;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// One case of a suite.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) outcome: Outcome,
    /// What went wrong, or why it was skipped.
    #[serde(default)]
    pub(super) detail: String,
}

/// What is expected of a suite.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Expected {
    /// How many cases run or are skipped.
    cases: usize,
    /// The cases, where a suite's folder has more than can run here.
    #[serde(default)]
    pub(super) only: Vec<String>,
    /// Words in the names of cases that are left out from the start, each with its reason.
    #[serde(default)]
    pub(super) left_out: BTreeMap<String, String>,
    /// One setting more (`KEY=VALUE`) for the server of a case that has a server of its own.
    #[serde(default)]
    pub(super) set: BTreeMap<String, String>,
    /// Cases that fail, each with its reason.
    #[serde(default)]
    fails: BTreeMap<String, String>,
    /// Cases that the suite itself skips, each with its reason.
    #[serde(default)]
    skips: BTreeMap<String, String>,
}

impl Expected {
    pub(super) fn is_known_to_fail(&self, case: &str) -> bool {
        self.fails.contains_key(case)
    }
}

/// What is expected of a suite.
pub(super) fn expected(suite: &str) -> anyhow::Result<Expected> {
    let path = root().join("conformance/expected.toml");
    parse(&std::fs::read_to_string(&path)?)?
        .remove(suite)
        .with_context(|| format!("conformance/expected.toml has no [{suite}]"))
}

/// Cases of other servers' making that several of them pass, whoever wrote them: ours has to pass each, whatever
/// `expected.toml` says. The list is `conformance/agreed.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agreed {
    count: usize,
    cases: Vec<String>,
}

fn agreed(suite: &str) -> anyhow::Result<Agreed> {
    let path = root().join("conformance/agreed.toml");
    let mut lists: BTreeMap<String, Agreed> =
        toml::from_str(&std::fs::read_to_string(&path)?).context("conformance/agreed.toml")?;
    Ok(lists.remove(suite).unwrap_or_default())
}

fn parse(text: &str) -> anyhow::Result<BTreeMap<String, Expected>> {
    toml::from_str(text).context("conformance/expected.toml")
}

/// Prints what differs; the summary line when nothing does.
pub(super) fn judge(suite: &str, cases: &[Case], bench: &Bench) -> anyhow::Result<String> {
    let expected = expected(suite)?;
    let mut faults = compare(&expected, cases, bench.case.is_some());
    let agreed = agreed(suite)?;
    if bench.case.is_none() {
        faults.extend(not_passed(&agreed, cases));
    }
    let count = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
    let mut line = format!(
        "{suite}: {} of {} passed, {} skipped, {} known to fail",
        count(Outcome::Passed),
        cases.len(),
        count(Outcome::Skipped),
        expected.fails.len(),
    );
    if agreed.count > 0 && bench.case.is_none() {
        let short = not_passed(&agreed, cases).len();
        line += &format!(
            "; {} of the {} that others agree on",
            agreed.count - short,
            agreed.count
        );
    }
    if faults.is_empty() {
        return Ok(line);
    }
    for fault in &faults {
        println!("{fault}");
    }
    bail!("{line}; {} not as expected", faults.len());
}

fn not_passed(agreed: &Agreed, cases: &[Case]) -> Vec<String> {
    let passed = |name: &str| {
        cases
            .iter()
            .any(|case| case.name == name && case.outcome == Outcome::Passed)
    };
    let missed = agreed.cases.iter().filter(|name| !passed(name));
    missed
        .map(|name| format!("NOT PASSED, but other servers pass it: {name}"))
        .collect()
}

fn compare(expected: &Expected, cases: &[Case], partial: bool) -> Vec<String> {
    let mut faults = Vec::new();
    for case in cases {
        let fault = match case.outcome {
            Outcome::Failed if !expected.fails.contains_key(&case.name) => "FAILED",
            Outcome::Skipped if !expected.skips.contains_key(&case.name) => "UNEXPECTEDLY SKIPPED",
            Outcome::Passed if expected.fails.contains_key(&case.name) => "UNEXPECTEDLY PASSED",
            Outcome::Passed | Outcome::Failed if expected.skips.contains_key(&case.name) => {
                "UNEXPECTEDLY NOT SKIPPED"
            }
            _ => continue,
        };
        faults.push(format!("{fault} {}: {}", case.name, case.detail));
    }
    if partial {
        return faults;
    }
    if cases.len() != expected.cases {
        faults.push(format!(
            "{} cases were reported, {} are expected",
            cases.len(),
            expected.cases
        ));
    }
    for name in expected.fails.keys().chain(expected.skips.keys()) {
        if !cases.iter().any(|case| case.name == *name) {
            faults.push(format!("'{name}' has an expectation and was not reported"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::suite::SUITES, *};

    fn case(name: &str, outcome: Outcome) -> Case {
        Case {
            name: name.to_owned(),
            outcome,
            detail: String::new(),
        }
    }

    #[test]
    fn every_difference_is_told() {
        let expected = parse("[s]\ncases = 4\n[s.fails]\nb = 'known'\n[s.skips]\nc = 'needs TLS'")
            .expect("it is TOML")
            .remove("s")
            .expect("it is there");
        let as_expected = [
            case("a", Outcome::Passed),
            case("b", Outcome::Failed),
            case("c", Outcome::Skipped),
            case("d", Outcome::Passed),
        ];
        assert_eq!(
            compare(&expected, &as_expected, false),
            Vec::<String>::new()
        );
        for (at, outcome, told) in [
            (0, Outcome::Failed, "FAILED a: "),
            (0, Outcome::Skipped, "UNEXPECTEDLY SKIPPED a: "),
            (1, Outcome::Passed, "UNEXPECTEDLY PASSED b: "),
            (2, Outcome::Passed, "UNEXPECTEDLY NOT SKIPPED c: "),
        ] {
            let mut cases = as_expected.to_vec();
            cases[at].outcome = outcome;
            assert_eq!(compare(&expected, &cases, false), [told]);
        }
        let faults = compare(&expected, &as_expected[2..], false);
        assert_eq!(
            faults,
            [
                "2 cases were reported, 4 are expected",
                "'b' has an expectation and was not reported"
            ]
        );
        assert_eq!(
            compare(&expected, &as_expected[2..], true),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_others_agree_on_has_to_pass() {
        let agreed = Agreed {
            count: 2,
            cases: vec!["a".to_owned(), "b".to_owned()],
        };
        let cases = [case("a", Outcome::Passed), case("b", Outcome::Skipped)];
        assert_eq!(
            not_passed(&agreed, &cases),
            ["NOT PASSED, but other servers pass it: b"]
        );
    }

    #[test]
    fn what_others_agree_on_is_counted_and_never_excused() {
        for suite in SUITES {
            let agreed = agreed(suite.name).expect(suite.name);
            let expected = expected(suite.name).expect(suite.name);
            let distinct: BTreeSet<&String> = agreed.cases.iter().collect();
            assert_eq!(distinct.len(), agreed.count, "{}", suite.name);
            for name in distinct {
                assert!(!expected.fails.contains_key(name), "{name}");
                assert!(!expected.skips.contains_key(name), "{name}");
            }
        }
    }

    #[test]
    fn each_suite_has_its_expectations_and_each_exception_a_reason() {
        for suite in SUITES {
            let expected = expected(suite.name).expect(suite.name);
            assert!(expected.cases > 0, "{}", suite.name);
            for tables in [&expected.fails, &expected.skips, &expected.left_out] {
                assert!(
                    tables.values().all(|reason| reason.len() > 10),
                    "{}",
                    suite.name
                );
            }
        }
    }
}
