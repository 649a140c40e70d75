//! The control plane itself: that it works, and that it leaves nothing behind.

use std::process::Command;

use super::objects::{sound_spec, workload};
use crate::support::{
    control_plane::{ControlPlane, DEVELOPER},
    planes::Plane,
};

#[test]
fn starts_knows_its_users_and_leaves_nothing_behind() {
    let plane = ControlPlane::start();
    let folder = plane.folder().to_owned();
    let whoami = plane
        .kubectl(DEVELOPER)
        .call("auth whoami -o jsonpath={.status.userInfo}")
        .ok();
    assert!(whoami.contains(r#""username":"developer""#), "{whoami}");
    plane
        .kubectl(DEVELOPER)
        .call("get secrets --namespace kube-system")
        .refusal();
    plane
        .kubectl("admin")
        .call("get serviceaccount default --namespace default")
        .ok();

    plane.stop();

    assert!(!folder.exists(), "{} is left", folder.display());
    let processes = Command::new("ps")
        .args(["-eo", "args"])
        .output()
        .expect("ps runs")
        .stdout;
    let folder = folder
        .to_str()
        .expect("a temporary folder has a plain name");
    assert!(
        !String::from_utf8_lossy(&processes).contains(folder),
        "a process of {folder} is left"
    );
}

#[test]
fn kubectl_answers_the_same_whether_it_begins_anew_or_goes_on_from_call_to_call() {
    let plane = Plane::take();
    let pod = workload("Pod", "app", sound_spec()).to_string();
    let calls = [
        "get serviceaccount default -o name",
        "get serviceaccount nobody",
        "get what-no-group-has",
        "get --no-such-flag",
        "create --dry-run=server -f -",
        "create --dry-run=server -o yaml -f /no/such/file",
        // It ends its process by itself.
        "auth can-i create nodes",
        "explain pod.spec.containers.lifecycle",
    ];
    for user in ["admin", DEVELOPER] {
        let kubectl = plane.kubectl(user).in_namespace("default");
        for words in calls {
            let arguments: Vec<_> = words.split(' ').collect();
            let anew = kubectl.call_anew(&arguments, Some(&pod));
            // The second time, a process that has had calls.
            for _ in 0..2 {
                let answer = kubectl.call_with(&arguments, Some(&pod));
                assert_eq!(answer, anew, "{user}: {words}");
            }
        }
    }
}
