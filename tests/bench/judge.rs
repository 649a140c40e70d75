//! Judging alone: one Deployment, five containers, twenty references, every fact known.
//!
//! `cargo bench --bench judge` prints time and allocations of reading, of judging, and of both.

use std::{collections::HashMap, sync::Arc};

use divan::{AllocProfiler, Bencher};
use portcullis::policy::{
    Judgement, Request,
    facts::{Answer, Query},
    judge,
    settings::Settings,
    workload::Workload,
};
use serde_json::value::RawValue;

#[path = "../support/checkout.rs"]
mod checkout;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const REQUEST: Request<'static> = Request {
    dry_run: false,
    user: Some("kim"),
    groups: &[],
    old: None,
};

fn main() {
    divan::main();
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let object = checkout::object();
    let settings = Settings::default();
    bencher.bench(|| {
        read_deployment(&settings, &object)
            .template
            .containers()
            .count()
    });
}

#[divan::bench]
fn judge_read(bencher: Bencher<'_, '_>) {
    let (object, facts, settings) = (checkout::object(), checkout::facts(), Settings::default());
    let workload = read_deployment(&settings, &object);
    bencher.bench(|| judged(&workload, &facts, &settings));
}

#[divan::bench]
fn read_and_judge(bencher: Bencher<'_, '_>) {
    let (object, facts, settings) = (checkout::object(), checkout::facts(), Settings::default());
    bencher.bench(|| judged(&read_deployment(&settings, &object), &facts, &settings));
}

fn read_deployment<'a>(settings: &'a Settings, object: &'a RawValue) -> Workload<'a> {
    let kind = settings
        .kind("apps", "v1", "Deployment")
        .expect("a built-in kind");
    Workload::read(kind, "shop", object)
        .expect("well formed")
        .expect("has a template")
}

fn judged(
    workload: &Workload<'_>,
    facts: &HashMap<Query<'static>, Arc<Answer>>,
    settings: &Settings,
) -> Judgement {
    judge(workload, &REQUEST, facts, settings)
}
