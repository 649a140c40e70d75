//! More than one server at a time.

use std::thread;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{
    installation::Session,
    objects::{bare_spec, deployment},
};
use crate::support::wait::eventually;

/// Where both servers keep their authority.
const AUTHORITY: &str = "secret portcullis-ca --namespace portcullis-system";

/// The authority that each of our configurations tells the API server to trust, in base64.
fn bundles(session: &Session) -> Vec<Value> {
    let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
    let printed = session.admin().call(&format!("get {kinds} -o json")).ok();
    let list: Value = serde_json::from_str(&printed).expect("kubectl prints JSON");
    let items = list["items"].as_array().expect("a list has items");
    let webhooks = items
        .iter()
        .flat_map(|item| item["webhooks"].as_array().expect("a list"));
    webhooks
        .map(|webhook| webhook["clientConfig"]["caBundle"].clone())
        .collect()
}

fn decoded(text: &Value) -> String {
    let text = text.as_str().expect("a string");
    let pem = BASE64_STANDARD.decode(text).expect("base64");
    String::from_utf8(pem).expect("PEM")
}

#[test]
fn two_that_start_at_the_same_moment_end_with_one_authority_and_are_both_trusted() {
    let session = Session::alone();
    let namespace = session.namespace("replicas");
    session.stop_server();
    session.admin().call(&format!("delete {AUTHORITY}")).ok();
    let before = bundles(&session);

    let (one, other) = (session.launch().clone(), session.another("other"));
    let (first, second) = thread::scope(|scope| {
        let starting = [&one, &other].map(|launch| scope.spawn(|| launch.start()));
        let [first, second] = starting.map(|server| server.join().expect("it starts"));
        (first, second)
    });

    let printed = session
        .admin()
        .call(&format!("get {AUTHORITY} -o json"))
        .ok();
    let secret: Value = serde_json::from_str(&printed).expect("kubectl prints JSON");
    let certificate = decoded(&secret["data"]["tls.crt"]);
    let all = bundles(&session);
    for bundle in &all {
        assert_eq!(bundle, &all[0], "both publish what the Secret holds");
        assert!(!before.contains(bundle), "it is new");
        let trusted = decoded(bundle);
        assert!(trusted.contains(&certificate));
        // Others could be running that nobody sees from here.
        let authorities = trusted.matches("BEGIN CERTIFICATE").count();
        assert_eq!(authorities, 2, "beside the one that was trusted before");
    }

    // An API server that did not trust its certificate would let the object in: `failurePolicy` is Ignore.
    let refuses = |which: &str| {
        let bare = deployment("bare", bare_spec()).to_string();
        eventually(which, || {
            let answer = namespace
                .developer
                .feed("create --dry-run=server -f -", &bare);
            answer.failure()
        });
    };
    refuses("the first to refuse");
    first.stop();
    session.call_at(other.port);
    refuses("the second to refuse, alone");

    session.call_at(one.port);
    session.start_server();
    second.stop();
    session.await_enforcement();
    assert_eq!(
        bundles(&session),
        all,
        "who starts later takes what is there"
    );
}
