//! `make demo`: two stories on the cluster that `KUBECONFIG` points to, told twice with the same files and commands:
//! before Portcullis is installed there, and after.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test-side program that speaks to its user; nobody imports it"
)]

#[path = "../e2e/app/report.rs"]
mod report;

#[path = "../e2e/table.rs"]
mod table;

#[allow(dead_code, reason = "make demo-gate rewrites lines")]
mod view;

// What pods and their gates say.
mod pods;

// One story on one side: its namespace and its client.
mod scene;

mod stories;

use std::{path::Path, process::ExitCode};

use anyhow::ensure;
use portcullis::server::terminated;
use tokio::time::Instant;

use crate::{
    scene::{Act, INSTALL, Scene},
    stories::{ALL, Story},
    table::ROWS,
    view::View,
};

#[tokio::main]
async fn main() -> ExitCode {
    let played = async {
        let (stop, view) = (terminated()?, View::new());
        tokio::select! {
            biased; // an end that is asked for first; what is dropped goes with the cluster
            _ = stop => anyhow::bail!("stopped"),
            played = Box::pin(play(&view)) => played,
        }
    };
    match played.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(view: &View) -> anyhow::Result<()> {
    ensure!(
        Path::new(stories::FOLDER).is_dir(),
        "run this by: make demo"
    );
    view.legend();
    let mut without = Vec::new();
    for story in ALL {
        without.push(Box::pin(act(view, story, "without Portcullis")).await?);
    }
    install(view).await?;
    let mut with = Vec::new();
    for story in ALL {
        with.push(Box::pin(act(view, story, "with Portcullis")).await?);
    }
    for (story, (without, with)) in ALL.iter().zip(without.iter().zip(&with)) {
        view.table(story.title(), &ROWS, (&without.summary, &with.summary));
        view.plot(&without.p99_ms, &with.p99_ms);
    }
    Ok(())
}

async fn act(view: &View, story: Story, side: &str) -> anyhow::Result<Act> {
    let scene = Scene::open(view, story.name()).await?;
    story.prepare(&scene).await?;
    view.heading(&format!("{}, {side}", story.title()), "p99");
    Box::pin(scene.watch(story.app(), story.play(&scene))).await
}

/// As the README says, and until pods get their gates.
async fn install(view: &View) -> anyhow::Result<()> {
    view.title("Portcullis is installed");
    let began = Instant::now();
    let scene = Scene::of(view, "portcullis-system");
    scene.run(INSTALL).await?;
    scene
        .run("rollout status deployment/portcullis --timeout=120s")
        .await?;
    pods::get_gates().await?;
    view.told(&format!(
        "It works after {:.0} s.",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}
