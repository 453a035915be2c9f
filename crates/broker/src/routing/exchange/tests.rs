//! Exchanges of each kind against a plain list of bindings that is looked through.

use std::collections::BTreeSet;

use message::{Address, Value, VhostId};
use proptest::prelude::*;

use super::super::samples::{amqp, levels, passes, pattern, topic};
use super::*;

const KINDS: [ExchangeKind; 4] = [
    ExchangeKind::Direct,
    ExchangeKind::Fanout,
    ExchangeKind::Topic,
    ExchangeKind::Headers,
];

type Bound = (Filter, Levels, Bytes, u8);

fn message(properties: Properties) -> Message {
    let address = Address::exchange(VhostId::ROOT, "x", Levels::none());
    let mut message = Message::new(address, Bytes::new());
    message.properties = properties;
    message
}

fn properties() -> impl Strategy<Value = Properties> {
    let name = prop::sample::select(&["k", "x-k", "l"][..]);
    let value = prop_oneof![
        Just(Value::Null),
        Just(Value::U8(1)),
        Just(Value::I64(1)),
        Just(Value::text("1"))
    ];
    prop::collection::vec((name.prop_map(Bytes::from), value), 0..3).prop_map(Properties)
}

fn filter() -> impl Strategy<Value = Filter> {
    let matching = prop::sample::select(
        &[
            HeaderMatch::All,
            HeaderMatch::Any,
            HeaderMatch::AllWithX,
            HeaderMatch::AnyWithX,
        ][..],
    );
    let selector = prop::sample::select(&["k IS NULL", "k IS NOT NULL", "k = 1 OR l = 1"][..])
        .prop_map(|text| Selector::parse(text).expect("a selector"));
    prop_oneof![
        1 => Just(Filter::All),
        2 => topic().prop_map(Filter::Exact),
        4 => pattern().prop_map(Filter::Pattern),
        4 => (pattern(), selector)
            .prop_map(|(pattern, selector)| Filter::Selected { pattern, selector }),
        4 => (matching, properties())
            .prop_map(|(matching, arguments)| Filter::Headers { matching, arguments }),
    ]
}

fn binding() -> impl Strategy<Value = Bound> {
    let arguments = prop::sample::select(&["", "p", "q"][..]).prop_map(Bytes::from);
    (filter(), topic(), arguments, 0u8..4)
}

fn binds(kind: ExchangeKind, (filter, bound, ..): &Bound, key: &Levels, message: &Message) -> bool {
    match (kind, filter) {
        (ExchangeKind::Direct, _) => bound == key,
        (ExchangeKind::Fanout, _) => true,
        (ExchangeKind::Topic, Filter::Exact(levels)) => levels == key,
        (ExchangeKind::Topic, Filter::Pattern(pattern)) => passes(pattern, key, false),
        (ExchangeKind::Topic, Filter::Selected { pattern, selector }) => {
            passes(pattern, key, false) && selector.matches(message)
        }
        (ExchangeKind::Topic, Filter::All) => true,
        (
            ExchangeKind::Headers,
            Filter::Headers {
                matching,
                arguments,
            },
        ) => headers_match(*matching, arguments, &message.properties),
        (ExchangeKind::Headers, Filter::All) => true,
        // Filters that are not taken harm nothing.
        (ExchangeKind::Headers, _) => false,
        (ExchangeKind::Topic, Filter::Headers { .. }) => bound == key,
    }
}

