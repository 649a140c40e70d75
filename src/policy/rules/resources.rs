//! Requests and limits.

use super::{Context, Rule, RuleId};
use crate::policy::finding::{Finding, Level};

pub(super) static MEMORY_LIMIT: Rule = Rule {
    id: RuleId::MemoryLimit,
    summary: "every container has a memory limit",
    why: "Without a memory limit a leak grows until the node runs out: the kernel then kills whatever it likes there, and \
          the kubelet evicts neighbours that did nothing wrong. With one, only the container that leaks is restarted.",
    example: "containers:\n- name: app\n  image: shop:1\n",
    fixed: "containers:\n- name: app\n  image: shop:1\n  resources:\n    limits:\n      memory: 256Mi\n",
    level: Level::Deny,
    reads: &[
        "spec.containers.resources",
        "spec.initContainers.resources",
        "spec.resources",
    ],
    check: memory_limit,
};

fn memory_limit(context: &mut Context<'_>) {
    for site in context.workload.template.containers() {
        let resources = site.container.resources.as_ref();
        if resources.is_some_and(|resources| resources.limits.get("memory").is_some()) {
            continue;
        }
        context.report(Finding {
            rule: RuleId::MemoryLimit,
            level: Level::Deny,
            container: Some(site.name().to_owned()),
            path: context.pointer(site, "/resources/limits/memory"),
            message: format!("container \"{}\" has no memory limit", site.name()),
            fix: Some(context.fix(site, "resources:\n  limits:\n    memory: 256Mi\n")),
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::policy::testing::{Facts, container, deployment};

    #[test]
    fn memory_limit_rejects_a_container_without_one() {
        let verdict = Facts::default().judge(&deployment(json!({"containers": [{"name": "app"}]})));
        assert_eq!(
            verdict.of("memory-limit"),
            ["deny app /spec/template/spec/containers/0/resources/limits/memory"]
        );
    }

    #[test]
    fn memory_limit_accepts_a_container_with_one() {
        let limited = container(json!({"resources": {"limits": {"memory": "256Mi"}}}));
        let verdict = Facts::default().judge(&deployment(json!({"containers": [limited]})));
        assert!(verdict.of("memory-limit").is_empty());
    }
}
