//! The control plane itself: that it works, and that it leaves nothing behind.

use std::process::Command;

use crate::support::control_plane::{ControlPlane, DEVELOPER};

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