fn listed(exchange: &Exchange<u8>) -> Vec<Bound> {
    exchange
        .bindings()
        .map(|(filter, key, arguments, target)| (filter, key, arguments, *target))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_exchange_routes_as_a_list_of_its_bindings(
        kind in prop::sample::select(&KINDS[..]),
        changes in prop::collection::vec((0u8..10, binding()), 0..50),
        published in prop::collection::vec((topic(), properties()), 1..10),
    ) {
        let mut exchange = Exchange::new(kind);
        let mut list: Vec<Bound> = Vec::new();
        for (change, bound) in changes {
            let (filter, key, arguments, target) = &bound;
            let at = list.iter().position(|other| *other == bound);
            match change {
                0 => {
                    let before = list.len();
                    list.retain(|(.., other)| other != target);
                    prop_assert_eq!(exchange.remove_target(target), before - list.len());
                }
                1..4 => {
                    prop_assert_eq!(exchange.unbind(filter, key, arguments, target), at.is_some());
                    if let Some(at) = at {
                        list.remove(at);
                    }
                }
                _ => {
                    prop_assert_eq!(exchange.bind(filter, key, arguments, *target), at.is_none());
                    if at.is_none() {
                        list.push(bound);
                    }
                }
            }
            prop_assert_eq!((exchange.len(), exchange.is_empty()), (list.len(), list.is_empty()));
        }
        for (key, properties) in published {
            let message = message(properties);
            let wanted: BTreeSet<u8> = list
                .iter()
                .filter(|bound| binds(kind, bound, &key, &message))
                .map(|(.., target)| *target)
                .collect();
            let mut got = Vec::new();
            exchange.route(&key, &message, false, &mut got);
            prop_assert!(got.iter().eq(&wanted), "got {:?}, wanted {:?}", got, wanted);
        }
        // The bindings come in an order that their history does not change, and make the same exchange again.
        let bindings = listed(&exchange);
        let mut again = Exchange::new(kind);
        for (filter, key, arguments, target) in list.iter().rev() {
            again.bind(filter, key, arguments, *target);
        }
        prop_assert_eq!(&listed(&again), &bindings);
        prop_assert_eq!(bindings.len(), list.len());
        prop_assert!(list.iter().all(|bound| bindings.contains(bound)));
        for target in 0..4 {
            exchange.remove_target(&target);
        }
        let empty = match &exchange.index {
            Index::Direct(keys) => keys.is_empty(),
            Index::Fanout(targets) => targets.is_empty(),
            Index::Topic { plain, selected } => {
                plain.count_nodes() == 1 && selected.count_nodes() == 1
            }
            Index::Headers(rules) => rules.is_empty(),
        };
        prop_assert!(exchange.is_empty() && empty);
    }
}

#[test]
fn a_binding_that_differs_only_in_its_arguments_is_another_one() {
    for kind in KINDS {
        let mut exchange = Exchange::new(kind);
        let filter = match kind {
            ExchangeKind::Headers => Filter::All,
            _ => Filter::Exact(levels("k")),
        };
        let (none, some) = (Bytes::new(), Bytes::from_static(b"p"));
        assert!(exchange.bind(&filter, &levels("k"), &none, 1));
        assert!(exchange.bind(&filter, &levels("k"), &some, 1));
        assert!(!exchange.bind(&filter, &levels("k"), &some, 1));
        assert!(exchange.unbind(&filter, &levels("k"), &none, &1));
        let mut out = Vec::new();
        exchange.route(
            &levels("k"),
            &message(Properties::default()),
            false,
            &mut out,
        );
        assert_eq!(out, [1], "{kind:?}: the other one still routes");
        assert!(exchange.unbind(&filter, &levels("k"), &some, &1));
        assert!(!exchange.unbind(&filter, &levels("k"), &some, &1));
        out.clear();
        exchange.route(
            &levels("k"),
            &message(Properties::default()),
            false,
            &mut out,
        );
        assert_eq!(out, [0; 0]);
    }
}

