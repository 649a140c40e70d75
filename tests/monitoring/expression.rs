//! What a PromQL expression refers to.

use regex_lite::Regex;

/// A series' name and what is asked of its labels.
pub struct Selector<'a> {
    pub name: &'a str,
    /// Label and value, whatever stands between them.
    pub matchers: Vec<(&'a str, &'a str)>,
}

/// All selectors of the project's metrics, and of `up`.
pub fn selectors(expr: &str) -> Vec<Selector<'_>> {
    let selector = Regex::new(r"\b(portcullis_\w+|up)\b(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
    let found = selector.captures_iter(expr).map(|found| Selector {
        name: found.get(1).expect("a name").as_str(),
        matchers: found.get(2).map_or_else(Vec::new, |within| {
            let matchers = matcher.captures_iter(within.as_str());
            matchers
                .map(|pair| {
                    let part = |group| pair.get(group).expect("both sides").as_str();
                    (part(1), part(2))
                })
                .collect()
        }),
    });
    found.collect()
}

/// The labels that it groups or joins by.
pub fn groupings(expr: &str) -> Vec<&str> {
    let clause =
        Regex::new(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)").unwrap();
    let clauses = clause
        .captures_iter(expr)
        .filter_map(|clause| clause.get(1));
    let labels = clauses.flat_map(|labels| labels.as_str().split(','));
    labels
        .map(str::trim)
        .filter(|label| !label.is_empty())
        .collect()
}

#[test]
fn finds_names_matchers_and_groupings() {
    let expr = r#"sum by (le, a) (rate(portcullis_x_total{a="1",b=~"y|z"}[5m])) > on (c) up"#;
    let found: Vec<_> = selectors(expr)
        .into_iter()
        .map(|one| (one.name, one.matchers))
        .collect();
    let expected = [
        ("portcullis_x_total", vec![("a", "1"), ("b", "y|z")]),
        ("up", vec![]),
    ];
    assert_eq!(found, expected);
    assert_eq!(groupings(expr), ["le", "a", "c"]);
}
