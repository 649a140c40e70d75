//! What a container has of each variable, as far as it is known.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cell, Container, Row};
use crate::policy::facts::{Answer, Bundle, Known, Query, Unknown};

/// The variables of a container, with the keys of what its `envFrom` reads.
pub(super) struct View<'a> {
    pub(super) container: &'a str,
    /// From `env`: name and source. Of two entries of a name the last one wins, in the kubelet as here.
    own: BTreeMap<&'a str, &'a str>,
    /// From `envFrom`, in its order.
    brought: Vec<Brought<'a>>,
}

/// An object in `envFrom`.
struct Brought<'a> {
    /// What it is called in rows.
    label: &'a str,
    bundle: Bundle<'a>,
    /// Its keys, or the cell that says why they are not known.
    keys: Result<BTreeSet<Box<str>>, Cell>,
}

// === impl View ===

impl<'a> View<'a> {
    pub(super) fn of(container: &'a Container, namespace: &str, known: &dyn Known) -> Self {
        let mut own = BTreeMap::new();
        let mut brought = Vec::new();
        for env in &container.env {
            let Some(bundle) = env.bundle() else {
                own.insert(&*env.name, &*env.source);
                continue;
            };
            brought.push(Brought {
                label: &env.name,
                keys: keys(&bundle, namespace, known),
                bundle,
            });
        }
        Self {
            container: &container.name,
            own,
            brought,
        }
    }

    /// A row for each name that this container has; with `both`, also for each that is only in one of `others`.
    pub(super) fn rows(&self, others: &[&Self], both: bool) -> Vec<Row> {
        let mut names = self.names(others);
        let mut closed: BTreeSet<_> = self.closed(others).collect();
        if both {
            for other in others {
                names.extend(other.names(&[self]));
                closed.extend(other.closed(&[self]));
            }
        }
        let row = |name: &str, is_env_from, cells| Row {
            container: self.container.into(),
            name: name.into(),
            is_env_from,
            cells,
        };
        let names = names.iter().map(|name| {
            let own = self.cell(name, others);
            let theirs = others.iter().map(|other| other.cell(name, &[self]));
            let best = theirs.reduce(|best, next| best.or(next, &own));
            row(name, false, [own, best.unwrap_or(Cell::Missing)])
        });
        let closed = closed.into_iter().map(|(label, source)| {
            let has = |view: &Self| view.brought.iter().any(|it| it.label == label);
            let cell = |has| {
                if has {
                    Cell::From(source.clone())
                } else {
                    Cell::Missing
                }
            };
            let theirs = others.iter().any(|other| has(other));
            row(label, true, [cell(has(self)), cell(theirs)])
        });
        names.chain(closed).collect()
    }

    /// The names of its variables, as far as they can be compared with `others`.
    fn names(&self, others: &[&Self]) -> BTreeSet<String> {
        let own = self.own.keys().map(|name| (*name).to_owned());
        let brought = self.brought.iter().filter(|it| it.is_open(others));
        let brought = brought.flat_map(|it| {
            let keys = it.keys.iter().flatten();
            keys.map(|key| format!("{}{key}", it.bundle.prefix))
        });
        own.chain(brought).collect()
    }

    /// What it has in `envFrom` and can't be compared with `others` key by key.
    fn closed<'s>(&'s self, others: &'s [&Self]) -> impl Iterator<Item = (&'a str, Box<str>)> {
        let closed = self.brought.iter().filter(|it| !it.is_open(others));
        closed.map(|it| (it.label, it.bundle.words().into()))
    }

    /// Where it has `name` from. An object whose keys are not known may bring it, but not where `others` read the same
    /// one: that is taken to hold the same, and nothing that is set beside it.
    fn cell(&self, name: &str, others: &[&Self]) -> Cell {
        if let Some(source) = self.own.get(name) {
            return Cell::From((*source).into());
        }
        let mut unknown = None;
        // Of two objects that bring a name the last one wins, in the kubelet as here.
        for brought in self.brought.iter().rev() {
            let Brought { bundle, keys, .. } = brought;
            let key = name.strip_prefix(bundle.prefix);
            match (key.filter(|key| !key.is_empty()), keys) {
                (Some(key), Ok(keys)) if keys.contains(key) => {
                    return Cell::From(format!("{}/{key}", bundle.words()).into());
                }
                (Some(_), Err(why)) if !brought.is_in(others) => unknown = Some(why.clone()),
                _ => {}
            }
        }
        unknown.unwrap_or(Cell::Missing)
    }
}

// === impl Brought ===

impl Brought<'_> {
    /// Its keys are known, and those of the same object in `envFrom` of all of `others` that read it.
    fn is_open(&self, others: &[&View<'_>]) -> bool {
        self.keys.is_ok() && self.namesakes(others).all(|it| it.keys.is_ok())
    }

    /// One of `others` reads the same object.
    fn is_in(&self, others: &[&View<'_>]) -> bool {
        self.namesakes(others).next().is_some()
    }

    fn namesakes<'o>(&self, others: &'o [&View<'_>]) -> impl Iterator<Item = &'o Brought<'o>> {
        let others = others.iter().flat_map(|other| &other.brought);
        others.filter(|it| it.label == self.label)
    }
}

// === impl Cell ===

impl Cell {
    /// What several containers have together: what is like `own`, else what there is.
    fn or(self, other: Self, own: &Self) -> Self {
        match (&self, &other) {
            (_, Self::From(_)) if other == *own => other,
            (Self::Missing, _) | (Self::Unknown { .. }, Self::From(_)) => other,
            _ => self,
        }
    }
}

/// The keys of an object; what does not exist has none.
fn keys(
    bundle: &Bundle<'_>,
    namespace: &str,
    known: &dyn Known,
) -> Result<BTreeSet<Box<str>>, Cell> {
    let unknown = |unknown: &Unknown| Cell::Unknown {
        cause: format!("{} \"{}\": {unknown}", bundle.object.kind(), bundle.name).into(),
        failed: unknown.is_failure(),
    };
    match known
        .get(&Query::keys(bundle.object, namespace, bundle.name))
        .as_deref()
    {
        Some(Answer::Keys(keys)) => Ok(keys.iter().cloned().collect()),
        Some(Answer::Unknown(why)) => Err(unknown(why)),
        None => Err(unknown(&Unknown::NotAsked)),
        Some(_) => Ok(BTreeSet::new()),
    }
}