#[test]
fn a_target_is_given_a_message_once_for_all_its_keys() {
    let mut exchange = Exchange::new(ExchangeKind::Topic);
    for (pattern, target) in [("a.*", 2), ("#", 2), ("*.b", 1), ("c", 3)] {
        let filter = Filter::Pattern(amqp(pattern));
        assert!(exchange.bind(&filter, &Levels::none(), &Bytes::new(), target));
    }
    let message = message(Properties::default());
    let mut out = Vec::new();
    exchange.route(&levels("c"), &message, false, &mut out);
    assert_eq!(out, [2, 3]);
    exchange.route(&levels("a.b"), &message, false, &mut out);
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn doors_5_the_root_space_hides_dollar_levels_and_other_exchanges_do_not() {
    let mut exchange = Exchange::new(ExchangeKind::Topic);
    exchange.bind(&Filter::All, &Levels::none(), &Bytes::new(), 1);
    let message = message(Properties::default());
    let mut out: Vec<u8> = Vec::new();
    exchange.route(&levels("$s.x"), &message, true, &mut out);
    assert_eq!(out, [0; 0]);
    exchange.route(&levels("$s.x"), &message, false, &mut out);
    assert_eq!(out, [1]);
}

#[test]
fn a_filter_is_taken_where_it_can_be_looked_at() {
    let headers = Filter::Headers {
        matching: HeaderMatch::All,
        arguments: Properties::default(),
    };
    let pattern = Filter::Pattern(amqp("a.#"));
    let exact = Filter::Exact(levels("a"));
    let selected = selected("a.#", "p = 1");
    for (kind, taken) in [
        (ExchangeKind::Direct, [true, true, true, true, false]),
        (ExchangeKind::Fanout, [true, true, true, true, false]),
        (ExchangeKind::Topic, [false, true, true, true, true]),
        (ExchangeKind::Headers, [true, false, false, true, false]),
    ] {
        let exchange = Exchange::<u8>::new(kind);
        let filters = [&headers, &pattern, &exact, &Filter::All, &selected];
        assert_eq!(
            filters.map(|filter| exchange.takes(filter)),
            taken,
            "{kind:?}"
        );
    }
}

fn selected(pattern: &str, selector: &str) -> Filter {
    Filter::Selected {
        pattern: amqp(pattern),
        selector: Selector::parse(selector).expect("a selector"),
    }
}

#[test]
fn a_selector_lets_pass_what_satisfies_it() {
    let mut exchange = Exchange::new(ExchangeKind::Topic);
    let bindings = [
        (selected("a.*", "p = 1"), 1),
        (selected("a.*", "p = 2"), 1),
        (selected("a.#", "p = 1"), 2),
        (selected("a.#", "p > 1"), 3),
        (Filter::Pattern(amqp("a.b")), 4),
        (Filter::Pattern(amqp("a.b")), 2),
    ];
    for (filter, target) in &bindings {
        assert!(exchange.bind(filter, &Levels::none(), &Bytes::new(), *target));
        assert!(!exchange.bind(filter, &Levels::none(), &Bytes::new(), *target));
    }
    let route = |exchange: &Exchange<u8>, key: &str, value: i32| {
        let mut properties = Properties::default();
        properties.push("p", Value::I32(value));
        let mut out = Vec::new();
        exchange.route(&levels(key), &message(properties), false, &mut out);
        out
    };
    assert_eq!(route(&exchange, "a.b", 1), [1, 2, 4]);
    assert_eq!(route(&exchange, "a.b", 2), [1, 2, 3, 4]);
    assert_eq!(route(&exchange, "a.b", 9), [2, 3, 4]);
    assert_eq!(route(&exchange, "a", 1), [2]);
    assert_eq!(route(&exchange, "b", 1), [0; 0]);
    // Of two bindings that differ in their selectors only, the other one still routes.
    let (filter, target) = &bindings[0];
    assert!(exchange.unbind(filter, &Levels::none(), &Bytes::new(), target));
    assert_eq!(route(&exchange, "a.b", 1), [2, 4]);
    assert_eq!(route(&exchange, "a.b", 2), [1, 2, 3, 4]);
    for (filter, target) in &bindings[1..] {
        assert!(exchange.unbind(filter, &Levels::none(), &Bytes::new(), target));
    }
    assert!(exchange.is_empty());
    let Index::Topic { plain, selected } = &exchange.index else {
        unreachable!("it is a topic exchange")
    };
    assert_eq!((plain.count_nodes(), selected.count_nodes()), (1, 1));
}
