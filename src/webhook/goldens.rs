//! Whole reviews in, whole answers out: each file of `tests/fixtures/review` is a case, and its name says which.
//!
//! The cluster that the reviews speak of is `tests/fixtures/cluster.json`, the settings `tests/fixtures/settings.yaml`.

use std::{fs, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{metrics::Metrics, service::Admission, stack::stack};
use crate::{
    facts::testing::{Api, Reply},
    policy::settings::Settings,
    yaml,
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// An API server with the fixed cluster. The namespace `trouble` is one of which it can say nothing.
async fn api() -> Api {
    let text = fs::read_to_string(Path::new(FIXTURES).join("cluster.json")).unwrap();
    let cluster: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    Api::start(move |path| {
        let path = path.split('?').next().unwrap_or_default();
        let limits = || json!({"kind": "LimitRangeList", "items": []});
        match cluster.get(path) {
            _ if path.contains("/trouble") => Reply::Status(500, "InternalError"),
            Some(object) => Reply::Object(object.clone()),
            None if path.ends_with("/limitranges") => Reply::Object(limits()),
            None => Reply::Status(404, "NotFound"),
        }
    })
    .await
}

fn settings() -> Settings {
    let text = fs::read_to_string(Path::new(FIXTURES).join("settings.yaml")).unwrap();
    let document = yaml::documents(&text).next().unwrap().unwrap();
    Settings::from_value(document.value).unwrap()
}

/// What is answered at `path`; a patch is shown as what it is, beside its base64.
async fn answer(path: &str, review: String) -> Value {
    let (api, metrics) = (api().await, Arc::<Metrics>::default());
    let settings = Arc::new(ArcSwap::from_pointee(settings()));
    let admission = Admission::new(
        api.live(metrics.facts.clone()),
        settings,
        Arc::clone(&metrics),
        "replica-a".to_owned(),
    );
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(Full::<bytes::Bytes>::from(review))
        .unwrap();
    let answer = stack(admission, metrics).oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let encoded = body.pointer("/response/patch").and_then(Value::as_str);
    let plain: Option<Value> = encoded
        .map(|encoded| STANDARD.decode(encoded).unwrap())
        .map(|bytes| serde_json::from_slice(&bytes).unwrap());
    json!({"status": status, "body": body, "patch in plain": plain})
}

#[test]
fn answers_reviews_as_recorded() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    insta::glob!("../../tests/fixtures/review", "*/*.json", |file| {
        let webhook = file
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        let review = fs::read_to_string(file).unwrap();
        let answer = runtime.block_on(answer(&format!("/{webhook}"), review));
        insta::assert_json_snapshot!(answer);
    });
}
