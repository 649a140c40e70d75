//! The nodes of a kind cluster: containers, into which `docker` lets us.

use std::process::Command;

/// A node, by the name that it has in the cluster and among the containers alike.
pub struct Node(String);

// === impl Node ===

impl Node {
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Kills the first process of a container, as the kernel does when memory ends. `id` is as a pod's status has it.
    pub fn kill(&self, id: &str) {
        let id = id
            .strip_prefix("containerd://")
            .expect("containerd runs it");
        self.run(&format!(
            "ctr --namespace k8s.io tasks kill --signal SIGKILL {id}"
        ));
    }

    /// Returns when the new kubelet has been started; it has done nothing by then.
    pub fn restart_kubelet(&self) {
        self.run("systemctl restart kubelet");
    }

    fn run(&self, command: &str) {
        let output = Command::new("docker")
            .args(["exec", &self.0])
            .args(command.split(' '))
            .output()
            .expect("docker starts: the cluster is one of kind's");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command} on {}: {said}", self.0);
    }
}
