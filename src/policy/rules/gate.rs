//! The traffic gate that pods ask for: what it is told is right, and traffic will come to it.

use super::{Context, Rule, RuleId};
use crate::{
    contract::{GATE_CONFIG_ANNOTATION, RampWhen},
    policy::{
        facts::{Answer, Query},
        finding::{Finding, Level, Offence},
        gate::{
            Demand, Mistake, Plan, Prediction, guarded_opt_out, misplaced, misspelt, predict,
            shut_out,
        },
    },
};

pub(super) static GATE_CONFIG: Rule = Rule {
    id: RuleId::GateConfig,
    summary: "a pod that asks for a traffic gate (`portcullis.dev/gate`) can have one, and what its annotation \
              `portcullis.dev/gate-config` tells the gate is right",
    why: "The gate is written into pods when they are created, long after the manifest was applied: a mistake in its \
          settings would then keep every pod of a rollout from starting. So the settings are read here, with defaults and \
          profile, and a wrong field is refused with its line. A check may name an env entry or a mounted file of the app, \
          which the gate is given, too; one that no container has is refused. So is a check that asks the pod's own \
          Service, since it would wait for itself, and a gate for a pod that can have none: on Windows, with hostNetwork, \
          without a TCP port, or where a LimitRange for pods leaves no room for it. The namespace's label `portcullis.dev/enforce` does not lower this rule.",
    example: "\
kind: Deployment
spec:
  template:
    metadata:
      labels: {portcullis.dev/gate: enabled}
      annotations:
        portcullis.dev/gate-config: |
          checks:
          - name: database
            postgres: {urlFrom: {env: DATABASE_URL}}
    spec:
      containers:
      - name: app
        ports:
        - {name: http, containerPort: 8080}
",
    fixed: "\
kind: Deployment
spec:
  template:
    metadata:
      labels: {portcullis.dev/gate: enabled}
      annotations:
        portcullis.dev/gate-config: |
          checks:
          - name: database
            postgres: {urlFrom: {env: DATABASE_URL}}
    spec:
      containers:
      - name: app
        ports:
        - {name: http, containerPort: 8080}
        env:
        - name: DATABASE_URL
          valueFrom: {secretKeyRef: {name: checkout, key: database-url}}
",
    level: Level::Deny,
    reads: &[
        "metadata.annotations",
        "metadata.labels",
        "spec.containers",
        "spec.hostNetwork",
        "spec.initContainers",
        "spec.nodeSelector",
        "spec.os",
        "spec.resources",
        "spec.restartPolicy",
    ],
    check: config,
};

pub(super) static GATE_TAKEOVER: Rule = Rule {
    id: RuleId::GateTakeover,
    summary: "traffic comes to the gate and not past it, the drain has time, a rollout does not outrun the ramp, and \
              nobody waits in vain",
    why: "A gate takes over a port by its name, which Services follow. One that sends to the app by number walks past it, a \
          NetworkPolicy that admits the app by number shuts clients out of it, and UDP never comes to it. A grace period \
          that leaves the drain under 5 seconds cuts requests off. And a rollout goes on as soon as a new pod is ready, \
          while its gate may still be letting requests through by steps, unless `minReadySeconds` outlasts the ramp. What \
          waits for a restarted app gets 503 if its warm-up can last longer than `hold.maxWait`. And two workloads whose \
          gates wait for each other never open: a check that asks a Service behind gates may be one half of that. A \
          change of `replicas` or `minReadySeconds` alone is never sent to the webhook, so that scaling never depends on \
          it.",
    example: "\
kind: Deployment
spec:
  template:
    metadata:
      labels: {portcullis.dev/gate: enabled}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
      - name: app
        ports:
        - {name: http, containerPort: 8080}
",
    fixed: "\
kind: Deployment
spec:
  template:
    metadata:
      labels: {portcullis.dev/gate: enabled}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: app
        ports:
        - {name: http, containerPort: 8080}
",
    level: Level::Warn,
    reads: &[
        "metadata.annotations",
        "metadata.labels",
        "spec.containers",
        "spec.hostNetwork",
        "spec.initContainers",
        "spec.nodeSelector",
        "spec.os",
        "spec.restartPolicy",
        "spec.terminationGracePeriodSeconds",
        "workload.spec.minReadySeconds",
        "workload.spec.replicas",
    ],
    check: takeover,
};

