//! Two environments side by side: which env names the same workloads have there, and where the values come from.
//!
//! ```text
//! workloads -> Environment --+                          keys of what envFrom reads
//!                            +-> pairs --(questions)--> facts --> Pair::rows
//! workloads -> Environment --+
//! ```
//!
//! Values are no part of any of it. Workloads are twins as for the rule `env-parity`: kind and name are equal.

/// A container's variables, with the keys of what its `envFrom` reads.
mod view;

use std::collections::{BTreeMap, BTreeSet};

use self::view::View;
use super::{
    facts::{Known, Query, TwinEnv},
    template::Site,
    workload::Workload,
};

/// Which workload; the same in both environments. Sorted by kind, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// Its API: `apps/v1`.
    pub api_version: Box<str>,
}

/// The workloads of one side, and the env of their containers.
#[derive(Debug, Default)]
pub struct Environment {
    workloads: BTreeMap<Key, Twin>,
}

/// One workload, and what each side has of it: the first, the second, or both.
#[derive(Debug)]
pub struct Pair {
    /// Which.
    pub key: Key,
    sides: [Option<Twin>; 2],
}

/// What is known of one variable, or of one object in `envFrom`, of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The container's name.
    pub container: Box<str>,
    /// The variable's name; of an object in `envFrom`, what it is: `secret all with prefix X_`.
    pub name: Box<str>,
    /// It stands for a whole object in `envFrom`, whose keys are not compared.
    pub is_env_from: bool,
    /// What either side has.
    pub cells: [Cell; 2],
}

/// What one side has of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Its value comes from there: `value`, `secret checkout/url`, `configmap settings/host`, `field status.podIP`.
    From(Box<str>),
    /// It has none.
    Missing,
    /// It could not be found out.
    Unknown {
        /// Why, as it ends a sentence.
        cause: Box<str>,
        /// The cluster was asked and did not say; otherwise it was never to be found out.
        failed: bool,
    },
}

/// What came of comparing two cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Both have it from the same place.
    Same,
    /// The first side lacks it.
    MissingInFirst,
    /// The second side lacks it.
    MissingInSecond,
    /// Both have it, from different places.
    OtherSource,
    /// One side could not be looked at.
    Unknown,
}

/// What one side has of a workload.
#[derive(Debug)]
struct Twin {
    namespace: Box<str>,
    containers: Vec<Container>,
}

/// A container's name and what its env says.
#[derive(Debug)]
struct Container {
    name: Box<str>,
    env: Vec<TwinEnv>,
}

// === impl Environment ===

impl Environment {
    /// Adds a workload that other environments may have as well, and says whether it has a place: a second one of the
    /// same kind and name has not. Pods and revisions are passed over, as what has no name of its own: no other
    /// environment would call them the same.
    pub fn add(&mut self, workload: &Workload<'_>) -> bool {
        let name = workload.metadata().name.as_deref();
        let Some(name) = name.filter(|name| workload.kind.update && !name.is_empty()) else {
            return true;
        };
        let key = Key {
            kind: workload.kind.kind.as_ref().into(),
            name: name.into(),
            api_version: workload.kind.api_version().into(),
        };
        let twin = Twin {
            namespace: workload.namespace.into(),
            containers: workload.template.containers().map(Container::of).collect(),
        };
        self.workloads.insert(key, twin).is_none()
    }

    /// Every workload that one side has, or both.
    pub fn pairs(self, other: Self) -> Vec<Pair> {
        let mut theirs = other.workloads;
        let mut pairs: Vec<_> = (self.workloads.into_iter())
            .map(|(key, ours)| Pair {
                sides: [Some(ours), theirs.remove(&key)],
                key,
            })
            .collect();
        pairs.extend(theirs.into_iter().map(|(key, theirs)| Pair {
            key,
            sides: [None, Some(theirs)],
        }));
        pairs.sort_by(|one, other| one.key.cmp(&other.key));
        pairs
    }
}

// === impl Pair ===

impl Pair {
    /// Which sides have it.
    pub fn is_in(&self) -> [bool; 2] {
        self.sides.each_ref().map(Option::is_some)
    }

