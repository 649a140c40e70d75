//! Who asks for a gate.

use super::*;

#[test]
fn the_label_of_a_pod_wins_over_that_of_its_namespace() {
    for (own, namespace, exemptions, demand) in [
        (None, None, None, None),
        (None, Some("enabled"), None, Some(Demand::Enabled)),
        (None, Some("preferred"), None, Some(Demand::Preferred)),
        (None, Some("disabled"), None, None),
        (None, Some("on"), None, None),
        (Some("enabled"), None, None, Some(Demand::Enabled)),
        (
            Some("enabled"),
            Some("preferred"),
            None,
            Some(Demand::Enabled),
        ),
        (
            Some("preferred"),
            Some("enabled"),
            None,
            Some(Demand::Preferred),
        ),
        (Some("disabled"), None, None, None),
        (
            Some("disabled"),
            Some("enabled"),
            None,
            Some(Demand::Enabled),
        ),
        (Some("disabled"), Some("enabled"), Some("allowed"), None),
        (Some("true"), Some("enabled"), None, Some(Demand::Enabled)),
    ] {
        let mut pod = pod(PLAIN);
        match own {
            Some(own) => pod["metadata"]["labels"]["portcullis.dev/gate"] = json!(own),
            None => pod["metadata"]["labels"] = json!({}),
        }
        let labels = [("portcullis.dev/gate", namespace), (EXEMPTIONS, exemptions)];
        let labels = labels
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let facts = facts().with_labels(&labels.collect::<Vec<_>>());
        let found = match injecting(&pod, &facts) {
            Injecting::Done(injection) => Some(injection.demand),
            Injecting::Nothing => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, demand, "{own:?} in a namespace {namespace:?}");
    }
}

#[test]
fn a_namespace_that_can_not_be_read_has_asked_for_what_comes_without_a_label() {
    let query = Query::Namespace {
        name: NAMESPACE.into(),
    };
    let facts = facts().with(query, Answer::Unknown(Unknown::Deadline));
    let mut pod = pod(PLAIN);
    assert_eq!(injection(&pod, &facts).demand, Demand::Enabled);
    pod["metadata"]["labels"] = json!({});
    assert_eq!(injection(&pod, &facts).demand, Demand::Preferred);
}

#[test]
fn asks_for_all_that_it_lacks() {
    let pod = pod(PLAIN);
    let mut known = std::collections::HashMap::new();
    let bytes = raw(&pod);
    let workload = Workload::read(kind_of(&pod), NAMESPACE, &bytes)
        .unwrap()
        .unwrap();
    let facts = facts();
    let mut rounds = 0;
    let done = loop {
        match inject(&workload, &pod, &known, &facts.settings) {
            Injecting::Ask(questions) => {
                rounds += 1;
                assert!(!questions.is_empty() && rounds < 4);
                for query in questions {
                    let answer = facts.get(&query).unwrap();
                    assert!(known.insert(query, answer).is_none(), "asked twice");
                }
            }
            done => break done,
        }
    };
    assert!(matches!(done, Injecting::Done(_)), "{done:?}");
    assert_eq!(rounds, 1, "all at once");
}

#[test]
fn templates_stay_as_they_were_written() {
    let mut object = crate::policy::testing::deployment(parse(PLAIN));
    object["spec"]["template"]["metadata"]["labels"] = json!({"portcullis.dev/gate": "enabled"});
    assert!(matches!(injecting(&object, &facts()), Injecting::Nothing));
}
