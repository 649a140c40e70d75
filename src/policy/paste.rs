//! Fixes of several rules, merged into one piece of YAML for each place.

use super::finding::Fix;

/// Lines of block YAML as a tree by indentation. It knows no more of YAML than the rules' own fixes use: block maps, and
/// lists whose items stand below their key.
#[derive(Debug, Default)]
struct Node<'a> {
    line: &'a str,
    below: Vec<Self>,
}

/// One entry for each place, in the order in which the places first occur: where, and the YAML.
pub(crate) fn merge<'a>(fixes: impl Iterator<Item = &'a Fix>) -> Vec<(&'a str, String)> {
    let mut places: Vec<(&str, Node<'_>)> = Vec::new();
    for Fix { at, yaml } in fixes {
        let index = places
            .iter()
            .position(|(place, _)| place == at)
            .unwrap_or_else(|| {
                places.push((at, Node::default()));
                places.len() - 1
            });
        if let Some((_, root)) = places.get_mut(index) {
            root.merge(parse(yaml));
        }
    }
    places
        .into_iter()
        .map(|(at, root)| {
            let mut yaml = String::new();
            root.below.iter().for_each(|node| node.print(&mut yaml));
            (at, yaml)
        })
        .collect()
}

// === impl Node ===

impl<'a> Node<'a> {
    /// The key of a map entry; `None` for an item of a list, which is never the same as another.
    fn key(&self) -> Option<&'a str> {
        let text = self.line.trim_start();
        if text.starts_with("- ") {
            return None;
        }
        text.split_once(':').map(|(key, _)| key)
    }

    fn merge(&mut self, nodes: Vec<Self>) {
        for node in nodes {
            let key = node.key();
            match self
                .below
                .iter_mut()
                .find(|own| key.is_some() && own.key() == key)
            {
                // Where both give a value the first stays: one rule asked for it, the other can live with it.
                Some(own) => own.merge(node.below),
                None => self.below.push(node),
            }
        }
    }

    fn print(&self, yaml: &mut String) {
        yaml.push_str(self.line);
        yaml.push('\n');
        self.below.iter().for_each(|node| node.print(yaml));
    }
}

fn parse(yaml: &str) -> Vec<Node<'_>> {
    let mut open: Vec<(usize, Node<'_>)> = vec![(0, Node::default())];
    for line in yaml.lines().filter(|line| !line.trim().is_empty()) {
        let text = line.trim_start();
        // Twice the indentation, and an item of a list one step deeper than a key that stands above it.
        let depth = (line.len() - text.len()) * 2 + 1 + usize::from(text.starts_with("- "));
        close(&mut open, depth);
        open.push((
            depth,
            Node {
                line,
                below: Vec::new(),
            },
        ));
    }
    close(&mut open, 1);
    open.pop().map(|(_, root)| root.below).unwrap_or_default()
}

/// Hangs every open node at `depth` or deeper below the one before it.
fn close(open: &mut Vec<(usize, Node<'_>)>, depth: usize) {
    while open.last().is_some_and(|(last, _)| *last >= depth) {
        if let (Some((_, node)), Some((_, parent))) = (open.pop(), open.last_mut()) {
            parent.below.push(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(fixes: &[(&str, &str)]) -> Vec<(String, String)> {
        let fixes: Vec<_> = fixes
            .iter()
            .map(|&(at, yaml)| Fix {
                at: at.to_owned(),
                yaml: yaml.to_owned(),
            })
            .collect();
        merge(fixes.iter())
            .into_iter()
            .map(|(at, yaml)| (at.to_owned(), yaml))
            .collect()
    }

    #[test]
    fn maps_of_one_place_become_one_map() {
        let fixes = [
            ("app", "resources:\n  requests:\n    cpu: 100m\n"),
            ("app", "resources:\n  requests:\n    memory: 128Mi\n"),
            ("proxy", "resources:\n  limits:\n    memory: 64Mi\n"),
            (
                "app",
                "readinessProbe:\n  httpGet: {path: /ready, port: http}\n",
            ),
            ("app", "resources:\n  limits:\n    memory: 256Mi\n"),
        ];
        let [(_, app), (_, proxy)] = &merged(&fixes)[..] else {
            panic!("two places")
        };
        insta::assert_snapshot!(app, @r#"
        resources:
          requests:
            cpu: 100m
            memory: 128Mi
          limits:
            memory: 256Mi
        readinessProbe:
          httpGet: {path: /ready, port: http}
        "#);
        assert_eq!(proxy, "resources:\n  limits:\n    memory: 64Mi\n");
    }

    #[test]
    fn lists_grow_and_stay_together() {
        let fixes = [
            ("app", "env:\n- name: A\n  value: a\n"),
            ("app", "ports:\n  - containerPort: 80\n"),
            ("app", "env:\n- name: B\n  value: a\n"),
        ];
        let [(_, app)] = &merged(&fixes)[..] else {
            panic!("one place")
        };
        insta::assert_snapshot!(app, @r#"
        env:
        - name: A
          value: a
        - name: B
          value: a
        ports:
          - containerPort: 80
        "#);
    }

    #[test]
    fn of_two_values_for_one_field_the_first_stays() {
        let fixes = [("app", "a:\n  b: 1\n"), ("app", "a:\n  b: 2\n  c: 3\n")];
        assert_eq!(
            merged(&fixes),
            [(String::from("app"), String::from("a:\n  b: 1\n  c: 3\n"))]
        );
    }
}