    /// What [`Self::rows`] wants to know of either side: the keys of what `envFrom` reads there.
    pub fn questions(&self) -> [BTreeSet<Query<'_>>; 2] {
        self.sides.each_ref().map(|side| {
            let twins = side.iter().flat_map(|twin| {
                let env = twin.containers.iter().flat_map(|container| &container.env);
                env.map(|env| (&*twin.namespace, env))
            });
            let bundles = twins.filter_map(|(namespace, env)| Some((namespace, env.bundle()?)));
            bundles
                .map(|(namespace, it)| Query::keys(it.object, namespace, it.name))
                .collect()
        })
    }

    /// Container by container, what either side has of each variable. Nothing where only one side has the workload.
    /// What `known` does not answer counts as unknown.
    ///
    /// A container that has no namesake on the other side, as after a renaming, is compared with all of them there.
    pub fn rows(&self, known: [&dyn Known; 2]) -> Vec<Row> {
        let [Some(ours), Some(theirs)] = &self.sides else {
            return Vec::new();
        };
        let [of_ours, of_theirs] = known;
        let (ours, theirs) = (ours.views(of_ours), theirs.views(of_theirs));
        let mut rows = Vec::new();
        for view in &ours {
            rows.extend(match namesake(view, &theirs) {
                Some(other) => view.rows(&[other], true),
                None => view.rows(&theirs.iter().collect::<Vec<_>>(), false),
            });
        }
        let strangers = theirs.iter().filter(|it| namesake(it, &ours).is_none());
        for view in strangers {
            let turned = view.rows(&ours.iter().collect::<Vec<_>>(), false);
            rows.extend(turned.into_iter().map(Row::turned));
        }
        rows
    }
}

fn namesake<'v, 'a>(view: &View<'_>, others: &'v [View<'a>]) -> Option<&'v View<'a>> {
    others.iter().find(|it| it.container == view.container)
}

// === impl Row ===

impl Row {
    /// What came of comparing its cells.
    pub fn standing(&self) -> Standing {
        match &self.cells {
            [Cell::Unknown { .. }, _] | [_, Cell::Unknown { .. }] => Standing::Unknown,
            [Cell::From(one), Cell::From(other)] if one != other => Standing::OtherSource,
            [Cell::From(_), Cell::From(_)] | [Cell::Missing, Cell::Missing] => Standing::Same,
            [Cell::Missing, Cell::From(_)] => Standing::MissingInFirst,
            [Cell::From(_), Cell::Missing] => Standing::MissingInSecond,
        }
    }

    /// Why a cell could not be filled.
    pub fn cause(&self) -> Option<&str> {
        self.cells.iter().find_map(|cell| match cell {
            Cell::Unknown { cause, .. } => Some(&**cause),
            Cell::From(_) | Cell::Missing => None,
        })
    }

    fn turned(mut self) -> Self {
        self.cells.reverse();
        self
    }
}

// === impl Twin ===

impl Twin {
    fn views(&self, known: &dyn Known) -> Vec<View<'_>> {
        let containers = self.containers.iter();
        let views = containers.map(|container| View::of(container, &self.namespace, known));
        views.collect()
    }
}

// === impl Container ===

