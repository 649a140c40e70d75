//! *The rollback that lies*: the new version is slow at first, and so are the pods that take it back, but Kubernetes
//! calls them all ready. `make bench-story` plays it at length.

use std::env;

use tokio::time::{Duration, Instant};

use crate::e2e::{report::Summary, stage::Stage, table::ROWS};

/// Rollouts on each side, every second one a rollback. `PORTCULLIS_ROLLOUTS` sets another number.
const ROLLOUTS: usize = 2;

/// A shop front that pretends: its pages take 200 ms each before it is warm, of the new version twice as many.
const SHOP: Release = Release {
    folder: "rollback",
    new_version: "set env deployment/web RELEASE=v2 COLD_REQUESTS=40",
    pace: Duration::from_secs(20),
    requests: 2_500,
};

/// A real JVM, whose pages are slow until they are compiled.
const JVM: Release = Release {
    folder: "jvm",
    new_version: "set env deployment/web RELEASE=v2",
    pace: Duration::from_secs(24),
    requests: 900,
};

const ROLLBACK: &str = "rollout undo deployment/web";

/// For the first pages of the first release, which are slow too.
const WARM_UP: Duration = Duration::from_secs(4);

/// What is rolled out and back, again and again.
struct Release {
    /// Of its files; its namespace is called so, too.
    folder: &'static str,
    /// How kubectl rolls it out.
    new_version: &'static str,
    /// From the beginning of a rollout to that of the next, with and without the gate: the same share of all requests meets
    /// a rollout on both sides. Longer than a rollout with the gate takes.
    pace: Duration,
    /// What the client sends in that time, at least: the twenty rollouts of the long form meet 50,000 requests a side.
    requests: u32,
}

/// One side of the comparison.
struct Side {
    requests: Summary,
    /// How long each rollout took.
    rollouts: Vec<Duration>,
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn clients_feel_a_new_version_and_its_rollback_but_not_with_the_gate() {
    SHOP.is_felt_without_the_gate_only();
}

#[test]
#[ignore = "needs a cluster and a JDK: make e2e"]
fn clients_feel_a_real_jvm_and_its_rollback_but_not_with_the_gate() {
    JVM.is_felt_without_the_gate_only();
}

fn number_of_rollouts() -> usize {
    let number = env::var("PORTCULLIS_ROLLOUTS").ok();
    let number = number.map(|number| number.parse().expect("PORTCULLIS_ROLLOUTS is a number"));
    number.unwrap_or(ROLLOUTS)
}

/// As the README has it.
fn table(without: &Side, with: &Side) -> String {
    let row = |name: &str, [left, right]: [String; 2]| format!("| {name} | {left} | {right} |");
    let head = format!("{} rollouts", without.rollouts.len());
    let mut rows = vec![
        row(
            &head,
            ["without the gate".to_owned(), "with the gate".to_owned()],
        ),
        "| --- | --- | --- |".to_owned(),
    ];
    for (name, of) in ROWS {
        rows.push(row(name, [of(&without.requests), of(&with.requests)]));
    }
    rows.push(row("a rollout took", [without.pace(), with.pace()]));
    rows.push(row("why they failed", [without.reasons(), with.reasons()]));
    rows.join("\n")
}

// === impl Release ===

impl Release {
    #[expect(clippy::print_stdout, reason = "the README's table")]
    fn is_felt_without_the_gate_only(&self) {
        let stage = Stage::new(self.folder);
        let web = format!("{}/web.yaml", self.folder);
        stage.apply_ungated(&web);
        let without = self.roll_out_and_back(&stage);
        stage.apply(&web);
        let with = self.roll_out_and_back(&stage);
        println!("{}", table(&without, &with));
        let (without, with) = (without.requests, with.requests);
        let fewest = self.requests * u32::try_from(number_of_rollouts()).unwrap();
        assert!(
            without.sent.min(with.sent) >= fewest,
            "{without:?}, {with:?}"
        );
        assert_eq!(with.failed, 0, "{with:?}");
        // Not in milliseconds, which a busy machine adds to both.
        let [without_p99, with_p99] =
            [&without, &with].map(|side| side.p99_ms.expect("good answers"));
        assert!(
            without_p99 > 2.0 * with_p99,
            "without: {without:?}, with: {with:?}"
        );
    }

    fn roll_out_and_back(&self, stage: &Stage) -> Side {
        stage.rolled_out("web");
        let client = format!("{}/client.yaml", self.folder);
        // What runs when the story begins has long been warm, on both sides.
        let warming = stage.client(&client);
        warming.has_sent_for(WARM_UP);
        warming.finish();
        let client = stage.client(&client);
        let mut rollouts = Vec::new();
        for change in [self.new_version, ROLLBACK]
            .into_iter()
            .cycle()
            .take(number_of_rollouts())
        {
            let began = Instant::now();
            stage.kubectl.call(change).ok();
            stage.rolled_out("web");
            rollouts.push(began.elapsed());
            client.has_sent_for(self.pace * u32::try_from(rollouts.len()).unwrap());
        }
        Side {
            requests: client.finish(),
            rollouts,
        }
    }
}

// === impl Side ===

impl Side {
    /// Shortest to longest.
    fn pace(&self) -> String {
        let shortest = self.rollouts.iter().min().unwrap().as_secs_f64();
        let longest = self.rollouts.iter().max().unwrap().as_secs_f64();
        format!("{shortest:.1} to {longest:.1} s")
    }
    fn reasons(&self) -> String {
        let reasons = self.requests.reasons.iter();
        let reasons: Vec<_> = reasons
            .map(|(why, count)| format!("{why}: {count}"))
            .collect();
        reasons.join(", ")
    }
}
