//! The stories, as a person at a keyboard plays them.

use std::time::Duration;

use tokio::time::sleep;

use crate::scene::Scene;

/// Where their files are.
pub const FOLDER: &str = "manifests/samples/stories";

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// A release that needs a Secret and a database, and both are late.
    NotReady,
    /// A release whose first pages are slow, and the way back, which is slow too.
    Rollback,
}

pub const ALL: [Story; 2] = [Story::NotReady, Story::Rollback];

/// Long enough to read what has just been said.
const PAUSE: Duration = Duration::from_secs(3);

// === impl Story ===

impl Story {
    pub fn title(self) -> &'static str {
        match self {
            Self::NotReady => "Running but not Ready",
            Self::Rollback => "The rollback that lies",
        }
    }

    /// Of its namespace, and of the folder of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotReady => "running-but-not-ready",
            Self::Rollback => "rollback",
        }
    }

    /// The label `app` of the pods that the client asks.
    pub fn app(self) -> &'static str {
        match self {
            Self::NotReady => "checkout",
            Self::Rollback => "web",
        }
    }

    /// What has long been running when the story begins, and the client.
    pub async fn prepare(self, scene: &Scene<'_>) -> anyhow::Result<()> {
        let file = match self {
            Self::NotReady => "first-release.yaml",
            Self::Rollback => "web.yaml",
        };
        scene.quietly(&self.apply(file)).await?;
        scene.quietly(&self.rolled_out()).await?;
        let client = self.file("client.yaml");
        scene.warm_up(&client).await?;
        scene.start_client(&client).await
    }

    pub async fn play(self, scene: &Scene<'_>) -> anyhow::Result<()> {
        sleep(PAUSE).await;
        match self {
            Self::NotReady => self.release_too_early(scene).await,
            Self::Rollback => self.release_and_roll_back(scene).await,
        }
    }

    async fn release_too_early(self, scene: &Scene<'_>) -> anyhow::Result<()> {
        let next = self.apply("second-release.yaml");
        let passed = scene.attempt(&next).await?;
        sleep(PAUSE).await;
        scene.run(&self.apply("secret.yaml")).await?;
        if !passed {
            scene.run(&next).await?;
        }
        scene.has_started(self.app(), "v2").await?;
        sleep(2 * PAUSE).await;
        scene.why_not_ready(self.app()).await?;
        scene.run(&self.apply("database.yaml")).await?;
        scene
            .quietly("rollout status deployment/database --timeout=60s")
            .await?;
        scene.run(&self.rolled_out()).await?;
        sleep(PAUSE).await;
        Ok(())
    }

    async fn release_and_roll_back(self, scene: &Scene<'_>) -> anyhow::Result<()> {
        scene
            .run("set env deployment/web RELEASE=v2 COLD_REQUESTS=40")
            .await?;
        scene.run(&self.rolled_out()).await?;
        sleep(PAUSE).await;
        scene.run("rollout undo deployment/web").await?;
        scene.run(&self.rolled_out()).await?;
        sleep(PAUSE).await;
        Ok(())
    }

    fn apply(self, file: &str) -> String {
        format!("apply -f {}", self.file(file))
    }

    fn rolled_out(self) -> String {
        format!("rollout status deployment/{} --timeout=120s", self.app())
    }

    fn file(self, file: &str) -> String {
        format!("{FOLDER}/{}/{file}", self.name())
    }
}