impl Container {
    fn of(site: Site<'_, '_>) -> Self {
        Self {
            name: site.name().into(),
            env: TwinEnv::of_container(site).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, collections::HashMap, sync::Arc};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::{
        facts::{Answer, Unknown},
        template::reference::Object,
        testing::{deployment, kind_of, raw},
    };

    type Answers = HashMap<Query<'static>, Arc<Answer>>;

    fn environment(objects: &[Value]) -> Environment {
        let mut environment = Environment::default();
        for object in objects {
            let raw = raw(object);
            let workload = Workload::read(kind_of(object), "shop", &raw)
                .unwrap()
                .unwrap();
            assert!(environment.add(&workload));
        }
        environment
    }

    fn keys_of(
        object: Object,
        name: &'static str,
        answer: Answer,
    ) -> (Query<'static>, Arc<Answer>) {
        (Query::keys(object, "shop", name), Arc::new(answer))
    }

    fn secret(name: &'static str, keys: &[&str]) -> (Query<'static>, Arc<Answer>) {
        let keys = keys.iter().map(|&key| key.into()).collect();
        keys_of(Object::Secret, name, Answer::Keys(keys))
    }

    /// One row as `CONTAINER NAME: FIRST | SECOND`.
    fn told(row: &Row) -> String {
        let cell = |cell: &Cell| match cell {
            Cell::From(source) => source.clone().into(),
            Cell::Missing => "-".to_owned(),
            Cell::Unknown { .. } => "?".to_owned(),
        };
        let [first, second] = row.cells.each_ref().map(cell);
        let what = if row.is_env_from { "envFrom " } else { "" };
        format!("{} {what}{}: {first} | {second}", row.container, row.name)
    }

    /// The rows of a Deployment that has these containers here and there, and what is known of either side.
    fn rows(containers: [Value; 2], answers: [&[(Query<'static>, Arc<Answer>)]; 2]) -> Vec<Row> {
        let [ours, theirs] = containers
            .map(|containers| environment(&[deployment(json!({"containers": containers}))]));
        let [ours_known, theirs_known] =
            answers.map(|answers| answers.iter().cloned().collect::<Answers>());
        let pairs = ours.pairs(theirs);
        assert_eq!(pairs.len(), 1);
        pairs[0].rows([&ours_known, &theirs_known])
    }

    #[track_caller]
    fn compares(
        env: [Value; 2],
        answers: [&[(Query<'static>, Arc<Answer>)]; 2],
        expected: &[&str],
    ) {
        let containers = env.map(|mut env| {
            env["name"] = "app".into();
            json!([env])
        });
        let rows = rows(containers, answers);
        assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn names_and_sources_are_told_side_by_side() {
        let key = |name| json!({"secretKeyRef": {"name": name, "key": "url"}});
        compares(
            [
                json!({"env": [
                    {"name": "MODE", "value": "one"},
                    {"name": "URL", "valueFrom": key("db")},
                    {"name": "ONLY_HERE", "value": "x"},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ]}),
                json!({"env": [
                    {"name": "ONLY_THERE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                    {"name": "URL", "valueFrom": key("postgres")},
                    {"name": "MODE", "value": "another"},
                    {"name": "IP", "value": "10.0.0.1"},
                ]}),
            ],
            [&[], &[]],
            &[
                "app IP: field status.podIP | value",
                "app MODE: value | value",
                "app ONLY_HERE: value | -",
                "app ONLY_THERE: - | configmap c/k",
                "app URL: secret db/url | secret postgres/url",
            ],
        );
    }

    #[test]
    fn of_two_entries_of_a_name_the_last_one_counts() {
        let twice = json!([{"name": "A", "value": "x"}, {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "f"}}}]);
        let all = secret("all", &["A"]);
        compares(
            [
                json!({"env": twice, "envFrom": [{"secretRef": {"name": "all"}}]}),
                json!({"envFrom": [{"secretRef": {"name": "all"}}, {"secretRef": {"name": "more"}}]}),
            ],
            [
                std::slice::from_ref(&all),
                &[all.clone(), secret("more", &["A"])],
            ],
            &["app A: field f | secret more/A"],
        );
    }

    #[test]
    fn keys_of_env_from_are_names_like_others() {
        let from = |name: &str| json!({"envFrom": [{"prefix": "X_", "secretRef": {"name": name}}]});
        compares(
            [
                from("all"),
                json!({"env": [{"name": "X_A", "valueFrom": {"secretKeyRef": {"name": "all", "key": "A"}}}]}),
            ],
            [&[secret("all", &["A", "B"])], &[]],
            &[
                "app X_A: secret all/A | secret all/A",
                "app X_B: secret all/B | -",
            ],
        );
        // A key that a Secret of the same name lacks there is what staging hides best.
        compares(
            [from("all"), from("all")],
            [&[secret("all", &["A", "B"])], &[secret("all", &["A"])]],
            &[
                "app X_A: secret all/A | secret all/A",
                "app X_B: secret all/B | -",
            ],
        );
        // What does not exist holds no keys.
        let missing = keys_of(Object::Secret, "all", Answer::Missing);
        compares(
            [from("all"), from("all")],
            [&[secret("all", &["A"])], &[missing]],
            &["app X_A: secret all/A | -"],
        );
    }

    #[test]
    fn an_object_whose_keys_are_not_known_on_both_sides_is_compared_as_a_whole() {
        let from = json!({"envFrom": [{"secretRef": {"name": "all"}}, {"prefix": "P_", "configMapRef": {"name": "map"}}]});
        let unknown = keys_of(
            Object::Secret,
            "all",
            Answer::Unknown(Unknown::NotAmongFiles),
        );
        compares(
            [from, json!({"envFrom": [{"secretRef": {"name": "all"}}]})],
            [&[secret("all", &["A"])], &[unknown]],
            &[
                "app envFrom configmap map with prefix P_: configmap map | -",
                "app envFrom secret all: secret all | secret all",
            ],
        );
    }

    #[test]
    fn a_name_that_an_unknown_object_may_bring_is_not_missing() {
        let env = json!([{"name": "A", "value": "x"}, {"name": "P_A", "value": "x"}]);
        let refused = Answer::Unknown(Unknown::Refused("403 Forbidden".into()));
        let answers = [keys_of(Object::Secret, "all", refused)];
        let there =
            json!([{"name": "app", "envFrom": [{"prefix": "P_", "secretRef": {"name": "all"}}]}]);
        let rows = rows(
            [json!([{"name": "app", "env": env}]), there],
            [&[], &answers],
        );
        let told: Vec<_> = rows.iter().map(told).collect();
        assert_eq!(
            told,
            [
                "app A: value | -",
                "app P_A: value | ?",
                "app envFrom secret all with prefix P_: - | secret all",
            ]
        );
        let cause = "Secret \"all\": the API server answered 403 Forbidden";
        assert_eq!(rows[1].cause(), Some(cause));
        assert!(matches!(
            rows[1].cells[1],
            Cell::Unknown { failed: true, .. }
        ));
        let standings: Vec<_> = rows.iter().map(Row::standing).collect();
        assert_eq!(
            standings,
            [
                Standing::MissingInSecond,
                Standing::Unknown,
                Standing::MissingInFirst
            ]
        );
    }

    #[test]
    fn an_object_that_both_read_excuses_no_name_that_only_one_sets() {
        let from = json!([{"secretRef": {"name": "all"}}]);
        compares(
            [
                json!({"env": [{"name": "A", "value": "x"}], "envFrom": from}),
                json!({"envFrom": from}),
            ],
            [&[], &[]],
            &[
                "app A: value | -",
                "app envFrom secret all: secret all | secret all",
            ],
        );
    }

    #[test]
    fn containers_are_compared_by_name_and_renamed_ones_with_all() {
        let with = |name: &str, env: &[&str]| {
            let env: Vec<_> = env
                .iter()
                .map(|name| json!({"name": name, "value": "x"}))
                .collect();
            json!({"name": name, "env": env})
        };
        let one = json!([with("web", &["A", "B"]), with("proxy", &[])]);
        let other = json!([with("app", &["A", "C"]), with("proxy", &["B"])]);
        let rows = rows([one, other], [&[], &[]]);
        let told: Vec<_> = rows.iter().map(told).collect();
        assert_eq!(
            told,
            [
                "web A: value | value",
                "web B: value | value",
                "proxy B: - | value",
                "app A: value | value",
                "app C: - | value",
            ]
        );
    }

    #[test]
    fn workloads_are_twins_when_kind_and_name_are_equal() {
        let named = |kind: &str, name: &str| {
            let mut object = deployment(json!({"containers": [{"name": "app"}]}));
            object["kind"] = kind.into();
            object["metadata"]["name"] = name.into();
            object
        };
        let ours = environment(&[named("Deployment", "web"), named("StatefulSet", "db")]);
        let theirs = environment(&[named("Deployment", "db"), named("Deployment", "web")]);
        let pairs = ours.pairs(theirs);
        let told: Vec<_> = pairs
            .iter()
            .map(|pair| (format!("{} {}", pair.key.kind, pair.key.name), pair.is_in()))
            .collect();
        let expected = [
            ("Deployment db", [false, true]),
            ("Deployment web", [true, true]),
            ("StatefulSet db", [true, false]),
        ];
        assert_eq!(told, expected.map(|(name, is_in)| (name.to_owned(), is_in)));
        assert!(
            pairs
                .iter()
                .all(|pair| pair.rows([&Answers::new(), &Answers::new()]).is_empty())
        );
    }

    #[test]
    fn what_has_no_name_of_its_own_is_passed_over_and_a_second_of_a_name_is_told() {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1"}, "spec": {}});
        let mut generated = deployment(json!({}));
        generated["metadata"] = json!({"generateName": "web-"});
        assert!(
            environment(&[pod, generated.clone()])
                .pairs(Environment::default())
                .is_empty()
        );
        let mut environment = environment(&[deployment(json!({}))]);
        let raw = raw(&deployment(json!({})));
        let again = Workload::read(kind_of(&generated), "other", &raw)
            .unwrap()
            .unwrap();
        assert!(!environment.add(&again));
    }

    #[test]
    fn the_keys_of_what_env_from_reads_are_asked_for_in_the_namespace_of_each_side() {
        let from = json!([{"name": "app", "envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "map"}}]}]);
        let pairs =
            environment(&[deployment(json!({"containers": from}))]).pairs(Environment::default());
        let [ours, theirs] = pairs[0].questions();
        let query = |object, name| Query::keys(object, "shop", name);
        assert_eq!(
            ours.into_iter().collect::<Vec<_>>(),
            [
                query(Object::Secret, "all"),
                query(Object::ConfigMap, "map")
            ]
        );
        assert!(theirs.is_empty());
    }

    /// What a value of an entry may be, and where it may come from.
    fn entry() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec!["A", "B", "C"]);
        let reference = prop::sample::select(vec!["secretKeyRef", "configMapKeyRef"]);
        prop_oneof![
            name.clone().prop_map(|name| json!({"name": name, "value": "hunter2"})),
            (name, reference).prop_map(|(name, field)| {
                json!({"name": name, "value": "hunter2", "valueFrom": {field: {"name": "o", "key": "k"}}})
            }),
        ]
    }

    /// The containers of a pod, each with a name of its own.
    fn containers() -> impl Strategy<Value = Value> {
        let from = prop::sample::select(vec!["secretRef", "configMapRef"]);
        let from = from.prop_map(|field| json!({"prefix": "P_", field: {"name": "all"}}));
        let name = prop::sample::select(vec!["app", "proxy"]);
        let env = (
            prop::collection::vec(entry(), 0..4),
            prop::collection::vec(from, 0..2),
        );
        prop::collection::btree_map(name, env, 0..3).prop_map(|containers| {
            let containers = containers.into_iter();
            containers
                .map(|(name, (env, from))| json!({"name": name, "env": env, "envFrom": from}))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn never_holds_a_value_and_turns_with_its_sides(
            ours in containers(),
            theirs in containers(),
            keys in prop::collection::btree_set(prop::sample::select(vec!["A", "B"]), 0..3),
        ) {
            let keys: Vec<_> = keys.into_iter().collect();
            let known = [secret("all", &keys)];
            let there = rows([ours.clone(), theirs.clone()], [&known, &[]]);
            let all = format!("{there:?}");
            prop_assert!(!all.contains("hunter2"), "{all}");
            let back = rows([theirs, ours], [&[], &known]);
            let sorted = |rows: Vec<Row>| {
                let mut told: Vec<_> = rows.iter().map(told).collect();
                told.sort();
                told
            };
            let turned = back.into_iter().map(Row::turned).collect();
            prop_assert_eq!(sorted(there), sorted(turned));
        }
    }

    #[test]
    fn a_kind_of_the_settings_is_a_workload_too() {
        let kind = crate::policy::workload::WorkloadKind {
            group: Cow::Borrowed("argoproj.io"),
            version: Cow::Borrowed("v1alpha1"),
            kind: Cow::Borrowed("Rollout"),
            resource: Cow::Borrowed("rollouts"),
            ..kind_of(&deployment(json!({}))).clone()
        };
        let mut environment = Environment::default();
        let raw = raw(&deployment(json!({})));
        environment.add(&Workload::read(&kind, "shop", &raw).unwrap().unwrap());
        let pairs = environment.pairs(Environment::default());
        assert_eq!(&*pairs[0].key.api_version, "argoproj.io/v1alpha1");
    }
}