fn config(context: &mut Context<'_>) {
    let template = &context.workload.template;
    let label = misspelt(template);
    let opt_out = guarded_opt_out(template, context.namespace());
    for (level, text) in [(Level::Deny, label), (Level::Warn, opt_out)] {
        if let Some(text) = text {
            report(context, RuleId::GateConfig, level, text, "/metadata/labels");
        }
    }
    for (path, text) in misplaced(context.workload) {
        context.report(Finding {
            rule: RuleId::GateConfig,
            level: Level::Warn,
            container: None,
            path,
            message: text,
            fix: None,
            offences: Vec::new(),
        });
    }
    match prediction(context) {
        Prediction::Nothing | Prediction::Gate(_) => {}
        Prediction::Mistaken(mistakes) => {
            let annotation = GATE_CONFIG_ANNOTATION.replace('/', "~1");
            let annotation = format!("/metadata/annotations/{annotation}");
            for Mistake { text, .. } in mistakes {
                report(context, RuleId::GateConfig, Level::Deny, text, &annotation);
            }
        }
        Prediction::Unfit { demand, why } => {
            let level = match demand {
                Demand::Enabled => Level::Deny,
                Demand::Preferred => Level::Warn, // better without one than not at all
            };
            report(context, RuleId::GateConfig, level, why, "/metadata/labels");
        }
    }
}

fn takeover(context: &mut Context<'_>) {
    let Prediction::Gate(plan) = prediction(context) else {
        return;
    };
    let policies = past_policies(context, &plan);
    let ramp = outrun(context, &plan);
    for text in plan.warnings.into_iter().chain(policies).chain(ramp) {
        report(context, RuleId::GateTakeover, Level::Warn, text, "/spec");
    }
}

fn prediction<'a>(context: &mut Context<'a>) -> Prediction<'a> {
    let ground = context.ground();
    predict(&ground, &mut |query| context.ask(query))
}

/// NetworkPolicies that would cut off all traffic.
fn past_policies(context: &mut Context<'_>, plan: &Plan<'_>) -> Vec<String> {
    let template = &context.workload.template;
    let moved = plan.ports.iter().filter(|port| {
        port.listen
            .is_some_and(|listen| listen != port.declared.number)
    });
    let moved: Vec<_> = moved.collect();
    if moved.is_empty() {
        return Vec::new();
    }
    let answer = context.ask(Query::NetworkPolicies {
        namespace: context.workload.namespace.into(),
    });
    let Some(Answer::NetworkPolicies(policies)) = answer.as_deref() else {
        return Vec::new();
    };
    let shut = moved.into_iter().filter_map(|port| {
        let policy = shut_out(template, port, policies)?;
        let listen = port.listen?;
        let way_out = port.declared.name.map_or_else(String::new, |name| format!(", or the port's name {name}"));
        Some(format!(
            "NetworkPolicy \"{}\" admits port {} but not {listen}, where the gate listens: admit that{way_out}",
            policy.name, port.declared.number
        ))
    });
    shut.collect()
}

/// That a rollout goes on before the ramp is over.
fn outrun(context: &Context<'_>, plan: &Plan<'_>) -> Option<String> {
    let workload = context.workload;
    let several = workload.rollout.replicas.unwrap_or(1) > 1 && !workload.kind.is_pod();
    let ramp = plan.settings.ramp();
    let ramps = match ramp.when {
        RampWhen::Always => true,
        RampWhen::NotWarm => plan.settings.warmup().is_none(),
        RampWhen::Never => false,
    };
    let ramp = i64::try_from(ramp.duration.as_secs()).unwrap_or(i64::MAX);
    let min_ready = workload.rollout.min_ready_seconds.unwrap_or(0);
    (several && ramps && min_ready < ramp).then(|| {
        format!(
            "minReadySeconds {min_ready} is shorter than the gate's ramp of {ramp} s: the rollout goes on before a new pod \
             takes its full share"
        )
    })
}

fn report(context: &mut Context<'_>, rule: RuleId, level: Level, message: String, below: &str) {
    let path = format!("{}{below}", context.workload.kind.template);
    let mut offences = vec![Offence::new(None, below, &*message)];
    if rule == RuleId::GateConfig {
        offences.clear(); // however old the mistake: the pods that this update asks for would be refused
    }
    context.report(Finding {
        rule,
        level,
        container: None,
        path,
        message,
        fix: None,
        offences,
    });
}
